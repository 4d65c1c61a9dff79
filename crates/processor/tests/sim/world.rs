//! What exists once in a run: the clock, the logs, the tables, what anybody was ever told, and the first contradiction found.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use plaza_processor::{Outcome, ReplyTo, outcome::Kind};
use plaza_runtime::{Clock, Supervisor};
use plaza_types::limits::SECOND;
use tokio::time::Instant;

use crate::{
    clients::Asked,
    dice::Dice,
    log::Logs,
    machines::{Row, Shown},
    store::Tables,
};

/// One millisecond of a run is this long by the clocks in it, so that ten minutes and a day matter within a second.
const SCALE: u64 = 20 * SECOND;
const BEGIN: u64 = 1_700_000_000 * SECOND;

/// What can go wrong in this run, and how often (per mille unless said otherwise).
#[derive(Debug, Clone)]
pub(crate) struct Odds {
    pub(crate) write_fails: usize,
    pub(crate) read_fails: usize,
    pub(crate) append_fails: usize,
    pub(crate) producer_fails: usize,
    /// Slowest acknowledgement of a producer, milliseconds.
    pub(crate) producer_lag: usize,
    pub(crate) crash: usize,
    pub(crate) pause: usize,
    /// Records that make the first binary panic; one owner at a time then.
    pub(crate) poison: bool,
    /// Members leave and are back at once; who is one changes in no other way.
    pub(crate) restless: bool,
    pub(crate) batch: usize,
    pub(crate) states: usize,
    pub(crate) remembered: usize,
    pub(crate) checkpoint_records: usize,
    pub(crate) in_flight: usize,
}

impl Odds {
    fn draw(dice: &Dice) -> Self {
        Self {
            write_fails: dice.pick(&[20, 60, 150, 300]),
            read_fails: dice.pick(&[0, 30, 100]),
            append_fails: dice.pick(&[0, 70, 150]),
            producer_fails: dice.pick(&[0, 0, 10]),
            producer_lag: dice.pick(&[1, 1, 10, 40]),
            crash: dice.pick(&[0, 50, 120, 250]),
            pause: dice.pick(&[0, 50, 120, 250]),
            poison: dice.happens(200),
            restless: dice.happens(150),
            batch: dice.pick(&[1, 3, 6, 12]),
            states: dice.pick(&[1, 2, 4, 100]),
            remembered: dice.pick(&[1, 3, 100]),
            checkpoint_records: dice.pick(&[1, 4, 15]),
            in_flight: dice.pick(&[1, 2, 3]),
        }
    }
}

/// What anybody was ever told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) replies: BTreeMap<u64, Vec<Outcome>>,
    /// By user and place in the inbox.
    pub(crate) shown: BTreeMap<(String, u64), String>,
}

/// One run.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) odds: Odds,
    pub(crate) logs: Mutex<Logs>,
    pub(crate) tables: Mutex<Tables>,
    pub(crate) told: Mutex<Told>,
    /// Everything that was asked, once.
    pub(crate) asked: Mutex<Vec<Asked>>,
    pub(crate) supervisor: Supervisor,
    pub(crate) clock: Clock,
    begin: Instant,
    calm: AtomicBool,
    broken: Mutex<Option<String>>,
    traced: bool,
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Arc<Self> {
        let dice = Dice::new(seed);
        let odds = Odds::draw(&dice);
        let world = Self {
            odds,
            logs: Mutex::default(),
            tables: Mutex::default(),
            told: Mutex::default(),
            asked: Mutex::default(),
            supervisor: Supervisor::new(),
            clock: Clock::manual(BEGIN),
            begin: Instant::now(),
            calm: AtomicBool::new(false),
            broken: Mutex::default(),
            traced,
            dice,
        };
        world.say(|| format!("{:?}", world.odds));
        Arc::new(world)
    }

    /// Microseconds by the clock of callers and brokers.
    pub(crate) fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let now = BEGIN + elapsed * (SCALE / 1000);
        self.clock.set(now);
        now
    }

    /// Whether a fault of these odds happens now. None does any more once the run calms down.
    pub(crate) fn fails(&self, per_mille: usize) -> bool {
        !self.calm.load(Ordering::Relaxed) && self.dice.happens(per_mille)
    }

    pub(crate) fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn delay(&self, limit: usize) {
        let delay = self.dice.millis(limit);
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        } else if self.dice.happens(500) {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.traced {
            println!("{:>7} {}", self.begin.elapsed().as_millis(), what());
        }
    }

    /// Notes a contradiction; the first one is what the run ends with.
    pub(crate) fn broken(&self, what: impl FnOnce() -> String) {
        let mut broken = self.broken.lock();
        if broken.is_none() {
            let what = what();
            self.say(|| format!("BROKEN {what}"));
            *broken = Some(what);
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.lock().is_some()
    }

    pub(crate) fn verdict(&self) -> Result<(), String> {
        self.broken.lock().take().map_or(Ok(()), Err)
    }

    pub(crate) fn replied(&self, to: ReplyTo, outcome: &Outcome) {
        self.say(|| format!("reply {} {outcome:?}", to.call));
        if !self.logs.lock().is_durable(to.call) {
            self.broken(|| format!("reply {} before its record is durable", to.call));
        }
        if let Some(Kind::Accepted(answer)) = &outcome.kind {
            self.read_own_write(&String::from_utf8_lossy(answer));
        }
        self.told.lock().replies.entry(to.call).or_default().push(outcome.clone());
    }

    /// Who was told how far they have read must find it written.
    fn read_own_write(&self, answer: &str) {
        let mut words = answer.split(' ');
        if let (Some(user), Some(conversation), Some(read)) = (words.next(), words.next(), words.next()) {
            let tables = self.tables.lock();
            let row = tables.rows.get(&format!("read {user} {conversation}"));
            if !matches!(row, Some((_, Row::Read { sequence, .. })) if *sequence >= read.parse().unwrap_or(u64::MAX)) {
                self.broken(|| format!("told {answer} before it can be read: {row:?}"));
            }
        }
    }

    pub(crate) fn show(&self, shown: &Shown, how: &str) {
        self.say(|| format!("show {shown:?} by {how}"));
        let mut told = self.told.lock();
        let before = told.shown.entry((shown.user.clone(), shown.cursor)).or_insert_with(|| shown.what.clone());
        if *before != shown.what {
            self.broken(|| format!("shown otherwise before: {shown:?} by {how}, {before}"));
        }
    }
}
