//! A configuration shaped like the server's, and everything that can be wrong with one.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Server {
    data_dir: String,
    services: Vec<String>,
    gateway: Gateway,
    chat: Chat,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Gateway {
    listen: SocketAddr,
    key: Secret,
    #[serde(with = "duration")]
    drain_delay: Duration,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chat {
    partitions: u16,
    sample_ratio: f64,
    push: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            services: vec!["chat".into()],
            gateway: Gateway { listen: ([127, 0, 0, 1], 7443).into(), key: Secret::default(), drain_delay: Duration::from_secs(5) },
            chat: Chat { partitions: 8, sample_ratio: 0.01, push: false },
        }
    }
}

impl Validate for Server {
    fn validate(&self, errors: &mut Vec<Problem>) {
        if self.data_dir.is_empty() {
            errors.push(Problem::new("data_dir", "must not be empty"));
        }
        validate_table("chat", &self.chat, errors);
    }
}

impl Validate for Chat {
    fn validate(&self, errors: &mut Vec<Problem>) {
        if !self.partitions.is_power_of_two() {
            errors.push(Problem::new("partitions", "must be a power of two"));
        }
    }
}

fn sources(file: Option<&str>, variables: &[(&str, &str)], flags: &[&str]) -> (Sources, Option<tempfile::TempDir>) {
    let dir = file.map(|text| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("plaza.toml"), text).unwrap();
        dir
    });
    let sources = Sources {
        file: dir.as_ref().map(|dir| dir.path().join("plaza.toml")),
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        reserved: &["PLAZA_TEST_EXTERNAL"],
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
    };
    (sources, dir)
}

fn loaded(file: Option<&str>, variables: &[(&str, &str)], flags: &[&str]) -> Server {
    load(&sources(file, variables, flags).0).unwrap()
}

/// What is wrong, as lines, the file's folder left out.
fn refused(file: Option<&str>, variables: &[(&str, &str)], flags: &[&str]) -> Vec<String> {
    let (sources, dir) = sources(file, variables, flags);
    let problems = load::<Server>(&sources).unwrap_err();
    let folder = dir.map(|dir| format!("{}/", dir.path().display())).unwrap_or_default();
    problems.0.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
}

#[test]
fn nothing_set_gives_the_defaults() {
    assert_eq!(loaded(None, &[], &[]), Server::default());
}

#[test]
fn flags_go_over_variables_over_the_file_over_the_defaults() {
    let file = "data_dir = 'file'\nservices = ['graph']\n[chat]\npartitions = 16\npush = true\n";
    let variables = [("PLAZA_CHAT__PARTITIONS", "32"), ("PLAZA_CHAT__SAMPLE_RATIO", "1"), ("PLAZA_TEST_EXTERNAL", "x"), ("PATH", "/bin")];
    let config = loaded(Some(file), &variables, &["chat.sample_ratio=0.5"]);
    assert_eq!((config.data_dir.as_str(), config.services), ("file", vec!["graph".to_owned()]));
    assert_eq!(config.chat, Chat { partitions: 32, sample_ratio: 0.5, push: true });
    assert_eq!(config.gateway, Server::default().gateway);
}

#[test]
fn text_needs_no_quotes_in_variables_and_flags() {
    let variables = [("PLAZA_DATA_DIR", "/srv/\"plaza\""), ("PLAZA_GATEWAY__LISTEN", "[::]:1"), ("PLAZA_GATEWAY__KEY", "12345")];
    let config = loaded(None, &variables, &["gateway.drain_delay = 250ms", "services=['a', 'b']"]);
    assert_eq!((config.data_dir.as_str(), config.gateway.key.expose()), ("/srv/\"plaza\"", "12345"));
    assert_eq!((config.gateway.listen.port(), config.gateway.drain_delay), (1, Duration::from_millis(250)));
    assert_eq!(config.services, ["a", "b"]);
    assert_eq!(loaded(None, &[], &["data_dir=\"quoted\""]).data_dir, "quoted");
}

#[test]
fn everything_wrong_is_reported_at_once_with_its_key_and_origin() {
    let file = "data_dir = 7\ndata_dri = 'x'\nchat = 5\n[gateway]\nlisten = 'here'\nport = 1\n";
    let variables = [("PLAZA_CHAT__PARTITIONS", "70000"), ("PLAZA_CHAT__PUSH", "perhaps"), ("PLAZA_CHAT", "1"), ("PLAZA_HOME", "/")];
    assert_eq!(
        refused(Some(file), &variables, &["gateway.drain_delay=10", "chat.partitions=3", "verbose"]),
        [
            "chat: must be a table (file plaza.toml)",
            "data_dri: unknown key (file plaza.toml)",
            "gateway.port: unknown key (file plaza.toml)",
            "chat: must be a table (variable PLAZA_CHAT)",
            "home: unknown key (variable PLAZA_HOME)",
            "verbose: is not of the form key=value (flag)",
            "data_dir: invalid type: integer `7`, expected a string (file plaza.toml)",
            "gateway.listen: invalid socket address syntax (file plaza.toml)",
            "chat.partitions: invalid value: integer `70000`, expected u16 (variable PLAZA_CHAT__PARTITIONS)",
            "chat.push: invalid type: string \"perhaps\", expected a boolean (variable PLAZA_CHAT__PUSH)",
            "gateway.drain_delay: must be a duration such as \"250ms\", \"10s\" or \"1h30m\" (flag)",
        ]
    );
}

#[test]
fn values_are_validated_with_their_origin_together_with_the_rest() {
    assert_eq!(
        refused(Some("data_dir = ''"), &[("PLAZA_CHAT__PARTITIONS", "3"), ("PLAZA_CHAT__PUSH", "1")], &[]),
        [
            "chat.push: invalid type: integer `1`, expected a boolean (variable PLAZA_CHAT__PUSH)",
            "data_dir: must not be empty (file plaza.toml)",
            "chat.partitions: must be a power of two (variable PLAZA_CHAT__PARTITIONS)",
        ]
    );
}

#[test]
fn a_missing_or_broken_file_is_refused_without_quoting_it() {
    let sources = Sources { file: Some("/nowhere/plaza.toml".into()), ..Sources::default() };
    let missing = load::<Server>(&sources).unwrap_err().to_string();
    assert!(missing.contains("cannot be read") && missing.contains("/nowhere/plaza.toml"), "{missing}");

    let broken = refused(Some("[gateway]\nkey = \"hunter2\n"), &[], &[]);
    assert!(broken[0].starts_with("line 2: ") && !broken[0].contains("hunter2"), "{broken:?}");
}

#[test]
fn a_secret_is_never_shown() {
    let mut config = loaded(None, &[("PLAZA_GATEWAY__KEY", "hunter2")], &[]);
    let printed = to_toml(&config).unwrap();
    assert!(printed.contains("key = \"***\"") && !printed.contains("hunter2"), "{printed}");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(refused(Some(&printed), &[], &[]), ["gateway.key: is a hidden secret, not the secret itself (file plaza.toml)"]);
    assert_eq!(refused(Some("gateway.key = 123456"), &[], &[]), ["gateway.key: must be text (file plaza.toml)"]);

    config.gateway.key = Secret::default();
    let printed = to_toml(&config).unwrap();
    assert_eq!(loaded(Some(&printed), &[], &[]), config);
}
