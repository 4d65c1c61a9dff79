//! `plaza-load`.
fn main() {}
