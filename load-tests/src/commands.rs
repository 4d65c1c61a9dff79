//! The commands.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use plaza_load::{
    bare::{self, Load},
    calibrate,
    capacity::{document, model::Model},
    coordinator::{self, generator::Own, parts::parts},
    floor, peers,
    population::{
        degree::Degrees,
        prepare::{self, Pace, Ready},
    },
    ramp::{self, Objective},
    report::{Report, compare},
    run::{self, Options, Stop},
    scenario::Scenario,
    target::Target,
};

use crate::{Calibrate, Capacity, Coordinate, Floor, Generate, Prepare, Ramp, Run, Servers};

impl Run {
    /// Everything of it, checked.
    fn options(&self) -> anyhow::Result<Options> {
        let target = Target::new(&self.target, self.i_own_this_target)?;
        let scenario = scenario(&self.scenario, |scenario| {
            scenario.rate = self.rate.unwrap_or(scenario.rate);
            scenario.seconds = self.duration.map_or(scenario.seconds, |duration| duration.as_secs_f64());
            scenario.population.people = self.people.unwrap_or(scenario.population.people);
            scenario.failed_most = self.failed_most.unwrap_or(scenario.failed_most);
        })?;
        let name = PathBuf::from(&self.scenario).file_stem().map_or_else(|| "own".into(), |name| name.to_string_lossy().into_owned());
        let port = target.socket.port();
        let population =
            self.population.clone().unwrap_or_else(|| self.out.join(format!("{name}-{port}-{}.people.json", scenario.population.people)));
        Ok(Options {
            target,
            name,
            scenario,
            population,
            seed: self.seed,
            call_connections: self.call_connections,
            server_pids: self.server_pid.clone(),
            metrics: targets(&self.metrics, self.i_own_this_target)?,
            shown: !self.quiet,
            followed: Default::default(),
            check: !self.no_check,
        })
    }
}

/// The scenario with what the caller says of it, checked.
fn scenario(name: &str, change: impl FnOnce(&mut Scenario)) -> anyhow::Result<Scenario> {
    let mut scenario = Scenario::load(name)?;
    change(&mut scenario);
    let problems = scenario.problems();
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(scenario)
}

impl Servers {
    /// On this machine, unless the caller owns them.
    fn given(&self, owned: bool) -> anyhow::Result<floor::Servers> {
        for address in self.kafka.split(',').chain(self.cql.split(',')).filter(|address| !address.is_empty()) {
            Target::new(&format!("http://{address}"), owned)?;
        }
        Ok(floor::Servers { kafka: self.kafka.clone(), cql: self.cql.clone() })
    }
}

fn targets(addresses: &[String], owned: bool) -> anyhow::Result<Vec<Target>> {
    addresses.iter().map(|address| Target::new(address, owned)).collect()
}

/// The floors under the load of the scenario.
async fn floors(run: &Run, options: &Options, stop: &Stop) -> anyhow::Result<BTreeMap<String, f64>> {
    let load = Load { call_connections: options.call_connections, ..Load::like(&options.scenario) };
    let servers = run.servers.given(run.i_own_this_target)?;
    floor::floors(&load, &run.out, &servers, stop).await
}

/// `run`.
pub(crate) async fn run(run: &Run, stop: &Stop) -> anyhow::Result<ExitCode> {
    let options = run.options()?;
    let floors = if run.floors { floors(run, &options, stop).await? } else { BTreeMap::new() };
    if !options.scenario.peers.is_empty() {
        run::raise_limits();
        let ready = prepared(&options, stop).await?;
        let tested = peers::run(&options, &ready, &options.scenario.peers, stop).await?;
        return finished(&Report { floors, ..Report::of_peers(&options, &ready, tested) }, &run.out);
    }
    let outcome = run::run(&options, stop).await?;
    let code = finished(&Report { floors, ..Report::new(&options, &outcome) }, &run.out)?;
    keep_history(run, &outcome)?;
    Ok(code)
}

/// A history with a violation is kept whole: what the report shows of it may not be enough.
fn keep_history(run: &Run, outcome: &run::Outcome) -> anyhow::Result<()> {
    if let Some(verified) = outcome.verified.as_ref().filter(|verified| !verified.violations.is_empty()) {
        let path = run.out.join(format!("history-{}.json", outcome.began));
        std::fs::write(&path, serde_json::to_vec(&verified.history)?).with_context(|| path.display().to_string())?;
        println!("the whole history: {}", path.display());
    }
    Ok(())
}

async fn prepared(options: &Options, stop: &Stop) -> anyhow::Result<Ready> {
    prepare::prepare(&options.target, &options.scenario.population, &options.population, options.shown, &stop.asked).await
}

/// `prepare`.
pub(crate) async fn prepare(prepare: &Prepare, stop: &Stop) -> anyhow::Result<ExitCode> {
    let options = prepare.run.options()?;
    let pace = if prepare.one_at_a_time { Pace::ONE } else { Pace::MANY };
    let (population, file) = (&options.scenario.population, &options.population);
    let ready = prepare::prepare_at(pace, &options.target, population, file, options.shown, &stop.asked).await?;
    for (what, (made, seconds)) in ["people", "friendships", "groups"].iter().zip(ready.took) {
        println!("{what}: {made} made in {seconds:.1} s, {:.0}/s", made as f64 / seconds.max(1e-3));
    }
    let Degrees { mean, median } = ready.plan.degrees();
    println!("{} people, {} friendships, {} groups", ready.people.len(), ready.plan.friendships.len(), ready.groups.len());
    println!("{mean:.0} friends in the mean, {median} in the middle");
    if let Some(doubt) = ready.plan.doubt() {
        println!("{doubt}");
    }
    println!("noted in {}", options.population.display());
    Ok(ExitCode::SUCCESS)
}

/// `ramp`.
pub(crate) async fn ramp(ramp: &Ramp, stop: &Stop) -> anyhow::Result<ExitCode> {
    let options = ramp.run.options()?;
    let objective = Objective { ack_p99: ramp.ack_p99, delivery_p99: ramp.delivery_p99 };
    let told = |step: &ramp::Step| {
        let verdict = if step.missed.is_empty() { "met".to_owned() } else { step.missed.join("; ") };
        println!("{:>9.0}/s: {verdict}", step.rate);
    };
    let program = std::env::current_exe()?;
    let run = async |options: &Options| {
        if !ramp.bare {
            return Ok(Report::new(options, &run::run(options, stop).await?));
        }
        // A new one each time: one that had too much does not come back from it soon.
        let server = floor::Server::start(&program, &ramp.run.out).await?;
        let Options { scenario, call_connections, .. } = options;
        let load = Load { seconds: scenario.seconds, call_connections: *call_connections, ..Load::like(scenario) };
        bare::run(&server, &load, stop).await
    };
    let ramped = ramp::ramp(&options, (objective, ramp.most), stop, run, told).await?;
    let mut report = ramped.report();
    if ramp.run.floors && !report.stopped {
        // Those under the rate that was found. The floor may not bear it, and the ramp is not to be made again for that.
        match floors(&ramp.run, &Options { scenario: report.scenario.clone(), ..options }, stop).await {
            Ok(floors) => report.floors = floors,
            Err(error) => report.doubts.push(format!("the floors are not measured: {error:#}")),
        }
    }
    if let Some(best) = ramp::best(&ramped.steps) {
        println!("highest rate that met it: {:.0}/s", best.rate);
    }
    finished(&report, &ramp.run.out)
}

/// `coordinate`.
pub(crate) async fn coordinate(coordinate: &Coordinate, stop: &Stop) -> anyhow::Result<ExitCode> {
    let given = &coordinate.run;
    for (flag, refused, instead) in [
        ("--server-pid", !given.server_pid.is_empty(), "give it to `generate` on the server's machine"),
        ("--metrics", !given.metrics.is_empty(), "give it to one `generate`"),
        ("--population", given.population.is_some(), "each `generate` keeps its own people in its --out"),
    ] {
        anyhow::ensure!(!refused, "{flag} is not for `coordinate`: {instead}");
    }
    let options = given.options()?;
    parts(&options.scenario, coordinate.generators)?;
    let floors = if given.floors { floors(given, &options, stop).await? } else { BTreeMap::new() };
    let bound = |address| println!("waiting for {} generators on {address}", coordinate.generators);
    let report = coordinator::coordinate(&options, coordinate.listen, coordinate.generators, stop, bound).await?;
    finished(&Report { floors, ..report }, &given.out)
}

/// `generate`.
pub(crate) async fn generate(generate: &Generate, stop: &Stop) -> anyhow::Result<ExitCode> {
    let own = Own {
        name: generate.name.clone(),
        owned: generate.i_own_this_target,
        folder: generate.out.clone(),
        pids: generate.server_pid.clone(),
        metrics: targets(&generate.metrics, generate.i_own_this_target)?,
        shown: !generate.quiet,
        followed: Default::default(),
    };
    let report = Box::pin(coordinator::generator::generate(&generate.coordinator, &own, stop)).await?;
    println!("this part: {}", report.summary());
    Ok(if report.verdict() == "good" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes and shows a report.
fn finished(report: &Report, out: &Path) -> anyhow::Result<ExitCode> {
    // Also where it cannot be written, it is shown.
    println!("{}", report.summary());
    println!("  report: {}", report.write(out).context("writing the report")?.display());
    Ok(if report.verdict() == "good" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `floor`.
pub(crate) async fn floor(floor: &Floor, stop: &Stop) -> anyhow::Result<ExitCode> {
    let scenario = scenario(&floor.scenario, |scenario| {
        scenario.rate = floor.rate.unwrap_or(scenario.rate);
        scenario.population.people = floor.people.unwrap_or(scenario.population.people);
    })?;
    let load = Load { seconds: floor.seconds, ..Load::like(&scenario) };
    let servers = floor.servers.given(floor.i_own_this_target)?;
    for (name, value) in floor::floors(&load, &floor.folder, &servers, stop).await? {
        println!("{name}: {value:.3}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `calibrate`.
pub(crate) async fn calibrate(calibrate: &Calibrate, stop: &Stop) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe()?;
    let report = calibrate::calibrate(&program, &calibrate.out, calibrate.connections, calibrate.rate, calibrate.seconds, stop).await?;
    println!("generator: {:.2} cores, {:.1} KiB for each stream", report.generator.cores, report.stream_kib);
    finished(&report, &calibrate.out)
}

/// `compare`.
pub(crate) fn compare(reports: &[PathBuf], with: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let (one, other) = match (reports, with) {
        (_, []) => {
            anyhow::ensure!(reports.len() == 2, "two reports, or several and --with several others");
            reports.split_at(1)
        }
        sides => sides,
    };
    let read = |side: &[PathBuf]| side.iter().map(|path| Report::read(path)).collect::<anyhow::Result<Vec<_>>>();
    print!("{}", compare::table(&read(one)?, &read(other)?));
    Ok(ExitCode::SUCCESS)
}

/// `capacity`.
pub(crate) fn capacity(capacity: &Capacity) -> anyhow::Result<ExitCode> {
    let mut model = match &capacity.model {
        Some(path) => Model::load(path)?,
        None => Model::built_in()?,
    };
    if let Some(run) = &capacity.run {
        model.measured_by(&Report::read(run)?)?;
    }
    match &capacity.write {
        Some(folder) => document::write(&model, folder)?,
        None => print!("{}", document::text(&model)),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Arguments;

    #[tokio::test]
    async fn what_a_coordinator_cannot_do_is_refused_before_it_waits() {
        for (given, told) in [
            (&["--server-pid", "1"][..], "--server-pid is not for `coordinate`"),
            (&["--metrics", "http://127.0.0.1:1"], "--metrics is not for `coordinate`"),
            (&["--population", "people.json"], "--population is not for `coordinate`"),
            (&["--scenario", "peers"], "use `run`"),
            (&["--scenario", "fanout"], "2600 of 5200 people"),
        ] {
            let parsed =
                Arguments::try_parse_from([&["plaza-load", "coordinate", "--generators", "2", "--listen", "127.0.0.1:0"], given].concat());
            let Ok(Arguments::Coordinate(given)) = parsed else { panic!("{told}: not understood") };
            let waited = tokio::time::timeout(std::time::Duration::from_secs(5), coordinate(&given, &Stop::default())).await;
            let error = waited.expect(told).expect_err(told).to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
