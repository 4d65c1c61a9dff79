//! Plays histories on the running services: all of a batch at once, with other people each, so that they share the waiting for the disk. Time
//! passes between their steps, for all of them together.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    check::{Difference, Player},
    history::{History, shorten},
    services::Services,
    step::Step,
    world::World,
};

/// No history takes so long from one wait to the next.
const PATIENCE: Duration = Duration::from_secs(120);
/// One of so many histories ends with the changes of which it is known without a model what must follow.
const CHANGED: u64 = 20;
/// So often a history is tried again to make it shorter.
const TRIES: usize = 300;

/// A history that is not as the model says, and why.
pub(crate) type Failure = (History, Difference);

struct Playing {
    history: History,
    player: Player<World>,
    next: usize,
    failed: Option<Difference>,
}

/// Plays them to their ends. They must wait for the same hours.
pub(crate) async fn together(services: &Arc<Services>, histories: Vec<History>) -> anyhow::Result<Vec<Failure>> {
    let mut playing = Vec::new();
    for history in histories {
        let world = World::new(services.clone(), history.people).await?;
        playing.push(Playing { player: Player::new(world, &history), history, next: 0, failed: None });
    }
    loop {
        let mut under_way: JoinSet<Playing> = playing.into_iter().map(Playing::until_time_passes).collect();
        playing = Vec::new();
        while let Some(played) = under_way.join_next().await {
            playing.push(played.context("a history panicked")?);
        }
        match playing.iter().find_map(|playing| playing.history.steps.get(playing.next)) {
            Some(Step::Wait(hours)) => services.wait(Duration::from_secs(hours * 3600)),
            _ => break,
        }
    }
    Ok(playing.into_iter().filter_map(|playing| Some((playing.history, playing.failed?))).collect())
}

impl Playing {
    async fn until_time_passes(mut self) -> Self {
        let played = timeout(PATIENCE, Box::pin(self.play())).await;
        let failed = played.unwrap_or_else(|_| Err(format!("step {} does not end", self.next))).err();
        if self.failed.is_none() {
            self.failed = failed;
        }
        while self.failed.is_some() && !matches!(self.history.steps.get(self.next), None | Some(Step::Wait(_))) {
            self.next += 1;
        }
        self
    }

    /// From a wait, which is over, to the next or the end.
    async fn play(&mut self) -> Result<(), Difference> {
        let began = self.next;
        while let Some(step) = self.history.steps.get(self.next) {
            if self.next > began && matches!(step, Step::Wait(_)) {
                return Ok(());
            }
            self.next += 1;
            if self.failed.is_none() {
                self.player.step(step).await.map_err(|difference| format!("step {}: {difference}", self.next))?;
            }
        }
        match self.failed.is_none() {
            true => self.end().await.map_err(|difference| format!("at the end: {difference}")),
            false => Ok(()),
        }
    }

    async fn end(&mut self) -> Result<(), Difference> {
        self.player.everybody().await?;
        if self.history.seed.is_multiple_of(CHANGED) {
            self.player.changes(self.history.seed).await?;
        }
        Ok(())
    }
}

/// A short history that fails like this one, and why.
pub(crate) async fn shortest(services: &Arc<Services>, failure: Failure) -> Failure {
    let mut last = failure.clone();
    let mut tries = 0;
    let short = shorten(&failure.0, async |shorter| {
        tries += 1;
        match together(services, vec![shorter.clone()]).await {
            Ok(failures) if tries <= TRIES && !failures.is_empty() => {
                last = failures.into_iter().next().unwrap_or_else(|| failure.clone());
                true
            }
            _ => false,
        }
    })
    .await;
    (short, last.1)
}
