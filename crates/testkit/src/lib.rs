//! What tests and load tests share: histories of what clients did and saw, the checker that judges them, a server as a child process, and
//! a crowd of clients that records a history. Never linked into the server.

pub mod checker;
pub mod crowd;
pub mod history;
pub mod server;
pub mod wait;

pub use history::History;
