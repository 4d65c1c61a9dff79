//! The rules of chat, pure: what a conversation decides, what an inbox makes of it, and the form in which a device is told. No clock, no
//! randomness, no I/O, and nothing of gRPC but the shapes of its messages.

use std::ops::RangeInclusive;

pub mod conversation;
pub mod event;
pub mod inbox;

/// The rules that commands are to be decided by: 1 knew no groups.
pub const RULES: RangeInclusive<u32> = 1..=2;
