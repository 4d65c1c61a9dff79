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
        for attempt in 0..ATTEMPTS {
            let user = self.user(caller).await?;
            let changed = next(&user);
            let mut change = Change::of(caller);
            change.account = Some((user.version, User { version: self.rng.next_u64(), ..changed.clone() }));
            change.events.push(self.event(caller, self.clock.now_micros(), What::ProfileChanged));
            if changed == user {
                // Perhaps by a call that failed after its change.
                self.events.publish_all(caller).await?;
                return Ok(changed);
            }
            if self.commit(&change).await? {
                self.published(&change, attempt).await?;
                return Ok(changed);
            }
        }
        Err(Error::Contended)
    }
}
