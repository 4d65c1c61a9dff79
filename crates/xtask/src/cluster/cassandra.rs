//! Apache Cassandra's nodes. They stand in for ScyllaDB, of which there is no server to be had from a registry.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::Context;

use super::{layout::Shape, server::Server, tools::Tools};

const YAML: &str = include_str!("../../cluster/cassandra.yaml");
const LOGBACK: &str = include_str!("../../cluster/logback.xml");
/// Kinds of frames of the native protocol.
const STARTUP: u8 = 0x01;
const READY: u8 = 0x02;
const AUTHENTICATE: u8 = 0x03;
const AUTH_RESPONSE: u8 = 0x0f;
const AUTH_SUCCESS: u8 = 0x10;
/// Parts of Java that it uses and that a Java newer than itself hides.
const EXPORTS: [&str; 9] = [
    "java.base/jdk.internal.misc",
    "java.base/java.lang.ref",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.attach/sun.tools.attach",
];
const OPENS: [&str; 14] = [
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
];

/// The command that runs a node; its folder is made if need be.
///
/// # Errors
/// The folder cannot be written, or a jar is missing.
pub(super) fn command(server: &Server, shape: &Shape, jars: &Path, tools: &Tools) -> anyhow::Result<Command> {
    let settings = server.home.join("conf");
    fs::create_dir_all(&settings)?;
    fs::write(settings.join("cassandra.yaml"), yaml(server, shape))?;
    fs::write(settings.join("logback.xml"), LOGBACK)?;
    let (settings, home) = (settings.display(), server.home.display());

    let mut command = tools.java();
    command.args(["-Xms384m", "-Xmx512m", "-XX:MaxDirectMemorySize=256m", "-XX:+UseSerialGC", "-Xss512k", "-XX:+ExitOnOutOfMemoryError"]);
    command.args(EXPORTS.map(|name| format!("--add-exports={name}=ALL-UNNAMED")));
    command.args(OPENS.map(|name| format!("--add-opens={name}=ALL-UNNAMED")));
    command.arg(format!("-javaagent:{}", meter(jars)?));
    command.args(["-Djava.security.manager=allow", "-Djdk.attach.allowAttachSelf=true", "-Djava.net.preferIPv4Stack=true"]);
    command.args(["-Dio.netty.tryReflectionSetAccessible=true", "-Dio.netty.allocator.maxOrder=11"]);
    // A node joins at once: the ring is empty, and everybody in it is on this machine.
    command.args(["-Dcassandra.skip_wait_for_gossip_to_settle=0", "-Dcassandra.ring_delay_ms=1000"]);
    command.args(["-Dcassandra.available_processors=2", "-Dcassandra-foreground=yes"]);
    // Who may log in is known to a quorum; the superuser is tried to be made until there is one. To check a password costs next to nothing.
    command.arg(format!("-Dcassandra.system_auth.default_rf={}", shape.nodes.unwrap_or(1).min(3)));
    command.args(["-Dcassandra.superuser_setup_delay_ms=200", "-Dcassandra.auth_bcrypt_gensalt_log2_rounds=4"]);
    command.arg(format!("-Djava.io.tmpdir={home}"));
    command.arg(format!("-Dcassandra.storagedir={home}"));
    command.arg(format!("-Dcassandra.logdir={home}/log"));
    command.arg(format!("-Dcassandra.config=file://{settings}/cassandra.yaml"));
    command.arg(format!("-Dlogback.configurationFile=file://{settings}/logback.xml"));
    command.arg("-cp").arg(format!("{settings}:{}/*", jars.display())).arg("org.apache.cassandra.service.CassandraDaemon");
    Ok(command)
}

/// Whether a client that says who it is, as tests do, is let in: of a new cluster nobody is at first.
///
/// # Errors
/// The node does not answer.
pub(super) fn lets_in(address: SocketAddr, patience: Duration) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let startup = b"\0\x01\0\x0bCQL_VERSION\0\x053.0.0";
    match exchange(&mut stream, STARTUP, startup)? {
        AUTHENTICATE => {}
        // It asks nobody.
        answer => return Ok(answer == READY),
    }
    let response = [b"\0\0\0\x14".as_slice(), b"\0cassandra\0cassandra"].concat();
    Ok(exchange(&mut stream, AUTH_RESPONSE, &response)? == AUTH_SUCCESS)
}

/// Sends a frame of the native protocol, version 4, and gives the kind of the one that answers it.
fn exchange(stream: &mut TcpStream, kind: u8, body: &[u8]) -> io::Result<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    stream.write_all(&[&[4, 0, 0, 0, kind], length.to_be_bytes().as_slice(), body].concat())?;
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let [.., a, b, c, d] = head;
    io::copy(&mut stream.take(u32::from_be_bytes([a, b, c, d]).into()), &mut io::sink())?;
    Ok(head[4])
}

/// What it measures its own memory with.
fn meter(jars: &Path) -> anyhow::Result<String> {
    let paths = fs::read_dir(jars)?.filter_map(|entry| Some(entry.ok()?.path()));
    let names = paths.map(|path| path.display().to_string());
    names.into_iter().find(|name| name.contains("/jamm-")).with_context(|| format!("no jamm in {}", jars.display()))
}

fn yaml(server: &Server, shape: &Shape) -> String {
    let seeds: Vec<_> = (1..=shape.nodes.unwrap_or(1)).map(|number| format!("127.0.0.{number}:{}", shape.storage_port())).collect();
    YAML.replace("{seeds}", &seeds.join(","))
        .replace("{address}", &server.address.ip().to_string())
        .replace("{port}", &server.address.port().to_string())
        .replace("{storage_port}", &shape.storage_port().to_string())
        .replace("{home}", &server.home.display().to_string())
}
