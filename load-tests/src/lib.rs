//! The load tests: drives a deployment through its public API at a set rate, checks every message, and reports. It knows of the server only
//! what any client knows.

pub mod api;
pub mod arrivals;
pub mod bare;
pub mod calibrate;
pub mod capacity;
pub mod coordinator;
pub mod floor;
pub mod operation;
pub mod peers;
pub mod population;
pub mod ramp;
pub mod record;
pub mod report;
pub mod run;
pub mod scenario;
pub mod target;
pub mod verify;
pub mod wire;
