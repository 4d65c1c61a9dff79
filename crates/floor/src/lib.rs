//! Floors: the least that anybody can do the server's work with, on the same machine. A bare tonic server that speaks the same methods, one
//! `fdatasync` for all who wait, and what processes use. The benchmark and the load tests measure ours beside them.

mod commit;
pub mod process;
mod server;
pub mod timeline;

pub use commit::{GroupCommit, fdatasync_ms};
pub use server::{EVERYBODY, PAGE, USER_HEADER, serve};
