//! Where a profile's session is kept between two runs: one file, readable by its owner only.

use std::{
    env, fs,
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use anyhow::{Context, bail};
use plaza_client::{Account, Credentials, Endpoint};
use serde::{Deserialize, Serialize};

/// One person on this machine.
pub(crate) struct Profile {
    name: String,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept {
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

    /// Goes on with the kept session, and keeps the refreshed one.
    pub(crate) async fn resume(&self, endpoint: &Endpoint) -> anyhow::Result<Account> {
        let text =
            fs::read_to_string(&self.path).with_context(|| format!("profile '{}' is not signed in: register or login first", self.name))?;
        let kept: Kept = serde_json::from_str(&text).with_context(|| format!("{} is damaged", self.path.display()))?;
        let credentials =
            Credentials { user_id: kept.user_id, handle: kept.handle, device_id: kept.device_id, refresh_token: kept.refresh_token };
        let account = Account::resume(endpoint, &credentials).await?;
        self.save(&account).await?;
        Ok(account)
    }

    /// Keeps an account's session.
    pub(crate) async fn save(&self, account: &Account) -> anyhow::Result<()> {
        let credentials = account.credentials().await;
        let kept = Kept {
            user_id: credentials.user_id,
            handle: credentials.handle,
            device_id: credentials.device_id,
            refresh_token: credentials.refresh_token,
        };
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Written beside and renamed: a crash leaves the old session or the new one, never half of one.
        let beside = self.path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&beside)?.write_all(serde_json::to_string_pretty(&kept)?.as_bytes())?;
        fs::rename(&beside, &self.path)?;
        Ok(())
    }

    /// Forgets the session.
    pub(crate) fn forget(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(&self.path)?)
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
