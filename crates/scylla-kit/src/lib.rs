//! What the stores on ScyllaDB and Cassandra are built on: the session, statements by what may be done with them, errors by what they mean for
//! the rows, migrations, and the few rows that a deployment shares. It knows nothing of what the tables hold.
//!
//! A store is a folder of its service: `store/scylla.rs` and `store/scylla/0001_*.cql`.
//!
//! ```ignore
//! pub const MIGRATIONS: Migrations = Migrations {
//!     service: "graph", // names the keyspace: {prefix}graph
//!     steps: &[plaza_processor::cql::STEP, Step { name: "rows", cql: include_str!("scylla/0002_rows.cql") }],
//!     overlay: &[plaza_processor::cql::OVERLAY], // ScyllaDB only
//! };
//!
//! pub struct Scylla { session: Session, contact: Read, put_contact: Write }
//!
//! impl Scylla {
//!     pub async fn open(session: &Session) -> Result<Self, Error> {
//!         let keyspace = session.keyspace(MIGRATIONS.service);
//!         Ok(Self {
//!             session: session.clone(),
//!             contact: keyspace.read("SELECT since FROM {keyspace}.contacts WHERE owner = ? AND other = ?").await?,
//!             put_contact: keyspace.write("INSERT INTO {keyspace}.contacts (owner, other, since) VALUES (?, ?, ?) USING TIMESTAMP ?").await?,
//!         })
//!     }
//! }
//! ```
//!
//! The binary connects once ([`Session::connect`]), checks ([`check`]) and opens its stores; `plaza migrate` calls [`migrate()`]. What is read
//! are tuples (`session.rows::<(i64, Vec<u8>)>(&read, values)`) or structs that derive `scylla::DeserializeRow`. Tests get migrated keyspaces of
//! their own from [`testing`].
//!
//! Rules the types do not hold: a partition has a bound (50,000 rows), by its nature or by a bucket in its key; no secondary index, counter or
//! materialised view; every write names its time, or has a condition, and no cell is ever written both ways; a record does not
//! delete what it writes, and a processor's delete names its record's time like a write: one of another time would hide what is written again.

pub mod config;
pub mod deployment;
mod error;
mod metrics;
pub mod migrate;
mod retry;
mod session;
pub mod statement;
pub mod testing;
mod tls;

pub use config::Config;
pub use deployment::Deployment;
pub use error::Error;
pub use migrate::{CheckError, Migrations, Step, check, migrate};
pub use scylla::response::PagingState;
pub use session::{AT_ONCE, Server, Session, concurrently};
pub use statement::{Batch, Bound, Conditional, Keyspace, Read, Write};
