//! What the suite itself does on the brokers and nodes of a deployment: it appends poison, forgets checkpoints, and takes away what a deployment
//! leaves behind.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, ensure};
use bytes::Bytes;
use plaza_event_log::{EventLog, Record, TopicPartition};
use plaza_event_log_kafka::{Config as Kafka, KafkaLog, TopicSpec, admin};
use plaza_processor::Envelope;
use plaza_scylla_kit::{Config as Cql, Session, testing::let_in};
use plaza_topics::{APPLIED, HEARD};
use prost::Message as _;

use crate::deployment::PARTITIONS;

/// Services that keep checkpoints.
const PROCESSORS: [&str; 3] = ["chat", "graph", "moments"];
const KEYSPACES: [&str; 5] = ["accounts", "graph", "chat", "moments", "plaza"];

/// The servers, as the deployment uses them.
pub(crate) struct Servers {
    kafka: Kafka,
    cql: Cql,
    topics: Vec<TopicSpec>,
}

impl Servers {
    pub(crate) fn new(kafka: &str, cql: &[SocketAddr], prefix: &str) -> Self {
        let kafka = Kafka { brokers: kafka.to_owned(), prefix: format!("{prefix}."), ..Kafka::default() };
        let nodes = cql.iter().map(SocketAddr::to_string).collect();
        let cql = Cql { nodes, keyspace_prefix: format!("{prefix}_"), ..let_in() };
        let topics = plaza_topics::all().map(|topic| TopicSpec { topic, partitions: PARTITIONS, generation: 1 }).collect();
        Self { kafka, cql, topics }
    }

    /// Appends to every partition of every topic what nobody can read; how many records are to be parked.
    pub(crate) async fn poison(&self) -> anyhow::Result<usize> {
        let garbage = Bytes::from_static(&[0xff; 32]);
        // Only the payload is none.
        let envelope = Envelope { rules: 1, payload: garbage.clone(), ..Envelope::default() };
        let poison = [garbage, envelope.encode_to_vec().into(), Bytes::new()];
        let log = self.log().await?;
        for topic in APPLIED.into_iter().map(|(topic, _)| topic).chain(HEARD) {
            for partition in 0..PARTITIONS {
                for value in poison.clone() {
                    log.append(TopicPartition { topic, partition }, Record { value, ..Record::default() }).await?;
                }
            }
        }
        log.close().await;
        Ok(APPLIED.len() * PARTITIONS as usize * poison.len())
    }

    /// How many records are parked.
    pub(crate) async fn parked(&self) -> anyhow::Result<usize> {
        let log = self.log().await?;
        let mut parked = 0;
        for (_, topic) in APPLIED {
            for partition in 0..PARTITIONS {
                parked += log.end(TopicPartition { topic, partition }).await?;
            }
        }
        log.close().await;
        Ok(usize::try_from(parked)?)
    }

    async fn log(&self) -> anyhow::Result<Arc<KafkaLog>> {
        KafkaLog::open(&self.kafka, &self.topics).await.context("the suite's own log")
    }

    /// Everything stopped reads every topic from its beginning again.
    pub(crate) async fn forget_checkpoints(&self) -> anyhow::Result<()> {
        let session = Session::connect(&self.cql).await?;
        for service in PROCESSORS {
            let keyspace = session.keyspace(service);
            let read = keyspace.read("SELECT machine, number FROM {keyspace}.checkpoints").await?;
            let known: Vec<(String, i32)> = session.rows(&read, ()).await?;
            ensure!(!known.is_empty(), "{service} has no checkpoint to forget");
            // Without a mark of the removal: an owner that starts over writes earlier times than there were.
            session.change_tables(&format!("TRUNCATE {}.checkpoints", keyspace.name())).await?;
        }
        Ok(())
    }

    /// Deletes topics and tables. Nothing of the deployment may run.
    pub(crate) async fn remove(&self) -> anyhow::Result<()> {
        let session = Session::connect(&self.cql).await?;
        for service in KEYSPACES {
            let name = session.keyspace(service).name().to_owned();
            session.change_tables(&format!("DROP KEYSPACE IF EXISTS {name}")).await?;
        }
        admin::delete(&self.kafka, &self.topics).await?;
        Ok(())
    }
}
