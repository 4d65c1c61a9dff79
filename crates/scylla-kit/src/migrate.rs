//! Migrations: the tables of each service as numbered texts that are never edited, applied by `plaza migrate` and checked at every start.
//!
//! - What was applied is recorded with a checksum in `{prefix}plaza.migrations`. A lock there, a row with an owner that expires by itself and
//!   is renewed before every statement, keeps two that migrate at once apart. Should its owner sleep for longer than the lock lives, both go
//!   on: so every statement must be one that can be run again (`IF NOT EXISTS`), which it must be anyway, for a process that dies half way.
//! - A start finds its own steps recorded, with its own checksums, or refuses. Steps it does not know are a newer binary's: they are accepted,
//!   so that tables can be migrated before the binaries are replaced one by one, and a binary can be taken back. Hence steps only ever add. What
//!   is no longer used is dropped by a step of the release after the one that stopped using it.
//! - The overlay of a service holds what only ScyllaDB knows. It is applied there after the steps, again whenever its text changes; nothing may
//!   depend on it but speed.
//! - `{prefix}plaza` itself is created without a lock. On Apache Cassandra two nodes may then create the same table, each with an id of its own,
//!   and never agree; so there its tables are created with ids that follow from their names.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    Error, Server, Session, deployment,
    session::DDL_TIMEOUT,
    statement::{Conditional, Keyspace},
};

/// The tables of one service.
#[derive(Debug, Clone, Copy)]
pub struct Migrations {
    /// The service, which names the keyspace.
    pub service: &'static str,
    /// The steps, in the order of their numbers, from 1 on.
    pub steps: &'static [Step],
    /// Texts of statements for ScyllaDB only, each of which can be run again.
    pub overlay: &'static [&'static str],
}

/// One step.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What is recorded beside its number.
    pub name: &'static str,
    /// Statements that each end a line with `;`, with `{keyspace}` for the keyspace's name. Lines that begin with `--` are comments.
    pub cql: &'static str,
}

/// Why tables are not what the binary needs.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CheckError {
    /// Steps are missing.
    #[error("the tables of {service} are at step {found} and must be at {needed}: run \"plaza migrate\"")]
    TooOld {
        /// Whose.
        service: &'static str,
        /// Up to where they are.
        found: usize,
        /// Up to where they must be.
        needed: usize,
    },
    /// A step was another one when it was applied.
    #[error("step {number} of {service} was applied with other content than this binary has")]
    Edited {
        /// Whose.
        service: &'static str,
        /// Which.
        number: usize,
    },
    /// A table on Cassandra whose reads may go back.
    #[error("table {table} must have read_repair BLOCKING")]
    NoReadRepair {
        /// Which.
        table: String,
    },
    /// Another migration holds the lock, or took it over.
    #[error("another migration is under way")]
    Locked,
    /// The cluster could not be asked.
    #[error("cluster")]
    Cluster(#[from] Error),
}

/// How long a lock lives unless renewed: longer than any statement may take, and what follows it without being one. A change of tables may be
/// answered at the end of its time, and then the driver waits as long for all nodes to know, and so do we.
const LOCK_SECONDS: u64 = 3 * DDL_TIMEOUT.as_secs() + 60;
/// Longer than the lock of one that was killed lives.
const LOCK_WAIT: Duration = Duration::from_secs(LOCK_SECONDS + 60);
const LOCK_POLL: Duration = Duration::from_millis(500);

/// Brings the tables of these services, and those of the deployment, to where the binary needs them. Safe to run again, and from several
/// places. `owner` tells this run from others, such as by a random number.
///
/// # Errors
/// See [`CheckError`].
pub async fn migrate(session: &Session, services: &[Migrations], owner: &str) -> Result<(), CheckError> {
    let shared = deployment::keyspace(session);
    create_keyspace(&shared).await?;
    for statement in statements(include_str!("migrations/bootstrap.cql")) {
        let statement = shared.fill(&statement);
        let identified = match session.server() {
            Server::Cassandra => format!("{statement} WITH id = '{}'", identity(&statement)),
            Server::Scylla => statement,
        };
        session.change_tables(&identified).await?;
    }
    let lock = Lock::take(&shared, owner).await?;
    let mut done = Ok(());
    for migrations in std::iter::once(&deployment::MIGRATIONS).chain(services) {
        done = one(session, &shared, migrations, &lock).await;
        if done.is_err() {
            break;
        }
    }
    lock.release().await;
    done
}

/// Finds out whether the tables are what the binary needs.
///
/// # Errors
/// See [`CheckError`].
pub async fn check(session: &Session, services: &[Migrations]) -> Result<(), CheckError> {
    let shared = deployment::keyspace(session);
    // Of a deployment that was never migrated nothing can be prepared.
    if !tables(session, shared.name()).await?.iter().any(|table| table == "migrations") {
        let Migrations { service, steps, .. } = deployment::MIGRATIONS;
        return Err(CheckError::TooOld { service, found: 0, needed: steps.len() });
    }
    for migrations in std::iter::once(&deployment::MIGRATIONS).chain(services) {
        let records = records(&shared, migrations.service).await?;
        let found = applied(migrations, &records)?;
        let needed = migrations.steps.len();
        if found < needed {
            return Err(CheckError::TooOld { service: migrations.service, found, needed });
        }
        if session.server() == Server::Cassandra {
            read_repair(session, &session.keyspace(migrations.service)).await?;
        }
    }
    Ok(())
}

async fn one(session: &Session, shared: &Keyspace, migrations: &Migrations, lock: &Lock) -> Result<(), CheckError> {
    let keyspace = session.keyspace(migrations.service);
    lock.renew().await?;
    create_keyspace(&keyspace).await?;
    let records = records(shared, migrations.service).await?;
    let found = applied(migrations, &records)?;
    for (step, number) in migrations.steps.iter().zip(1..).skip(found) {
        tracing::info!(service = migrations.service, step = number, name = step.name, "migrating");
        for statement in statements(step.cql) {
            lock.renew().await?;
            session.change_tables(&keyspace.fill(&statement)).await?;
        }
        record(shared, migrations.service, number, step.name, step.cql).await?;
    }
    let overlay = migrations.overlay.join("\n");
    if session.server() == Server::Scylla && !overlay.is_empty() && !overlaid(shared, migrations.service, &overlay).await? {
        for statement in statements(&overlay) {
            lock.renew().await?;
            session.change_tables(&keyspace.fill(&statement)).await?;
        }
        record_overlay(shared, migrations.service, &overlay).await?;
    }
    Ok(())
}

/// The id of the table that a statement creates, from its name.
fn identity(statement: &str) -> String {
    let name = statement.split_once('(').map_or(statement, |(name, _)| name).trim_end();
    // Version 8: as its maker likes (RFC 9562).
    let id = xxhash_rust::xxh3::xxh3_128(name.as_bytes()) & !(0xf << 76) & !(0b11 << 62) | 8 << 76 | 0b10 << 62;
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Replicated in one datacenter if one is named, else in whichever there are.
async fn create_keyspace(keyspace: &Keyspace) -> Result<(), Error> {
    let config = keyspace.session().config();
    let datacenter = if config.datacenter.is_empty() { "replication_factor" } else { &config.datacenter };
    let replication = format!("{{'class': 'NetworkTopologyStrategy', '{datacenter}': {}}}", config.replication_factor);
    let cql = format!("CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {replication}", keyspace.name());
    keyspace.session().change_tables(&cql).await
}

struct Recorded {
    number: i32,
    checksum: i64,
}

async fn records(shared: &Keyspace, service: &str) -> Result<Vec<Recorded>, Error> {
    let read = shared.serial_read("SELECT number, checksum FROM {keyspace}.migrations WHERE service = ?").await?;
    let rows = shared.session().rows::<(i32, i64)>(&read, (service,)).await?;
    Ok(rows.into_iter().map(|(number, checksum)| Recorded { number, checksum }).collect())
}

async fn record(shared: &Keyspace, service: &str, number: i32, name: &str, cql: &str) -> Result<(), Error> {
    const STEP: &str = "INSERT INTO {keyspace}.migrations (service, number, name, checksum) VALUES (?, ?, ?, ?) IF NOT EXISTS";
    let write = shared.conditional(STEP).await?;
    // Not applied: the same step, recorded by a run that had the lock before; whether it was the same is looked at with every start.
    shared.session().conditional(&write, (service, number, name, checksum(cql))).await.map(drop)
}

/// The overlay may change, and its row is written without conditions.
async fn record_overlay(shared: &Keyspace, service: &str, cql: &str) -> Result<(), Error> {
    const OVERLAID: &str = "INSERT INTO {keyspace}.overlays (service, checksum) VALUES (?, ?) USING TIMESTAMP ?";
    let write = shared.write(OVERLAID).await?;
    shared.session().write(&write, (service, checksum(cql), now_micros())).await
}

async fn overlaid(shared: &Keyspace, service: &str, cql: &str) -> Result<bool, Error> {
    let read = shared.read("SELECT checksum FROM {keyspace}.overlays WHERE service = ?").await?;
    let row = shared.session().row::<(i64,)>(&read, (service,)).await?;
    Ok(row.is_some_and(|(recorded,)| recorded == checksum(cql)))
}

/// How many steps are applied.
fn applied(migrations: &Migrations, records: &[Recorded]) -> Result<usize, CheckError> {
    for (step, number) in migrations.steps.iter().zip(1_usize..) {
        match records.iter().find(|record| usize::try_from(record.number) == Ok(number)) {
            None => return Ok(number - 1),
            Some(record) if record.checksum == checksum(step.cql) => {}
            Some(_) => return Err(CheckError::Edited { service: migrations.service, number }),
        }
    }
    Ok(migrations.steps.len())
}

/// Of what the server is told: comments and the lines' form do not count.
fn checksum(cql: &str) -> i64 {
    let words: Vec<String> = statements(cql).iter().map(|statement| statement.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    xxhash_rust::xxh3::xxh3_64(words.join(";").as_bytes()).cast_signed()
}

fn statements(cql: &str) -> Vec<String> {
    let lines: Vec<&str> = cql.lines().map(str::trim_end).filter(|line| !line.trim_start().starts_with("--")).collect();
    let text = lines.join("\n") + "\n";
    text.split(";\n").map(|statement| statement.trim().to_owned()).filter(|statement| !statement.is_empty()).collect()
}

pub(crate) async fn tables(session: &Session, keyspace: &str) -> Result<Vec<String>, Error> {
    let system = Keyspace::named(session, "system_schema");
    let read = system.read("SELECT table_name FROM {keyspace}.tables WHERE keyspace_name = ?").await?;
    let rows = session.rows::<(String,)>(&read, (keyspace,)).await?;
    Ok(rows.into_iter().map(|(name,)| name).collect())
}

/// A state is read by its owner only and must never be seen older than before: a read that finds replicas apart brings them together before it
/// answers. Cassandra does so unless a table says otherwise; ScyllaDB knows nothing else.
async fn read_repair(session: &Session, keyspace: &Keyspace) -> Result<(), CheckError> {
    let system = Keyspace::named(session, "system_schema");
    let read = system.read("SELECT table_name, read_repair FROM {keyspace}.tables WHERE keyspace_name = ?").await?;
    let rows = session.rows::<(String, Option<String>)>(&read, (keyspace.name(),)).await?;
    match rows.into_iter().find(|(_, read_repair)| read_repair.as_deref().is_some_and(|how| how != "BLOCKING")) {
        Some((table, _)) => Err(CheckError::NoReadRepair { table: format!("{}.{table}", keyspace.name()) }),
        None => Ok(()),
    }
}

fn now_micros() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The right to change tables.
struct Lock {
    session: Session,
    owner: String,
    renew: Conditional,
    release: Conditional,
}

impl Lock {
    const NAME: &str = "migrate";

    async fn take(shared: &Keyspace, owner: &str) -> Result<Self, CheckError> {
        let session = shared.session().clone();
        let ttl = format!("USING TTL {LOCK_SECONDS}");
        let insert = shared.conditional(&format!("INSERT INTO {{keyspace}}.locks (name, owner) VALUES (?, ?) IF NOT EXISTS {ttl}")).await?;
        let renew = shared.conditional(&format!("UPDATE {{keyspace}}.locks {ttl} SET owner = ? WHERE name = ? IF owner = ?")).await?;
        let release = shared.conditional("DELETE FROM {keyspace}.locks WHERE name = ? IF owner = ?").await?;
        let lock = Self { session, owner: owner.to_owned(), renew, release };
        let until = Instant::now() + LOCK_WAIT;
        loop {
            // One taken without our knowing, by an answer that was lost, is ours to renew.
            match lock.session.conditional(&insert, (Self::NAME, owner)).await {
                Ok(true) => return Ok(lock),
                Ok(false) | Err(Error::Unknown(_)) => match lock.renew().await {
                    Err(CheckError::Locked) if Instant::now() < until => sleep(LOCK_POLL).await,
                    other => return other.map(|()| lock),
                },
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn renew(&self) -> Result<(), CheckError> {
        match self.session.conditional(&self.renew, (&self.owner, Self::NAME, &self.owner)).await? {
            true => Ok(()),
            false => Err(CheckError::Locked),
        }
    }

    /// If it fails the lock expires.
    async fn release(self) {
        if let Err(error) = self.session.conditional(&self.release, (Self::NAME, &self.owner)).await {
            tracing::debug!("lock of the migration not released: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::lease;

    #[test]
    fn statements_end_with_a_line_and_comments_are_none() {
        let cql = "-- a; comment;\nCREATE TABLE a (\n  -- inner;\n  b int\n);\n\nCREATE TABLE c;\n";
        assert_eq!(statements(cql), ["CREATE TABLE a (\n  b int\n)", "CREATE TABLE c"]);
        assert_eq!(statements("ALTER TABLE a"), ["ALTER TABLE a"]);
    }

    const ROWS: &[Step] = &[Step { name: "rows", cql: "CREATE TABLE IF NOT EXISTS {keyspace}.rows (id int PRIMARY KEY);\n" }];
    const WITHOUT: &[Migrations] = &[Migrations { service: "overlaid", steps: ROWS, overlay: &[] }];
    const FIRST: &[Migrations] =
        &[Migrations { service: "overlaid", steps: ROWS, overlay: &["ALTER TABLE {keyspace}.rows WITH comment = 'first';\n"] }];
    const SECOND: &[Migrations] =
        &[Migrations { service: "overlaid", steps: ROWS, overlay: &["ALTER TABLE {keyspace}.rows WITH comment = 'second';\n"] }];

    /// With statements that every server knows, on a node that is taken for ScyllaDB.
    #[tokio::test]
    async fn an_overlay_is_applied_once_and_again_when_it_is_another_one_and_on_scylladb_only() {
        let Some(nodes) = plaza_testkit::external::cql() else { return };
        let lease = lease(&nodes, WITHOUT).await;
        let of = async |server| Session::connect(&lease.config).await.expect("connected").taken_for(server);
        let (scylla, cassandra) = (of(Server::Scylla).await, of(Server::Cassandra).await);
        let keyspace = cassandra.keyspace("overlaid");
        let comment = async || {
            let system = Keyspace::named(&cassandra, "system_schema");
            let read = system.read("SELECT comment FROM {keyspace}.tables WHERE keyspace_name = ? AND table_name = 'rows'").await.unwrap();
            cassandra.row::<(String,)>(&read, (keyspace.name(),)).await.unwrap().expect("a table").0
        };
        let by_hand = keyspace.fill("ALTER TABLE {keyspace}.rows WITH comment = 'by hand'");

        migrate(&cassandra, FIRST, "a").await.unwrap();
        assert_eq!(comment().await, "");
        migrate(&scylla, FIRST, "a").await.unwrap();
        assert_eq!(comment().await, "first");
        cassandra.change_tables(&by_hand).await.unwrap();
        migrate(&scylla, FIRST, "a").await.unwrap();
        assert_eq!(comment().await, "by hand");
        migrate(&cassandra, SECOND, "a").await.unwrap();
        assert_eq!(comment().await, "by hand");
        migrate(&scylla, SECOND, "a").await.unwrap();
        assert_eq!(comment().await, "second");
        check(&scylla, WITHOUT).await.expect("nothing depends on it");
    }

    #[test]
    fn an_id_follows_from_a_name_alone() {
        let id = identity("CREATE TABLE IF NOT EXISTS a.locks (\n  name text PRIMARY KEY\n)");
        assert_eq!(id, identity("CREATE TABLE IF NOT EXISTS a.locks (name text PRIMARY KEY, owner text)"));
        assert_ne!(id, identity("CREATE TABLE IF NOT EXISTS b.locks (name text PRIMARY KEY)"));
        assert_eq!((id.len(), &id[14..15], id.matches('-').count()), (36, "8", 4), "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
    }

    #[test]
    fn a_checksum_is_of_what_is_said() {
        assert_eq!(checksum("-- x\nCREATE  TABLE\n a;\n"), checksum("CREATE TABLE a;"));
        assert_ne!(checksum("CREATE TABLE a;"), checksum("CREATE TABLE b;"));
    }

    #[test]
    fn steps_are_applied_in_order_as_they_are() {
        let migrations = Migrations { service: "s", steps: &[Step { name: "a", cql: "A;" }, Step { name: "b", cql: "B;" }], overlay: &[] };
        let recorded = |number, cql| Recorded { number, checksum: checksum(cql) };
        let found = |records: &[Recorded]| applied(&migrations, records).map_err(|error| error.to_string());
        assert_eq!(found(&[]), Ok(0));
        assert_eq!(found(&[recorded(1, "A;")]), Ok(1));
        assert_eq!(found(&[recorded(1, "A;"), recorded(2, "B;"), recorded(3, "newer")]), Ok(2));
        assert!(found(&[recorded(1, "A;"), recorded(2, "A;")]).is_err_and(|error| error.contains("step 2 of s")));
    }
}
