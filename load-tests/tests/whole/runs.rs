//! Short runs of scenarios.

use anyhow::{Context, ensure};
use plaza_load::{
    coordinator::{self, generator::Own},
    operation::Measure,
    peers,
    population::prepare::prepare,
    report::Report,
    run::{Options, Stop, run},
    scenario::{Kind, Peers},
};

use crate::server::Server;

/// A generator with this name.
pub(crate) fn own(name: &str, folder: &std::path::Path) -> Own {
    Own {
        name: name.into(),
        owned: false,
        folder: folder.into(),
        pids: Vec::new(),
        metrics: Vec::new(),
        shown: false,
        followed: Default::default(),
    }
}

async fn reported(options: &Options) -> anyhow::Result<Report> {
    let outcome = run(options, &Stop::default()).await?;
    Ok(Report::new(options, &outcome))
}

/// The CPU that the generator uses is the server's as well here: of the doubts that is no sign.
fn assert_good(report: &Report) {
    assert!(report.problems.is_empty(), "{}", report.summary());
    assert!(report.failures.is_empty(), "{}", report.summary());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_seconds_of_chat_are_delivered_and_checked() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let options = server.options("chat", |scenario| {
        scenario.seconds = 3.0;
        scenario.rate = 150.0;
        scenario.population.people = 30;
    })?;
    let first = reported(&options).await?;
    assert_good(&first);
    let checked = first.checked.as_ref().context("nothing was checked")?;
    ensure!(checked.acknowledged > 150 && checked.unknown == 0, "{checked:?}");
    ensure!(checked.conversations > 10 && checked.entries > 2 * checked.acknowledged, "{checked:?}");
    for measure in [Measure::AckDirect, Measure::DeliverDirect, Measure::DeliverGroup, Measure::Sync, Measure::MarkRead] {
        ensure!(first.row(measure, Kind::Steady).is_some_and(|row| row.count > 0 && row.p50 > 0.0), "{measure:?}: {}", first.summary());
    }
    ensure!(first.prepared[0].0 == 30, "{:?}", first.prepared);

    // The same people again: nothing is made anew, and what the first run left is not taken for this one's.
    let second = reported(&options).await?;
    assert_good(&second);
    ensure!(second.prepared.iter().all(|(made, _)| *made == 0), "{:?}", second.prepared);

    let page = second.write(&server.folder.path().join("out"))?;
    let text = std::fs::read_to_string(&page)?;
    ensure!(text.contains("<svg") && text.contains("send direct: delivery") && text.contains("0 violations"), "{text}");
    ensure!(!text.contains("src=") && !text.contains("href="), "the page fetches something");
    ensure!(Report::read(&page.with_extension("json"))?.summary() == second.summary(), "the report read back is another");
    server.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_with_moments_is_judged_by_who_may_see_what() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let options = server.options("day", |scenario| {
        scenario.seconds = 4.0;
        scenario.rate = 200.0;
        scenario.population.people = 40;
        let mix = &mut scenario.mix;
        mix.insert(plaza_load::operation::Operation::Post, 0.1);
        mix.insert(plaza_load::operation::Operation::Like, 0.1);
        mix.insert(plaza_load::operation::Operation::Comment, 0.1);
    })?;
    let report = reported(&options).await?;
    assert_good(&report);
    let checked = report.checked.as_ref().context("nothing was checked")?;
    ensure!(checked.viewers >= 40 && checked.judgements > 40, "{checked:?}");
    for measure in [Measure::Post, Measure::PostArrives, Measure::Like, Measure::Comment, Measure::Timeline] {
        ensure!(report.rows.iter().any(|row| row.measure == measure && row.count > 0), "{measure:?}: {}", report.summary());
    }
    server.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_comes_back_from_a_storm_and_nothing_is_lost() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let options = server.options("storm", |scenario| {
        scenario.seconds = 4.0;
        scenario.rate = 150.0;
        scenario.population.people = 40;
    })?;
    let report = reported(&options).await?;
    assert!(report.problems.is_empty(), "{}", report.summary());
    // A heartbeat that is due while its stream is cut has none to go on.
    ensure!(report.failures.iter().all(|failure| failure.reason == "no stream"), "{}", report.summary());
    let back: u64 = report.rows.iter().filter(|row| row.measure == Measure::Reconnect).map(|row| row.count).sum();
    // 17 % and then all of 40.
    ensure!(back == 47, "{back}: {}", report.summary());
    server.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_generators_share_one_run_and_one_report() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let options = server.options("chat", |scenario| {
        scenario.seconds = 3.0;
        scenario.rate = 160.0;
        scenario.population.people = 40;
    })?;
    let stop = Stop::default();
    let (bound, address) = tokio::sync::oneshot::channel();
    let coordinating = coordinator::coordinate(&options, "127.0.0.1:0".parse()?, 2, &stop, |address| _ = bound.send(address));
    let folder = server.folder.path();
    let generating = async {
        let coordinator = format!("http://{}", address.await?);
        let stops = [Stop::default(), Stop::default()];
        let (one, two) = (own("one", folder), own("two", folder));
        let one = coordinator::generator::generate(&coordinator, &one, &stops[0]);
        let two = coordinator::generator::generate(&coordinator, &two, &stops[1]);
        tokio::try_join!(one, two)
    };
    let (report, (one, two)) = tokio::try_join!(coordinating, generating)?;
    assert_good(&report);
    let count = |report: &Report| report.row(Measure::AckDirect, Kind::Steady).map_or(0, |row| row.count);
    ensure!(count(&one) > 50 && count(&two) > 50 && count(&report) == count(&one) + count(&two), "{}", report.summary());
    let checked = report.checked.as_ref().context("nothing was checked")?;
    ensure!(report.streams == 40 && checked.acknowledged > 200 && checked.violations == 0, "{}", report.summary());
    server.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_only_held_tell_what_they_cost_the_server() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut options = server.options("idle", |scenario| {
        scenario.seconds = 1.5;
        scenario.population.people = 20;
    })?;
    options.server_pids = vec![std::process::id()];
    let report = reported(&options).await?;
    assert_good(&report);
    ensure!(report.streams == 20 && report.server_stream_kib.is_some() && report.rows.is_empty(), "{}", report.summary());
    ensure!(report.processes.len() == 2, "{:?}", report.processes.keys());
    server.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_exchanges_its_messages_one_at_a_time() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let options = server.options("peers", |scenario| {
        scenario.population.people = 6;
        scenario.population.hub_friends = 3;
        scenario.population.full_groups = 0;
    })?;
    let stop = Stop::default();
    let ready = prepare(&options.target, &options.scenario.population, &options.population, false, &stop.asked).await?;
    let report = Report::of_peers(&options, &ready, peers::run(&options, &ready, &[Peers::A], &stop).await?);
    ensure!(
        report.verdict() == "good" && report.peers.len() == 4 && report.peers.values().all(|value| *value > 0.0),
        "{}",
        report.summary()
    );
    server.stop().await;
    Ok(())
}
