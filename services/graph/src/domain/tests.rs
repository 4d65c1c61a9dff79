//! The machine under histories: against a model that knows no messages, under every interleaving, and rule by rule.

mod model;
mod properties;
mod quotas;
mod spreading;
mod world;
