//! The client library against a server that does what a test says.

mod live;
mod server;
mod session;
