//! What tests and load tests share: the checker and its histories, a server as a child process, and clients: single people, circles of
//! Moments, a crowd that records a history; and where real servers are. Never linked into the server.

pub mod circle;
pub mod cluster;
pub mod crowd;
pub mod external;
pub mod people;
pub mod port;
pub mod raw;
pub mod replay;
pub mod server;
pub mod wait;

pub use plaza_checker::{History, checker, history};
