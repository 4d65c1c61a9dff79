//! Invariant 7: nobody sees what the product's rules for Moments forbid, and everybody sees what they allow. The rules are written a second
//! time in `visibility/model.rs`, and compared with the running services over 10,000 random histories.
//!
//! A failure prints a short history and its seed. `PLAZA_VISIBILITY_SEED=7 cargo test -p plaza --test visibility everybody` replays one seed
//! or several with commas between, `PLAZA_VISIBILITY_SEEDS=0..50000` runs another range. Seeds that ever failed are in
//! `visibility/regressions.txt` and always run. That the checks find what they must is in `visibility/mistakes.rs`.

#[path = "visibility/cases.rs"]
mod cases;
#[path = "visibility/check.rs"]
mod check;
#[path = "visibility/fake.rs"]
mod fake;
#[path = "visibility/history.rs"]
mod history;
#[path = "visibility/metamorphic.rs"]
mod metamorphic;
#[path = "visibility/mistakes.rs"]
mod mistakes;
#[path = "visibility/model.rs"]
mod model;
#[path = "visibility/rules.rs"]
mod rules;
#[path = "visibility/run.rs"]
mod run;
#[path = "visibility/services.rs"]
mod services;
#[path = "visibility/step.rs"]
mod step;
#[path = "visibility/system.rs"]
mod system;
#[path = "visibility/world.rs"]
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use history::{BATCH, History};
use services::Services;

/// Seeds of the histories that always run, beside those that ever failed.
const SEEDS: Range<u64> = 0..10_000;
const REGRESSIONS: &str = include_str!("visibility/regressions.txt");

fn seeds() -> Vec<u64> {
    let number = |text: &str| text.trim().parse().expect("a seed");
    if let Ok(seeds) = std::env::var("PLAZA_VISIBILITY_SEED") {
        return seeds.split(',').map(number).collect();
    }
    let range = std::env::var("PLAZA_VISIBILITY_SEEDS").ok().map(|range| {
        let (from, to) = range.split_once("..").expect("a range");
        number(from)..number(to)
    });
    let kept = REGRESSIONS.lines().filter(|line| !line.starts_with('#')).map(number);
    kept.chain(range.unwrap_or(SEEDS)).collect::<BTreeSet<_>>().into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_sees_what_the_model_says() {
    let services = Services::start().await.unwrap();
    let mut batches: BTreeMap<u64, Vec<History>> = BTreeMap::new();
    for seed in seeds() {
        batches.entry(seed / BATCH).or_default().push(History::of(seed));
    }
    for histories in batches.into_values() {
        let failures = run::together(&services, histories).await.unwrap();
        if let Some(failure) = failures.into_iter().min_by_key(|(history, _)| history.steps.len()) {
            let (short, difference) = run::shortest(&services, failure).await;
            panic!("{short}\n{difference}\nreplay: PLAZA_VISIBILITY_SEED={} cargo test -p plaza --test visibility everybody", short.seed);
        }
    }
}
