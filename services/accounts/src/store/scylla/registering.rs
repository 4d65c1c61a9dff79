//! The steps of a registration; see the module above for why they are these.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use plaza_scylla_kit::Batch;
use plaza_types::{
    ClientId, UserId,
    limits::{DAY, SECOND},
};

use super::{ACCOUNT, ACCOUNT_KEY, DEVICE, Scylla, signed};
use crate::store::{Error, Registered, Registration, Remembered, rows};

/// How long a request id's row stays: longer than anybody may ask for it, clocks that differ included.
pub(super) const KEPT_SECONDS: u64 = 3 * DAY / SECOND;

pub(super) fn remembered(registration: &Registration) -> Remembered {
    Remembered {
        fingerprint: registration.fingerprint,
        password: registration.user.password.clone(),
        user: registration.user.id,
        device: registration.device.id,
    }
}

impl Scylla {
    pub(super) fn is_forgotten(&self, request: ClientId) -> bool {
        // The time in an id is cut to the millisecond.
        request.micros() < self.forgotten.load(Ordering::Relaxed) / 1000 * 1000
    }

    /// The registration that claimed a request id, whatever became of it.
    pub(super) async fn registration_of(&self, request: ClientId) -> Result<Option<Registration>, Error> {
        let row = self.session.row::<(Option<Bytes>,)>(&self.request, (request.as_bytes().as_slice(),)).await?;
        row.and_then(|(registration,)| registration).map(|registration| rows::read_registration(&registration)).transpose()
    }

    /// One attempt; `None` if another came between. After an error of unknown outcome it can be made again: that is every error but one of the
    /// very first request, for whoever meets the claim finishes it.
    pub(super) async fn try_to_register(&self, registration: &Registration) -> Result<Option<Registered>, Error> {
        let request = registration.request.as_bytes().as_slice();
        let (user, row) = (registration.user.id.as_bytes().as_slice(), rows::registration(registration));
        let claimed = self.session.conditional(&self.claim_request, (request, user, &row)).await?;
        self.try_claimed(registration, claimed).await.map_err(|error| match error {
            Error::Unavailable(what) => Error::Unknown(what),
            error => error,
        })
    }

    async fn try_claimed(&self, registration: &Registration, claimed: bool) -> Result<Option<Registered>, Error> {
        let request = registration.request.as_bytes().as_slice();
        let (user, row) = (registration.user.id.as_bytes().as_slice(), rows::registration(registration));
        if !claimed {
            let Some(before) = self.registration_of(registration.request).await? else { return Ok(None) };
            let forgotten = self.is_forgotten(registration.request);
            if !forgotten && self.decide(&before).await? {
                return Ok(Some(Registered::Before(remembered(&before))));
            }
            // What is there has not happened and never will, or nobody asks for it any more.
            let replaced = (user, &row, request, before.user.id.as_bytes().as_slice());
            if !self.session.conditional(&self.replace_request, replaced).await? {
                return Ok(None);
            }
        }
        if self.decide(registration).await? {
            return Ok(Some(Registered::Created));
        }
        // It would count as absent anyway.
        if let Err(error) = self.session.conditional(&self.drop_request, (request, user)).await {
            tracing::debug!("claim of a request id not dropped: {error}");
        }
        Ok(Some(Registered::HandleTaken))
    }

    /// Makes a registration happen unless another has the handle, and says whether it has happened.
    pub(super) async fn decide(&self, registration: &Registration) -> Result<bool, Error> {
        let (handle, id) = (&registration.handle_key, registration.user.id);
        let values = (handle, id.as_bytes().as_slice(), rows::registration(registration));
        if self.session.conditional(&self.claim_handle, values).await? {
            self.finish(registration).await?;
            return Ok(true);
        }
        Ok(self.owner_of(handle).await? == Some(id))
    }

    /// Whose handle it is, all of whose rows are there.
    pub(super) async fn owner_of(&self, handle: &str) -> Result<Option<UserId>, Error> {
        let row = self.session.row::<(Bytes, Option<Bytes>)>(&self.handle, (handle,)).await?;
        let Some((user, registration)) = row else { return Ok(None) };
        if let Some(registration) = registration {
            self.finish(&rows::read_registration(&registration)?).await?;
        }
        UserId::from_slice(&user).map(Some).ok_or(Error::Damaged("handle"))
    }

    /// Writes what follows from having the handle.
    async fn finish(&self, registration: &Registration) -> Result<(), Error> {
        let Registration { handle_key, user, device, .. } = registration;
        let mut batch = Batch::new();
        batch.add(&self.insert_new, (user.id.to_key(), ACCOUNT, ACCOUNT_KEY, signed(user.version), rows::user(user)));
        let key = Bytes::copy_from_slice(device.id.as_bytes());
        batch.add(&self.insert, (user.id.to_key(), DEVICE, key, signed(device.version), rows::device(device)));
        // Not applied: somebody else has done it.
        self.session.conditional_batch(batch).await?;
        // Should this not get through, whoever comes next finds everything done and tries it again.
        if let Err(error) = self.session.conditional(&self.finish_handle, (handle_key, user.id.as_bytes().as_slice())).await {
            tracing::debug!("finished registration not marked so: {error}");
        }
        Ok(())
    }
}
