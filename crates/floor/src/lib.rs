//! Floors: the least that anybody can do the server's work with, on the same machine. A bare tonic server that speaks the same methods, one
//! `fdatasync` for all who wait, the client libraries of Kafka and CQL alone, and what processes use. The benchmark and the load tests measure
//! ours beside them.

mod commit;
pub mod cql;
pub mod kafka;
pub mod process;
mod server;
pub mod timeline;

use std::time::Duration;

pub use commit::{GroupCommit, fdatasync_ms};
pub use server::{EVERYBODY, PAGE, USER_HEADER, serve};

/// How long topics and tables may take to be made.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Half of it is as compressible as text, half of it as ids.
fn bytes(number: u64, count: usize) -> Vec<u8> {
    let mixed = |place: usize| (number.wrapping_add(place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
    (0..count).map(|place| if place < count / 2 { mixed(place) } else { b'0' + (place % 10) as u8 }).collect()
}
