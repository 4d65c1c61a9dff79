//! `plaza-cli`: Plaza from a terminal. Parses, keeps the session of each profile in a file, and calls the client library.

mod chat;
mod group;
mod moments;
mod people;
mod profile;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use plaza_client::{Account, Device, Endpoint, Error};

use crate::profile::Profile;

/// Plaza from a terminal.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    /// Address of the server.
    #[arg(long, default_value = "http://127.0.0.1:7700", global = true)]
    server: String,
    /// For an https address: trust the authorities in this PEM file and no others.
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Which of the profiles on this machine to use: each is a device of somebody.
    #[arg(long = "as", default_value = "me", global = true, value_name = "PROFILE")]
    profile: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create an account and sign in. Asks for a password, or reads it from standard input.
    Register {
        /// 6 to 20 characters: a letter, then letters, digits, '_' or '-'.
        handle: String,
        /// The name others see; the handle at first.
        #[arg(long)]
        name: Option<String>,
    },
    /// Sign in.
    Login {
        /// The account's handle.
        handle: String,
    },
    /// Sign this profile out.
    Logout,
    /// Ask somebody to be friends.
    Add {
        /// Their handle.
        handle: String,
        /// A few words to them.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Show the friend requests received.
    Requests,
    /// Accept somebody's friend request.
    Accept {
        /// Their handle.
        handle: String,
    },
    /// Talk with a friend or in a group: type a line to send it, end with Ctrl-D.
    Chat {
        /// Their handle, or the group's id.
        handle: String,
    },
    /// Make groups, and change who is in them.
    #[command(subcommand)]
    Group(group::Command),
    /// Take one of your messages back, within 2 minutes.
    Recall {
        /// The friend's handle, or the group's id.
        handle: String,
        /// The message's number.
        sequence: u64,
    },
    /// Send one message.
    Send {
        /// Their handle, or the group's id.
        handle: String,
        /// What to say.
        text: String,
    },
    /// Show contacts and conversations.
    List,
    /// Posts for friends.
    #[command(subcommand)]
    Moments(moments::Command),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let endpoint = match &arguments.ca {
        Some(file) => {
            let authorities = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            Endpoint::trusting(&arguments.server, &authorities)?
        }
        None => Endpoint::new(&arguments.server)?,
    };
    let profile = Profile::named(&arguments.profile)?;
    let device = Device::new(format!("{} terminal", arguments.profile), "terminal");
    match arguments.command {
        Command::Register { handle, name } => {
            let password = profile::password()?;
            let account = Account::register(&endpoint, &handle, &password, name.as_deref().unwrap_or(&handle), &device).await?;
            profile.save(account).await?;
            println!("{handle} is registered and signed in as profile '{}'", arguments.profile);
        }
        Command::Login { handle } => {
            let account = Account::login(&endpoint, &handle, &profile::password()?, &device).await?;
            profile.save(account).await?;
            println!("{handle} is signed in as profile '{}'", arguments.profile);
        }
        Command::Logout => {
            let signed_out = match profile.resume(&endpoint).await {
                Ok(account) => {
                    let request = plaza_client::accounts::LogoutRequest {};
                    account.call(|mut services| async move { services.accounts.logout(request).await }).await.map(drop)
                }
                Err(error) => Err(error.downcast()?),
            };
            // Perhaps by an earlier try whose answer was lost.
            if !matches!(signed_out, Err(Error::SignedOut(_))) {
                signed_out?;
            }
            profile.forget()?;
            println!("signed out");
        }
        Command::Add { handle, note } => people::add(&profile.resume(&endpoint).await?, &handle, &note).await?,
        Command::Requests => people::requests(&profile.resume(&endpoint).await?).await?,
        Command::Accept { handle } => people::accept(&profile.resume(&endpoint).await?, &handle).await?,
        Command::List => people::list(&profile.resume(&endpoint).await?).await?,
        Command::Moments(command) => moments::run(&profile.resume(&endpoint).await?, command).await?,
        Command::Send { handle, text } => chat::send(&profile.resume(&endpoint).await?, &handle, &text).await?,
        Command::Recall { handle, sequence } => chat::recall(&profile.resume(&endpoint).await?, &handle, sequence).await?,
        Command::Group(command) => group::run(&profile.resume(&endpoint).await?, command).await?,
        Command::Chat { handle } => chat::talk(&profile.resume(&endpoint).await?, &handle).await?,
    }
    Ok(())
}
