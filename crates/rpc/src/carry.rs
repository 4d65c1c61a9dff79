//! Unary calls between two processes, all of them on one stream of gRPC ([`call.proto`]), because a stream of their own costs each call several
//! times what it asks for. Whoever calls writes it into a buffer, and one task writes to the network whatever is there when it gets to it; it
//! also reads the answers and gives each to who waits. The other process makes the calls side by side, as if each had come alone.
//!
//! This is between [`crate::remote`] and [`crate::Peer`], and neither their callers nor services can tell.
//!
//! [`call.proto`]: plaza_proto::internal::v1

mod connection;
mod frame;
mod line;
mod serve;
mod turn;
mod whole;

pub(crate) use self::{
    connection::{Connection, Failure},
    line::{Called, Line, Refused},
};
pub use serve::routes;

/// The method that carries the others.
const PATH: &str = "/plaza.internal.v1.CallService/Carry";
