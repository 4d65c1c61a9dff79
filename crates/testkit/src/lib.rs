//! What tests and load tests share: histories of what clients did and saw, the checker that judges them, a server as a child process, and
//! clients: single people, and a crowd that records a history; and where real servers are. Never linked into the server.

pub mod checker;
pub mod crowd;
pub mod external;
pub mod history;
pub mod people;
pub mod raw;
pub mod replay;
pub mod server;
pub mod wait;

pub use history::History;
