//! The real Kafka and CQL server of one run of the tests: of its own, on ports that are free, with no data of an earlier run, and gone when the run
//! is over. A test finds them in `PLAZA_TEST_KAFKA` and `PLAZA_TEST_CQL`; where these are set already, the servers they name are used instead.
//! Without Java and Maven the tests that need them are skipped, said plainly; with `PLAZA_TEST_EXTERNAL=require` that is a failure.

use std::{
    env,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process, thread,
    thread::JoinHandle,
};

use anyhow::anyhow;

use crate::cluster::{Cluster, Kind, Tools, Wanted, variable};

/// Below those of the cluster that is started by hand, and those that systems give to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..29_000;
/// What one cluster may use above its base port.
const SPAN: u16 = 200;

/// Servers that start beside something else; they stop when this is dropped.
#[derive(Default)]
pub(crate) struct External {
    starting: Option<JoinHandle<anyhow::Result<Result<Cluster, String>>>>,
    running: Option<Cluster>,
    skipped: Option<String>,
}

impl External {
    /// Lets what is not set already start, and returns at once.
    ///
    /// # Errors
    /// What it needs is missing, and required.
    pub(crate) fn start(root: &Path) -> anyhow::Result<Self> {
        let unset: Vec<_> = Kind::ALL.into_iter().filter(|kind| env::var_os(variable(*kind)).is_none()).collect();
        let Some(only) = only(&unset) else { return Ok(Self::default()) };
        let wanted = Wanted { brokers: Some(1), nodes: Some(1), only, base_port: Some(free()?) };
        let (jars, mut external) = (root.join("target/cluster"), Self::default());
        match Tools::find() {
            Ok(tools) => external.starting = Some(thread::spawn(move || begin(&tools, &jars, &wanted))),
            Err(error) => external.skipped = Some(skip(&wanted, error)?),
        }
        Ok(external)
    }

    /// Waits for the servers, and says where they are.
    ///
    /// # Errors
    /// One does not start.
    pub(crate) fn ready(&mut self) -> anyhow::Result<Vec<(&'static str, String)>> {
        if let Some(starting) = self.starting.take() {
            match starting.join().map_err(|_| anyhow!("starting the servers panicked"))?? {
                Ok(cluster) => self.running = Some(cluster),
                Err(skipped) => self.skipped = Some(skipped),
            }
        }
        if let Some(skipped) = &self.skipped {
            println!("{skipped}");
        }
        let variables: Vec<_> = self.running.iter().flat_map(Cluster::variables).collect();
        variables.iter().for_each(|(name, value)| println!("{name}={value}"));
        Ok(variables)
    }

    /// Whether there is a Kafka and a CQL server, its own or somebody's.
    pub(crate) fn has_both(&self) -> bool {
        let own = |kind| self.running.as_ref().is_some_and(|cluster| cluster.variable(kind).is_some());
        Kind::ALL.into_iter().all(|kind| own(kind) || env::var_os(variable(kind)).is_some())
    }

    /// Stops what this started, also if it is still starting.
    pub(crate) fn stop(&mut self) {
        if let Some(Ok(Ok(Ok(cluster)))) = self.starting.take().map(JoinHandle::join) {
            self.running = Some(cluster);
        }
        if let Some(Err(error)) = self.running.take().map(|mut cluster| cluster.down(true)) {
            println!("the servers of this run did not stop: {error:#}");
        }
    }
}

impl Drop for External {
    fn drop(&mut self) {
        self.stop();
    }
}

fn begin(tools: &Tools, jars: &Path, wanted: &Wanted) -> anyhow::Result<Result<Cluster, String>> {
    // They end with this run, when it is interrupted too.
    let mut cluster = Cluster::open(jars, &jars.join("test"), false)?;
    // What a run left that was killed.
    cluster.down(true)?;
    if let Err(error) = cluster.fetch(wanted) {
        return skip(wanted, error).map(Err);
    }
    if let Err(error) = cluster.up(tools, wanted) {
        cluster.down(false)?;
        return Err(error);
    }
    Ok(Ok(cluster))
}

/// What is said when what the servers need is not to be had, unless that is an error.
fn skip(wanted: &Wanted, error: anyhow::Error) -> anyhow::Result<String> {
    if env::var("PLAZA_TEST_EXTERNAL").is_ok_and(|value| value == "require") {
        return Err(error);
    }
    let names: Vec<_> = wanted.kinds().map(Kind::name).collect();
    let skipped = format!("SKIP tests against a real {}: {error:#}", names.join(" and a real "));
    println!("{skipped}");
    Ok(skipped)
}

/// Both, one of them, or nothing.
fn only(kinds: &[Kind]) -> Option<Option<Kind>> {
    match kinds {
        [] => None,
        [kind] => Some(Some(*kind)),
        _ => Some(None),
    }
}

/// A base port whose whole span is free; where runs begin to look differs, so that two of them hardly ever meet.
fn free() -> anyhow::Result<u16> {
    let spans = (PORTS.end - PORTS.start) / SPAN;
    let first = u16::try_from(process::id() % u32::from(spans)).unwrap_or_default();
    (0..spans)
        .map(|step| PORTS.start + (first + step) % spans * SPAN)
        .find(|base| (*base..*base + SPAN).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()))
        .ok_or_else(|| anyhow!("no {SPAN} free ports in a row"))
}
