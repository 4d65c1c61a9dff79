//! The service through its generated client, in one process with the real processor, log and store; accounts and chat are played.

mod bad_input;
mod contacts;
mod faults;
mod faulty;
mod requests;
mod world;
