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
        line("load", "messages, mean", sizes.messages, "/s", "users x messages_per_user / 86,400"),
        line("load", "messages, peak", sizes.messages_peak, "/s", "mean x peak_factor"),
        line("load", "posts, mean", sizes.posts, "/s", "users x posts_per_user / 86,400"),
        line("load", "timeline rows, mean", sizes.rows, "/s", "posts x friends"),
        line("load", "timeline opens, mean", sizes.opens, "/s", "users x opens_per_user / 86,400"),
        line("gateways", "machines", sizes.gateways, "machines", "users x online / connections_per_machine"),
        line("gateways", "memory of one", sizes.gateway_gib, "GiB", "connections_per_machine x stream_kib"),
        line("chat", "cores", sizes.chat_cores, "cores", "peak messages x message_ms / busy"),
        line(
            "chat",
            "cores, lower bound",
            sizes.chat_least,
            "cores",
            "peak messages x message_least_ms / busy: as one saturated process does it",
        ),
        line("chat", "machines", sizes.chat_machines, "machines", "cores / cores_per_machine"),
        line("moments", "cores", sizes.moments_cores, "cores", "peak x (rows x row_us + opens x page_ms) / busy"),
        line("moments", "machines", sizes.moments_machines, "machines", "cores / cores_per_machine"),
        line("accounts", "cores", sizes.login_cores, "cores", "peak x users x logins_per_user / 86,400 x login_ms / busy"),
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
    chat_least: f64,
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
        let a_second = |each: f64| load.users.value * each / DAY;
        let messages = a_second(load.messages_per_user.value);
        let messages_peak = messages * peak;
        let posts = a_second(load.posts_per_user.value);
        let rows = posts * load.friends.value;
        let opens = a_second(load.opens_per_user.value);
        let machines = |cores: f64| (cores / services.cores_per_machine.value).ceil();
        let cores = |busy_seconds: f64| (busy_seconds / services.busy.value).ceil();
        let chat_cores = cores(messages_peak * services.message_ms.value / 1e3);
        let moments_cores = cores(peak * (rows * services.row_us.value / 1e6 + opens * services.page_ms.value / 1e3));
        let login_cores = cores(peak * a_second(load.logins_per_user.value) * services.login_ms.value / 1e3);
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
            gateways: (load.users.value * load.online.value / model.gateway.connections_per_machine.value).ceil(),
            gateway_gib: model.gateway.connections_per_machine.value * model.gateway.stream_kib.value / f64::from(1 << 20),
            chat_cores,
            chat_least: cores(messages_peak * services.message_least_ms.value / 1e3),
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
    fn twice_as_many_people_take_twice_as_much_of_everything_that_is_shared() {
        let model = Model::built_in().expect("built in");
        let mut twice = model.clone();
        twice.load.users.value *= 2.0;
        for (one, two) in lines(&model).into_iter().zip(lines(&twice)) {
            // Whole machines and cores, and operations to three digits.
            let expected = if one.name == "memory of one" { one.value } else { 2.0 * one.value };
            assert!(
                (two.value - expected).abs() <= (0.01 * expected).max(1.0),
                "{}, {}: {} and {}",
                one.tier,
                one.name,
                one.value,
                two.value
            );
        }
    }

    #[test]
    fn the_least_that_was_seen_is_a_lower_bound() {
        let lines = lines(&Model::built_in().expect("built in"));
        let (cores, least) = (value(&lines, "chat", "cores"), value(&lines, "chat", "cores, lower bound"));
        assert!(0.0 < least && least < cores, "{least} of {cores}");
    }

    #[test]
    fn figures_follow_their_inputs() {
        let model = Model::built_in().expect("built in");
        let before = lines(&model);
        let mut twice = model.clone();
        twice.load.messages_per_user.value *= 2.0;
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
