//! Identifiers, limits and error reasons that every part of Plaza shares. Pure data: no clock, no I/O, no protocol types.

pub mod id;
pub mod limits;
pub mod partition;
pub mod reason;

pub use id::{ClientId, ConversationId, DeviceId, ParseError, UserId};
pub use reason::Reason;
