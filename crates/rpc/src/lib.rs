//! What every gRPC service and caller needs: who calls ([`identity`]), until when ([`deadline`]), what went wrong ([`error`]), where a list
//! goes on ([`page`]), how services reach each other ([`Peer`], [`remote`], [`carry`], [`values`]), and what is done around every call ([`stack()`]). It knows no
//! service.

pub mod carry;
pub mod deadline;
pub mod error;
pub mod identity;
pub mod metadata;
pub mod page;
mod peer;
pub mod remote;
mod stack;
pub mod values;

pub use error::{ApiError, Violations};
pub use identity::Identity;
pub use page::PageTokens;
pub use peer::Peer;
pub use stack::{StackDeps, stack};
