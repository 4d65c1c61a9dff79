//! Where a profile's session is kept between two runs: one file, readable by its owner only.

use std::{
    env, fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use plaza_client::{Account, Credentials, Endpoint, Keeper, Kept};
use serde::{Deserialize, Serialize};

/// One person on this machine.
pub(crate) struct Profile {
    name: String,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Session {
    user_id: String,
    handle: String,
    device_id: String,
    refresh_token: String,
}

impl Profile {
    /// The profile of a name of letters, digits, '-' and '_'.
    pub(crate) fn named(name: &str) -> anyhow::Result<Self> {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            bail!("a profile's name has letters, digits, '-' and '_' only");
        }
        let base = match env::var_os("XDG_CONFIG_HOME") {
            Some(base) => PathBuf::from(base),
            None => PathBuf::from(env::var_os("HOME").context("neither XDG_CONFIG_HOME nor HOME is set")?).join(".config"),
        };
        Ok(Self { name: name.to_owned(), path: base.join("plaza").join(format!("{name}.json")) })
    }

    /// Goes on with the kept session. Commands that run at the same time share it.
    pub(crate) async fn resume(&self, endpoint: &Endpoint) -> anyhow::Result<Account> {
        if !self.path.exists() {
            bail!("profile '{}' is not signed in: register or login first", self.name);
        }
        Ok(Account::resume_kept(endpoint, Arc::new(File(self.path.clone()))).await?)
    }

    /// Keeps an account's session, in place of one that may be there.
    pub(crate) async fn save(&self, account: Account) -> anyhow::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = File(self.path.clone());
        let _lock = file.lock()?;
        file.write(&account.credentials().await)?;
        Ok(())
    }

    /// Forgets the session.
    pub(crate) fn forget(&self) -> anyhow::Result<()> {
        let _lock = File(self.path.clone()).lock()?;
        Ok(fs::remove_file(&self.path)?)
    }
}

/// The file of a session. Beside it lies one that is locked by who refreshes.
struct File(PathBuf);

impl File {
    /// Waits until nobody else has it; let go of when what this gives is closed.
    fn lock(&self) -> io::Result<fs::File> {
        let lock = opened(&self.0.with_extension("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    fn read(&self) -> io::Result<Credentials> {
        let damaged = |error| io::Error::other(format!("{} is damaged: {error}", self.0.display()));
        let kept: Session = serde_json::from_str(&fs::read_to_string(&self.0)?).map_err(damaged)?;
        let Session { user_id, handle, device_id, refresh_token } = kept;
        Ok(Credentials { user_id, handle, device_id, refresh_token })
    }

    fn write(&self, credentials: &Credentials) -> io::Result<()> {
        let Credentials { user_id, handle, device_id, refresh_token } = credentials.clone();
        // Written beside and renamed: a crash leaves the old session or the new one, never half of one.
        let beside = self.0.with_extension("new");
        let mut file = opened(&beside)?;
        file.set_len(0)?;
        file.write_all(serde_json::to_string_pretty(&Session { user_id, handle, device_id, refresh_token })?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.0)?;
        // The name is to survive as well.
        self.0.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    }
}

/// For its owner only.
fn opened(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl Keeper for File {
    fn take(&self) -> io::Result<Box<dyn Kept>> {
        let lock = self.lock()?;
        Ok(Box::new(Taken { credentials: self.read()?, file: Self(self.0.clone()), _lock: lock }))
    }
}

struct Taken {
    credentials: Credentials,
    file: File,
    _lock: fs::File,
}

impl Kept for Taken {
    fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    fn replace(&mut self, credentials: &Credentials) -> io::Result<()> {
        self.file.write(credentials)
    }
}

/// Asks for a password without showing it; reads a line where there is no terminal.
pub(crate) fn password() -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        return Ok(rpassword::prompt_password("password: ")?);
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(token: &str) -> Credentials {
        Credentials { user_id: "u".into(), handle: "ada".into(), device_id: "d".into(), refresh_token: token.into() }
    }

    #[test]
    fn a_session_is_in_the_hands_of_one_and_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ada.json");
        File(path.clone()).write(&credentials("one")).expect("written");
        let mut taken = File(path.clone()).take().expect("taken");
        assert_eq!(taken.credentials().refresh_token, "one");
        let other = std::thread::spawn({
            let path = path.clone();
            move || File(path).take().expect("taken").credentials().refresh_token.clone()
        });
        let lock = opened(&path.with_extension("lock")).expect("opened");
        assert!(matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)), "somebody has it");
        taken.replace(&credentials("two")).expect("written");
        drop(taken);
        assert_eq!(other.join().expect("no panic"), "two", "whoever waits reads what was written meanwhile");
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).expect("there").permissions()) & 0o777, 0o600);
    }

    #[test]
    fn half_a_session_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ada.json");
        fs::write(&path, "{\"user_id\":").expect("written");
        let error = File(path).take().err().expect("damaged").to_string();
        assert!(error.contains("ada.json is damaged"), "{error}");
    }
}
