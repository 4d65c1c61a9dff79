//! A node that asks who its clients are: whoever says the wrong thing is told so at once, and the password is never said again.

use std::{path::PathBuf, time::Duration};

use plaza_runtime::config::Secret;
use plaza_scylla_kit::{
    Config, Error, Session, check,
    testing::{Lease, lease},
};
use tokio::time::timeout;

const SAID: &str = "hunter2";
/// Far below what is waited for servers that do not answer.
const AT_ONCE: Duration = Duration::from_secs(10);

async fn refusal(config: Config) -> String {
    let connected = timeout(AT_ONCE, Session::connect(&config)).await.expect("an answer at once");
    match connected.err() {
        Some(Error::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_who_says_the_password_is_let_in_and_it_is_never_told() {
    let Some(node) = plaza_testkit::external::cql() else { return };
    let Lease { config, .. } = &lease(&node, &[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let said = |password: &str| Config { password: Secret::new(password), ..config.clone() };
    let from = |password_file: PathBuf| Config { password: Secret::default(), password_file, ..config.clone() };

    let right = from(file("right", &format!("{}\nmore\n", config.password.expose())));
    for right in [config.clone(), right] {
        let session = Session::connect(&right).await.expect("let in");
        check(&session, &[]).await.expect("asked");
    }
    let nobody = Config { user: String::new(), ..config.clone() };
    let somebody = Config { user: "somebody".to_owned(), ..said(SAID) };
    for wrong in [said(SAID), from(file("wrong", SAID)), said(""), nobody, somebody] {
        let why = refusal(wrong).await;
        assert!(why.contains("cql.user") && !why.contains(SAID), "{why}");
    }
    let why = refusal(from(folder.path().join("none"))).await;
    assert!(why.contains("none"), "{why}");
}
