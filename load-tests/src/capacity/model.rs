//! The inputs of the calculator, each with its kind and its source.

use std::{iter, ops::Range, path::Path};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    operation::{Measure, Operation},
    report::Report,
    run::process::{Processes, Sample},
    scenario::Kind as Phase,
};

/// What people do in Moments.
const MOMENTS: [Operation; 4] = [Operation::Timeline, Operation::Post, Operation::Like, Operation::Comment];

/// Where a number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It was measured with this code.
    Measured,
    /// Somebody says so.
    Claim,
    /// We take it to be so.
    Assumption,
}

impl Kind {
    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Claim => "a source's claim",
            Self::Assumption => "assumption",
        }
    }
}

/// One input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// How much.
    pub value: f64,
    /// Where from.
    pub kind: Kind,
    /// Who says so, or what it was measured with.
    pub source: String,
}

macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: Input,)* }

        impl $name {
            fn inputs(&self) -> Vec<(&'static str, &Input)> {
                vec![$((stringify!($field), &self.$field),)*]
            }
        }
    };
}

table! {
    /// What people do.
    Load {
        /// People on a day.
        users,
        /// Messages that each sends on a day.
        messages_per_user,
        /// Posts of each on a day.
        posts_per_user,
        /// How often each opens the timeline on a day.
        opens_per_user,
        /// Friends of a person in the mean.
        friends,
        /// The part of them that is connected at the peak.
        online,
        /// Sign-ins of each with a password on a day.
        logins_per_user,
        /// The peak beside the mean.
        peak_factor,
    }
}
table! {
    /// The store.
    Store {
        /// Rows written for a message.
        rows_per_message,
        /// Posts of a page of the timeline.
        posts_per_page,
        /// Reads for each of them that is not in memory.
        reads_per_post,
        /// The part of them that is in memory.
        hit_rate,
        /// Operations a second of one core.
        operations_per_core,
        /// Cores of a machine.
        cores_per_machine,
    }
}
table! {
    /// The gateways.
    Gateway {
        /// Connections of one machine.
        connections_per_machine,
        /// Memory of a stream, KiB.
        stream_kib,
    }
}
table! {
    /// The services.
    Services {
        /// CPU of a message, milliseconds.
        message_ms,
        /// The least that was seen of it, milliseconds.
        message_least_ms,
        /// CPU of a timeline row, microseconds.
        row_us,
        /// CPU of a page of the timeline, milliseconds.
        page_ms,
        /// CPU of a sign-in, milliseconds.
        login_ms,
        /// How busy cores may be at the peak, 0 to 1.
        busy,
        /// Cores of a machine.
        cores_per_machine,
    }
}
table! {
    /// The log.
    Log {
        /// Bytes written for a message, once.
        bytes_per_message,
        /// Copies of each.
        replicas,
        /// What a broker writes, MB a second.
        broker_mb_per_s,
    }
}

/// All inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What it is a model of.
    pub name: String,
    /// What people do.
    pub load: Load,
    /// The store.
    pub store: Store,
    /// The gateways.
    pub gateway: Gateway,
    /// The services.
    pub services: Services,
    /// The log.
    pub log: Log,
}

impl Model {
    /// The model of one billion people that comes with the program.
    ///
    /// # Errors
    /// It is damaged.
    pub fn built_in() -> anyhow::Result<Self> {
        Self::parse(include_str!("../../models/billion.toml"))
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let model: Self = toml::from_str(text)?;
        for (table, inputs) in model.tables() {
            for (name, input) in inputs {
                ensure!(input.value.is_finite() && input.value >= 0.0, "{table}.{name}: must not be below 0");
                ensure!(!input.source.trim().is_empty(), "{table}.{name}: names no source");
            }
        }
        for (name, input) in
            [("load.online", &model.load.online), ("store.hit_rate", &model.store.hit_rate), ("services.busy", &model.services.busy)]
        {
            ensure!(input.value <= 1.0, "{name}: must be 0 to 1");
        }
        for (name, input) in [
            ("services.busy", &model.services.busy),
            ("services.cores_per_machine", &model.services.cores_per_machine),
            ("store.operations_per_core", &model.store.operations_per_core),
            ("store.cores_per_machine", &model.store.cores_per_machine),
            ("gateway.connections_per_machine", &model.gateway.connections_per_machine),
            ("log.broker_mb_per_s", &model.log.broker_mb_per_s),
        ] {
            ensure!(input.value > 0.0, "{name}: must be above 0");
        }
        Ok(model)
    }

    /// Every input, by table.
    #[must_use]
    pub fn tables(&self) -> Vec<(&'static str, Vec<(&'static str, &Input)>)> {
        vec![
            ("load", self.load.inputs()),
            ("store", self.store.inputs()),
            ("gateway", self.gateway.inputs()),
            ("services", self.services.inputs()),
            ("log", self.log.inputs()),
        ]
    }

    /// Puts in what a run measured: the cost of a message, if it sent any and left Moments alone; the memory of a stream, if it only held them;
    /// of the tests of other messengers the least cost of a message (B) and the memory of a stream (D).
    ///
    /// # Errors
    /// The run measured nothing of the model, or its figures are not valid.
    pub fn measured_by(&mut self, report: &Report) -> anyhow::Result<()> {
        ensure!(report.verdict() == "good", "the run is {}: its figures are not used", report.verdict());
        let peers = |name| report.peers.get(name).copied();
        let message = message_ms(report);
        let (least, stream) = (peers("B: server CPU per delivered message, ms"), peers("D: memory per idle stream, KiB"));
        let found = [
            (&mut self.services.message_ms, message, "the servers' CPU in its steady time over the messages of that time"),
            (&mut self.services.message_least_ms, least, "test B, as fast as it goes"),
            (&mut self.gateway.stream_kib, report.server_stream_kib.or(stream), "memory of the servers for each idle stream"),
        ];
        let mut any = false;
        for (input, value, what) in found {
            let Some(value) = value else { continue };
            any = true;
            *input = Input { value, kind: Kind::Measured, source: format!("plaza-load run {} of {}: {what}", report.name, report.began) };
        }
        ensure!(
            any,
            "the run measured nothing of the model: it needs --server-pid, and messages without Moments in a steady phase, or streams that are only held"
        );
        Ok(())
    }
}

/// CPU of the watched servers for each message that was due in the steady phases: everything that people did beside sending is in it, as it is in
/// life. Nothing if Moments are in it, which are a tier of their own.
fn message_ms(report: &Report) -> Option<f64> {
    if MOMENTS.iter().any(|operation| report.scenario.mix.get(operation).is_some_and(|share| *share > 0.0)) {
        return None;
    }
    let mut begin = 0.0;
    let mut steady = Vec::new();
    for (end, phase) in report.scenario.ends() {
        let end = end.as_secs_f64();
        if phase.kind == Phase::Steady {
            steady.push(begin..end);
        }
        begin = end;
    }
    let servers = report.processes.iter().filter(|(name, _)| *name != Processes::GENERATOR);
    let cores: f64 = servers.map(|(_, samples)| mean_cores(samples, &steady)).sum();
    let acks = report.rows.iter().filter(|row| matches!(row.measure, Measure::AckDirect | Measure::AckGroup) && row.phase == Phase::Steady);
    let seconds: f64 = steady.iter().map(|phase| phase.end - phase.start).sum();
    let per_second = acks.map(|row| row.count).sum::<u64>() as f64 / seconds;
    (cores > 0.0 && per_second > 0.0).then(|| cores * 1e3 / per_second)
}

/// Cores that a process used in the mean of these times: of the samples whose middle lies in them.
fn mean_cores(samples: &[Sample], times: &[Range<f64>]) -> f64 {
    let begins = iter::once(0.0).chain(samples.iter().map(|sample| sample.at));
    let inside = begins.zip(samples).filter(|(begin, sample)| times.iter().any(|time| time.contains(&((begin + sample.at) / 2.0))));
    let (cpu, seconds) = inside.fold((0.0, 0.0), |(cpu, seconds), (begin, sample)| {
        let took = sample.at - begin;
        (cpu + sample.cores * took, seconds + took)
    });
    if seconds > 0.0 { cpu / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::Row, scenario::Scenario};

    #[test]
    fn an_input_without_a_source_or_out_of_bounds_is_refused_by_name() {
        let good = include_str!("../../models/billion.toml");
        for (from, to, named) in [
            ("hit_rate = { value = 0.75", "hit_rate = { value = 1.75", "hit_rate"),
            ("friends = { value = 200", "friends = { value = -1", "friends"),
            ("online = { value = 0.5", "online = { value = 5", "online"),
            ("source = \"a common machine\"", "source = \"\"", "cores_per_machine"),
            ("name = ", "title = 'x'\nname = ", "title"),
            ("kind = \"claim\", source = \"one billion", "kind = \"fact\", source = \"one billion", "fact"),
        ] {
            assert!(good.contains(from), "{from}");
            let error = format!("{:#}", Model::parse(&good.replace(from, to)).expect_err(named));
            assert!(error.contains(named), "{named}: {error}");
        }
    }
    /// A report of a built-in scenario on a server that used these cores, second by second.
    fn report(scenario: &str, cores: impl Fn(f64) -> f64) -> Report {
        let scenario = Scenario::load(scenario).expect("built in");
        let samples = |cores: &dyn Fn(f64) -> f64| {
            (1..=scenario.seconds as usize).map(|at| Sample { at: at as f64, cores: cores(at as f64), memory_mib: 1.0 }).collect::<Vec<_>>()
        };
        let processes = [("server 1".to_owned(), samples(&cores)), (Processes::GENERATOR.to_owned(), samples(&|_| 9.0))].into();
        Report { scenario, processes, ..Report::default() }
    }

    fn acks(phase: Phase, measure: Measure, count: u64) -> Row {
        Row { measure, phase, count, p50: 1.0, p90: 1.0, p99: 1.0, p999: 1.0, max: 1.0 }
    }

    #[test]
    fn a_message_costs_what_the_steady_time_took_and_not_the_burst() {
        // 9 s of warm-up, 15 s steady, 12 s of ten times as much, 24 s after it.
        let mut measured = report("newyear", |at| if (9.5..24.5).contains(&at) { 0.09 } else { 0.4 });
        measured.rows = vec![
            acks(Phase::Steady, Measure::AckDirect, 4_000),
            acks(Phase::Steady, Measure::AckGroup, 500),
            acks(Phase::Steady, Measure::Sync, 450),
            acks(Phase::Fault, Measure::AckDirect, 36_000),
        ];
        let before = Model::built_in().expect("built in");
        let mut model = before.clone();
        model.measured_by(&measured).expect("measured");
        let message = &model.services.message_ms;
        assert!((message.value - 0.3).abs() < 1e-9 && message.kind == Kind::Measured, "{message:?}");
        model.services.message_ms = before.services.message_ms.clone();
        assert_eq!(model, before, "nothing else was measured");
    }

    #[test]
    fn a_run_that_only_holds_streams_tells_their_memory_and_the_peers_tests_what_they_measure() {
        let before = Model::built_in().expect("built in");
        let mut idle = report("idle", |_| 0.01);
        idle.server_stream_kib = Some(19.9);
        let mut model = before.clone();
        model.measured_by(&idle).expect("measured");
        assert!((model.gateway.stream_kib.value - 19.9).abs() < 1e-9 && model.services == before.services);

        let peers = [("B: server CPU per delivered message, ms", 0.031), ("D: memory per idle stream, KiB", 23.0), ("A: ack p50, ms", 0.3)];
        let peers = peers.map(|(name, value)| (name.to_owned(), value)).into();
        model.measured_by(&Report { peers, ..report("peers", |_| 0.5) }).expect("measured");
        assert!((model.gateway.stream_kib.value - 23.0).abs() < 1e-9 && (model.services.message_least_ms.value - 0.031).abs() < 1e-9);
        assert_eq!(model.services.message_ms, before.services.message_ms);
    }

    #[test]
    fn a_run_that_says_nothing_of_the_model_is_refused() {
        let steady = vec![acks(Phase::Steady, Measure::AckDirect, 1_000)];
        let mut watched_nothing = Report { rows: steady.clone(), ..report("chat", |_| 1.0) };
        watched_nothing.processes.remove("server 1");
        let burst_only = Report { rows: vec![acks(Phase::Fault, Measure::AckDirect, 9)], ..report("newyear", |_| 1.0) };
        let with_moments = Report { rows: steady.clone(), ..report("day", |_| 1.0) };
        let failed = Report { rows: steady, problems: vec!["lost".to_owned()], ..report("chat", |_| 1.0) };
        let mut model = Model::built_in().expect("built in");
        for (name, run) in [("watched", watched_nothing), ("burst", burst_only), ("moments", with_moments), ("failed", failed)] {
            assert!(model.measured_by(&run).is_err(), "{name}");
        }
        assert_eq!(model, Model::built_in().expect("built in"));
    }

    #[test]
    fn what_is_said_to_stand_in_the_readme_stands_there() {
        let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).expect("README.md");
        let rows = ours(&readme);
        let model = Model::built_in().expect("built in");
        let mut cited = 0;
        for (table, inputs) in model.tables() {
            for (name, input) in inputs.into_iter().filter(|(_, input)| input.kind == Kind::Measured) {
                let quoted = input.source.strip_prefix("README.md, \"").and_then(|rest| rest.split_once('"'));
                let (quoted, _) = quoted.unwrap_or_else(|| panic!("{table}.{name} quotes no row: {}", input.source));
                let found: Vec<_> = rows.iter().filter(|(path, _)| path.starts_with(quoted)).collect();
                assert_eq!(found.len(), 1, "{table}.{name}: rows that begin with '{quoted}'");
                let (value, unit) = found[0].1.split_once(' ').expect("a value and its unit");
                let unit = unit.split([' ', ',', ';']).next().expect("a unit").to_lowercase();
                assert!(
                    value.parse() == Ok(input.value) && name.ends_with(&format!("_{unit}")),
                    "{table}.{name} is {} here, and '{}' in README.md: put it into the model and run plaza-load capacity --write docs",
                    input.value,
                    found[0].1
                );
                cited += 1;
            }
        }
        assert!(cited >= 6, "{cited}");
    }

    /// The tables of measurements: what was measured, and ours.
    fn ours(text: &str) -> Vec<(String, String)> {
        let mut place = None;
        let mut rows = Vec::new();
        for line in text.lines() {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            match cells[..] {
                [_] => place = None,
                _ if cells.contains(&"ours") => place = cells.iter().position(|cell| *cell == "ours"),
                _ => rows.extend(place.map(|place| (cells[1].to_owned(), cells[place].to_owned()))),
            }
        }
        rows
    }
}
