//! How many servers a cluster has and on which ports. It is recorded beside the data, which belongs to that many servers at those addresses and to
//! no others.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::server::{Kind, Server};

const FILE: &str = "shape.toml";
const BASE_PORT: u16 = 29_000;
/// Brokers, or nodes.
const MOST: u16 = 9;

/// The shape of a cluster. What has not been started yet has no number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    base_port: u16,
    pub(super) brokers: Option<u16>,
    pub(super) nodes: Option<u16>,
}

/// What somebody asks for; what is left open is as recorded, or 1.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Wanted {
    /// How many brokers; 3 or more keep three replicas of everything.
    #[arg(long)]
    pub(crate) brokers: Option<u16>,
    /// How many CQL nodes, on 127.0.0.1, 127.0.0.2 and so on.
    #[arg(long)]
    pub(crate) nodes: Option<u16>,
    /// Only one of the two.
    #[arg(long)]
    pub(crate) only: Option<Kind>,
    /// Brokers listen on this + 91 and on, nodes on this + 42.
    #[arg(long)]
    pub(crate) base_port: Option<u16>,
}

impl Wanted {
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> + use<> {
        let only = self.only;
        Kind::ALL.into_iter().filter(move |kind| only.is_none_or(|only| only == *kind))
    }
}

impl Shape {
    const EMPTY: Self = Self { base_port: BASE_PORT, brokers: None, nodes: None };

    /// What is recorded in a cluster's folder.
    ///
    /// # Errors
    /// The record cannot be read.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join(FILE);
        if !file.exists() {
            return Ok(Self::EMPTY);
        }
        let text = fs::read_to_string(&file)?;
        toml::from_str(&text).with_context(|| file.display().to_string())
    }

    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        Ok(fs::write(folder.join(FILE), toml::to_string(self)?)?)
    }

    /// Forgets what is recorded, for there is no data any more.
    pub(super) fn forget(folder: &Path) -> anyhow::Result<Self> {
        if folder.join(FILE).exists() {
            fs::remove_file(folder.join(FILE))?;
        }
        Ok(Self::EMPTY)
    }

    /// With what is wanted.
    ///
    /// # Errors
    /// There is data of another shape, or nothing like it can be.
    pub(super) fn with(mut self, wanted: &Wanted) -> anyhow::Result<Self> {
        let empty = self.brokers.is_none() && self.nodes.is_none();
        if let Some(base_port) = wanted.base_port.filter(|base_port| *base_port != self.base_port) {
            if !empty {
                bail!("the data is of a cluster with base port {}: `cargo xtask cluster down --wipe` deletes it", self.base_port);
            }
            if !(1024..65_000).contains(&base_port) {
                bail!("a base port is from 1024 to 64999");
            }
            self.base_port = base_port;
        }
        for kind in wanted.kinds() {
            let (recorded, asked) = match kind {
                Kind::Kafka => (&mut self.brokers, wanted.brokers),
                Kind::Cassandra => (&mut self.nodes, wanted.nodes),
            };
            let number = asked.or(*recorded).unwrap_or(1);
            if !(1..=MOST).contains(&number) {
                bail!("{number} servers of {}: from 1 to {MOST}", kind.name());
            }
            if let Some(recorded) = recorded.filter(|recorded| *recorded != number) {
                bail!(
                    "the data is of {recorded} servers of {}, not of {number}: `cargo xtask cluster down --wipe` deletes it",
                    kind.name()
                );
            }
            *recorded = Some(number);
        }
        Ok(self)
    }

    pub(super) fn servers(&self, folder: &Path, kind: Kind) -> Vec<Server> {
        let count = match kind {
            Kind::Kafka => self.brokers,
            Kind::Cassandra => self.nodes,
        };
        let server = |number| {
            let home = folder.join(format!("{}{number}", kind.name()));
            Server { kind, number, home, address: self.address(kind, number) }
        };
        (1..=count.unwrap_or(0)).map(server).collect()
    }

    fn address(&self, kind: Kind, number: u16) -> SocketAddr {
        match kind {
            Kind::Kafka => ([127, 0, 0, 1], self.base_port + 90 + number).into(),
            // At most `MOST`, so it fits.
            Kind::Cassandra => ([127, 0, 0, u8::try_from(number).unwrap_or(u8::MAX)], self.base_port + 42).into(),
        }
    }

    /// Where a broker listens for clients that come through a gate.
    pub(super) fn gated_port(&self, number: u16) -> u16 {
        self.base_port + 110 + number
    }

    /// Where such clients are told that it listens: nobody does until a test opens a gate there.
    pub(super) fn gate_port(&self, number: u16) -> u16 {
        self.base_port + 130 + number
    }

    /// Where a broker listens for clients that say who they are.
    pub(super) fn sasl_port(&self, number: u16) -> u16 {
        self.base_port + 150 + number
    }

    /// Where controllers talk to each other.
    pub(super) fn controller_port(&self, number: u16) -> u16 {
        self.base_port + 190 + number
    }

    /// Where nodes talk to each other.
    pub(super) fn storage_port(&self) -> u16 {
        self.base_port + 70
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let three = Wanted { brokers: Some(3), only: Some(Kind::Kafka), ..Wanted::default() };
        Shape::read(folder.path()).unwrap().with(&three).unwrap().write(folder.path()).unwrap();
        let recorded = Shape::read(folder.path()).unwrap();
        assert_eq!(recorded.servers(folder.path(), Kind::Kafka).len(), 3);
        assert_eq!(recorded.servers(folder.path(), Kind::Cassandra).len(), 0);

        // What was left out may still be chosen; what is there may not become something else.
        let both = recorded.clone().with(&Wanted { nodes: Some(2), ..Wanted::default() }).unwrap();
        assert_eq!((both.brokers, both.nodes), (Some(3), Some(2)));
        assert!(both.clone().with(&Wanted { brokers: Some(1), ..Wanted::default() }).is_err());
        assert!(both.clone().with(&Wanted { base_port: Some(4000), ..Wanted::default() }).is_err());
        assert!(both.with(&Wanted { nodes: Some(2), brokers: Some(3), ..Wanted::default() }).is_ok());
        assert!(recorded.with(&Wanted { nodes: Some(10), ..Wanted::default() }).is_err());
    }

    #[test]
    fn no_two_servers_share_a_port() {
        let shape = Shape { base_port: BASE_PORT, brokers: Some(MOST), nodes: Some(MOST) };
        let of_broker = |number| {
            let own = [shape.controller_port(number), shape.gated_port(number), shape.gate_port(number), shape.sasl_port(number)];
            own.into_iter().chain([shape.address(Kind::Kafka, number).port()])
        };
        let mut ports: Vec<_> = (1..=MOST).flat_map(of_broker).collect();
        ports.extend([shape.storage_port(), shape.address(Kind::Cassandra, 1).port()]);
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 47);
        assert_eq!(shape.address(Kind::Cassandra, 3), ([127, 0, 0, 3], 29_042).into());
    }
}
