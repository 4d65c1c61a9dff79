//! Every method and every rule through the generated client, with graph and accounts played by tables that the tests change at will.

mod engagement;
mod faults;
mod freshness;
mod notices;
mod posts;
mod rules;
mod stuck;
mod timeline;
mod world;
