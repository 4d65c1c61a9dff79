//! A signed-in device and the lineage of its refresh tokens: which token is the newest, which is forgiven for a lost reply, and which proves
//! that two parties hold the same session.

use plaza_types::{DeviceId, limits::SECOND};

/// Devices of one user; one more signs the oldest out.
pub const LIMIT: usize = 20;
/// How long the token before the newest is still taken, for the reply that carried the newest may be lost. Microseconds.
pub const GRACE: u64 = 120 * SECOND;

/// A SHA-256 hash.
pub type Digest = [u8; 32];

/// A signed-in device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id. The ids of a user's devices sort by their first sign-in.
    pub id: DeviceId,
    /// Chosen anew at each write of the row.
    pub version: u64,
    /// Its name.
    pub name: String,
    /// What it runs on.
    pub platform: String,
    /// When it was first signed in, microseconds since the epoch.
    pub created: u64,
    /// When its newest access token was issued, microseconds since the epoch.
    pub last_seen: u64,
    /// Its refresh tokens.
    pub lineage: Lineage,
}

/// What is kept of the refresh tokens of one sign-in: hashes only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// Of the part that all of them share.
    pub family: Digest,
    /// Of the newest one's own part.
    pub newest: Digest,
    /// Of the one's before.
    pub before: Option<Digest>,
    /// When the newest took its place, microseconds since the epoch.
    pub rotated: u64,
}

/// What a presented refresh token is to a lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// The newest.
    Newest,
    /// The one before the newest, within [`GRACE`].
    Repeated,
    /// An older one of the same sign-in: somebody else may hold it.
    Reused,
    /// Of another sign-in, or made up.
    Foreign,
}

impl Lineage {
    /// A new sign-in.
    #[must_use]
    pub fn new(family: Digest, first: Digest, now: u64) -> Self {
        Self { family, newest: first, before: None, rotated: now }
    }

    /// What a token with these hashes is.
    #[must_use]
    pub fn judge(&self, family: &Digest, own: &Digest, now: u64) -> Presented {
        if self.family != *family {
            Presented::Foreign
        } else if self.newest == *own {
            Presented::Newest
        } else if self.before.as_ref() == Some(own) && now <= self.rotated.saturating_add(GRACE) {
            Presented::Repeated
        } else {
            Presented::Reused
        }
    }

    /// The lineage after its newest token was exchanged for the next.
    #[must_use]
    pub fn rotated(&self, next: Digest, now: u64) -> Self {
        Self { family: self.family, newest: next, before: Some(self.newest), rotated: now }
    }
}

/// Which devices must go so that one more fits: the oldest.
#[must_use]
pub fn surplus(devices: &[Device]) -> Vec<Device> {
    let mut oldest_first = devices.to_vec();
    oldest_first.sort_by_key(|device| (device.created, device.id));
    oldest_first.truncate((devices.len() + 1).saturating_sub(LIMIT));
    oldest_first
}

/// The time of a device's revocation: nothing issued to it until now is later, whatever the clock of the process that issued it said.
#[must_use]
pub fn revocation_time(device: &Device, now: u64) -> u64 {
    now.max(device.last_seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u8) -> Device {
        Device {
            id: DeviceId::new(u64::from(number) * 1000, [number; 10]),
            version: 1,
            name: "phone".into(),
            platform: "ios".into(),
            created: u64::from(number),
            last_seen: 50,
            lineage: Lineage::new([1; 32], [2; 32], 0),
        }
    }

    #[test]
    fn only_the_newest_token_and_for_a_while_the_one_before_are_taken() {
        let (family, a, b, c) = ([1; 32], [2; 32], [3; 32], [4; 32]);
        let first = Lineage::new(family, a, 100);
        assert_eq!(first.judge(&family, &a, 100), Presented::Newest);
        assert_eq!(first.judge(&[9; 32], &a, 100), Presented::Foreign);
        assert_eq!(first.judge(&family, &b, 100), Presented::Reused);
        let second = first.rotated(b, 1_000);
        assert_eq!(second.judge(&family, &b, 1_000), Presented::Newest);
        assert_eq!(second.judge(&family, &a, 1_000 + GRACE), Presented::Repeated);
        assert_eq!(second.judge(&family, &a, 1_001 + GRACE), Presented::Reused);
        let third = second.rotated(c, 2_000);
        assert_eq!(third.judge(&family, &a, 2_000), Presented::Reused);
        assert_eq!(third.judge(&family, &b, 2_000), Presented::Repeated);
    }

    #[test]
    fn the_oldest_makes_room() {
        let twenty: Vec<_> = (1..=20).rev().map(device).collect();
        assert_eq!(surplus(&twenty[..19]), []);
        assert_eq!(surplus(&twenty), [device(1)]);
        assert_eq!(revocation_time(&device(1), 10), 50);
        assert_eq!(revocation_time(&device(1), 60), 60);
    }
}
