//! `plaza`: the one binary. Parses, loads, runs.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use plaza::{
    Meant,
    config::{self, Config},
};
use plaza_runtime::{
    config::Problems,
    shutdown::{self, Signals},
};

// A fifth of the time per message went into the C library's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A messenger's backend: accounts, graph, chat, moments and their gateway. Without arguments everything runs in this process.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// A TOML file; `plaza config` prints every key.
    #[arg(long, global = true, env = "PLAZA_CONFIG")]
    config: Option<PathBuf>,
    /// Which services to run: accounts, graph, chat, moments, gateway.
    #[arg(long, global = true, value_delimiter = ',')]
    services: Vec<String>,
    /// Where the data is.
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
    /// Where clients connect, address and port.
    #[arg(long, global = true)]
    listen: Option<String>,
    /// How much is logged: error, warn, info, debug, trace, or a filter such as plaza_chat=debug,info.
    #[arg(long, global = true)]
    log_level: Option<String>,
    /// Any other key, such as telemetry.admin_listen=127.0.0.1:7701.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the effective configuration, secrets left out.
    Config,
    /// Creates the topics and tables of a cluster, or brings them to where this binary needs them. Safe to run again.
    Migrate {
        /// Records the topics' settings as they are now: what an operator changed deliberately.
        #[arg(long)]
        accept_settings: bool,
        /// Has topics that are gone begin anew: what was in them and not yet applied is lost.
        #[arg(long)]
        replace_lost: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match load(&arguments) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("plaza: {problems}");
            return ExitCode::from(2);
        }
    };
    if let Some(Command::Config) = arguments.command {
        return match plaza_runtime::config::to_toml(&config) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error.into()),
        };
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let done = match arguments.command {
        Some(Command::Migrate { accept_settings, replace_lost }) => {
            runtime.block_on(plaza::migrate(&config, Meant { settings: accept_settings, losses: replace_lost }))
        }
        Some(Command::Config) | None => runtime.block_on(run(config)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref() {
            // Whoever asks twice wants it to end now.
            Some(shutdown::Error::Interrupted) => std::process::exit(130),
            _ => failed(&error),
        },
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::system()?;
    // Each stream of a client is a file.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        eprintln!("plaza: the limit of open files could not be raised: {error}");
    }
    let limits = config.shutdown;
    let running = tokio::select! {
        running = plaza::start(config) => running?,
        signal = signals.next() => {
            eprintln!("plaza: {signal} before it served");
            return Ok(());
        }
    };
    println!("{}", running.banner());
    let ended = shutdown::run(running.supervisor(), limits, signals).await;
    running.close().await;
    Ok(ended?)
}

fn load(arguments: &Arguments) -> Result<Config, Problems> {
    let mut flags = arguments.set.clone();
    if !arguments.services.is_empty() {
        flags.push(format!("services={}", arguments.services.join(",")));
    }
    flags.extend(arguments.data_dir.iter().map(|folder| format!("data_dir={}", folder.display())));
    flags.extend(arguments.listen.iter().map(|address| format!("gateway.listen={address}")));
    flags.extend(arguments.log_level.iter().map(|level| format!("telemetry.log_level={level}")));
    config::load(arguments.config.clone(), flags)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("plaza: {error:#}");
    ExitCode::FAILURE
}
