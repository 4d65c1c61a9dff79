//! Newcomers while a fault happens: they register, also two for one handle at once, change their names, sign other devices in and out. Accounts
//! is the service with conditional writes; what it acknowledged is looked up once everything is quiet, and judged.

mod judge;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use plaza_client::{Account, Device, Endpoint, Error, accounts};
use plaza_testkit::{
    people::{PASSWORD, SOON},
    wait::wait_for,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom as _};

use self::judge::{Answer, Found, Person, State};

/// Devices of one person at most: of more than twenty the oldest is signed out.
const DEVICES: usize = 4;
/// Only the newest are asked for more, so that it is asked one after another of the same ones.
const RECENT: usize = 3;
const NAME: &str = "newcomer";

/// One after another, whoever this one registered.
pub(crate) struct Registrar {
    endpoint: Endpoint,
    rng: StdRng,
    claims: BTreeMap<String, Vec<Answer>>,
    newcomers: Vec<Newcomer>,
    /// How much was acknowledged.
    pub(crate) acknowledged: usize,
}

struct Newcomer {
    person: Person,
    /// As the person's devices.
    devices: Vec<Account>,
}

/// A call of a device that is made again until it is answered.
macro_rules! answered {
    ($device:expr, $method:ident, $request:expr) => {{
        let request = $request;
        let call = $device.call(|mut services| {
            let request = request.clone();
            async move { services.accounts.$method(request).await }
        });
        call.await
    }};
}

/// Registers and so on until told to stop, with a pause after each step.
///
/// # Errors
/// A refusal where none is due.
pub(crate) async fn run(address: String, seed: u64, pause: Duration, stop: Arc<AtomicBool>) -> anyhow::Result<Registrar> {
    let endpoint = Endpoint::new(&address)?.with_longest_wait(Duration::from_millis(300));
    let rng = StdRng::seed_from_u64(seed);
    let mut registrar = Registrar { endpoint, rng, claims: BTreeMap::new(), newcomers: Vec::new(), acknowledged: 0 };
    while !stop.load(Ordering::Relaxed) {
        registrar.step().await?;
        tokio::time::sleep(pause).await;
    }
    Ok(registrar)
}

impl Registrar {
    async fn step(&mut self) -> anyhow::Result<()> {
        // Not by the seed: handles of an earlier run with it are taken.
        let handle = format!("n{:016x}", rand::random::<u64>());
        let step = self.rng.random_range(0..10);
        let all = self.newcomers.len();
        let known = (all > 0).then(|| self.rng.random_range(all.saturating_sub(RECENT)..all));
        match (step, known) {
            (0, _) | (_, None) => {
                let answer = self.register(&handle).await;
                self.note(&handle, answer)?;
            }
            (1, _) => {
                let rival = handle.to_uppercase();
                let (one, other) = tokio::join!(self.register(&handle), self.register(&rival));
                self.note(&handle, one)?;
                self.note(&handle, other)?;
            }
            (2, Some(known)) => {
                let handle = self.newcomers[known].person.handle.clone();
                let answer = self.register(&handle).await;
                self.note(&handle, answer)?;
            }
            (3..5, Some(known)) => self.rename(known).await?,
            (5, Some(known)) => self.sign_in(known).await?,
            (_, Some(known)) => self.sign_out(known).await?,
        }
        Ok(())
    }

    async fn register(&self, handle: &str) -> Result<Account, Error> {
        Account::register(&self.endpoint, handle, PASSWORD, NAME, &Device::new("first", "test")).await
    }

    fn note(&mut self, handle: &str, answer: Result<Account, Error>) -> anyhow::Result<()> {
        let answer = match answer {
            Ok(account) => {
                let devices = vec![(account.device_id().to_owned(), State::In)];
                let person = Person { handle: handle.to_owned(), name: NAME.to_owned(), devices, ..Person::default() };
                let user = account.user_id().to_owned();
                self.newcomers.push(Newcomer { person, devices: vec![account] });
                self.acknowledged += 1;
                Answer::Made(user)
            }
            Err(error) if error.reason() == "HANDLE_TAKEN" => Answer::Taken,
            Err(Error::Unavailable(_)) => Answer::Unknown,
            Err(error) => return Err(error).context("a registration was refused"),
        };
        self.claims.entry(handle.to_owned()).or_default().push(answer);
        Ok(())
    }

    async fn rename(&mut self, known: usize) -> anyhow::Result<()> {
        let Newcomer { person, devices } = &mut self.newcomers[known];
        let name = format!("{NAME} {:016x}", self.rng.random::<u64>());
        let mask = prost_types::FieldMask { paths: vec!["display_name".to_owned()] };
        let request = accounts::UpdateProfileRequest { display_name: name.clone(), update_mask: Some(mask), ..Default::default() };
        match answered!(devices[0], update_profile, request) {
            Ok(answer) => {
                let shown = answer.user.unwrap_or_default().display_name;
                ensure!(shown == name, "the change of a name to {name:?} was answered {shown:?}");
                person.name = name;
                person.maybe.clear();
                self.acknowledged += 1;
            }
            Err(Error::Unavailable(_)) => person.maybe.push(name),
            Err(error) => return Err(error).context("a change of a name was refused"),
        }
        Ok(())
    }

    async fn sign_in(&mut self, known: usize) -> anyhow::Result<()> {
        let Newcomer { person, devices } = &mut self.newcomers[known];
        if person.devices.iter().filter(|(_, state)| *state != State::Out).count() >= DEVICES {
            return Ok(());
        }
        match Account::login(&self.endpoint, &person.handle, PASSWORD, &Device::new("another", "test")).await {
            Ok(account) => {
                person.devices.push((account.device_id().to_owned(), State::In));
                devices.push(account);
                self.acknowledged += 1;
            }
            Err(Error::Unavailable(_)) => {}
            Err(error) => return Err(error).context("a sign-in was refused"),
        }
        Ok(())
    }

    /// Of any device but the first, which stays to sign others out; in, if there is none.
    async fn sign_out(&mut self, known: usize) -> anyhow::Result<()> {
        let Newcomer { person, devices } = &mut self.newcomers[known];
        let signed_in: Vec<_> = (1..devices.len()).filter(|place| person.devices[*place].1 == State::In).collect();
        let Some(place) = signed_in.choose(&mut self.rng).copied() else { return self.sign_in(known).await };
        let by_itself = self.rng.random();
        let (device, state) = &mut person.devices[place];
        let answer = if by_itself {
            answered!(devices[place], logout, accounts::LogoutRequest {}).map(drop)
        } else {
            answered!(devices[0], revoke_device, accounts::RevokeDeviceRequest { device_id: device.clone() }).map(drop)
        };
        *state = match answer {
            Ok(()) => State::Out,
            // By a try whose answer was lost.
            Err(Error::SignedOut(_)) if by_itself => State::Out,
            Err(error) if error.reason() == "NOT_FOUND" && !by_itself => State::Out,
            Err(Error::Unavailable(_)) => State::Unknown,
            Err(error) => return Err(error).context("a sign-out was refused"),
        };
        self.acknowledged += usize::from(*state == State::Out);
        Ok(())
    }

    /// Looks everything up and says what is not as acknowledged. Signs one more device of each in.
    ///
    /// # Errors
    /// Accounts cannot be reached, or refuses what is due.
    pub(crate) async fn judged(&self) -> anyhow::Result<Vec<String>> {
        let mut found = BTreeMap::new();
        for handle in self.claims.keys() {
            match Account::login(&self.endpoint, handle, PASSWORD, &Device::new("last", "test")).await {
                Ok(account) => drop(found.insert(handle.clone(), self.look(handle, &account).await?)),
                Err(error) if error.reason() == "BAD_CREDENTIALS" => {}
                Err(error) => return Err(error).context("a sign-in, once it was quiet"),
            }
        }
        let people: Vec<_> = self.newcomers.iter().map(|newcomer| newcomer.person.clone()).collect();
        Ok(judge::judge(&self.claims, &people, &found))
    }

    async fn look(&self, handle: &str, account: &Account) -> anyhow::Result<Found> {
        let listed = answered!(account, list_devices, accounts::ListDevicesRequest::default())?.devices;
        let listed = listed.into_iter().map(|device| device.device_id).collect();
        let mut accepted = BTreeSet::new();
        for Newcomer { person, devices } in self.newcomers.iter().filter(|newcomer| newcomer.person.handle == handle) {
            for ((id, state), device) in person.devices.iter().zip(devices) {
                if *state != State::Unknown && self.is_accepted(device, *state).await? {
                    accepted.insert(id.clone());
                }
            }
        }
        Ok(Found { user: account.user_id().to_owned(), name: account.user().display_name.clone(), listed, accepted })
    }

    /// Whether a device's tokens are good for anything. A gateway hears of a sign-out a moment after it was acknowledged.
    async fn is_accepted(&self, device: &Account, state: State) -> anyhow::Result<bool> {
        let asks = || async {
            match answered!(device, get_me, accounts::GetMeRequest {}) {
                Ok(_) => Ok(true),
                Err(Error::SignedOut(_)) => Ok(false),
                Err(error) => Err(error),
            }
        };
        if state == State::In {
            return Ok(asks().await?);
        }
        let refused = wait_for("a device that was signed out is refused", SOON, || async {
            match asks().await {
                Ok(false) => Ok(()),
                other => Err(other),
            }
        });
        let is_refused = refused.await.is_ok();
        match Account::resume(&self.endpoint, &device.credentials().await).await {
            Ok(_) => Ok(true),
            Err(Error::SignedOut(_)) => Ok(!is_refused),
            Err(error) => Err(error.into()),
        }
    }
}
