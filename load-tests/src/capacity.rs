//! From people to machines: a calculator whose every input says where it comes from. It is arithmetic; what is measured are some of its inputs.

pub mod document;
pub mod model;

use self::model::Model;

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// One result: its name, its value, its unit, and how it comes about.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Under which heading.
    pub tier: &'static str,
    /// What.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// From what, in words.
    pub how: &'static str,
}

/// All results for a model.
#[must_use]
pub fn lines(model: &Model) -> Vec<Line> {
    let sizes = Sizes::of(model);
    let line = |tier, name, value, unit, how| Line { tier, name, value, unit, how };
    vec![
        line("load", "messages, mean", sizes.messages, "/s", "messages_per_day / 86,400"),
        line("load", "messages, peak", sizes.messages_peak, "/s", "mean x peak_factor"),
        line("load", "posts, mean", sizes.posts, "/s", "posts_per_day / 86,400"),
        line("load", "timeline rows, mean", sizes.rows, "/s", "posts x friends"),
        line("load", "timeline opens, mean", sizes.opens, "/s", "opens_per_day / 86,400"),
        line("gateways", "machines", sizes.gateways, "machines", "connections / connections_per_machine"),
        line("gateways", "memory of one", sizes.gateway_gib, "GiB", "connections_per_machine x stream_kib"),
        line("chat", "cores", sizes.chat_cores, "cores", "peak messages x message_ms / busy"),
        line("chat", "machines", sizes.chat_machines, "machines", "cores / cores_per_machine"),
        line("moments", "cores", sizes.moments_cores, "cores", "peak x (rows x row_us + opens x page_ms) / busy"),
        line("moments", "machines", sizes.moments_machines, "machines", "cores / cores_per_machine"),
        line("accounts", "cores", sizes.login_cores, "cores", "peak sign-ins x login_ms / busy"),
        line("accounts", "machines", sizes.login_machines, "machines", "cores / cores_per_machine"),
        line("ScyllaDB", "message rows, peak", sizes.store_messages, "operations/s", "peak messages x rows_per_message"),
        line("ScyllaDB", "timeline rows, peak", sizes.store_rows, "operations/s", "rows x peak_factor"),
        line(
            "ScyllaDB",
            "timeline reads, peak",
            sizes.store_reads,
            "operations/s",
            "peak opens x (1 + posts_per_page x reads_per_post x (1 - hit_rate))",
        ),
        line(
            "ScyllaDB",
            "operations, peak",
            sizes.operations,
            "operations/s",
            "their sum, to three digits: the inputs are not better than that",
        ),
        line("ScyllaDB", "cores", sizes.store_cores, "cores", "operations / operations_per_core"),
        line("ScyllaDB", "machines", sizes.store_machines, "machines", "cores / cores_per_machine"),
        line("Kafka", "written, peak", sizes.log_mb, "MB/s", "peak messages x bytes_per_message x replicas"),
        line("Kafka", "brokers", sizes.brokers, "machines", "written / broker_mb_per_s"),
    ]
}

/// The figures behind the lines.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sizes {
    messages: f64,
    messages_peak: f64,
    posts: f64,
    rows: f64,
    opens: f64,
    gateways: f64,
    gateway_gib: f64,
    chat_cores: f64,
    chat_machines: f64,
    moments_cores: f64,
    moments_machines: f64,
    login_cores: f64,
    login_machines: f64,
    store_messages: f64,
    store_rows: f64,
    store_reads: f64,
    operations: f64,
    store_cores: f64,
    store_machines: f64,
    log_mb: f64,
    brokers: f64,
}

impl Sizes {
    fn of(model: &Model) -> Self {
        let (load, store, services) = (&model.load, &model.store, &model.services);
        let peak = load.peak_factor.value;
        let messages = load.messages_per_day.value / DAY;
        let messages_peak = messages * peak;
        let posts = load.posts_per_day.value / DAY;
        let rows = posts * load.friends.value;
        let opens = load.opens_per_day.value / DAY;
        let machines = |cores: f64| (cores / services.cores_per_machine.value).ceil();
        let cores = |busy_seconds: f64| (busy_seconds / services.busy.value).ceil();
        let chat_cores = cores(messages_peak * services.message_ms.value / 1e3);
        let moments_cores = cores(peak * (rows * services.row_us.value / 1e6 + opens * services.page_ms.value / 1e3));
        let login_cores = cores(peak * load.logins_per_day.value / DAY * services.login_ms.value / 1e3);
        let store_messages = messages_peak * store.rows_per_message.value;
        let store_rows = rows * peak;
        let misses = store.posts_per_page.value * store.reads_per_post.value * (1.0 - store.hit_rate.value);
        let store_reads = opens * peak * (1.0 + misses);
        let operations = three_digits(store_messages + store_rows + store_reads);
        let store_cores = store_cores(operations, store.operations_per_core.value);
        let log_mb = messages_peak * model.log.bytes_per_message.value * model.log.replicas.value / 1e6;
        Self {
            messages,
            messages_peak,
            posts,
            rows,
            opens,
            gateways: (load.connections.value / model.gateway.connections_per_machine.value).ceil(),
            gateway_gib: model.gateway.connections_per_machine.value * model.gateway.stream_kib.value / f64::from(1 << 20),
            chat_cores,
            chat_machines: machines(chat_cores),
            moments_cores,
            moments_machines: machines(moments_cores),
            login_cores,
            login_machines: machines(login_cores),
            store_messages,
            store_rows,
            store_reads,
            operations,
            store_cores,
            store_machines: (store_cores / store.cores_per_machine.value).ceil(),
            log_mb,
            brokers: (log_mb / model.log.broker_mb_per_s.value).ceil(),
        }
    }
}

fn store_cores(operations: f64, per_core: f64) -> f64 {
    (operations / per_core).ceil()
}

/// Rounded to three digits.
fn three_digits(value: f64) -> f64 {
    let unit = 10f64.powf(value.abs().max(1.0).log10().floor() - 2.0);
    (value / unit).round() * unit
}

/// Cores of the store and of the services, for sensitivity.
#[must_use]
pub fn cores(model: &Model) -> (f64, f64) {
    let sizes = Sizes::of(model);
    (sizes.store_cores, sizes.chat_cores + sizes.moments_cores + sizes.login_cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(lines: &[Line], tier: &str, name: &str) -> f64 {
        lines.iter().find(|line| line.tier == tier && line.name == name).expect(name).value
    }

    #[test]
    fn a_billion_people_come_to_the_known_figures() {
        let lines = lines(&Model::built_in().expect("built in"));
        for (tier, name, expected) in [
            ("load", "messages, mean", 520_833.0),
            ("load", "timeline rows, mean", 277_778.0),
            ("load", "timeline opens, mean", 115_741.0),
            ("ScyllaDB", "operations, peak", 11_100_000.0),
            ("ScyllaDB", "cores", 888.0),
            ("gateways", "machines", 500.0),
        ] {
            assert_eq!(value(&lines, tier, name).round().to_string(), expected.to_string(), "{tier}: {name}");
        }
    }

    #[test]
    fn figures_follow_their_inputs() {
        let model = Model::built_in().expect("built in");
        let before = lines(&model);
        let mut twice = model.clone();
        twice.load.messages_per_day.value *= 2.0;
        twice.services.message_ms.value *= 2.0;
        let after = lines(&twice);
        let ratio = |tier, name| value(&after, tier, name) / value(&before, tier, name);
        // Cores are whole ones.
        assert!((ratio("chat", "cores") - 4.0).abs() < 0.05);
        assert!((ratio("Kafka", "written, peak") - 2.0).abs() < 1e-9);
        assert!((ratio("moments", "cores") - 1.0).abs() < 1e-9);
        let mut cold = model;
        cold.store.hit_rate.value = 0.0;
        assert!(cores(&cold).0 > 2.0 * cores(&Model::built_in().expect("built in")).0);
    }

    #[test]
    fn three_digits_are_kept() {
        for (value, expected) in [(11_076_388.0, 11_100_000.0), (0.4, 0.4), (999.6, 1_000.0), (12_349.0, 12_300.0)] {
            assert!((three_digits(value) - expected).abs() < 1e-6, "{value}");
        }
    }
}
