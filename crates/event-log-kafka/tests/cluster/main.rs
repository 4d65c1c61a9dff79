//! The log on a real cluster, whose address is in `PLAZA_TEST_KAFKA`; without one every test says that it is skipped.

mod conformance;
mod outage;
mod ownership;
mod places;
mod producing;
mod proxy;
mod reading;
mod security;
#[cfg(feature = "tls")]
mod tls;
mod topics;
