//! The caller's own profile and settings.

use plaza_types::UserId;

use super::{ATTEMPTS, Accounts};
use crate::{
    domain::{User, user::ProfileChange, user::SettingsChange},
    error::Error,
    store::{Change, What},
};

impl Accounts {
    pub(crate) async fn update_profile(&self, caller: UserId, change: &ProfileChange) -> Result<User, Error> {
        self.update(caller, |user| User { profile: change.applied(&user.profile), ..user.clone() }).await
    }

    pub(crate) async fn update_settings(&self, caller: UserId, change: SettingsChange) -> Result<User, Error> {
        self.update(caller, |user| User { settings: change.applied(user.settings), ..user.clone() }).await
    }

    async fn update(&self, caller: UserId, next: impl Fn(&User) -> User + Send) -> Result<User, Error> {
        for _ in 0..ATTEMPTS {
            let user = self.user(caller).await?;
            let changed = next(&user);
            let mut change = Change::of(caller);
            change.account = Some((user.version, User { version: self.rng.next_u64(), ..changed.clone() }));
            change.events.push(self.event(caller, self.clock.now_micros(), What::ProfileChanged));
            // A change that is there already may have been made by a call that failed afterwards: it only has to be published.
            if changed == user || self.commit(&change).await? {
                self.events.publish(caller).await?;
                return Ok(changed);
            }
        }
        Err(Error::Contended)
    }
}
