//! A session refreshes itself: when its time is nearly over, when the server says that it is, and together with other processes.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use plaza_client::{Account, Credentials, Error, Keeper, Kept, accounts};

use crate::server::{Fake, Hold, access, laptop};

async fn get_me(account: &Account) -> Result<(), Error> {
    account.call(|mut services| async move { services.accounts.get_me(accounts::GetMeRequest {}).await }).await.map(drop)
}

async fn signed_in(fake: &Fake) -> Account {
    Account::login(&fake.endpoint, "ada_lovelace", "correct horse", &laptop()).await.expect("signed in")
}

#[tokio::test]
async fn a_token_with_less_than_a_minute_left_is_refreshed_once_by_all_who_call() {
    let fake = Fake::start().await;
    fake.state.lock().await.life = Duration::from_secs(50);
    let account = signed_in(&fake).await;
    fake.state.lock().await.life = Duration::from_secs(900);
    let (one, two, three) = tokio::join!(get_me(&account), get_me(&account), get_me(&account));
    one.and(two).and(three).expect("called");
    let state = fake.state.lock().await;
    assert_eq!((state.refreshes, state.reused, state.calls), (1, 0, 3));
}

#[tokio::test]
async fn a_call_that_the_server_calls_expired_is_made_again_with_a_new_token() {
    let fake = Fake::start().await;
    let account = signed_in(&fake).await;
    fake.state.lock().await.expired.push(access(0));
    get_me(&account).await.expect("with another token");
    assert_eq!(account.access_token().await.expect("a token"), access(1));
    assert_eq!(fake.state.lock().await.refreshes, 1);

    fake.state.lock().await.expired.extend([access(1), access(2)]);
    let Err(Error::SignedOut(reason)) = get_me(&account).await else { panic!("every token is expired") };
    assert_eq!((reason.as_str(), fake.state.lock().await.refreshes), ("TOKEN_EXPIRED", 2), "not for ever");
}

#[tokio::test]
async fn whoever_was_signed_out_is_told() {
    let fake = Fake::start().await;
    let account = signed_in(&fake).await;
    let old = account.credentials().await;
    Account::resume(&fake.endpoint, &old).await.expect("the newest token");
    let Err(Error::SignedOut(reason)) = Account::resume(&fake.endpoint, &old).await else { panic!("the token was used") };
    assert_eq!(reason, "REFRESH_INVALID");
}

#[tokio::test]
async fn a_token_that_lasts_is_used_while_there_is_no_other() {
    let fake = Fake::start().await;
    fake.state.lock().await.life = Duration::from_secs(50);
    let account = signed_in(&fake).await;
    fake.state.lock().await.down = true;
    get_me(&account).await.expect("with the token that lasts");
    assert_eq!(fake.state.lock().await.refreshes, 0);
}

#[tokio::test]
async fn a_refresh_outlives_the_call_that_wanted_it() {
    let fake = Fake::start().await;
    fake.state.lock().await.life = Duration::from_secs(50);
    let account = signed_in(&fake).await;
    let hold = Arc::new(Hold::default());
    {
        let mut state = fake.state.lock().await;
        (state.life, state.hold) = (Duration::from_secs(900), Some(hold.clone()));
    }
    tokio::select! {
        _ = get_me(&account) => panic!("it was answered"),
        () = hold.exchanged.notified() => {}
    }
    hold.answer.notify_one();
    get_me(&account).await.expect("with the token that the first call wanted");
    let state = fake.state.lock().await;
    assert_eq!((state.refreshes, state.reused), (1, 0));
}

/// What two processes would have in a file.
#[derive(Clone)]
struct Memory(Arc<Inner>);

struct Inner {
    newest: Mutex<Credentials>,
    taken: AtomicBool,
    full: AtomicBool,
}

impl Memory {
    fn of(credentials: Credentials) -> Self {
        Self(Arc::new(Inner { newest: Mutex::new(credentials), taken: AtomicBool::new(false), full: AtomicBool::new(false) }))
    }

    fn newest(&self) -> MutexGuard<'_, Credentials> {
        self.0.newest.lock().expect("no panic")
    }
}

impl Keeper for Memory {
    fn take(&self) -> io::Result<Box<dyn Kept>> {
        while self.0.taken.swap(true, Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Ok(Box::new(Taken { credentials: self.newest().clone(), memory: self.clone() }))
    }
}

struct Taken {
    credentials: Credentials,
    memory: Memory,
}

impl Kept for Taken {
    fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    fn replace(&mut self, credentials: &Credentials) -> io::Result<()> {
        if self.memory.0.full.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is full"));
        }
        *self.memory.newest() = credentials.clone();
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.memory.0.taken.store(false, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_share_a_keeper_stay_signed_in() {
    let fake = Fake::start().await;
    // Every call needs a refresh.
    fake.state.lock().await.life = Duration::from_secs(10);
    let account = signed_in(&fake).await;
    let keeper = Memory::of(Credentials { refresh_token: "nothing yet".into(), ..account.credentials().await });
    let one = account.kept_by(Arc::new(keeper.clone())).await.expect("kept");
    let two = Account::resume_kept(&fake.endpoint, Arc::new(keeper.clone())).await.expect("what the other one kept");
    for _ in 0..20 {
        let (first, second) = tokio::join!(get_me(&one), get_me(&two));
        first.and(second).expect("signed in");
    }
    let state = fake.state.lock().await;
    assert_eq!((state.refreshes, state.reused), (41, 0));
    assert_eq!(keeper.newest().refresh_token, "refresh 41");
}

#[tokio::test]
async fn somebody_elses_credentials_are_not_taken() {
    let fake = Fake::start().await;
    fake.state.lock().await.life = Duration::from_secs(10);
    let account = signed_in(&fake).await;
    let keeper = Memory::of(account.credentials().await);
    let account = account.kept_by(Arc::new(keeper.clone())).await.expect("kept");
    keeper.newest().device_id = "another".into();
    let Err(Error::SignedOut(_)) = get_me(&account).await else { panic!("it is another device's") };
    assert_eq!(fake.state.lock().await.refreshes, 0);
}

#[tokio::test]
async fn credentials_that_cannot_be_kept_are_an_error() {
    let fake = Fake::start().await;
    let account = signed_in(&fake).await;
    let keeper = Memory::of(account.credentials().await);
    keeper.0.full.store(true, Ordering::SeqCst);
    let Err(Error::Keeper(why)) = Account::resume_kept(&fake.endpoint, Arc::new(keeper.clone())).await else { panic!("nothing was kept") };
    assert!(why.contains("the disk is full"), "{why}");
    assert!(!keeper.0.taken.load(Ordering::SeqCst), "others may try");
}
