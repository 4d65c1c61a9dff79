//! What an operator meets: help, the configuration and everything wrong with it, the start, the admin port, the stop.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::stream;
use plaza_client::{
    Account, Device, Endpoint, LiveEvent, To,
    gateway::{ConnectRequest, ConnectResponse, Hello, connect_request::Frame, connect_response::Frame as Answer},
    text,
};
use plaza_testkit::{
    people::{SOON, befriend, newcomer},
    raw::{self, Connection},
    server::Server,
    wait::wait_for,
};
use prost::Message;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const BINARY: &str = env!("CARGO_BIN_EXE_plaza");

/// Runs the binary to its end, with these variables and none of the test's own.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Output> {
    let variables = variables.iter().copied();
    Ok(Command::new(BINARY).args(arguments).env_clear().envs(variables).stdin(Stdio::null()).output()?)
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every key of a table with its value, dotted.
fn flat(prefix: &str, table: &toml::Table) -> Vec<(String, toml::Value)> {
    let dotted = |key: &String| if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
    let one = |(key, value): (&String, &toml::Value)| match value {
        toml::Value::Table(table) => flat(&dotted(key), table),
        value => vec![(dotted(key), value.clone())],
    };
    table.iter().flat_map(one).collect()
}

/// A process that is not waited for at its public port. Killed when dropped.
struct Process {
    child: Child,
    log: PathBuf,
    _folder: TempDir,
}

impl Process {
    fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let file = std::fs::File::create(&log)?;
        let child = Command::new(BINARY)
            .args(arguments)
            .args(["--data-dir".as_ref(), folder.path().join("data").as_os_str()])
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Self { child, log, _folder: folder })
    }

    fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    async fn stop(&mut self) -> anyhow::Result<Option<i32>> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let ended = wait_for("the process stops", SOON, || std::future::ready(self.child.try_wait().ok().flatten().ok_or("running")));
        Ok(ended.await?.code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status line and the body of an HTTP answer.
async fn get(port: u16, path: &str) -> anyhow::Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

async fn ready(port: u16) -> anyhow::Result<()> {
    wait_for("the process is ready", SOON, || async {
        match get(port, "/readyz").await {
            Ok((status, _)) if status.contains("200") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[test]
fn help_names_what_can_be_said() -> anyhow::Result<()> {
    let help = run(&["--help"], &[])?;
    ensure!(help.status.success(), "{}", help.status);
    let help = text_of(&help.stdout);
    for word in ["--config", "--services", "--data-dir", "--listen", "--log-level", "--set", "config"] {
        ensure!(help.contains(word), "{word} is not in the help: {help}");
    }
    let version = run(&["--version"], &[])?;
    ensure!(text_of(&version.stdout).starts_with("plaza "), "{version:?}");
    Ok(())
}

#[test]
fn the_printed_configuration_is_complete_and_can_be_read_again() -> anyhow::Result<()> {
    let printed = run(&["config"], &[])?;
    ensure!(printed.status.success() && printed.stderr.is_empty(), "{printed:?}");
    let printed = text_of(&printed.stdout);
    let table: toml::Table = printed.parse()?;
    let keys: BTreeSet<_> = flat("", &table).into_iter().map(|(key, _)| key).collect();
    for key in [
        "data_dir",
        "services",
        "accounts.password.memory_kib",
        "chat.cache_bytes",
        "gateway.listen",
        "gateway.tls.certificate",
        "gateway.tls.key",
        "gateway.reflection",
        "embedded.partitions",
        "telemetry.log_level",
        "telemetry.admin_listen",
        "telemetry.otlp_endpoint",
        "shutdown.total",
    ] {
        ensure!(keys.contains(key), "{key} is not in {printed}");
    }
    // The file it prints is the same configuration, and so is every key alone as a flag and as a variable.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("plaza.toml");
    std::fs::write(&file, &printed)?;
    let path = file.to_string_lossy();
    ensure!(text_of(&run(&["config", "--config", &path], &[])?.stdout) == printed, "another configuration than was printed");
    ensure!(text_of(&run(&["config"], &[("PLAZA_CONFIG", &path)])?.stdout) == printed, "the variable names another file");
    let mut flags = vec!["config".to_owned()];
    let mut variables = Vec::new();
    for (key, value) in flat("", &table) {
        let bare = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        flags.extend(["--set".to_owned(), format!("{key}={value}")]);
        variables.push((format!("PLAZA_{}", key.replace('.', "__").to_uppercase()), bare));
    }
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let (by_flags, by_variables) = (run(&flags, &[])?, run(&["config"], &variables)?);
    ensure!(text_of(&by_flags.stdout) == printed, "{}", text_of(&by_flags.stderr));
    ensure!(text_of(&by_variables.stdout) == printed, "{}", text_of(&by_variables.stderr));

    // Flags go over variables, and those over the file.
    std::fs::write(&file, "[telemetry]\nlog_level = \"error\"\n[embedded]\npartitions = 3\n[chat]\ncache_bytes = 1\n")?;
    let over = [("PLAZA_TELEMETRY__LOG_LEVEL", "warn"), ("PLAZA_EMBEDDED__PARTITIONS", "4")];
    let merged = run(&["config", "--config", &path, "--log-level", "debug"], &over)?;
    let merged: toml::Table = text_of(&merged.stdout).parse()?;
    let merged = flat("", &merged);
    for (key, value) in [("telemetry.log_level", "\"debug\""), ("embedded.partitions", "4"), ("chat.cache_bytes", "1")] {
        ensure!(merged.iter().any(|(name, found)| name == key && found.to_string() == value), "{key} is not {value}: {merged:?}");
    }
    Ok(())
}

#[test]
fn everything_wrong_with_the_configuration_is_said_at_once() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, data) = (folder.path().join("plaza.toml"), folder.path().join("data"));
    std::fs::write(&file, "nonsense = 1\n[gateway]\nheartbeat_ms = \"soon\"\nwrong_key = true\n[nothing]\nat_all = 1\n")?;
    let variables = [("PLAZA_EMBEDDED__PARTITIONS", "65"), ("PLAZA_NO_SUCH_KEY", "1")];
    let arguments = [
        "--config",
        &file.to_string_lossy(),
        "--data-dir",
        &data.to_string_lossy(),
        "--services",
        "accounts,weather",
        "--set",
        "telemetry.trace_sample_ratio=2",
        "--set",
        "chat.cache_bytes=many",
        "--set",
        "gateway.tls.key=key.pem",
        "--set",
        "no equals sign",
    ];
    for config in [false, true] {
        let arguments: Vec<_> = arguments.iter().copied().chain(config.then_some("config")).collect();
        let refused = run(&arguments, &variables)?;
        ensure!(refused.status.code() == Some(2), "exit code {:?}", refused.status.code());
        ensure!(refused.stdout.is_empty(), "printed {}", text_of(&refused.stdout));
        let said = text_of(&refused.stderr);
        for (key, origin) in [
            ("nonsense", "file"),
            ("gateway.heartbeat_ms", "file"),
            ("gateway.wrong_key", "file"),
            ("nothing", "file"),
            ("embedded.partitions", "PLAZA_EMBEDDED__PARTITIONS"),
            ("no_such_key", "PLAZA_NO_SUCH_KEY"),
            ("services", "weather"),
            ("telemetry.trace_sample_ratio", "flag"),
            ("chat.cache_bytes", "flag"),
            ("gateway.tls", "key"),
            ("no equals sign", "key=value"),
        ] {
            let named = said.lines().any(|line| line.trim_start().starts_with(key) && line.contains(origin));
            ensure!(named, "no line names {key} and {origin}: {said}");
        }
    }
    ensure!(!data.exists(), "a refused start made the data folder");
    let missing = run(&["--config", "/nonexistent/plaza.toml"], &[])?;
    ensure!(missing.status.code() == Some(2) && text_of(&missing.stderr).contains("/nonexistent/plaza.toml"), "{missing:?}");
    Ok(())
}

#[tokio::test]
async fn only_the_services_asked_for_run() -> anyhow::Result<()> {
    let admin = free_port()?;
    let listen = format!("telemetry.admin_listen=127.0.0.1:{admin}");
    let mut process = Process::start(&["--services", "accounts,graph", "--set", &listen])?;
    ready(admin).await?;
    let log = process.log()?;
    ensure!(log.contains("accounts, graph in one process"), "{log}");
    ensure!(!log.contains("clients ") && log.contains(&format!("127.0.0.1:{admin}")), "{log}");
    ensure!(process.stop().await? == Some(0), "{}", process.log()?);
    ensure!(!process.log()?.contains(" WARN ") && !process.log()?.contains(" ERROR "), "{}", process.log()?);
    let alone = run(&["--services", "gateway"], &[])?;
    ensure!(alone.status.code() == Some(2) && text_of(&alone.stderr).contains("gateway needs accounts"), "{alone:?}");
    let alone = run(&["--services", "moments,accounts"], &[])?;
    ensure!(alone.status.code() == Some(2) && text_of(&alone.stderr).contains("moments needs graph"), "{alone:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_in_use_is_said_clearly() -> anyhow::Result<()> {
    let server = Server::temporary(BINARY, &[]).await?;
    let data = server.data().to_string_lossy().into_owned();
    let second = run(&["--data-dir", &data, "--listen", "127.0.0.1:0"], &[])?;
    let said = text_of(&second.stderr);
    ensure!(second.status.code() == Some(1) && said.contains(&data) && said.contains("in use by another process"), "{second:?}");

    let folder = tempfile::tempdir()?;
    let address = server.address().trim_start_matches("http://").to_owned();
    let other = folder.path().join("data");
    let taken = run(&["--data-dir", &other.to_string_lossy(), "--listen", &address], &[])?;
    ensure!(taken.status.code() == Some(1) && text_of(&taken.stderr).contains(&format!("cannot listen on {address}")), "{taken:?}");
    ensure!(!other.exists(), "a refused start made the data folder");
    for (argument, named) in [("0.0.0.0:0", "gateway.tls"), ("nowhere", "nowhere")] {
        let refused = run(&["--data-dir", &other.to_string_lossy(), "--listen", argument], &[])?;
        ensure!(refused.status.code().is_some_and(|code| code != 0) && text_of(&refused.stderr).contains(named), "{refused:?}");
    }
    // The first one goes on.
    newcomer(&Endpoint::new(&server.address())?, "ada").await?;
    server.assert_quiet_log(&[])
}

#[tokio::test]
async fn it_stops_in_time_with_open_streams_and_starts_again() -> anyhow::Result<()> {
    let mut server = Server::temporary(BINARY, &[]).await?;
    let endpoint = Endpoint::new(&server.address())?;
    let (ada, bob) = (newcomer(&endpoint, "ada").await?, newcomer(&endpoint, "bob").await?);
    befriend(&ada, &bob).await?;
    for (number, signal) in (1..).zip(["TERM", "INT"]) {
        // One stream behaves, and another one neither reads nor leaves.
        let mut live = bob.live(0);
        while !matches!(timeout(SOON, live.next()).await?, Some(Ok(LiveEvent::Welcome { .. }))) {}
        let token = ada.access_token().await?;
        let hello = ConnectRequest { frame: Some(Frame::Hello(Hello { cursor: 0 })) }.encode_to_vec();
        let open = || stream::once(std::future::ready(hello.clone().into()));
        let connection = Connection::open(&server.address()).await?;
        const CONNECT: &str = "/plaza.gateway.v1.GatewayService/Connect";
        let silent =
            connection.streaming(CONNECT, raw::request(futures::StreamExt::chain(open(), stream::pending()), Some(&token))?).await?;
        let mut reading =
            connection.streaming(CONNECT, raw::request(futures::StreamExt::chain(open(), stream::pending()), Some(&token))?).await?;
        ada.send(To::User(bob.user_id().into()), text(format!("before {signal}"))).await?;

        let started = Instant::now();
        ensure!(server.stop_by(signal, Duration::from_secs(15)).await? == Some(0), "{}", server.log()?);
        ensure!(started.elapsed() < Duration::from_secs(10), "SIG{signal} took {:?}", started.elapsed());
        let mut last = None;
        while let Ok(Some(frame)) = reading.message().await {
            last = ConnectResponse::decode(frame)?.frame;
        }
        ensure!(matches!(last, Some(Answer::Moved(_))), "the last frame was {last:?}");
        drop(silent);

        server.restart().await?;
        let sync = plaza_client::chat::SyncRequest { cursor: 0, page_size: 200 };
        let inbox = bob.call(|mut services| async move { services.chat.sync(sync).await }).await?.entries;
        let messages = inbox.iter().filter(|entry| matches!(entry.event, Some(plaza_client::chat::entry::Event::Message(_)))).count();
        ensure!(messages == number, "{messages} messages after {number} stops");
    }
    ensure!(server.log()?.contains("complete=true") && !server.log()?.contains("complete=false"), "{}", server.log()?);
    server.assert_quiet_log(&[])
}

#[tokio::test]
async fn the_admin_port_tells_what_the_process_does() -> anyhow::Result<()> {
    let admin = free_port()?;
    let server = Server::temporary(BINARY, &["--set", &format!("telemetry.admin_listen=127.0.0.1:{admin}")]).await?;
    let endpoint = Endpoint::new(&server.address())?;
    let (ada, bob) = (newcomer(&endpoint, "ada").await?, newcomer(&endpoint, "bob").await?);
    befriend(&ada, &bob).await?;
    ada.send(To::User(bob.user_id().into()), text("hello")).await?;
    ada.send(To::User(ada.user_id().into()), text("hello")).await.expect_err("nobody writes to themself");
    for path in ["/healthz", "/readyz", "/metrics"] {
        let (status, _) = get(admin, path).await?;
        ensure!(status.contains("200"), "{path}: {status}");
    }
    ensure!(get(admin, "/nonsense").await?.0.contains("404"), "an unknown path");
    let expected = [
        ("rpc_server_call_duration", "plaza.chat.v1.ChatService/SendMessage", "OK"),
        ("rpc_server_call_duration", "plaza.chat.v1.ChatService/SendMessage", "INVALID_ARGUMENT"),
        ("rpc_server_call_duration", "plaza.accounts.v1.AccountsService/Register", "OK"),
        ("plaza_processor_lag_records", "conversation", ""),
        ("plaza_processor_lag_seconds", "inbox", ""),
        ("plaza_processor_batch_records", "conversation", ""),
        ("plaza_processor_write_seconds", "graph", ""),
        ("plaza_processor_records_applied", "inbox", ""),
    ];
    let metrics = wait_for("every metric has a value", SOON, || async {
        let (_, metrics) = get(admin, "/metrics").await.map_err(|error| error.to_string())?;
        let missing = expected.iter().find(|(name, label, other)| {
            !metrics.lines().any(|line| line.starts_with(name) && line.contains(label) && line.contains(other))
        });
        missing.map_or(Ok(metrics.clone()), |missing| Err(format!("{missing:?} is not in {metrics}")))
    })
    .await?;
    for secret in [ada.user_id(), bob.user_id(), ada.user().handle.as_str()] {
        ensure!(!metrics.contains(secret), "a metric names somebody");
    }
    server.assert_quiet_log(&[])
}

#[tokio::test]
async fn it_serves_tls_when_it_has_a_certificate() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/start");
    let (certificate, key) = (folder.join("localhost.pem"), folder.join("localhost.key"));
    let set = [format!("gateway.tls.certificate={}", certificate.display()), format!("gateway.tls.key={}", key.display())];
    let server = Server::temporary(BINARY, &["--set", &set[0], "--set", &set[1]]).await?;
    let address = server.address().replace("http://127.0.0.1", "https://localhost");
    let trusting = Endpoint::trusting(&address, &std::fs::read_to_string(&certificate)?)?;
    let ada = newcomer(&trusting, "ada").await?;
    let welcome = timeout(Duration::from_secs(20), ada.live(0).next()).await?;
    ensure!(matches!(welcome, Some(Ok(LiveEvent::Welcome { .. }))), "{welcome:?}");
    // In plaintext, and with a certificate that nobody this machine trusts vouches for.
    for address in [server.address(), address] {
        let endpoint = Endpoint::new(&address)?.with_timeout(Duration::from_secs(2)).with_longest_wait(Duration::from_millis(1));
        let answer = timeout(Duration::from_secs(3), Account::login(&endpoint, "nobody_here", "whatever", &Device::new("d", "p"))).await;
        ensure!(answer.is_err(), "{address} was served: {:?}", answer.map(|answer| answer.map(drop)));
    }
    Ok(())
}
