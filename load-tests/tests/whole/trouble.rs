//! Runs that come to no good end: what was measured until then is reported, and the report says what happened.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use plaza_load::{
    coordinator,
    operation::Operation,
    peers,
    population::prepare::prepare,
    report::Report,
    run::{Options, Stop, progress::Standing, run},
    scenario::Peers,
};
use tokio::sync::watch;

use crate::{runs::own, server::Server};

/// Much shorter than what a run, its drain or its check may take.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A chat of a few people for so long.
fn chat(server: &Server, seconds: f64) -> anyhow::Result<Options> {
    server.options("chat", |scenario| {
        scenario.seconds = seconds;
        scenario.rate = 150.0;
        scenario.population.people = 10;
        scenario.mix.remove(&Operation::SendGroup);
    })
}

/// Until the run is in this stage, with these words.
async fn until(followed: &watch::Sender<Standing>, stage: &str, words: &str) -> anyhow::Result<()> {
    let mut followed = followed.subscribe();
    let there = followed.wait_for(|standing| standing.stage == stage && standing.line.contains(words));
    tokio::time::timeout(Duration::from_secs(60), there).await.with_context(|| format!("it is never {stage}"))??;
    Ok(())
}

/// The report as it is in its files.
fn written(server: &Server, report: &Report) -> anyhow::Result<(Report, String)> {
    let page = report.write(&server.folder.path().join("out"))?;
    Ok((Report::read(&page.with_extension("json"))?, std::fs::read_to_string(&page)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_run_at_once_and_is_reported() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let options = chat(&server, 600.0)?;
    let stop = Stop::default();
    let stopping = async {
        until(&options.followed, "running", "offered").await?;
        // What is sent from here on has no answer, so a run that did not stop would wait for it as long as it waits for anything.
        server.close().await;
        until(&options.followed, "running", "streams 0 ").await?;
        stop.stop();
        anyhow::Ok(Instant::now())
    };
    let (outcome, stopped) = tokio::try_join!(run(&options, &stop), stopping)?;
    let took = stopped.elapsed();
    let (report, page) = written(&server, &Report::new(&options, &outcome))?;
    ensure!(took < AT_ONCE, "{took:?}");
    ensure!(report.generator.unanswered > 0 && !report.rows.is_empty(), "nothing was open: {}", report.summary());
    ensure!(report.stopped && report.verdict() == "not valid" && page.contains("nothing was checked"), "{}", report.summary());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_check_loses_the_check_and_nothing_else() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let options = chat(&server, 2.0)?;
    let stop = Stop::default();
    let stopping = async {
        until(&options.followed, "checking", "").await?;
        stop.stop();
        anyhow::Ok(Instant::now())
    };
    let (outcome, stopped) = tokio::try_join!(run(&options, &stop), stopping)?;
    ensure!(stopped.elapsed() < AT_ONCE);
    let (report, page) = written(&server, &Report::new(&options, &outcome))?;
    ensure!(report.stopped && report.verdict() == "not valid", "{}", report.summary());
    ensure!(report.checked.as_ref().is_some_and(|checked| !checked.complete) && !report.rows.is_empty(), "{}", report.summary());
    ensure!(page.contains("not everything was checked"), "{page}");
    server.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_is_a_problem_in_the_report() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let options = chat(&server, 4.0)?;
    let closing = async {
        until(&options.followed, "running", "offered").await?;
        server.close().await;
        anyhow::Ok(())
    };
    let stop = Stop::default();
    let (outcome, ()) = tokio::try_join!(run(&options, &stop), closing)?;
    let (report, page) = written(&server, &Report::new(&options, &outcome))?;
    ensure!(report.verdict() == "failed" && !report.stopped && !report.rows.is_empty(), "{}", report.summary());
    ensure!(report.problems.iter().any(|problem| problem.starts_with("checking what was sent: ")), "{}", report.summary());
    ensure!(report.problems.iter().any(|problem| problem.contains("failed, or had no answer")), "{}", report.summary());
    ensure!(page.contains("Verdict: failed") && page.contains("checking what was sent"), "{page}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tests_of_other_messengers_stop_at_once_and_keep_what_ended() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let options = server.options("peers", |scenario| {
        scenario.population.people = 6;
        scenario.population.hub_friends = 3;
        scenario.population.full_groups = 0;
    })?;
    let ready = prepare(&options.target, &options.scenario.population, &options.population, false, &Stop::default().asked).await?;
    // In a test, and in the rest after one.
    for (tests, line, figures) in [(&[Peers::A][..], "A", 0), (&[Peers::A, Peers::A], "rest", 4)] {
        let stop = Stop::default();
        let stopping = async {
            until(&options.followed, "tests", line).await?;
            stop.stop();
            anyhow::Ok(Instant::now())
        };
        options.followed.send_replace(Default::default());
        let (tested, stopped) = tokio::try_join!(peers::run(&options, &ready, tests, &stop), stopping)?;
        ensure!(stopped.elapsed() < AT_ONCE);
        let (report, page) = written(&server, &Report::of_peers(&options, &ready, tested))?;
        ensure!(report.peers.len() == figures && report.stopped && report.verdict() == "not valid", "{line}: {}", report.summary());
        ensure!(page.contains("stopped before its end"), "{page}");
    }
    server.close().await;
    let (report, page) =
        written(&server, &Report::of_peers(&options, &ready, peers::run(&options, &ready, &[Peers::A], &Stop::default()).await?))?;
    ensure!(report.verdict() == "failed" && page.contains("test A: "), "{}", report.summary());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_part_of_one_generator_is_reported_when_the_other_is_lost() -> anyhow::Result<()> {
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
        let lost = async {
            tokio::select! {
                done = coordinator::generator::generate(&coordinator, &two, &stops[1]) => done.map(drop).context("it was to be lost"),
                there = until(&two.followed, "running", "offered") => there,
            }
        };
        let (one, lost) = tokio::join!(one, lost);
        lost?;
        one
    };
    let (report, one) = tokio::try_join!(coordinating, generating)?;
    let (report, page) = written(&server, &report)?;
    ensure!(report.verdict() == "failed" && report.problems.iter().any(|problem| problem.contains("lost: two: ")), "{}", report.summary());
    ensure!(report.generator.started == one.generator.started && one.generator.started > 50, "{}", report.summary());
    let checked = report.checked.as_ref().context("nothing was checked")?;
    ensure!(!checked.complete && checked.acknowledged > 0 && page.contains("lost: two: "), "{}", report.summary());
    server.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_to_whom_nobody_came_leaves_at_once() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let options = server.options("chat", |_| ())?;
    let stop = Stop::default();
    let coordinating = coordinator::coordinate(&options, "127.0.0.1:0".parse()?, 2, &stop, |_| stop.stop());
    let error = tokio::time::timeout(AT_ONCE, coordinating).await?.expect_err("there is no report").to_string();
    ensure!(error.contains("before a generator joined"), "{error}");
    server.stop().await;
    Ok(())
}
