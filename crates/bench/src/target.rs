//! The processes that are measured: the real server and the floor, each a child with a data folder of its own.

use std::path::{Path, PathBuf};

use plaza_client::{Account, Device, Endpoint};
use plaza_testkit::{people::befriend, server::Server};
use tempfile::TempDir;
use tonic::{metadata::AsciiMetadataValue, transport::Channel};

/// Data goes beside the build, not to a folder that may be in memory.
pub(crate) fn folder() -> PathBuf {
    let folder = PathBuf::from("target");
    if folder.is_dir() { folder } else { std::env::temp_dir() }
}

/// A process that is measured.
pub(crate) struct Target {
    pub(crate) server: Server,
    _data: TempDir,
}

impl Target {
    /// The real server.
    pub(crate) async fn plaza(binary: &Path) -> anyhow::Result<Self> {
        Self::start(binary.to_owned(), &["--log-level", "warn"]).await
    }

    /// The real server without rates.
    pub(crate) async fn plaza_without_rates(binary: &Path) -> anyhow::Result<Self> {
        Self::start(binary.to_owned(), &["--log-level", "warn", "--set", "gateway.rate_limits=false"]).await
    }

    /// The floor: this program again.
    pub(crate) async fn floor() -> anyhow::Result<Self> {
        Self::start(std::env::current_exe()?, &["floor"]).await
    }

    async fn start(binary: PathBuf, arguments: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir_in(folder())?;
        let server = Server::start(binary, data.path().join("data"), arguments).await?;
        Ok(Self { server, _data: data })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.server.pid().unwrap_or_default()
    }
}

/// The password of everybody here.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// Who calls: what goes into the metadata of their calls, and whom they write to.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) channel: Channel,
    header: (&'static str, AsciiMetadataValue),
    pub(crate) peer: String,
}

impl Caller {
    /// A call of theirs.
    pub(crate) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert(self.header.0, self.header.1.clone());
        request
    }
}

impl Target {
    /// A connection of its own.
    pub(crate) fn channel(&self) -> anyhow::Result<Channel> {
        channel(&self.server.address())
    }

    /// Two friends of the real server, each with a connection of their own.
    pub(crate) async fn friends(&self, number: usize) -> anyhow::Result<[Caller; 2]> {
        friends(&self.server.address(), number).await
    }

    /// Somebody of the real server, who writes to this peer, with a connection of their own.
    pub(crate) async fn caller(&self, account: &Account, peer: &str) -> anyhow::Result<Caller> {
        caller(&self.server.address(), account, peer).await
    }

    /// Two friends of the floor.
    pub(crate) fn floor_friends(&self, number: usize) -> anyhow::Result<[Caller; 2]> {
        let (one, other) = (format!("a{number}"), format!("b{number}"));
        Ok([self.floor_caller(&one, &other)?, self.floor_caller(&other, &one)?])
    }

    /// Somebody of the floor, who writes to this peer.
    pub(crate) fn floor_caller(&self, name: &str, peer: &str) -> anyhow::Result<Caller> {
        Ok(Caller { channel: self.channel()?, header: (plaza_floor::USER_HEADER, name.parse()?), peer: peer.to_owned() })
    }
}

fn channel(address: &str) -> anyhow::Result<Channel> {
    Ok(Channel::from_shared(address.to_owned())?.tcp_nodelay(true).connect_lazy())
}

/// Two friends where the real server is reached at this address, each with a connection of their own.
pub(crate) async fn friends(address: &str, number: usize) -> anyhow::Result<[Caller; 2]> {
    let endpoint = Endpoint::new(address)?;
    let handles = [format!("bench_a{number:06}"), format!("bench_b{number:06}")];
    let device = Device::new("bench", "bench");
    let one = Account::register(&endpoint, &handles[0], PASSWORD, "one", &device).await?;
    let other = Account::register(&endpoint, &handles[1], PASSWORD, "other", &device).await?;
    befriend(&one, &other).await?;
    Ok([caller(address, &one, other.user_id()).await?, caller(address, &other, one.user_id()).await?])
}

async fn caller(address: &str, account: &Account, peer: &str) -> anyhow::Result<Caller> {
    let token = format!("Bearer {}", account.access_token().await?).parse()?;
    Ok(Caller { channel: channel(address)?, header: ("authorization", token), peer: peer.to_owned() })
}
