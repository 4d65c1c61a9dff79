//! Ports for servers that are started later, and again.

use std::{collections::BTreeSet, net::TcpListener, sync::Mutex};

use anyhow::Context;

/// Below those of outgoing connections and of the test cluster.
const PORTS: std::ops::Range<u16> = 10_000..28_000;

/// Those of this process's servers, which may not listen yet.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nobody has, that this process never answered before, and that no outgoing connection is given while its server is down.
///
/// # Errors
/// There is none in a thousand.
pub fn free() -> anyhow::Result<u16> {
    let free = |_| {
        let port = rand::random_range(PORTS);
        let is_new = TcpListener::bind(("0.0.0.0", port)).is_ok() && GIVEN.lock().is_ok_and(|mut given| given.insert(port));
        is_new.then_some(port)
    };
    (0..1000).find_map(free).context("no port is free")
}
