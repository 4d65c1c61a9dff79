//! One server of the cluster as a process: its folder, its log, its pid file, and the signals it is sent. A pid is believed only together with the
//! time at which its process started, so that a number which the system gave to somebody else since is never signalled.

use std::{
    fmt,
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::cassandra;

/// How long a server may take to answer on its port. Several that start at once on two cores are slow.
const START: Duration = Duration::from_secs(180);
/// How long a server may take to end by itself when asked; a broker without a quorum never does.
const STOP: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);
/// How long one that is up may take to say so.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Kafka,
    Cassandra,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Kafka, Self::Cassandra];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Cassandra => "cassandra",
        }
    }
}

/// What its process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Down,
    /// It runs and does not answer yet.
    Starting,
    Up,
    /// Stopped by SIGSTOP: its port still accepts connections, nobody reads them.
    Paused,
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Down => "down",
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Paused => "paused",
        })
    }
}

/// A broker or node, running or not.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    /// From 1.
    pub(crate) number: u16,
    pub(crate) home: PathBuf,
    /// Where clients reach it.
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn name(&self) -> String {
        format!("{}{}", self.kind.name(), self.number)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.home.join("out.log")
    }

    fn pid_file(&self) -> PathBuf {
        self.home.join("pid")
    }

    /// Its process, when there is one.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.process().map(|(pid, _)| pid)
    }

    pub(crate) fn state(&self) -> State {
        match self.process() {
            None => State::Down,
            Some((_, 'T')) => State::Paused,
            Some(_) if self.answers() => State::Up,
            Some(_) => State::Starting,
        }
    }

    /// The process in the pid file and the letter that the system has for what it does, unless it has ended.
    fn process(&self) -> Option<(Pid, char)> {
        let text = fs::read_to_string(self.pid_file()).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let pid = pid.parse().ok()?;
        let (letter, since) = look_up(pid)?;
        (since == started && letter != 'Z').then_some((Pid::from_raw(pid)?, letter))
    }

    fn answers(&self) -> bool {
        match self.kind {
            Kind::Kafka => self.listens(),
            Kind::Cassandra => cassandra::lets_in(self.address, PATIENCE).unwrap_or_default(),
        }
    }

    fn listens(&self) -> bool {
        TcpStream::connect_timeout(&self.address, PATIENCE).is_ok()
    }

    /// Starts the process and returns at once. One that is `detached` outlives the terminal and its interrupts.
    ///
    /// # Errors
    /// The program cannot be started, or its folder not be written.
    pub(crate) fn launch(&self, command: &mut Command, detached: bool) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log()).with_context(|| self.log().display().to_string())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if detached {
            command.process_group(0);
        }
        let mut child = command.spawn().with_context(|| format!("starting {}", self.name()))?;
        let pid = i32::try_from(child.id())?;
        let started = look_up(pid).map(|(_, since)| since).unwrap_or_default();
        fs::write(self.pid_file(), format!("{pid} {started}\n"))?;
        // So that one that ends while this program runs leaves the table of processes.
        thread::spawn(move || child.wait());
        Ok(())
    }

    /// Waits until it does its work.
    ///
    /// # Errors
    /// It ended, or took too long; with the end of its log.
    pub(crate) fn await_up(&self) -> anyhow::Result<()> {
        self.awaited(Self::answers)
    }

    /// Waits until it is on its port, where it may not let anybody in before there are more of them.
    ///
    /// # Errors
    /// As [`Self::await_up`].
    pub(crate) fn await_listening(&self) -> anyhow::Result<()> {
        self.awaited(Self::listens)
    }

    fn awaited(&self, there: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let mut ended = false;
        let up = wait_until(START, || {
            ended = self.pid().is_none();
            ended || there(self)
        });
        if up && !ended {
            return Ok(());
        }
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let what = if ended { "ended while it started" } else { "does not answer" };
        bail!("{} {what}; the end of {}:\n{}", self.name(), self.log().display(), lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    /// `kill -9`, and waits until it is gone. Nothing when it is down.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.await_down(STOP)
    }

    /// Asks it to end; [`Self::await_down`] waits. Nothing when it is down.
    pub(crate) fn ask_to_stop(&self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        // A paused process takes the other signal only when it goes on.
        self.signal(Signal::CONT)
    }

    /// Stops it in order, or by force when it does not.
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        self.ask_to_stop()?;
        self.await_down(STOP).or_else(|_| self.kill())
    }

    /// Like [`Self::stop`], of several at once.
    pub(crate) fn stop_all(servers: &[Self]) -> anyhow::Result<()> {
        servers.iter().try_for_each(Self::ask_to_stop)?;
        servers.iter().try_for_each(Self::stop)
    }

    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn await_down(&self, limit: Duration) -> anyhow::Result<()> {
        if !wait_until(limit, || self.pid().is_none()) {
            bail!("{} does not end", self.name());
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match self.pid().map(|pid| kill_process(pid, signal)) {
            // It ended in between.
            None | Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(()),
            Some(Err(error)) => Err(error).with_context(|| format!("signalling {}", self.name())),
        }
    }
}

/// What a process does, as one letter, and when it started, in the system's ticks.
fn look_up(pid: i32) -> Option<(char, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name comes second, in parentheses, and may hold anything; what follows it are fields 3 and on.
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    let letter = fields.next()?.chars().next()?;
    Some((letter, fields.nth(18)?.to_owned()))
}

#[expect(clippy::disallowed_methods, reason = "a command that waits for other processes; nothing else runs on its thread")]
fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if done() {
            return true;
        }
        if started.elapsed() > limit {
            return false;
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> (tempfile::TempDir, Server) {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_owned();
        let server = Server { kind: Kind::Kafka, number: 1, home, address: ([127, 0, 0, 1], 1).into() };
        server.launch(Command::new("sleep").arg("600"), true).unwrap();
        (folder, server)
    }

    #[test]
    fn signals_reach_the_process() {
        let (_folder, server) = sleeper();
        assert_eq!(server.state(), State::Starting);
        server.pause().unwrap();
        assert!(wait_until(STOP, || server.state() == State::Paused));
        server.resume().unwrap();
        assert!(wait_until(STOP, || server.state() == State::Starting));
        server.pause().unwrap();
        server.stop().unwrap();
        assert_eq!(server.state(), State::Down);
        server.kill().unwrap();
    }

    #[test]
    fn another_process_with_its_number_is_not_it() {
        let (_folder, server) = sleeper();
        let pid = server.pid().unwrap();
        let file = fs::read_to_string(server.pid_file()).unwrap();
        fs::write(server.pid_file(), format!("{} 1\n", pid.as_raw_nonzero())).unwrap();
        server.kill().unwrap();
        fs::write(server.pid_file(), file).unwrap();
        assert_eq!(server.pid(), Some(pid), "the other one was killed");
        server.kill().unwrap();
        assert_eq!(server.pid(), None);
    }
}
