//! What of a population is there already: a file that is written while it is prepared, so that the next start goes on where the last ended,
//! and does nothing twice. It holds secrets of made-up people; whoever reads it can act as them.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use plaza_types::{ClientId, limits::REQUEST_WINDOW};
use serde::{Deserialize, Serialize};

use crate::scenario::Population;

/// A signed-in person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// UUID.
    pub user_id: String,
    /// Good until it expires.
    pub access_token: String,
    /// Seconds since the epoch.
    pub expires: u64,
    /// Good for one refresh.
    pub refresh_token: String,
}

/// A population as far as it is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Where.
    pub target: String,
    /// Stands in every handle: two populations never meet.
    pub tag: String,
    /// When the requests that make groups were, microseconds since the epoch.
    pub begun: u64,
    /// Of which numbers.
    pub population: Population,
    /// The people, by number.
    pub people: Vec<Option<Known>>,
    /// The numbers of the friendships that are not yet there; none are known before there are people.
    pub missing: BTreeSet<u32>,
    /// The ids of the groups that everybody is in, by number.
    pub groups: Vec<Option<String>>,
}

impl State {
    /// What a file tells, or a new state. The file must be of this target and these numbers.
    ///
    /// # Errors
    /// It is of others, or cannot be read.
    pub fn open(path: &Path, target: &str, population: &Population, friendships: usize, groups: usize) -> anyhow::Result<Self> {
        if !path.exists() {
            return Ok(Self {
                target: target.to_owned(),
                tag: format!("{:08x}", rand::random::<u32>()),
                begun: now(),
                population: population.clone(),
                people: vec![None; population.people],
                missing: (0..u32::try_from(friendships)?).collect(),
                groups: vec![None; groups],
            });
        }
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let state: Self = serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        let same = state.target == target && state.population == *population;
        ensure!(same, "{} is of another target or of other people: name another file with --population", path.display());
        ensure!(state.people.len() == population.people && state.groups.len() == groups, "{} is damaged", path.display());
        Ok(state)
    }

    /// Writes it, whole or not at all, readable by its owner only.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut beside = PathBuf::from(path);
        beside.set_extension("new");
        let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&beside, path).with_context(|| format!("writing {}", path.display()))
    }

    /// The handle of a person.
    #[must_use]
    pub fn handle(&self, person: usize) -> String {
        format!("l{}_{person:06}", self.tag)
    }

    /// Requests of now on, where those until now are so old that the server will soon take them no more. Groups that they made and that were not
    /// noted must be looked for.
    pub fn renew(&mut self) {
        if self.begun + REQUEST_WINDOW / 2 < now() {
            self.begun = now();
        }
    }

    /// The request that makes a group: the same at every start of a day, so that a group whose making was not noted is not made again.
    #[must_use]
    pub fn group_request(&self, number: usize) -> String {
        let known = xxhash_rust::xxh3::xxh3_128(format!("{} {number}", self.tag).as_bytes()).to_be_bytes();
        let mut random = [0; 10];
        random.copy_from_slice(&known[..10]);
        ClientId::new(self.begun, random).to_string()
    }
}

/// Microseconds since the epoch.
fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}
