//! Every method of accounts through the generated clients, in process, on the embedded log and store.

mod devices;
mod durability;
mod faults;
mod harness;
mod input;
mod people;
mod profile;
mod sessions;
