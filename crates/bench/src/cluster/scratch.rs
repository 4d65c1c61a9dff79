//! Topics, groups and keyspaces of one run, by their prefix, and their removal: the servers may be somebody's.

use std::time::Duration;

use plaza_floor::{
    cql::session,
    kafka::{admin, options},
};

const TIMEOUT: Duration = Duration::from_secs(30);

/// What a run leaves on the servers.
pub(crate) struct Scratch {
    kafka: String,
    cql: String,
    pub(crate) prefix: String,
}

impl Scratch {
    /// Under this prefix, or one that nobody has.
    pub(crate) fn new(kafka: &str, cql: &str, prefix: Option<String>) -> Self {
        let prefix = prefix.unwrap_or_else(|| format!("bench{:07x}", rand::random::<u32>() >> 4));
        Self { kafka: kafka.to_owned(), cql: cql.to_owned(), prefix }
    }

    /// Removes all of it.
    pub(crate) async fn remove(&self) -> anyhow::Result<()> {
        let session = session(&self.cql).await?;
        let keyspaces = session.query_unpaged("SELECT keyspace_name FROM system_schema.keyspaces", ()).await?.into_rows_result()?;
        for row in keyspaces.rows::<(String,)>()? {
            let (name,) = row?;
            if name.starts_with(&format!("{}_", self.prefix)) {
                session.query_unpaged(format!("DROP KEYSPACE {name}"), ()).await?;
            }
        }
        let (admin, own) = (admin(&self.kafka)?, format!("{}.", self.prefix));
        let (topics, groups) = tokio::task::block_in_place(|| {
            let metadata = admin.inner().fetch_metadata(None, TIMEOUT)?;
            let topics: Vec<_> = metadata.topics().iter().map(|topic| topic.name().to_owned()).collect();
            let list = admin.inner().fetch_group_list(None, TIMEOUT)?;
            let groups: Vec<_> = list.groups().iter().map(|group| group.name().to_owned()).collect();
            anyhow::Ok((topics, groups))
        })?;
        let topics: Vec<_> = topics.iter().map(String::as_str).filter(|name| name.starts_with(&own)).collect();
        let groups: Vec<_> = groups.iter().map(String::as_str).filter(|name| name.starts_with(&own)).collect();
        if !groups.is_empty() {
            admin.delete_groups(&groups, &options()).await?;
        }
        if !topics.is_empty() {
            admin.delete_topics(&topics, &options()).await?;
        }
        Ok(())
    }
}
