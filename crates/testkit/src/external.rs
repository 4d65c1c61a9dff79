//! Real servers that tests run against where there are some. Without them a test says that it is skipped; with `PLAZA_TEST_EXTERNAL=require` it
//! fails instead, so that a run that must have them cannot pass without.

use std::env;

const REQUIRE: &str = "PLAZA_TEST_EXTERNAL";

/// The addresses of Kafka brokers, from `PLAZA_TEST_KAFKA`; `None` is a printed skip.
///
/// # Panics
/// There are none, and they are required.
pub fn kafka() -> Option<String> {
    address("PLAZA_TEST_KAFKA")
}

/// A Kafka broker that asks who its clients are, from `PLAZA_TEST_KAFKA_SASL`: user, password and address; `None` is a printed skip.
///
/// # Panics
/// There is none, and it is required; or the variable is not `user:password@address`.
pub fn kafka_with_password() -> Option<[String; 3]> {
    let given = address("PLAZA_TEST_KAFKA_SASL")?;
    let (who, address) = given.split_once('@').expect("user:password@address");
    let (user, password) = who.split_once(':').expect("user:password@address");
    Some([user, password, address].map(str::to_owned))
}

/// The addresses of CQL nodes, from `PLAZA_TEST_CQL`; `None` is a printed skip. Tests are `cassandra` there, with that password.
///
/// # Panics
/// There are none, and they are required.
pub fn cql() -> Option<String> {
    address("PLAZA_TEST_CQL")
}

fn address(variable: &str) -> Option<String> {
    let address = env::var(variable).ok().filter(|address| !address.is_empty());
    if address.is_none() {
        let required = env::var(REQUIRE).is_ok_and(|value| value == "require");
        assert!(!required, "{variable} is not set, and {REQUIRE}=require");
        println!("skipped: {variable} is not set");
    }
    address
}
