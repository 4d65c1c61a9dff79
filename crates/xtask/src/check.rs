//! The rules of the tree that the compiler does not know: who may depend on whom, what a `domain/` may name, how long a file may be, and
//! what the protocol files must say. Each finding names its file.

use std::{fs, path::Path};

use anyhow::{Context, bail};

/// Longest hand-written file, in lines.
const LONGEST: usize = 800;
/// What a `domain/` must never name: its decisions are functions of the log alone.
const IMPURE: [&str; 12] = [
    "tonic::",
    "scylla::",
    "rdkafka::",
    "tokio::",
    "lsm_tree::",
    "axum::",
    "rand::",
    "SystemTime",
    "Instant",
    "plaza_embedded_db",
    "plaza_scylla_kit",
    "plaza_runtime",
];
/// Tests that sleep and wait for nothing: the simulation, whose time is its own, and the crash tests, which kill at random moments.
const SLEEPERS: [&str; 2] = ["/tests/sim/", "services/server/tests/crash.rs"];
/// Where one crate may not look: (whose manifest, what it must not name, why).
const EDGES: [(&str, &[&str], &str); 12] = [
    (
        "services/accounts",
        &["plaza-graph", "plaza-chat", "plaza-moments", "plaza-gateway", "plaza-client"],
        "services never depend on each other",
    ),
    (
        "services/graph",
        &["plaza-accounts", "plaza-chat", "plaza-moments", "plaza-gateway", "plaza-client"],
        "services never depend on each other",
    ),
    (
        "services/chat",
        &["plaza-accounts", "plaza-graph", "plaza-moments", "plaza-gateway", "plaza-client"],
        "services never depend on each other",
    ),
    (
        "services/moments",
        &["plaza-accounts", "plaza-graph", "plaza-chat", "plaza-gateway", "plaza-client"],
        "services never depend on each other",
    ),
    (
        "services/gateway",
        &["plaza-accounts", "plaza-graph", "plaza-chat", "plaza-moments", "plaza-client"],
        "services never depend on each other",
    ),
    ("crates/processor", &["plaza-topics", "plaza-proto", "plaza-rpc"], "the processor knows nothing of what machines do"),
    (
        "crates/scylla-kit",
        &["plaza-topics", "plaza-proto", "plaza-rpc", "plaza-processor", "plaza-event-log", "plaza-embedded-db"],
        "the kit knows nothing of what tables hold",
    ),
    ("crates/event-log", &["plaza-topics", "plaza-processor", "plaza-proto"], "the log knows nothing of what records mean"),
    ("crates/event-log-kafka", &["plaza-topics", "plaza-processor", "plaza-proto"], "the log knows nothing of what records mean"),
    ("crates/client", &["plaza-rpc", "plaza-event-log", "plaza-embedded-db", "plaza-processor"], "the client speaks only the public API"),
    (
        "crates/checker",
        &["plaza-client", "plaza-embedded-db", "plaza-processor", "plaza-runtime", "tokio"],
        "the checker judges histories and knows nothing of how they came about",
    ),
    (
        "load-tests",
        &[
            "plaza",
            "plaza-accounts",
            "plaza-graph",
            "plaza-chat",
            "plaza-moments",
            "plaza-gateway",
            "plaza-rpc",
            "plaza-runtime",
            "plaza-topics",
            "plaza-event-log",
            "plaza-embedded-db",
            "plaza-processor",
            "plaza-testkit",
        ],
        "the load tests speak only the public API",
    ),
];

pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut findings = Vec::new();
    let mut files = Vec::new();
    for folder in ["crates", "services", "load-tests", "proto", "docs", ".ci"] {
        collect(&root.join(folder), &mut files)?;
    }
    for file in &files {
        let shown = file.strip_prefix(root).unwrap_or(file).display().to_string();
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if !matches!(extension, "rs" | "proto") {
            continue;
        }
        let text = fs::read_to_string(file).with_context(|| shown.clone())?;
        match extension {
            "rs" => rust(&shown, &text, &mut findings),
            _ => protocol(&shown, &text, &mut findings),
        }
    }
    edges(root, &mut findings)?;
    if findings.is_empty() {
        println!("check: {} files, nothing found", files.len());
        return Ok(());
    }
    findings.iter().for_each(|finding| println!("{finding}"));
    bail!("{} findings", findings.len())
}

fn rust(shown: &str, text: &str, findings: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > LONGEST {
        findings.push(format!("{shown}: {lines} lines, more than {LONGEST}"));
    }
    if !text.starts_with("//!") {
        findings.push(format!("{shown}: no module paragraph at its start"));
    }
    let domain = shown.contains("/src/domain/") || shown.ends_with("/src/domain.rs");
    if domain {
        let tested = text.find("#[cfg(test)]").unwrap_or(text.len());
        for name in IMPURE.iter().filter(|name| text[..tested].contains(*name)) {
            findings.push(format!("{shown}: a domain names {name}"));
        }
    }
    let may_sleep = SLEEPERS.iter().any(|sleeper| shown.contains(sleeper));
    if shown.contains("/tests/") && !may_sleep && text.contains("sleep(") && !text.contains("start_paused") {
        findings.push(format!("{shown}: a test that sleeps"));
    }
}

fn protocol(shown: &str, text: &str, findings: &mut Vec<String>) {
    let package = text.lines().find_map(|line| line.strip_prefix("package ")?.strip_suffix(';'));
    let is_public = shown.starts_with("proto/");
    // The public protocol is in `proto/`; a product of its own may have one in its own `proto/`.
    let inside = shown.split_once("/proto/").map_or(shown.trim_start_matches("proto/"), |(_, inside)| inside);
    let folder = Path::new(inside).parent().map(|folder| folder.to_string_lossy().replace('/', "."));
    if package != folder.as_deref() {
        findings.push(format!("{shown}: package {package:?} in folder {folder:?}"));
    }
    let (methods, policies) = (text.matches("  rpc ").count(), text.matches("(plaza.options.v1.policy) = ").count());
    if is_public && methods != policies {
        findings.push(format!("{shown}: {methods} methods, {policies} policies"));
    }
}

fn edges(root: &Path, findings: &mut Vec<String>) -> anyhow::Result<()> {
    for (folder, banned, why) in EDGES {
        let text = fs::read_to_string(root.join(folder).join("Cargo.toml")).with_context(|| folder.to_owned())?;
        let manifest: toml::Table = text.parse().with_context(|| folder.to_owned())?;
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        for name in dependencies.into_iter().flat_map(toml::Table::keys).filter(|name| banned.contains(&name.as_str())) {
            findings.push(format!("{folder}/Cargo.toml: depends on {name}: {why}"));
        }
    }
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> anyhow::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(shown: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        if shown.ends_with(".rs") {
            rust(shown, text, &mut findings)
        } else {
            protocol(shown, text, &mut findings)
        }
        findings
    }

    #[test]
    fn finds_what_it_is_for() {
        assert_eq!(found("services/x/src/api.rs", "//! Doc.\nuse tokio::sync;"), [""; 0]);
        assert_eq!(found("services/x/src/domain/rules.rs", "//! Doc.\nuse tokio::sync;").len(), 1);
        assert_eq!(found("crates/x/src/a.rs", "fn main() {}").len(), 1);
        assert_eq!(found("crates/x/src/a.rs", &"//! Doc.\n".repeat(801)).len(), 1);
        assert_eq!(found("proto/plaza/x/v1/x.proto", "package plaza.x.v1;\n  rpc A(B) returns (C) {}").len(), 1);
        assert_eq!(found("proto/plaza/y/v1/x.proto", "package plaza.x.v1;").len(), 1);
        assert_eq!(found("load-tests/proto/plaza/x/v1/x.proto", "package plaza.x.v1;\n  rpc A(B) returns (C) {}"), [""; 0]);
        assert_eq!(found("load-tests/proto/plaza/y/v1/x.proto", "package plaza.x.v1;").len(), 1);
    }
}
