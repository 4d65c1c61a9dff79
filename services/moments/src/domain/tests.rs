//! The machines under histories: rule by rule, and against a model in every interleaving of posting and befriending.

mod acts;
mod quota;
mod spreading;
mod timelines;
