//! Creating the topics, and refusing topics that are not as the processes rely on. Kafka lets everybody create and change topics in ways that
//! break promises of the log silently: append times of the sender, retention by size, compaction, an election that loses records.

use std::{sync::Arc, time::Duration};

use plaza_event_log::Error;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    error::RDKafkaErrorCode,
    metadata::Metadata,
};
use tokio::time::Instant;

use crate::{
    Config,
    connection::{Connection, Events, unavailable},
    settings::{Settings, copies, wanted},
    topics::TopicSpec,
};

const ROLE: &str = "admin";
/// How long the cluster may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a topic may take until every broker knows it.
const VISIBLE: Duration = Duration::from_secs(30);
/// A topic that no broker has named for so long is gone.
const GONE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(100);

/// Creates the topics that are missing and checks all of them. Doing it twice, or in two places at once, is the same as doing it once. Gives what
/// they are like, in their order, for [`check`].
///
/// # Errors
/// `Fatal` when a topic is not as it must be, with everything that is wrong and what to do; `Unavailable` when the cluster does not answer.
pub async fn create(config: &Config, specs: &[TopicSpec]) -> Result<Vec<Settings>, Error> {
    let admin = Admin::open(&Arc::new(Connection::new(config)?))?;
    let replicas = copies(config, admin.metadata(None).await?.brokers().len());
    let names: Vec<String> = specs.iter().map(|spec| spec.name(&config.prefix)).collect();
    let settings = wanted(config, replicas);
    let topics: Vec<NewTopic<'_>> = names
        .iter()
        .zip(specs)
        .map(|(name, spec)| {
            let topic = NewTopic::new(name, spec.partitions.cast_signed(), TopicReplication::Fixed(replicas as i32));
            settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    for created in admin.client()?.create_topics(&topics, &options()).await.map_err(|error| unavailable(&error))? {
        match created {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(Error::Unavailable(format!("topic {name} could not be created: {code}"))),
        }
    }
    let until = Instant::now() + VISIBLE;
    loop {
        let findings = admin.check(specs, &[]).await?;
        match findings.outcome() {
            Err(_) if findings.wrong.is_empty() && Instant::now() < until => tokio::time::sleep(AGAIN).await,
            outcome => return outcome.map(|()| findings.settings.into_iter().map(|settings| settings.promised(config)).collect()),
        }
    }
}

/// Deletes topics with everything in them, such as those of a generation that was drained. What does not exist is deleted already.
///
/// # Errors
/// `Unavailable`.
pub async fn delete(config: &Config, specs: &[TopicSpec]) -> Result<(), Error> {
    let admin = Admin::open(&Arc::new(Connection::new(config)?))?;
    let names: Vec<String> = specs.iter().map(|spec| spec.name(&config.prefix)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for deleted in admin.client()?.delete_topics(&names, &options()).await.map_err(|error| unavailable(&error))? {
        match deleted {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((name, code)) => return Err(Error::Unavailable(format!("topic {name} could not be deleted: {code}"))),
        }
    }
    Ok(())
}

/// Those of the topics that do not exist, looked for until every broker must have learnt of them.
///
/// # Errors
/// `Unavailable`.
pub async fn missing(config: &Config, specs: &[TopicSpec]) -> Result<Vec<TopicSpec>, Error> {
    let admin = Admin::open(&Arc::new(Connection::new(config)?))?;
    let until = Instant::now() + GONE;
    loop {
        let metadata = admin.metadata(None).await?;
        let exists = |name: String| metadata.topics().iter().any(|topic| topic.name() == name);
        let missing: Vec<_> = specs.iter().filter(|spec| !exists(spec.name(&config.prefix))).copied().collect();
        if missing.is_empty() || Instant::now() >= until {
            return Ok(missing);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Checks that all topics are as the processes rely on, and what was recorded of each, in their order.
///
/// # Errors
/// As [`create`].
pub async fn check(config: &Config, specs: &[TopicSpec], recorded: &[Settings]) -> Result<(), Error> {
    check_on(&Arc::new(Connection::new(config)?), specs, recorded).await
}

pub(crate) async fn check_on(connection: &Arc<Connection>, specs: &[TopicSpec], recorded: &[Settings]) -> Result<(), Error> {
    Admin::open(connection)?.check(specs, recorded).await?.outcome()
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

/// What is not as it must be.
#[derive(Default)]
struct Findings {
    /// Topics that do not exist, or not yet on every broker.
    missing: Vec<String>,
    wrong: Vec<String>,
    /// What the others are like.
    settings: Vec<Settings>,
}

impl Findings {
    fn outcome(&self) -> Result<(), Error> {
        if self.missing.is_empty() && self.wrong.is_empty() {
            return Ok(());
        }
        let missing = self.missing.iter().map(|name| format!("topic {name} does not exist: create the topics first (`plaza migrate`)"));
        Err(Error::Fatal(missing.chain(self.wrong.iter().cloned()).collect::<Vec<_>>().join("; ")))
    }
}

struct Admin {
    connection: Arc<Connection>,
    client: Option<Arc<AdminClient<Events>>>,
}

impl Admin {
    fn open(connection: &Arc<Connection>) -> Result<Self, Error> {
        let client = connection.client(ROLE).create_with_context(Events::new(ROLE)).map_err(|error| unavailable(&error))?;
        Ok(Self { connection: Arc::clone(connection), client: Some(Arc::new(client)) })
    }

    fn client(&self) -> Result<&Arc<AdminClient<Events>>, Error> {
        self.client.as_ref().ok_or_else(|| Error::Unavailable("closed".to_owned()))
    }

    /// Of a topic, or of all.
    async fn metadata(&self, topic: Option<String>) -> Result<Metadata, Error> {
        let client = Arc::clone(self.client()?);
        let fetched = tokio::task::spawn_blocking(move || client.inner().fetch_metadata(topic.as_deref(), TIMEOUT)).await;
        fetched.map_err(|error| Error::Unavailable(error.to_string()))?.map_err(|error| unavailable(&error))
    }

    async fn check(&self, specs: &[TopicSpec], recorded: &[Settings]) -> Result<Findings, Error> {
        let (mut findings, mut known, config) = (Findings::default(), Vec::new(), &self.connection.config);
        let names: Vec<String> = specs.iter().map(|spec| spec.name(&config.prefix)).collect();
        for (place, (name, spec)) in names.iter().zip(specs).enumerate() {
            let metadata = self.metadata(Some(name.clone())).await?;
            let found = metadata.topics().iter().find(|topic| topic.name() == name && !topic.partitions().is_empty());
            match found {
                Some(topic) => {
                    let found = topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or_default();
                    if topic.partitions().len() != spec.partitions as usize {
                        findings.wrong.push(format!(
                            "topic {name} has {} partitions and not {}, as it was created: they can never change, and to have another number takes a new deployment",
                            topic.partitions().len(),
                            spec.partitions
                        ));
                    }
                    known.push((name, found, copies(config, metadata.brokers().len()), recorded.get(place)));
                }
                None => findings.missing.push(name.clone()),
            }
        }
        let resources: Vec<_> = known.iter().map(|(name, ..)| ResourceSpecifier::Topic(name)).collect();
        if !resources.is_empty() {
            let described = self.client()?.describe_configs(&resources, &options()).await.map_err(|error| unavailable(&error))?;
            for ((name, found, copies, recorded), described) in known.into_iter().zip(described) {
                match described {
                    Ok(resource) => {
                        let settings = Settings::found(config, found, &resource);
                        let differences = recorded.map(|recorded| settings.differences(recorded)).unwrap_or_default();
                        let wrong = settings.wrong(copies).into_iter().chain(differences);
                        findings.wrong.extend(wrong.map(|wrong| format!("topic {name}: {wrong}")));
                        findings.settings.push(settings);
                    }
                    // It was there a moment ago: this broker does not know it yet.
                    Err(RDKafkaErrorCode::UnknownTopicOrPartition) => findings.missing.push(name.clone()),
                    Err(code) => findings.wrong.push(format!("topic {name} cannot be described: {code}")),
                }
            }
        }
        Ok(findings)
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        let client = self.client.take();
        // Ends its thread, which can take a moment.
        _ = std::thread::Builder::new().name("kafka-admin".to_owned()).spawn(move || drop(client));
    }
}
