//! The load tests against the real server, embedded in the test's own process: a short run of each kind, judged by the checker.

mod population;
mod runs;
mod server;
mod trouble;
