//! The gateway from outside, with the services behind it played by the tests.

mod connect;
mod door;
mod support;
