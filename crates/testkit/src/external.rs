//! The servers that some tests need and nobody starts for them.

/// The address of a node of ScyllaDB or Cassandra. `None`, said in one line, skips the test.
///
/// # Panics
/// There is none although `PLAZA_TEST_EXTERNAL=require` says there must be.
#[must_use]
pub fn cql() -> Option<String> {
    address("PLAZA_TEST_CQL")
}

fn address(variable: &str) -> Option<String> {
    let address = std::env::var(variable).ok().filter(|address| !address.is_empty());
    if address.is_none() {
        let required = std::env::var("PLAZA_TEST_EXTERNAL").is_ok_and(|required| required == "require");
        assert!(!required, "{variable} is not set");
        println!("skipped: {variable} is not set");
    }
    address
}
