//! The gateway: the only public door. It knows who calls, admits or refuses, and hands the bytes of a call undecoded to the service that owns
//! the method; what a method needs is read from the descriptors, so a new one is served without a change here. Only `Connect` ends here: the
//! live streams of devices. It holds no data of its own.

mod admission;
mod config;
mod connect;
mod door;
mod metrics;
mod reflection;
mod revocation;
mod service;
mod tokens;
mod web;
mod whole;

pub use config::{Config, Tls};
pub use service::{Built, Deps, build};
