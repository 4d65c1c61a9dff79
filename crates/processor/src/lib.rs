//! Partitioned deterministic state machines over the event log: one owner per partition applies commands in log order through a pure
//! function and writes what follows from them, so that a crash, a replay, a second owner or a lost write changes nothing. It knows nothing
//! of what the machines do; a machine is a key, a state, an `apply` and a table of where rows go.
//!
//! The rules that make this right, and the order of writes, are in `docs/architecture.md` under "Processors".

/// Whether a mistake is planted: never, but in the tests of the simulation.
#[cfg(not(feature = "mistakes"))]
macro_rules! mistake {
    ($name:ident) => {
        false
    };
}
#[cfg(feature = "mistakes")]
macro_rules! mistake {
    ($name:ident) => {
        $crate::mistakes::is_planted($crate::mistakes::Mistake::$name)
    };
}

mod apply;
mod batch;
pub mod call;
pub mod config;
pub mod conformance;
#[cfg(feature = "cql")]
pub mod cql;
mod decide;
mod delivery;
pub mod embedded;
mod emit;
pub mod envelope;
pub mod fault;
pub mod host;
mod item;
mod lag;
mod load;
pub mod machine;
mod marks;
#[cfg(feature = "mistakes")]
pub mod mistakes;
pub mod outcome;
pub mod partition;
pub mod relay;
mod remembered;
mod retry;
mod states;
pub mod store;
mod stored;
mod tell;
mod trace;
mod verdict;
mod write;
mod write_time;

pub use call::{CallError, Caller, Command, Outlet, Replies};
pub use config::Config;
pub use envelope::{Envelope, Origin, ReplyTo};
pub use host::{Host, HostDeps};
pub use machine::{Announce, Effects, Emission, Input, Key, Machine, Position, ReplyWhen};
pub use outcome::{Outcome, Refusal};
pub use partition::Partition;
pub use store::{Checkpoint, IdKey, Mark, Remembered, StateRow, StateWrite, Store, StoreError, Timed};
