//! Invariant 7: nobody sees what the product's rules for Moments forbid, and everybody sees what they allow.

#[path = "visibility/check.rs"]
mod check;
#[path = "visibility/fake.rs"]
mod fake;
#[path = "visibility/history.rs"]
mod history;
#[path = "visibility/metamorphic.rs"]
mod metamorphic;
#[path = "visibility/mistakes.rs"]
mod mistakes;
#[path = "visibility/model.rs"]
mod model;
#[path = "visibility/rules.rs"]
mod rules;
#[path = "visibility/step.rs"]
mod step;
#[path = "visibility/system.rs"]
mod system;
