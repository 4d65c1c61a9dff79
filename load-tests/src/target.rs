//! Where the traffic goes, and that it goes nowhere else by mistake.

use std::net::{IpAddr, ToSocketAddrs};

use anyhow::{Context, bail};
use tonic::transport::{Channel, Endpoint};

/// An address that may be loaded.
#[derive(Debug, Clone)]
pub struct Target {
    /// As given.
    pub address: String,
    /// The host and port to connect to.
    pub socket: std::net::SocketAddr,
}

impl Target {
    /// Takes `http://host:port`. Every address the host has must be a loopback address, unless the caller owns it.
    ///
    /// # Errors
    /// It is no such address, or not a loopback one.
    pub fn new(address: &str, owned: bool) -> anyhow::Result<Self> {
        let uri: http::Uri = address.parse().with_context(|| format!("'{address}' is no address"))?;
        let (Some("http"), Some(host)) = (uri.scheme_str(), uri.host()) else { bail!("'{address}' is not http://host:port") };
        let port = uri.port_u16().unwrap_or(7700);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<_> = (host, port).to_socket_addrs().with_context(|| format!("finding {host}"))?.collect();
        let first = found.first().with_context(|| format!("{host} has no address"))?;
        if !owned && !found.iter().all(|address| is_loopback(address.ip())) {
            bail!("{address} is not on this machine: load goes to others only with --i-own-this-target");
        }
        Ok(Self { address: address.trim_end_matches('/').to_owned(), socket: *first })
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        is_loopback(self.socket.ip())
    }

    /// A connection for calls, made when it is first used.
    ///
    /// # Errors
    /// The address cannot be one of a connection.
    pub fn channel(&self) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::from_shared(self.address.clone())?;
        Ok(endpoint.connect_timeout(std::time::Duration::from_secs(2)).tcp_nodelay(true).connect_lazy())
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_unless_owned() {
        for good in ["http://127.0.0.1:7700", "http://127.0.0.9:1", "http://[::1]:7700", "http://localhost:7700/"] {
            assert!(Target::new(good, false).is_ok_and(|target| target.is_local()), "{good}");
        }
        for bad in ["http://192.0.2.1:7700", "http://[2001:db8::1]:7700", "http://0.0.0.0:7700"] {
            let error = Target::new(bad, false).expect_err(bad).to_string();
            assert!(error.contains("--i-own-this-target"), "{error}");
            assert!(Target::new(bad, true).is_ok_and(|target| !target.is_local()), "{bad}");
        }
        for bad in ["127.0.0.1:7700", "https://127.0.0.1:7700", "nonsense", ""] {
            assert!(Target::new(bad, true).is_err(), "{bad}");
        }
    }
}
