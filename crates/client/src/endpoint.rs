//! Where the server is, and the connections to it: one for calls, one for streams, so that a stream never holds a call up.

use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig};

use crate::{Backoff, Error};

/// A deployment's public address. Connects when first used, and again when the connection was lost.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub(crate) calls: Channel,
    pub(crate) streams: Channel,
    pub(crate) timeout: Duration,
    longest_wait: Duration,
}

/// Between the first and the second try at most this.
const FIRST_WAIT: Duration = Duration::from_millis(100);

impl Endpoint {
    /// `http://host:port`, or `https://host:port` with a certificate that this machine trusts.
    ///
    /// # Errors
    /// [`Error::Address`] when it is no such address.
    pub fn new(address: &str) -> Result<Self, Error> {
        Self::with_tls(address, ClientTlsConfig::new().with_native_roots())
    }

    /// `https://host:port` with a certificate that one of these authorities vouches for, and no other. `authorities` is PEM text.
    ///
    /// # Errors
    /// [`Error::Address`] when it is no such address, or the text has no certificate.
    pub fn trusting(address: &str, authorities: &str) -> Result<Self, Error> {
        Self::with_tls(address, ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities)))
    }

    fn with_tls(address: &str, tls: ClientTlsConfig) -> Result<Self, Error> {
        let endpoint = Channel::from_shared(address.to_owned()).map_err(|error| Error::Address(error.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(Duration::from_secs(2))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        let endpoint = if address.starts_with("https://") {
            endpoint.tls_config(tls).map_err(|error| Error::Address(error.to_string()))?
        } else {
            endpoint
        };
        let (timeout, longest_wait) = (Duration::from_secs(10), Duration::from_secs(10));
        Ok(Self { calls: endpoint.connect_lazy(), streams: endpoint.connect_lazy(), timeout, longest_wait })
    }

    /// How long one try of a call may take; 10 s at first. Sent to the server as its deadline.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long to wait between two tries at most; 10 s at first. For tests: many clients that come back sooner can hold a server down.
    #[must_use]
    pub fn with_longest_wait(mut self, longest: Duration) -> Self {
        self.longest_wait = longest;
        self
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(FIRST_WAIT, self.longest_wait)
    }
}
