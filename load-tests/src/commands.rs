//! The commands.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use plaza_load::{
    calibrate,
    capacity::{document, model::Model},
    coordinator::{self, generator::Own},
    floor,
    operation::Operation,
    peers,
    population::prepare::{self, Ready},
    ramp::{self, Objective},
    report::Report,
    run::{self, Options, Stop},
    scenario::Scenario,
    target::Target,
};

use crate::{Calibrate, Capacity, Coordinate, Floor, Generate, Ramp, Run, Servers};

impl Run {
    /// Everything of it, checked.
    fn options(&self) -> anyhow::Result<Options> {
        let target = Target::new(&self.target, self.i_own_this_target)?;
        let mut scenario = Scenario::load(&self.scenario)?;
        scenario.rate = self.rate.unwrap_or(scenario.rate);
        scenario.seconds = self.duration.map_or(scenario.seconds, |duration| duration.as_secs_f64());
        scenario.population.people = self.people.unwrap_or(scenario.population.people);
        let problems = scenario.problems();
        anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
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
            check: !self.no_check,
        })
    }
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

/// `run`.
pub(crate) async fn run(run: &Run, stop: &Stop) -> anyhow::Result<ExitCode> {
    let options = run.options()?;
    let floors = match run.floors {
        true => {
            let sends = options
                .scenario
                .rates()
                .into_iter()
                .filter(|(operation, _)| matches!(operation, Operation::SendDirect | Operation::SendGroup));
            floor::floors(
                sends.map(|(_, rate)| rate).sum(),
                5.0,
                options.scenario.text_bytes,
                &run.out,
                &run.servers.given(run.i_own_this_target)?,
            )
            .await?
        }
        false => Default::default(),
    };
    let mut report = match options.scenario.peers.is_empty() {
        true => {
            let outcome = run::run(&options, stop).await?;
            keep_history(run, &outcome)?;
            Report::new(&options, &outcome)
        }
        false => {
            run::raise_limits();
            let ready = prepared(&options, stop).await?;
            let figures = peers::run(&options.target, &ready, &options.scenario.peers, &options.server_pids, stop).await?;
            Report::of_peers(&options, &ready, figures)
        }
    };
    report.floors = floors;
    finished(&report, &run.out)
}

/// A history with a violation is kept whole: what the report shows of it may not be enough.
fn keep_history(run: &Run, outcome: &run::Outcome) -> anyhow::Result<()> {
    if let Some(verified) = outcome.verified.as_ref().filter(|verified| !verified.violations.is_empty()) {
        std::fs::create_dir_all(&run.out)?;
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
pub(crate) async fn prepare(run: &Run, stop: &Stop) -> anyhow::Result<ExitCode> {
    let options = run.options()?;
    let ready = prepared(&options, stop).await?;
    for (what, (made, seconds)) in ["people", "friendships", "groups"].iter().zip(ready.took) {
        println!("{what}: {made} made in {seconds:.1} s, {:.0}/s", made as f64 / seconds.max(1e-3));
    }
    println!("{} people, {} friendships, {} groups", ready.people.len(), ready.plan.friendships.len(), ready.groups.len());
    if ready.plan.left_out > 0 {
        println!("{} friendships were left out: nobody may ask more than 50 people on a day", ready.plan.left_out);
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
    let steps = ramp::ramp(&options, objective, ramp.most, stop, told).await?;
    let Some(report) = ramp::report(&steps) else {
        println!("no rate met the objective");
        return Ok(ExitCode::FAILURE);
    };
    let page = report.write(&ramp.run.out).context("writing the report")?;
    println!("highest rate that met it: {:.0}/s\n{}\n  report: {}", report.scenario.rate, report.summary(), page.display());
    Ok(ExitCode::SUCCESS)
}

/// `coordinate`.
pub(crate) async fn coordinate(coordinate: &Coordinate, stop: &Stop) -> anyhow::Result<ExitCode> {
    let options = coordinate.run.options()?;
    let bound = |address| println!("waiting for {} generators on {address}", coordinate.generators);
    let report = coordinator::coordinate(&options, coordinate.listen, coordinate.generators, stop, bound).await?;
    finished(&report, &coordinate.run.out)
}

/// `generate`.
pub(crate) async fn generate(generate: &Generate, stop: &Stop) -> anyhow::Result<ExitCode> {
    let own = Own {
        name: generate.name.clone(),
        owned: generate.i_own_this_target,
        folder: generate.out.clone(),
        pids: generate.server_pid.clone(),
        metrics: targets(&generate.metrics, generate.i_own_this_target)?,
    };
    let report = coordinator::generator::generate(&generate.coordinator, &own, stop).await?;
    println!("this part: {}", report.summary());
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes and shows a report.
fn finished(report: &Report, out: &Path) -> anyhow::Result<ExitCode> {
    let page = report.write(out).context("writing the report")?;
    println!("{}\n  report: {}", report.summary(), page.display());
    Ok(if report.verdict() == "good" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `floor`.
pub(crate) async fn floor(floor: &Floor) -> anyhow::Result<ExitCode> {
    for (name, value) in
        floor::floors(floor.rate, floor.seconds, floor.text_bytes, &floor.folder, &floor.servers.given(floor.i_own_this_target)?).await?
    {
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
