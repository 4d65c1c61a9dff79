//! Several processes of the real binary on a real Kafka and a real CQL server, with mutual TLS between them: two people talk whichever instances
//! their conversation and their inboxes belong to, and nobody without a certificate of the deployment reaches an internal port.

#[path = "cluster/rebalance.rs"]
mod rebalance;
#[path = "cluster/refusals.rs"]
mod refusals;

use std::{path::Path, time::Duration};

use anyhow::{Context, bail, ensure};
use plaza_client::{
    Endpoint, LiveEvent, To,
    chat::{SyncRequest, entry::Event},
    text,
};
use plaza_event_log_kafka::{Config as Kafka, TopicSpec, admin};
use plaza_scylla_kit::{Config as Cql, Session, testing::let_in};
use plaza_testkit::{
    cluster::{Cluster, Plan},
    external,
    people::{SOON, befriend, newcomer},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

const BINARY: &str = env!("CARGO_BIN_EXE_plaza");
const PARTITIONS: u32 = 4;
/// So many that both instances of chat have a part in some of them: each is left out with a probability of 1 in 2^12.
const PAIRS: usize = 12;
const NAME: &str = "plaza.internal";

/// An authority's certificate, and one that it gave with its key, PEM.
struct Certificates {
    authority: String,
    certificate: String,
    key: String,
}

fn certificates() -> anyhow::Result<Certificates> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &issuer)?.pem();
    Ok(Certificates { authority, certificate, key: key.serialize_pem() })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_across_processes_that_know_each_other_by_certificates() -> anyhow::Result<()> {
    let Some((kafka, cql)) = external::kafka().zip(external::cql()) else { return Ok(()) };
    let (folder, certificates) = (tempfile::tempdir()?, certificates()?);
    let file = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).map(|()| path.display().to_string())
    };
    let settings = format!(
        "[cluster.tls]\nauthority = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\nname = \"{NAME}\"",
        file("authority.pem", &certificates.authority)?,
        file("certificate.pem", &certificates.certificate)?,
        file("key.pem", &certificates.key)?
    );
    let prefix = format!("t{:07x}", rand::random::<u32>() >> 4);
    let plan = Plan {
        binary: Path::new(BINARY),
        kafka: &kafka,
        cql: &cql,
        prefix: &prefix,
        partitions: PARTITIONS,
        instances: &[("accounts", 1), ("graph", 1), ("chat", 2), ("gateway", 2)],
        later: &[],
        settings: &settings,
    };
    let cluster = Cluster::start(&plan).await?;
    let done = async {
        everybody_is_heard(&cluster).await?;
        nobody_else_gets_in(&cluster, &certificates).await
    };
    if let Err(error) = done.await {
        return Err(error.context(cluster.logs()));
    }
    cluster.stop_all().await?;
    remove(&kafka, &cql, &prefix).await
}

async fn everybody_is_heard(cluster: &Cluster) -> anyhow::Result<()> {
    let endpoint = Endpoint::new(&cluster.address()?)?;
    for pair in 0..PAIRS {
        let (ada, bob) = (newcomer(&endpoint, "ada").await?, newcomer(&endpoint, "bob").await?);
        befriend(&ada, &bob).await?;
        let mut live = bob.live(0);
        let words = format!("hello {pair}");
        ada.send(To::User(bob.user_id().to_owned()), text(words.as_str())).await?;
        let mut told = Vec::new();
        let heard = async {
            loop {
                told.push(live.next().await.context("the stream ended")??);
                if let Some(LiveEvent::Entry(entry)) = told.last()
                    && let Some(Event::Message(message)) = &entry.event
                    && message.content == Some(text(words.as_str()))
                {
                    return anyhow::Ok(());
                }
            }
        };
        if let Ok(heard) = timeout(SOON, heard).await {
            heard?;
        } else {
            let sync = SyncRequest { cursor: 0, page_size: 200 };
            let inbox = bob.call(|mut services| async move { services.chat.sync(sync).await }).await;
            bail!("pair {pair}: of what is in the inbox, {inbox:?}, was told: {told:?}");
        }
    }
    Ok(())
}

async fn nobody_else_gets_in(cluster: &Cluster, certificates: &Certificates) -> anyhow::Result<()> {
    let address = cluster.internal("chat1")?;
    let trusted = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&certificates.authority)).domain_name(NAME);
    let with = trusted().identity(Identity::from_pem(&certificates.certificate, &certificates.key));
    ensure!(is_serving(&format!("https://{address}"), Some(with)).await?, "a process of the deployment is not let in");
    let other = self::certificates()?;
    let foreign = trusted().identity(Identity::from_pem(&other.certificate, &other.key));
    for (who, scheme, tls) in
        [("without TLS", "http", None), ("without a certificate", "https", Some(trusted())), ("of others", "https", Some(foreign))]
    {
        let answer = is_serving(&format!("{scheme}://{address}"), tls).await;
        ensure!(answer.is_err(), "somebody {who} is let in");
    }
    Ok(())
}

async fn is_serving(address: &str, tls: Option<ClientTlsConfig>) -> anyhow::Result<bool> {
    let mut endpoint = Channel::from_shared(address.to_owned())?.timeout(Duration::from_secs(5));
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls)?;
    }
    let answer = HealthClient::new(endpoint.connect().await?).check(HealthCheckRequest::default()).await?;
    Ok(answer.into_inner().status() == ServingStatus::Serving)
}

fn at(cql: &str) -> Cql {
    Cql { nodes: cql.split(',').map(str::to_owned).collect(), ..let_in() }
}

/// What the deployment leaves on the servers.
async fn remove(kafka: &str, cql: &str, prefix: &str) -> anyhow::Result<()> {
    let session = Session::connect(&Cql { keyspace_prefix: format!("{prefix}_"), ..at(cql) }).await?;
    for service in ["accounts", "graph", "chat", "moments", "plaza"] {
        session.change_tables(&format!("DROP KEYSPACE IF EXISTS {}", session.keyspace(service).name())).await?;
    }
    let topics: Vec<_> = plaza_topics::all().map(|topic| TopicSpec { topic, partitions: PARTITIONS, generation: 1 }).collect();
    let kafka = Kafka { brokers: kafka.to_owned(), prefix: format!("{prefix}."), ..Kafka::default() };
    Ok(admin::delete(&kafka, &topics).await?)
}
