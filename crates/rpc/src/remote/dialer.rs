//! How connections to other processes are made.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

pub(crate) const CONNECT: Duration = Duration::from_secs(1);
/// An instance that does not answer a ping is gone. Both together bound how long a stopped process is taken for a busy one.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(1);
pub(crate) const PING_ANSWER: Duration = Duration::from_secs(2);
// Few connections carry everything between two processes.
pub(crate) const STREAM_WINDOW: u32 = 2 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 8 << 20;

/// What goes over the network, encrypted or not.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

pub(crate) type Io = Box<dyn Socket>;

/// Connects to other processes.
#[derive(Clone, Default)]
pub struct Dialer {
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("tls", &self.tls.is_some()).finish()
    }
}

/// A certificate, a key or a name cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Not PEM.
    #[error("not a certificate or key in PEM")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// Certificate and key do not fit, or are of a kind that is not known.
    #[error("the certificate or its key cannot be used")]
    Tls(#[from] rustls::Error),
    /// Not a name.
    #[error("not a name that a certificate may be for")]
    Name(#[from] rustls::pki_types::InvalidDnsNameError),
}

impl Dialer {
    /// With mutual TLS: both sides show a certificate of `authority`, the other side's for `name`. All of them PEM.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn mutual(authority: &[u8], certificate: &[u8], key: &[u8], name: &str) -> Result<Self, Unusable> {
        let mut trusted = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authority) {
            trusted.add(authority?)?;
        }
        let certificate = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>()?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(trusted)
            .with_client_auth_cert(certificate, PrivateKeyDer::from_pem_slice(key)?)?;
        config.alpn_protocols.push(b"h2".to_vec());
        Ok(Self { tls: Some((TlsConnector::from(Arc::new(config)), ServerName::try_from(name.to_owned())?)) })
    }

    /// Connects.
    ///
    /// # Errors
    /// Nobody is there, or not who should be.
    pub async fn connect(&self, address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
        // Whether it is encrypted is decided below, not by the scheme.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let dialer = self.clone();
        let dial = service_fn(move |_| {
            let dialer = dialer.clone();
            async move { dialer.dial(address).await.map(TokioIo::new) }
        });
        endpoint.connect_with_connector(dial).await
    }

    pub(crate) async fn dial(&self, address: SocketAddr) -> Result<Io, std::io::Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            Some((tls, name)) => Box::new(tls.connect(name.clone(), stream).await?),
            None => Box::new(stream),
        })
    }
}
