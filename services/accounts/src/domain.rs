//! The rules of accounts: what a handle, a profile or a password may be, what becomes of a session. Pure: no clock, no randomness, no I/O.

pub mod claims;
pub mod device;
pub mod rules;
pub mod user;

pub use claims::Claims;
pub use device::{Device, Lineage, Presented};
pub use user::{MomentsRange, Profile, Settings, User};
