//! Encrypted connections, and passwords that are not said but proven.

use std::{path::PathBuf, sync::Arc};

use futures::future::join_all;
use plaza_event_log::{Error, EventLog as _, Topic, TopicPartition};
use plaza_event_log_kafka::{Config, KafkaLog, Security, TopicSpec};
use plaza_runtime::config::Secret;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    places::{Cluster, record},
    proxy::Proxy,
};

const TOPIC: Topic = Topic("topic");

fn certificate(name: &str) -> CertifiedKey<KeyPair> {
    generate_simple_self_signed([name.to_owned()]).expect("a certificate")
}

fn acceptor(CertifiedKey { cert, signing_key }: &CertifiedKey<KeyPair>) -> TlsAcceptor {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key);
    TlsAcceptor::from(Arc::new(config.expect("a server")))
}

/// Appends a record, and reads how many there are.
async fn append(cluster: &Cluster) -> u64 {
    let partition = TopicPartition { topic: TOPIC, partition: 0 };
    let log = cluster.open().await;
    log.append(partition, record("whispered")).await.expect("it is heard");
    let end = log.end(partition).await.expect("an end");
    log.close().await;
    end
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_broker_that_is_vouched_for_is_spoken_to() {
    let Some([user, password, with_password]) = plaza_testkit::external::kafka_with_password() else { return };
    let Some(mut cluster) = Cluster::with(&[(TOPIC, 1)]).await else { return };
    let brokers = cluster.config.brokers.clone();
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, pem: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).expect("written");
        path
    };
    let (ours, elsewhere) = (certificate("127.0.0.1"), certificate("127.0.0.9"));
    let vouched = file("ours.pem", ours.cert.pem());
    let proxy = Proxy::encrypted(&brokers, acceptor(&ours)).await;
    cluster.config.brokers = proxy.brokers();
    (cluster.config.security.tls, cluster.config.security.ca_file) = (true, vouched);
    assert_eq!(append(&cluster).await, 1);

    // The password is proven there, and never said.
    let proxy_with_password = Proxy::encrypted(&with_password, acceptor(&ours)).await;
    cluster.config.brokers = proxy_with_password.brokers();
    let security = &mut cluster.config.security;
    (security.user, security.password) = (user, Secret::new(password.as_str()));
    for (number, mechanism) in ["PLAIN", "SCRAM-SHA-256"].into_iter().enumerate() {
        cluster.config.security.mechanism = mechanism.to_owned();
        assert_eq!(append(&cluster).await, 2 + number as u64, "{mechanism}");
    }

    let with_password = cluster.config.clone();
    let changed = |config: &Config, change: fn(&mut Config)| {
        let mut config = config.clone();
        change(&mut config);
        config
    };
    let proxy_elsewhere = Proxy::encrypted(&brokers, acceptor(&elsewhere)).await;
    let by = |proxy: &Proxy, ca_file: PathBuf| {
        let security = Security { tls: true, ca_file, ..Security::default() };
        Config { brokers: proxy.brokers(), security, ..with_password.clone() }
    };
    let refused = [
        ("a wrong password", changed(&with_password, |config| config.security.password = Secret::new("let me in"))),
        ("not encrypted", changed(&with_password, |config| config.security.tls = false)),
        ("nobody vouches for it", by(&proxy, file("another.pem", certificate("127.0.0.1").cert.pem()))),
        ("it is somebody else", by(&proxy_elsewhere, file("elsewhere.pem", elsewhere.cert.pem()))),
    ];
    let topics = [TopicSpec { topic: TOPIC, partitions: 1, generation: 1 }];
    let opened = join_all(refused.iter().map(|(_, config)| KafkaLog::open(config, &topics))).await;
    for ((why, _), opened) in refused.iter().zip(opened) {
        let Err(refused) = opened else { panic!("{why}") };
        assert!(matches!(refused, Error::Unavailable(_)) && !refused.to_string().contains(&password), "{why}: {refused}");
    }
    let missing = KafkaLog::open(&by(&proxy, PathBuf::from("/nowhere.pem")), &topics).await.err().expect("there is no such file");
    assert!(matches!(missing, Error::Fatal(_)) && missing.to_string().contains("/nowhere.pem"), "{missing}");
}
