//! The cluster's side of a process: Kafka, ScyllaDB or Cassandra, and `plaza migrate`, which creates what they must have.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use plaza_event_log::Topic;
use plaza_event_log_kafka::{KafkaLog, Settings, TopicSpec, admin};
use plaza_rpc::PageTokens;
use plaza_runtime::Rng;
use plaza_scylla_kit::{Deployment, Migrations, Session, deployment};

use crate::config::Config;

/// The tables of every service.
const MIGRATIONS: [Migrations; 4] =
    [plaza_accounts::MIGRATIONS, plaza_graph::MIGRATIONS, plaza_chat::MIGRATIONS, plaza_moments::MIGRATIONS];
const PAGE_TOKENS: &str = "page-tokens";
/// How long a process that starts waits for servers that do not answer, and between two attempts.
const WAIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// What a process of a cluster stands on.
pub(crate) struct Cluster {
    pub(crate) log: Arc<KafkaLog>,
    pub(crate) session: Session,
    pub(crate) page_tokens: PageTokens,
}

impl Cluster {
    /// Connects, and refuses what `plaza migrate` has not made, or made for another configuration. Servers that do not answer are waited for.
    pub(crate) async fn connect(config: &Config, rng: &Rng) -> anyhow::Result<Self> {
        until_answered(|| Self::try_connect(config, rng)).await
    }

    async fn try_connect(config: &Config, rng: &Rng) -> anyhow::Result<Self> {
        let session = Session::connect(&config.cql).await.context("cannot connect to the CQL cluster")?;
        plaza_scylla_kit::check(&session, &MIGRATIONS).await.context("the tables are not what this binary needs")?;
        let deployment = Deployment::open(&session).await?;
        let (topics, settings) = recorded(&deployment, config).await?;
        admin::check(&config.kafka, &topics, &settings).await.map_err(wrong_or_away)?;
        let log = KafkaLog::open(&config.kafka, &topics).await.context("cannot use Kafka")?;
        let key = deployment.secret(PAGE_TOKENS, &rng.bytes::<32>()).await.context("cannot read the page token key")?;
        let page_tokens = PageTokens::new(key.try_into().ok().context("the page token key is damaged")?);
        Ok(Self { log, session, page_tokens })
    }
}

/// What is wrong with the topics, or with asking for them.
fn wrong_or_away(error: plaza_event_log::Error) -> anyhow::Error {
    let wrong = matches!(error, plaza_event_log::Error::Fatal(_));
    anyhow::Error::new(error).context(if wrong { "the topics are not what was recorded" } else { "cannot use Kafka" })
}

/// Tries again while the servers do not answer, for a while: they may be about to start, too, or have too much to do for a moment.
pub(crate) async fn until_answered<T>(mut attempt: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let until = tokio::time::Instant::now() + WAIT;
    loop {
        match attempt().await {
            Err(error) if is_unavailable(&error) && tokio::time::Instant::now() < until => {
                tracing::warn!(error = format!("{error:#}"), "the cluster does not answer, trying again");
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

fn is_unavailable(error: &anyhow::Error) -> bool {
    use plaza_accounts::store::Error as Accounts;
    use plaza_event_log::Error as Log;
    use plaza_scylla_kit::Error as Cql;
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(Cql::Unavailable(_) | Cql::Unknown(_)))
            || matches!(cause.downcast_ref(), Some(Log::Unavailable(_)))
            || matches!(cause.downcast_ref(), Some(Accounts::Unavailable(_) | Accounts::Unknown(_)))
    })
}

/// What an operator says is meant so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meant {
    /// Topics whose settings are not as they were recorded are recorded anew.
    pub settings: bool,
    /// Topics that are gone begin anew: what was in them and not applied is lost.
    pub losses: bool,
}

/// Creates topics and tables, or brings them to where this binary needs them. Safe to run again, and from several places.
///
/// # Errors
/// The clusters cannot be reached, or hold what was made for another configuration, or are not as they were left and it was not `meant` so.
pub async fn migrate(config: &Config, meant: Meant) -> anyhow::Result<()> {
    anyhow::ensure!(config.is_clustered(), "there is nothing to migrate: the configuration names no cluster (kafka.brokers, cql.nodes)");
    let session = Session::connect(&config.cql).await.context("cannot connect to the CQL cluster")?;
    let owner = format!("{}-{:016x}", std::process::id(), Rng::system().next_u64());
    plaza_scylla_kit::migrate(&session, &MIGRATIONS, &owner).await.context("cannot migrate the tables")?;
    let deployment = Deployment::open(&session).await?;
    for topic in plaza_topics::all() {
        // Before anything is recorded with a number that the others do not have.
        if let Some(recorded) = deployment.topic(topic.0).await? {
            has_partitions(topic, recorded.partitions, config)?;
        }
    }
    for topic in plaza_topics::all() {
        let wanted = deployment::Topic { generation: 1, partitions: config.cluster.partitions, settings: String::new() };
        deployment.put_topic(topic.0, &wanted).await?;
    }
    replace_lost(&deployment, config, meant.losses).await?;
    let (topics, settings) = recorded(&deployment, config).await?;
    let found = admin::create(&config.kafka, &topics).await.context("cannot create the topics")?;
    if !meant.settings {
        admin::check(&config.kafka, &topics, &settings).await.map_err(wrong_or_away)?;
    }
    for (TopicSpec { topic, partitions, generation }, (before, found)) in topics.into_iter().zip(settings.into_iter().zip(found)) {
        let recorded = |settings: &Settings| deployment::Topic { generation, partitions, settings: settings.to_string() };
        let (before, after) = (recorded(&before), recorded(&found));
        if before != after {
            replace(&deployment, topic, &before, after).await?;
        }
    }
    Ok(())
}

/// A topic that was there and is gone must not come back empty by the same name: whoever has read it would wait where the new one has nothing for
/// long, and then take its records for ones they know. Another generation begins from the start.
async fn replace_lost(deployment: &Deployment, config: &Config, meant: bool) -> anyhow::Result<()> {
    let (topics, settings) = recorded(deployment, config).await?;
    let created: Vec<_> = topics.into_iter().zip(settings).filter(|(_, settings)| *settings != Settings::default()).collect();
    let specs: Vec<_> = created.iter().map(|(spec, _)| *spec).collect();
    let lost = admin::missing(&config.kafka, &specs).await.context("cannot look for the topics")?;
    let names: Vec<_> = lost.iter().map(|spec| spec.name(&config.kafka.prefix)).collect();
    anyhow::ensure!(
        lost.is_empty() || meant,
        "topics that were created are gone: {}. Bring them back, for what was in them and not yet applied is in no other place; \
         if they are lost, `plaza migrate --replace-lost` has them begin anew",
        names.join(", ")
    );
    for (TopicSpec { topic, partitions, generation }, settings) in created.into_iter().filter(|(spec, _)| lost.contains(spec)) {
        let before = deployment::Topic { generation, partitions, settings: settings.to_string() };
        let after = deployment::Topic { generation: generation + 1, partitions, settings: String::new() };
        replace(deployment, topic, &before, after).await?;
    }
    Ok(())
}

/// Records a topic anew, unless somebody else did since it was read.
async fn replace(deployment: &Deployment, topic: Topic, before: &deployment::Topic, after: deployment::Topic) -> anyhow::Result<()> {
    let replaced = deployment.replace_topic(topic.0, before, &after).await?;
    anyhow::ensure!(replaced == Some(after), "topic {} was recorded by somebody else meanwhile: migrate again", topic.0);
    Ok(())
}

/// The topics as they were created, and the settings they had then or were accepted with.
async fn recorded(deployment: &Deployment, config: &Config) -> anyhow::Result<(Vec<TopicSpec>, Vec<Settings>)> {
    let (mut specs, mut settings) = (Vec::new(), Vec::new());
    for topic in plaza_topics::all() {
        let recorded = deployment.topic(topic.0).await?;
        let Some(recorded) = recorded else { anyhow::bail!("topic {} was never created: run `plaza migrate`", topic.0) };
        let (generation, partitions) = (recorded.generation, recorded.partitions);
        has_partitions(topic, partitions, config)?;
        specs.push(TopicSpec { topic, partitions, generation });
        settings.push(recorded.settings.parse()?);
    }
    Ok((specs, settings))
}

fn has_partitions(topic: Topic, partitions: u32, config: &Config) -> anyhow::Result<()> {
    anyhow::ensure!(
        partitions == config.cluster.partitions,
        "topic {} has {partitions} partitions: set cluster.partitions = {partitions}, for to change it takes a new deployment",
        topic.0
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_is_waited_for_and_what_is_wrong_is_told_at_once() {
        use plaza_accounts::store::Error as Accounts;
        let away: [fn() -> anyhow::Error; 5] = [
            || plaza_scylla_kit::Error::Unavailable(String::new()).into(),
            || plaza_scylla_kit::Error::Unknown(String::new()).into(),
            || plaza_event_log::Error::Unavailable(String::new()).into(),
            || anyhow::Error::new(Accounts::Unavailable(String::new())).context("accounts"),
            || anyhow::Error::new(Accounts::Unknown(String::new())).context("accounts"),
        ];
        let mut answers = away.iter();
        let answered = until_answered(async || answers.next().map_or(Ok(7), |error| Err(error()))).await;
        assert_eq!((answered.ok(), answers.len()), (Some(7), 0));

        let mut asked = 0;
        let wrong = until_answered(async || {
            asked += 1;
            Err::<(), _>(Accounts::Damaged("keys").into())
        });
        assert!(wrong.await.is_err());
        assert_eq!(asked, 1);

        let begun = tokio::time::Instant::now();
        assert!(until_answered(async || Err::<(), _>(away[3]())).await.is_err());
        assert!((WAIT..WAIT + PAUSE * 2).contains(&begun.elapsed()));
    }

    /// Tables that ScyllaDB is to have as everybody else does.
    const EXEMPT: [(&str, &str); 1] = [("requests of a processor", "expires by windows of a day, as its step says")];

    /// The name in each line that begins so.
    fn named(lines: &str, beginning: &str) -> Vec<String> {
        let names = lines.lines().filter_map(|line| line.strip_prefix(beginning)?.split([' ', '(']).next());
        names.map(str::to_owned).collect()
    }

    #[test]
    fn every_table_has_what_only_scylladb_knows_or_is_exempt() {
        let mut exempt = Vec::new();
        for Migrations { service, steps, overlay } in MIGRATIONS {
            let mut tables = BTreeSet::new();
            for step in steps {
                let made = named(step.cql, "CREATE TABLE IF NOT EXISTS {keyspace}.");
                assert_eq!(made.len(), step.cql.matches("CREATE TABLE").count(), "{service}: {}", step.name);
                tables.extend(made.into_iter().map(|table| match (step.name, table.as_str()) {
                    ("processor", "requests") => "requests of a processor".to_owned(),
                    _ => table,
                }));
            }
            let overlay = overlay.join("\n");
            let covered = named(&overlay, "ALTER TABLE {keyspace}.");
            assert_eq!(covered.len(), overlay.matches(';').count(), "{service}: a statement of another kind");
            for table in &covered {
                assert!(tables.remove(table), "{service}: {table} is no table, or it is altered twice");
            }
            for table in tables {
                let why = EXEMPT.iter().find(|(known, _)| *known == table);
                assert!(why.is_some(), "{service}: nothing is said of {table}");
                exempt.push(table);
            }
        }
        for (table, why) in EXEMPT {
            assert!(exempt.iter().any(|found| found == table), "{table} is not exempt for {why}");
        }
    }
}
