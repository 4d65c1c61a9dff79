//! Registration, sign-in, refresh and change of password: whatever ends with a session.

use std::time::Duration;

use plaza_rpc::ApiError;
use plaza_types::{ClientId, DeviceId, Reason, UserId};

use super::{ATTEMPTS, Accounts};
use crate::{
    domain::{
        Device, Presented, Profile, Settings, User,
        claims::ACCESS_LIFETIME,
        device::{Digest, surplus},
        rules::Handle,
    },
    error::Error,
    metrics::Outcome,
    store::{Change, Error as StoreError, Registered, Registration, Remembered, What},
    tokens::{Refresh, sha256},
};

/// A device as its user describes it.
pub(crate) struct DeviceInput {
    /// The device to sign in again; `None` for a new one.
    pub(crate) id: Option<DeviceId>,
    pub(crate) name: String,
    pub(crate) platform: String,
}

/// Who asks for an account.
pub(crate) struct Registrant {
    pub(crate) request: ClientId,
    pub(crate) handle: Handle,
    pub(crate) password: String,
    pub(crate) display_name: String,
    pub(crate) device: DeviceInput,
}

impl Registrant {
    // The password is left out: a fast hash of it must not be kept. Each text is preceded by its length, so that no two requests look alike.
    fn fingerprint(&self) -> Digest {
        let texts = [&self.handle.shown, &self.display_name, &self.device.name, &self.device.platform];
        let bytes: Vec<u8> = texts.iter().flat_map(|text| (text.len() as u64).to_be_bytes().into_iter().chain(text.bytes())).collect();
        sha256(&bytes)
    }
}

/// What a signed-in device holds.
pub(crate) struct Session {
    pub(crate) user: User,
    pub(crate) device: DeviceId,
    pub(crate) access: String,
    /// Microseconds since the epoch.
    pub(crate) access_expires: u64,
    pub(crate) refresh: String,
}

fn bad_credentials() -> Error {
    ApiError::new(Reason::BadCredentials, "unknown handle or wrong password").into()
}

fn refresh_invalid() -> Error {
    ApiError::new(Reason::RefreshInvalid, "the refresh token is not valid any more, sign in again").into()
}

fn request_id_reused() -> Error {
    ApiError::refused(Reason::RequestIdReused, "request_id", "the request id was used with other content", 0).into()
}

fn handle_taken() -> Error {
    ApiError::refused(Reason::HandleTaken, "handle", "the handle is in use", 0).into()
}

impl Accounts {
    pub(crate) async fn register(&self, who: Registrant, within: Duration) -> Result<Session, Error> {
        // In this order: if the handle was taken by this very request, the request is remembered by now.
        let taken = self.store.user_of(&who.handle.key).await?.is_some();
        if let Some(before) = self.store.remembered(who.request).await? {
            return self.register_again(who, before, within).await;
        }
        if taken {
            return Err(handle_taken());
        }
        let password = self.passwords.hash(who.password.clone(), within).await?;
        let now = self.clock.now_micros();
        let id = UserId::new(now, self.rng.bytes());
        let profile = Profile { display_name: who.display_name.clone(), ..Profile::default() };
        let handle = who.handle.shown.clone();
        let user = User { id, version: self.rng.next_u64(), handle, password, created: now, profile, settings: Settings::default() };
        let device_id = DeviceId::new(now, self.rng.bytes());
        let token = self.issuer.of_registration(who.request, id, device_id);
        let device = Device {
            id: device_id,
            version: self.rng.next_u64(),
            name: who.device.name.clone(),
            platform: who.device.platform.clone(),
            created: now,
            last_seen: now,
            lineage: token.lineage(now),
        };
        let registration =
            Registration { request: who.request, fingerprint: who.fingerprint(), handle_key: who.handle.key.clone(), user, device };
        let outcome = match self.store.register(&registration).await {
            Err(StoreError::Unknown(_)) => self.store.register(&registration).await?,
            outcome => outcome?,
        };
        match outcome {
            Registered::HandleTaken => return Err(handle_taken()),
            Registered::Before(before) if before.user != id => return self.register_again(who, before, within).await,
            Registered::Created | Registered::Before(_) => {}
        }
        self.store.durable().await?;
        self.metrics.registered();
        self.session(registration.user, &token, now)
    }

    /// The same request once more: the same account, if the rest is the same too.
    async fn register_again(&self, who: Registrant, before: Remembered, within: Duration) -> Result<Session, Error> {
        let same = who.fingerprint() == before.fingerprint;
        if !same || !self.passwords.verify(Some(&before.password), who.password, within).await? {
            return Err(request_id_reused());
        }
        let user = self.user(before.user).await?;
        if user.password != before.password {
            return Err(bad_credentials());
        }
        let device = self.store.device(user.id, before.device).await?;
        let token = self.issuer.of_registration(who.request, user.id, before.device);
        let unused = device.as_ref().is_some_and(|device| device.lineage.newest == token.own_digest());
        let input = DeviceInput { id: device.map(|device| device.id), ..who.device };
        self.sign_in(user, input, unused.then_some(token)).await
    }

    pub(crate) async fn login(&self, handle: &Handle, password: String, device: DeviceInput, within: Duration) -> Result<Session, Error> {
        let user = match self.store.user_of(&handle.key).await? {
            Some(id) => self.store.users(&[id]).await?.pop(),
            None => None,
        };
        let matches = self.passwords.verify(user.as_ref().map(|user| user.password.as_str()), password, within).await?;
        let Some(user) = user.filter(|_| matches) else {
            self.metrics.login(Outcome::Refused);
            return Err(bad_credentials());
        };
        let session = self.sign_in(user, device, None).await?;
        self.metrics.login(Outcome::Good);
        Ok(session)
    }

    /// Signs a device of a user in whose password was verified against the row given.
    pub(super) async fn sign_in(&self, verified: User, input: DeviceInput, token: Option<Refresh>) -> Result<Session, Error> {
        let id = input.id.unwrap_or_else(|| DeviceId::new(self.clock.now_micros(), self.rng.bytes()));
        let token = token.unwrap_or_else(|| self.issuer.first(verified.id, id));
        let mut user = verified.clone();
        for attempt in 0..ATTEMPTS {
            if user.password != verified.password {
                return Err(bad_credentials());
            }
            let devices = self.devices(user.id).await?;
            let known = devices.iter().find(|device| device.id == id);
            if known.is_none() && input.id.is_some() {
                return Err(ApiError::not_found("device").into());
            }
            let now = self.clock.now_micros();
            let mut change = Change::of(user.id);
            change.account = self.rewritten(&user);
            let device = Device {
                id,
                version: self.rng.next_u64(),
                name: input.name.clone(),
                platform: input.platform.clone(),
                created: known.map_or(now, |known| known.created),
                last_seen: known.map_or(now, |known| now.max(known.last_seen)),
                lineage: token.lineage(now),
            };
            let same = known.is_some_and(|known| known.name == device.name && known.platform == device.platform);
            change.device = Some((known.map(|known| known.version), device));
            if known.is_none() {
                self.sign_out_in(&mut change, &surplus(&devices), now);
            }
            if !same {
                change.events.push(self.event(user.id, now, What::ProfileChanged));
            }
            if self.commit(&change).await? {
                // Signed while the disk writes.
                let (published, session) = tokio::join!(self.published(&change, attempt), async { self.session(user, &token, now) });
                published?;
                return session;
            }
            user = self.user(verified.id).await?;
        }
        Err(Error::Contended)
    }

    pub(crate) async fn refresh(&self, text: &str) -> Result<Session, Error> {
        let refused = |outcome| {
            self.metrics.refresh(outcome);
            refresh_invalid()
        };
        let Some(token) = Refresh::parse(text) else { return Err(refused(Outcome::Refused)) };
        let next = self.issuer.next(&token);
        for _ in 0..ATTEMPTS {
            let Some(device) = self.store.device(token.user, token.device).await? else { return Err(refused(Outcome::Refused)) };
            let now = self.clock.now_micros();
            let lineage = match device.lineage.judge(&token.family_digest(), &token.own_digest(), now) {
                Presented::Newest => device.lineage.rotated(next.own_digest(), now),
                Presented::Repeated => device.lineage.clone(),
                Presented::Foreign => return Err(refused(Outcome::Refused)),
                Presented::Reused => {
                    self.sign_out(token.user, token.device).await?;
                    return Err(refused(Outcome::Reused));
                }
            };
            let user = self.user(token.user).await?;
            let mut change = Change::of(token.user);
            let last_seen = now.max(device.last_seen);
            change.device = Some((Some(device.version), Device { version: self.rng.next_u64(), last_seen, lineage, ..device }));
            if self.commit(&change).await? {
                self.store.durable().await?;
                self.metrics.refresh(Outcome::Good);
                return self.session(user, &next, now);
            }
        }
        Err(Error::Contended)
    }

    pub(crate) async fn change_password(
        &self,
        caller: UserId,
        calling: DeviceId,
        old: String,
        new: String,
        within: Duration,
    ) -> Result<Session, Error> {
        let verified = self.user(caller).await?;
        if !self.passwords.verify(Some(&verified.password), old, within).await? {
            return Err(bad_credentials());
        }
        let password = self.passwords.hash(new, within).await?;
        let token = self.issuer.first(caller, calling);
        for attempt in 0..ATTEMPTS {
            let user = self.user(caller).await?;
            let now = self.clock.now_micros();
            if user.password == password {
                // Done by an attempt before, whose outcome was unknown.
                self.events.publish_all(caller).await?;
                return self.session(user, &token, now);
            }
            if user.password != verified.password {
                return Err(bad_credentials());
            }
            let (this, others): (Vec<_>, Vec<_>) = self.devices(caller).await?.into_iter().partition(|device| device.id == calling);
            let Some(device) = this.into_iter().next() else {
                return Err(ApiError::new(Reason::TokenRevoked, "the device was signed out").into());
            };
            let mut change = Change::of(caller);
            let user = User { password: password.clone(), ..user };
            change.account = self.rewritten(&user);
            let last_seen = now.max(device.last_seen);
            let lineage = token.lineage(now);
            change.device = Some((Some(device.version), Device { version: self.rng.next_u64(), last_seen, lineage, ..device }));
            self.sign_out_in(&mut change, &others, now);
            change.events.push(self.event(caller, now, What::ProfileChanged));
            if self.commit(&change).await? {
                self.published(&change, attempt).await?;
                return self.session(user, &token, now);
            }
        }
        Err(Error::Contended)
    }

    fn session(&self, user: User, refresh: &Refresh, now: u64) -> Result<Session, Error> {
        let device = refresh.device;
        let (access, _) = self.issuer.access(user.id, device, now)?;
        Ok(Session { user, device, access, access_expires: now + ACCESS_LIFETIME, refresh: refresh.text() })
    }
}
