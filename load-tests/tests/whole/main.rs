//! The load tests against the real server, embedded in the test's own process: a short run of each kind, judged by the checker.

mod runs;
mod server;
mod trouble;
