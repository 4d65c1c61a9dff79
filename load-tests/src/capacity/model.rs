//! The inputs of the calculator, each with its kind and its source.

use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::{operation::Measure, report::Report, run::process::Processes, scenario::Kind as Phase};

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
        /// Messages sent on a day.
        messages_per_day,
        /// Posts on a day.
        posts_per_day,
        /// Openings of the timeline on a day.
        opens_per_day,
        /// Friends of a person in the mean.
        friends,
        /// Connections at the peak.
        connections,
        /// Sign-ins with a password on a day.
        logins_per_day,
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
        for (name, input) in [("store.hit_rate", &model.store.hit_rate), ("services.busy", &model.services.busy)] {
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

    /// Puts in what a run measured: the CPU of the watched servers for each message of its steady time. Everything that people did beside
    /// sending is in it, as it is in life.
    ///
    /// # Errors
    /// The run watched no server or sent nothing, or its figures are not valid.
    pub fn measured_by(&mut self, report: &Report) -> anyhow::Result<()> {
        ensure!(report.verdict() == "good", "the run is {}: its figures are not used", report.verdict());
        let servers: Vec<_> =
            report.processes.iter().filter(|(name, _)| *name != Processes::GENERATOR).map(|(_, samples)| samples).collect();
        ensure!(!servers.is_empty(), "the run watched no server: give it --server-pid");
        let mean = |samples: &Vec<crate::run::process::Sample>| {
            samples.iter().map(|sample| sample.cores).sum::<f64>() / samples.len().max(1) as f64
        };
        let cores: f64 = servers.into_iter().map(mean).sum();
        let acks =
            report.rows.iter().filter(|row| matches!(row.measure, Measure::AckDirect | Measure::AckGroup) && row.phase == Phase::Steady);
        let phases = report.scenario.ends();
        let steady = phases.iter().enumerate().filter(|(_, (_, phase))| phase.kind == Phase::Steady);
        let seconds: f64 =
            steady.map(|(place, (end, _))| end.as_secs_f64() - if place == 0 { 0.0 } else { phases[place - 1].0.as_secs_f64() }).sum();
        let per_second = acks.map(|row| row.count).sum::<u64>() as f64 / seconds.max(1e-3);
        ensure!(per_second > 0.0, "the run sent nothing in its steady time");
        self.services.message_ms = Input {
            value: cores * 1e3 / per_second,
            kind: Kind::Measured,
            source: format!("plaza-load run {} of {}, all of the servers' CPU over the messages", report.name, report.began),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_without_a_source_or_out_of_bounds_is_refused_by_name() {
        let good = include_str!("../../models/billion.toml");
        for (from, to, named) in [
            ("hit_rate = { value = 0.75", "hit_rate = { value = 1.75", "hit_rate"),
            ("friends = { value = 200", "friends = { value = -1", "friends"),
            ("source = \"a common machine\"", "source = \"\"", "cores_per_machine"),
            ("name = ", "title = 'x'\nname = ", "title"),
            ("kind = \"claim\", source = \"WeChat data", "kind = \"fact\", source = \"WeChat data", "fact"),
        ] {
            assert!(good.contains(from), "{from}");
            let error = format!("{:#}", Model::parse(&good.replace(from, to)).expect_err(named));
            assert!(error.contains(named), "{named}: {error}");
        }
    }
}
