//! Kafka's brokers, each a controller too.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use super::{layout::Shape, server::Server, tools::Tools};

/// Who clients of the listener with authentication are. Nothing is protected by it.
pub(super) const USER: &str = "plaza";
pub(super) const PASSWORD: &str = "open-sesame";
const PROPERTIES: &str = include_str!("../../cluster/kafka.properties");
/// Every cluster of ours may have the same: they never share a port.
const CLUSTER: &str = "cGxhemEgdGVzdCBrYWZrYQ";

/// The command that runs a broker; its folder is made and formatted if need be.
///
/// # Errors
/// The folder cannot be written, or formatting fails.
pub(super) fn command(server: &Server, shape: &Shape, jars: &Path, tools: &Tools) -> anyhow::Result<Command> {
    fs::create_dir_all(&server.home)?;
    let file = server.home.join("server.properties");
    fs::write(&file, properties(server, shape))?;
    if !server.home.join("data/meta.properties").exists() {
        let output = java(jars, tools)
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER, "--config"])
            .arg(&file)
            .args(["--add-scram", &format!("SCRAM-SHA-256=[name={USER},password={PASSWORD}]")])
            .stdin(Stdio::null())
            .output()
            .context("starting java")?;
        if !output.status.success() {
            bail!("formatting the folder of {} failed: {}", server.name(), String::from_utf8_lossy(&output.stderr));
        }
    }
    let mut command = java(jars, tools);
    command.args(["-Dlog4j2.level=WARN", "kafka.Kafka"]).arg(file);
    Ok(command)
}

fn java(jars: &Path, tools: &Tools) -> Command {
    let mut command = tools.java();
    command.args(["-Xms192m", "-Xmx448m", "-XX:MaxDirectMemorySize=128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.args(["-XX:+ExitOnOutOfMemoryError", "-cp"]).arg(jars.join("*"));
    command
}

fn properties(server: &Server, shape: &Shape) -> String {
    let brokers = shape.brokers.unwrap_or(1);
    let voters: Vec<_> = (1..=brokers).map(|number| format!("{number}@127.0.0.1:{}", shape.controller_port(number))).collect();
    let (replicas, in_sync) = if brokers < 3 { (1, 1) } else { (3, 2) };
    PROPERTIES
        .replace("{number}", &server.number.to_string())
        .replace("{voters}", &voters.join(","))
        .replace("{port}", &server.address.port().to_string())
        .replace("{gated_port}", &shape.gated_port(server.number).to_string())
        .replace("{sasl_port}", &shape.sasl_port(server.number).to_string())
        .replace("{user}", USER)
        .replace("{password}", PASSWORD)
        .replace("{gate_port}", &shape.gate_port(server.number).to_string())
        .replace("{controller_port}", &shape.controller_port(server.number).to_string())
        .replace("{home}", &server.home.display().to_string())
        .replace("{replicas}", &replicas.to_string())
        .replace("{in_sync}", &in_sync.to_string())
}
