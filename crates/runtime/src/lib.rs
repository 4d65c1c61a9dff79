//! What every process of the system runs on: supervised tasks with an ordered shutdown, the clock and the source of randomness, and the
//! configuration. It knows nothing of services, logs or stores.

pub mod clock;
pub mod config;
pub mod group;
pub mod rng;
pub mod shutdown;
pub mod supervisor;
pub mod watchdog;

pub use clock::Clock;
pub use group::Group;
pub use rng::Rng;
pub use supervisor::{Stage, Supervisor};
/// The token that a stage's tasks watch.
pub use tokio_util::sync::CancellationToken;
pub use watchdog::Watchdog;
