//! What goes on beside the crowd while a fault happens: circles of Moments, friends whose devices listen, and newcomers. Whatever goes wrong
//! in it is a violation in the fault's row, not the end of the suite.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use plaza_testkit::circle::{self, Circle};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    listeners::Listeners,
    registrar::{self, Registrar},
};

const CIRCLES: u64 = 2;
const REGISTRARS: u64 = 2;
/// After each step of a circle or a registrar, so that what it costs stays small beside the sends, whose rate is compared.
const PAUSE: Duration = Duration::from_millis(300);

/// While it goes on.
pub(crate) struct Beside {
    circles: Vec<JoinHandle<anyhow::Result<Circle>>>,
    listeners: Vec<JoinHandle<anyhow::Result<Vec<String>>>>,
    registrars: Vec<JoinHandle<anyhow::Result<Registrar>>>,
}

/// What is left of it to be judged, perhaps more than once.
pub(crate) struct Ended {
    circles: Vec<Circle>,
    registrars: Vec<Registrar>,
    /// What went wrong meanwhile.
    pub(crate) violations: Vec<String>,
}

impl Beside {
    /// It goes on until `stop` is set.
    pub(crate) fn start(address: &str, seed: u64, listeners: &Arc<Listeners>, pace: Duration, stop: &Arc<AtomicBool>) -> Self {
        let steps = watch::Sender::new(0);
        let circle = |number| circle::run(address.to_owned(), seed.wrapping_add(number), PAUSE, steps.clone(), Arc::clone(stop));
        let listening = {
            let (listeners, stop) = (Arc::clone(listeners), Arc::clone(stop));
            spawn(async move { listeners.busy(pace, stop).await })
        };
        let registrar = |number| registrar::run(address.to_owned(), seed.wrapping_sub(number), PAUSE, Arc::clone(stop));
        Self {
            circles: (0..CIRCLES).map(|number| spawn(circle(number))).collect(),
            listeners: vec![listening],
            registrars: (0..REGISTRARS).map(|number| spawn(registrar(number))).collect(),
        }
    }

    /// Waits until all of it has stopped.
    ///
    /// # Errors
    /// A task panicked.
    pub(crate) async fn ended(self) -> anyhow::Result<Ended> {
        let mut violations = Vec::new();
        let circles = joined("circle", self.circles, &mut violations).await?;
        let missed = joined("listeners", self.listeners, &mut violations).await?;
        violations.extend(missed.into_iter().flatten());
        let registrars = joined("registrar", self.registrars, &mut violations).await?;
        Ok(Ended { circles, registrars, violations })
    }
}

impl Ended {
    /// How many registrations, changes of names, sign-ins and sign-outs were acknowledged.
    pub(crate) fn account_changes(&self) -> usize {
        self.registrars.iter().map(|registrar| registrar.acknowledged).sum()
    }

    /// What is there is what was acknowledged. Answers the number of posts, and what is wrong.
    pub(crate) async fn judged(&self) -> (usize, Vec<String>) {
        let (mut posts, mut violations) = (0, Vec::new());
        for (number, circle) in self.circles.iter().enumerate() {
            match circle.is_complete().await {
                Ok(0) => violations.push(format!("circle {number}: nothing was posted")),
                Ok(made) => posts += made,
                Err(error) => violations.push(format!("circle {number}: {error:#}")),
            }
        }
        for (number, registrar) in self.registrars.iter().enumerate() {
            match registrar.judged().await {
                Ok(_) if registrar.acknowledged == 0 => violations.push(format!("registrar {number}: nothing was acknowledged")),
                Ok(wrong) => violations.extend(wrong),
                Err(error) => violations.push(format!("registrar {number}: {error:#}")),
            }
        }
        (posts, violations)
    }
}

/// What came of tasks; those that failed are violations.
async fn joined<T>(what: &str, tasks: Vec<JoinHandle<anyhow::Result<T>>>, violations: &mut Vec<String>) -> anyhow::Result<Vec<T>> {
    let mut good = Vec::new();
    for (number, task) in tasks.into_iter().enumerate() {
        match task.await? {
            Ok(done) => good.push(done),
            Err(error) => violations.push(format!("{what} {number}: {error:#}")),
        }
    }
    Ok(good)
}

/// Its caller waits for its end.
#[expect(clippy::disallowed_methods, reason = "joined by its caller")]
pub(crate) fn spawn<T: Send + 'static>(load: impl Future<Output = anyhow::Result<T>> + Send + 'static) -> JoinHandle<anyhow::Result<T>> {
    tokio::spawn(load)
}
