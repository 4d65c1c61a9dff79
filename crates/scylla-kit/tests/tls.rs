//! Connections are encrypted when a certificate is named, and only to whom it vouches for.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use plaza_scylla_kit::{
    Config, Session, check,
    config::Tls,
    testing::{Lease, lease},
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// Decrypts before a node. Ends with the set.
async fn encrypted(node: String, server: ServerConfig, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let acceptor = TlsAcceptor::from(Arc::new(server));
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, node) = (acceptor.clone(), node.clone());
            connections.spawn(async move {
                let mut node = TcpStream::connect(node).await.expect("a node");
                if let Ok(mut client) = acceptor.accept(client).await {
                    _ = copy_bidirectional(&mut client, &mut node).await;
                }
            });
        }
    });
    address
}

fn certificate() -> CertifiedKey<rcgen::KeyPair> {
    generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate")
}

#[tokio::test]
async fn only_a_certificate_that_is_vouched_for_is_spoken_to() {
    let Some(node) = plaza_testkit::external::cql() else { return };
    let Lease { config, .. } = &lease(&node, &[]).await;
    let CertifiedKey { cert, signing_key } = certificate();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a server");
    let mut tasks = JoinSet::new();
    let address = encrypted(node, server, &mut tasks).await;

    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, pem: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).expect("written");
        path
    };
    let (ours, others) = (file("ours.pem", cert.pem()), file("others.pem", certificate().cert.pem()));
    let connect = async |ca_file: PathBuf| {
        let config = Config { nodes: vec![address.to_string()], tls: Tls { ca_file, ..Tls::default() }, ..config.clone() };
        Session::connect(&config).await
    };
    let session = connect(ours).await.expect("connected");
    check(&session, &[]).await.expect("asked through it");
    assert!(connect(others).await.is_err(), "another's certificate");
    assert!(connect(PathBuf::new()).await.is_err(), "not encrypted");
}
