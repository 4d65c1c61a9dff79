//! Keeping a device signed in between two runs, and in several processes at once: they share one refresh token, and each refresh replaces it.

use std::io;

use crate::Credentials;

/// Where the credentials of a device are kept.
pub trait Keeper: Send + Sync + 'static {
    /// Takes what is kept, for nobody else until it is dropped: whoever else wants it waits. May block.
    ///
    /// # Errors
    /// It cannot be read.
    fn take(&self) -> io::Result<Box<dyn Kept>>;
}

/// Credentials in the hands of one.
pub trait Kept: Send {
    /// The newest ones.
    fn credentials(&self) -> &Credentials;

    /// Keeps others from now on. When this returns they survive a crash. May block.
    ///
    /// # Errors
    /// They cannot be written; then the ones before are still kept.
    fn replace(&mut self, credentials: &Credentials) -> io::Result<()>;
}
