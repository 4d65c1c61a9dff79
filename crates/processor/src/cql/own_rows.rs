//! For a service that writes its rows by itself, because some of them must be seen after others.

use std::ops::Deref;

use plaza_scylla_kit::Error;

use super::StateTables;
use crate::{Remembered, StoreError, Timed};

/// The tables, for [`machine_store`](crate::machine_store): what is put is not the statements of a row but a future that has written all of them.
pub struct OwnRows<'a>(pub &'a StateTables);

impl Deref for OwnRows<'_> {
    type Target = StateTables;

    fn deref(&self) -> &StateTables {
        self.0
    }
}

impl OwnRows<'_> {
    /// As [`crate::Store::write_rows`].
    ///
    /// # Errors
    /// The cluster's, once neither is under way any more.
    pub async fn write_rows<R>(
        &self,
        machine: &'static str,
        _rows: &[Timed<R>],
        remembered: &[Timed<Remembered>],
        written: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), StoreError> {
        let remembered = self.0.write_rows::<R>(machine, &[], remembered, |_, _| {});
        let (remembered, written) = futures::future::join(remembered, written).await;
        remembered.and(written.map_err(StoreError::from))
    }
}
