//! The README's first conversation, typed into the real program.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use plaza::config::Config;
use plaza_runtime::{Supervisor, shutdown};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout_at,
};

const SOON: Duration = Duration::from_secs(60);

/// A terminal, and the address of a server.
struct Terminal {
    server: String,
    home: tempfile::TempDir,
}

impl Terminal {
    fn command(&self, profile: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plaza-cli"));
        command.args(["--server", &self.server, "--as", profile]).args(words);
        command.env("XDG_CONFIG_HOME", self.home.path()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What a command prints, with this typed into it.
    async fn run(&self, profile: &str, words: &[&str], typed: &str) -> String {
        let mut child = self.command(profile, words).spawn().expect("started");
        child.stdin.take().expect("piped").write_all(typed.as_bytes()).await.expect("typed");
        let output = tokio::time::timeout(SOON, child.wait_with_output()).await.expect("in time").expect("ended");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    }

    async fn chat(&self, profile: &str, with: &str) -> Chat {
        let mut child = self.command(profile, &["chat", with]).spawn().expect("started");
        let shown = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut chat = Chat { typed: child.stdin.take(), shown, child };
        chat.sees("talking with").await;
        chat
    }
}

/// A running `chat`.
struct Chat {
    typed: Option<ChildStdin>,
    shown: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Chat {
    async fn types(&mut self, lines: &str) {
        self.typed.as_mut().expect("open").write_all(lines.as_bytes()).await.expect("typed");
    }

    async fn sees(&mut self, words: &str) {
        let until = Instant::now() + SOON;
        loop {
            let line = timeout_at(until.into(), self.shown.next_line()).await.unwrap_or_else(|_| panic!("'{words}' did not come"));
            if line.expect("read").expect("it goes on").contains(words) {
                return;
            }
        }
    }

    /// Ctrl-D.
    async fn ends(mut self) {
        self.typed = None;
        let ended = tokio::time::timeout(SOON, self.child.wait()).await.expect("in time").expect("ended");
        assert!(ended.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_conversation() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let mut config = Config { data_dir: data.path().join("data"), ..Config::default() };
    config.gateway.listen = "127.0.0.1:0".to_owned();
    config.accounts.password.memory_kib = 64;
    config.accounts.password.passes = 1;
    let supervisor = Supervisor::new();
    let running = plaza::assemble(config.clone(), supervisor.clone()).await?;
    let server = format!("http://{}", running.address().expect("the gateway runs"));
    let terminal = Terminal { server, home: tempfile::tempdir()? };

    for (profile, handle) in [("ada", "ada_lovelace"), ("bob", "bob_babbage")] {
        let printed = terminal.run(profile, &["register", handle], "correct horse\n").await;
        assert!(printed.contains("is registered"), "{printed}");
    }
    terminal.run("bob", &["add", "ada_lovelace", "--note", "we met at the engine"], "").await;
    let requests = terminal.run("ada", &["requests"], "").await;
    assert!(requests.contains("bob_babbage") && requests.contains("we met at the engine"), "{requests}");
    terminal.run("ada", &["accept", "bob_babbage"], "").await;

    // Two terminals of one session, and a device of Ada's own.
    let mut ada = terminal.chat("ada", "bob_babbage").await;
    let mut again = terminal.chat("ada", "bob_babbage").await;
    let printed = terminal.run("laptop", &["login", "ada_lovelace"], "correct horse\n").await;
    assert!(printed.contains("is signed in"), "{printed}");
    let mut laptop = terminal.chat("laptop", "bob_babbage").await;
    let mut bob = terminal.chat("bob", "ada_lovelace").await;
    ada.types("hello Bob\n").await;
    bob.sees("ada_lovelace: hello Bob").await;
    again.sees("me: hello Bob").await;
    laptop.sees("me: hello Bob").await;
    // Several at once, in order, and the last before Ctrl-D is not lost.
    bob.types("one\ntwo\nthree\n").await;
    bob.ends().await;
    for chat in [&mut ada, &mut again, &mut laptop] {
        for words in ["one", "two", "three"] {
            chat.sees(&format!("bob_babbage: {words}")).await;
        }
    }
    for chat in [ada, again, laptop] {
        chat.ends().await;
    }
    let (list, other) = tokio::join!(terminal.run("ada", &["list"], ""), terminal.run("ada", &["list"], ""));
    for list in [list, other] {
        assert!(list.contains("bob_babbage") && list.contains("4 messages"), "{list}");
    }

    let group = terminal.run("ada", &["group", "create", "engine room", "bob_babbage"], "").await;
    let id = group.split_whitespace().next().expect("an id");
    terminal.run("bob", &["send", id, "here I am"], "").await;
    let members = terminal.run("ada", &["group", "members", id], "").await;
    assert!(members.contains("ada_lovelace") && members.contains("bob_babbage"), "{members}");

    terminal.run("ada", &["moments", "post", "first light", "--only", "bob_babbage"], "").await;
    let timeline = terminal.run("bob", &["moments", "timeline"], "").await;
    assert!(timeline.contains("first light"), "{timeline}");
    let post = timeline.lines().find_map(|line| line.trim().split_once(": 0 likes")).expect("its id").0;
    terminal.run("bob", &["moments", "comment", post, "seen"], "").await;
    let notices = terminal.run("ada", &["moments", "notices"], "").await;
    assert!(notices.contains("commented: seen"), "{notices}");

    terminal.run("laptop", &["logout"], "").await;
    let refused = terminal.command("laptop", &["list"]).output().await?;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is not signed in"));
    shutdown::shut_down(&supervisor, config.shutdown).await;
    running.close().await;
    Ok(())
}
