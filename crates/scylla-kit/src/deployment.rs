//! What all processes of a deployment share and nobody owns: secrets made once, and what topics were created with. In `{prefix}plaza`.

use crate::{
    Error, Session,
    migrate::{Migrations, Step},
    statement::{Conditional, Keyspace, Read},
};

pub(crate) const MIGRATIONS: Migrations = Migrations {
    service: "plaza",
    steps: &[Step { name: "deployment", cql: include_str!("migrations/0001_deployment.cql") }],
    overlay: &[],
};

/// How often something is made again whose making ended unknown and left nothing.
const ATTEMPTS: usize = 5;

pub(crate) fn keyspace(session: &Session) -> Keyspace {
    session.keyspace(MIGRATIONS.service)
}

/// What a topic was created with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Grows when the topic is created anew.
    pub generation: u32,
    /// How many partitions.
    pub partitions: u32,
    /// The rest, in a form that only its writer knows.
    pub settings: String,
}

/// The shared rows.
#[derive(Clone)]
pub struct Deployment {
    session: Session,
    secret: Read,
    put_secret: Conditional,
    topic: Read,
    put_topic: Conditional,
    replace_topic: Conditional,
}

impl Deployment {
    /// Prepares the statements. The tables must be there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn open(session: &Session) -> Result<Self, Error> {
        let keyspace = keyspace(session);
        Ok(Self {
            session: session.clone(),
            secret: keyspace.serial_read("SELECT bytes FROM {keyspace}.secrets WHERE name = ?").await?,
            put_secret: keyspace.conditional("INSERT INTO {keyspace}.secrets (name, bytes) VALUES (?, ?) IF NOT EXISTS").await?,
            topic: keyspace.serial_read("SELECT generation, partitions, settings FROM {keyspace}.topics WHERE name = ?").await?,
            put_topic: keyspace
                .conditional("INSERT INTO {keyspace}.topics (name, generation, partitions, settings) VALUES (?, ?, ?, ?) IF NOT EXISTS")
                .await?,
            replace_topic: keyspace
                .conditional(
                    "UPDATE {keyspace}.topics SET generation = ?, partitions = ?, settings = ? WHERE name = ? \
                     IF generation = ? AND partitions = ? AND settings = ?",
                )
                .await?,
        })
    }

    /// The secret of this name, which is the candidate if there was none: all that ask get the same.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn secret(&self, name: &str, candidate: &[u8]) -> Result<Vec<u8>, Error> {
        for _ in 0..ATTEMPTS {
            if let Some((bytes,)) = self.session.row::<(Vec<u8>,)>(&self.secret, (name,)).await? {
                return Ok(bytes);
            }
            // Whatever became of it, the read tells.
            undecided(self.session.conditional(&self.put_secret, (name, candidate)).await)?;
        }
        Err(Error::Unavailable(format!("secret {name} could not be made")))
    }

    /// What a topic was created with, if that is recorded.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn topic(&self, name: &str) -> Result<Option<Topic>, Error> {
        let row = self.session.row::<(i32, i32, String)>(&self.topic, (name,)).await?;
        let number = |number: i32| u32::try_from(number).map_err(Error::malformed);
        row.map(|(generation, partitions, settings)| {
            Ok(Topic { generation: number(generation)?, partitions: number(partitions)?, settings })
        })
        .transpose()
    }

    /// Records what a topic was created with, unless that is recorded, and gives what is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_topic(&self, name: &str, topic: &Topic) -> Result<Topic, Error> {
        for _ in 0..ATTEMPTS {
            if let Some(recorded) = self.topic(name).await? {
                return Ok(recorded);
            }
            let Topic { generation, partitions, settings } = topic;
            let values = (name, int(*generation)?, int(*partitions)?, settings);
            undecided(self.session.conditional(&self.put_topic, values).await)?;
        }
        Err(Error::Unavailable(format!("topic {name} could not be recorded")))
    }

    /// Records that a topic which was `before` is now another: created anew, or with other settings. Gives what is recorded, which is neither
    /// if somebody else recorded something.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn replace_topic(&self, name: &str, before: &Topic, after: &Topic) -> Result<Option<Topic>, Error> {
        let Topic { generation, partitions, settings } = after;
        let new = (int(*generation)?, int(*partitions)?, settings);
        let old = (int(before.generation)?, int(before.partitions)?, &before.settings);
        let values = (new.0, new.1, new.2, name, old.0, old.1, old.2);
        undecided(self.session.conditional(&self.replace_topic, values).await)?;
        self.topic(name).await
    }
}

fn undecided(outcome: Result<bool, Error>) -> Result<(), Error> {
    match outcome {
        Ok(_) | Err(Error::Unknown(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn int(number: u32) -> Result<i32, Error> {
    i32::try_from(number).map_err(|error| Error::Refused(error.to_string()))
}
