//! A deployment whose topics are not as `plaza migrate` left them is refused by the binary, with what differs and what to do.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use plaza_scylla_kit::{Config as Cql, Session};
use plaza_testkit::{
    cluster::{Cluster, Plan},
    external,
    wait::wait_for,
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier},
    client::DefaultClientContext,
};
use tokio::time::timeout;

use crate::{BINARY, PARTITIONS, remove};

const GRAPH: &str = "graph1";
const WEEK: &str = "604800000";
/// Of two lengths that the log could live with.
const SHORT: &str = "90000000";
const LONG: &str = "1209600000";
const SOON: Duration = Duration::from_secs(60);
/// How long the binary waits for servers that do not answer.
const WAIT: Duration = Duration::from_secs(60);

struct Deployment {
    cluster: Cluster,
    kafka: String,
    prefix: String,
    session: Session,
    admin: AdminClient<DefaultClientContext>,
}

impl Deployment {
    fn config(&self) -> PathBuf {
        self.cluster.folder().join(format!("{GRAPH}.toml"))
    }

    /// What the binary says, which is to end by itself.
    async fn said(&self, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
        let output = end(&self.config(), arguments).await?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// A start, or something else, is refused, and these words say why.
    async fn refused(&self, arguments: &[&str], words: &[&str]) -> anyhow::Result<()> {
        let (done, said) = self.said(arguments).await?;
        ensure!(!done, "{arguments:?} was done where {words:?} was to be said");
        for word in words {
            ensure!(said.contains(word), "{arguments:?}: {word:?} is not in {said}");
        }
        Ok(())
    }

    async fn migrated(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let (done, said) = self.said(&[&["migrate"], arguments].concat()).await?;
        ensure!(done, "migrate {arguments:?}: {said}");
        Ok(())
    }

    async fn starts(&mut self) -> anyhow::Result<()> {
        self.cluster.launch(GRAPH)?;
        self.cluster.is_up(GRAPH).await?;
        self.cluster.stop(GRAPH).await
    }

    fn name(&self, topic: &str) -> String {
        format!("{}.{topic}.1", self.prefix)
    }

    /// As an operator would, and waits until it is so.
    async fn retention(&self, topic: &str, milliseconds: &str) -> anyhow::Result<()> {
        let (name, options) = (self.name(topic), AdminOptions::new());
        let topic = ResourceSpecifier::Topic(&name);
        let kept = self.admin.describe_configs([&topic], &options).await?.remove(0).map_err(|code| anyhow::anyhow!("{code}"))?;
        let kept: Vec<_> = kept.entries.iter().filter(|entry| !entry.is_default).collect();
        let mut change = AlterConfig::new(topic);
        for (key, value) in kept.iter().filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?))) {
            change = change.set(key, value);
        }
        let altered = self.admin.alter_configs([&change.set("retention.ms", milliseconds)], &options).await?.remove(0);
        altered.map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
        wait_for("the retention", SOON, async || {
            let described = self.admin.describe_configs([&topic], &options).await.map_err(|error| error.to_string())?.remove(0);
            let found = described.map_err(|code| code.to_string())?.get("retention.ms").and_then(|entry| entry.value.clone());
            if found.as_deref() == Some(milliseconds) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await
    }

    /// Waits until the brokers say that a topic has so many partitions; 0 for one that is not there.
    async fn shows(&self, name: &str, partitions: usize) -> anyhow::Result<()> {
        wait_for("the topic", SOON, async || {
            let metadata = self.admin.inner().fetch_metadata(None, SOON).map_err(|error| error.to_string())?;
            let found = metadata.topics().iter().find(|topic| topic.name() == name).map_or(0, |topic| topic.partitions().len());
            if found == partitions { Ok(()) } else { Err(format!("{name} has {found} partitions")) }
        })
        .await
    }

    async fn change(&self, cql: &str) -> anyhow::Result<()> {
        Ok(self.session.change_tables(&self.session.keyspace("plaza").fill(cql)).await?)
    }
}

async fn end(config: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(BINARY);
    command.arg("--config").arg(config).args(arguments);
    let mut command = tokio::process::Command::from(command);
    timeout(SOON, command.kill_on_drop(true).output()).await.with_context(|| format!("{arguments:?} does not end"))?.context("the binary")
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_not_as_they_were_recorded_are_refused() -> anyhow::Result<()> {
    let Some((kafka, cql)) = external::kafka().zip(external::cql()) else { return Ok(()) };
    let prefix = format!("t{:07x}", rand::random::<u32>() >> 4);
    let plan = Plan {
        binary: Path::new(BINARY),
        kafka: &kafka,
        cql: &cql,
        prefix: &prefix,
        partitions: PARTITIONS,
        instances: &[("graph", 1), ("accounts", 1)],
        later: &[GRAPH, "accounts1"],
        settings: "",
    };
    let cluster = Cluster::start(&plan).await?;
    let session = Session::connect(&Cql { keyspace_prefix: format!("{prefix}_"), ..crate::at(&cql) }).await?;
    let admin = ClientConfig::new().set("bootstrap.servers", &kafka).create()?;
    let mut deployment = Deployment { cluster, kafka: kafka.clone(), prefix: prefix.clone(), session, admin };
    deployment.starts().await?;
    a_wrong_password(&deployment).await?;
    other_settings(&mut deployment).await?;
    an_earlier_build(&mut deployment).await?;
    a_lost_topic(&mut deployment).await?;
    other_partitions(&deployment).await?;
    no_record(&deployment).await?;
    remove(&deployment.kafka, &cql, &prefix).await
}

/// It will not be another one a minute later.
async fn a_wrong_password(deployment: &Deployment) -> anyhow::Result<()> {
    let (wrong, began) = ("hunter2", Instant::now());
    let password = format!("cql.password={wrong}");
    for arguments in [&["--set", &password][..], &["--set", &password, "migrate"]] {
        let (done, said) = deployment.said(arguments).await?;
        ensure!(!done && said.contains("refused: credentials (cql.user, cql.password)") && !said.contains(wrong), "{said}");
    }
    ensure!(began.elapsed() < WAIT / 2, "it took {:?}", began.elapsed());
    Ok(())
}

async fn other_settings(deployment: &mut Deployment) -> anyhow::Result<()> {
    let (graph, inbox) = (deployment.name("graph"), deployment.name("inbox"));
    deployment.retention("graph", SHORT).await?;
    deployment.retention("inbox", LONG).await?;
    let words = [
        format!("topic {graph}: retention.ms is '{SHORT}' and was recorded as '{WEEK}'"),
        format!("topic {inbox}: retention.ms is '{LONG}' and was recorded as '{WEEK}'"),
        "set it back, or accept it with `plaza migrate --accept-settings`".to_owned(),
    ];
    let words = words.each_ref().map(String::as_str);
    deployment.refused(&[], &words).await?;
    deployment.refused(&["migrate"], &words).await?;

    deployment.retention("graph", WEEK).await?;
    deployment.migrated(&["--accept-settings"]).await?;
    deployment.starts().await?;
    deployment.retention("inbox", WEEK).await?;
    let back = format!("topic {inbox}: retention.ms is '{WEEK}' and was recorded as '{LONG}'");
    deployment.refused(&[], &[&back]).await?;
    deployment.migrated(&["--accept-settings"]).await
}

/// It recorded no settings.
async fn an_earlier_build(deployment: &mut Deployment) -> anyhow::Result<()> {
    deployment.change("UPDATE {keyspace}.topics SET settings = '' WHERE name = 'chat' IF EXISTS").await?;
    deployment.retention("chat", LONG).await?;
    deployment.starts().await?;
    deployment.migrated(&[]).await?;
    deployment.starts().await?;
    deployment.retention("chat", WEEK).await?;
    deployment.refused(&[], &[&format!("retention.ms is '{WEEK}' and was recorded as '{LONG}'")]).await?;
    deployment.retention("chat", LONG).await
}

async fn other_partitions(deployment: &Deployment) -> anyhow::Result<()> {
    let (more, name) = (PARTITIONS + 2, deployment.name("timeline"));
    let said = format!("has {PARTITIONS} partitions: set cluster.partitions = {PARTITIONS}");
    deployment.refused(&["--set", &format!("cluster.partitions={more}")], &[&said]).await?;
    deployment.refused(&["--set", &format!("cluster.partitions={more}"), "migrate"], &[&said]).await?;

    let partitions = NewPartitions::new(&name, more as usize);
    let made = deployment.admin.create_partitions([&partitions], &AdminOptions::new()).await?.remove(0);
    made.map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
    deployment.shows(&name, more as usize).await?;
    deployment.refused(&[], &[&format!("topic {name} has {more} partitions and not {PARTITIONS}")]).await
}

/// With what was in it.
async fn a_lost_topic(deployment: &mut Deployment) -> anyhow::Result<()> {
    let name = deployment.name("notices");
    let deleted = deployment.admin.delete_topics(&[&name], &AdminOptions::new()).await?.remove(0);
    deleted.map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
    deployment.shows(&name, 0).await?;
    deployment.refused(&[], &[&format!("topic {name} does not exist: create the topics first (`plaza migrate`)")]).await?;
    deployment.refused(&["migrate"], &[&format!("gone: {name}."), "`plaza migrate --replace-lost`"]).await?;
    deployment.migrated(&["--replace-lost"]).await?;
    deployment.shows(&name.replace(".1", ".2"), PARTITIONS as usize).await?;
    deployment.starts().await?;
    deployment.migrated(&[]).await
}

async fn no_record(deployment: &Deployment) -> anyhow::Result<()> {
    deployment.change("DELETE FROM {keyspace}.topics WHERE name = 'edges' IF EXISTS").await?;
    deployment.refused(&[], &["topic edges was never created: run `plaza migrate`"]).await
}
