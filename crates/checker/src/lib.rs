//! Histories of what clients did and saw, and the checker that judges them by the invariants. Tests and load tests share it, so that both mean
//! the same by "right". It knows the public protocol's types and nothing of servers, connections or time.

pub mod checker;
pub mod history;
mod seen;

pub use checker::{Violation, check};
pub use history::History;
