//! The rules of chat, pure: what a conversation decides, what an inbox makes of it, and the form in which a device is told. No clock, no
//! randomness, no I/O, and nothing of gRPC but the shapes of its messages.

pub mod conversation;
pub mod event;
pub mod inbox;
