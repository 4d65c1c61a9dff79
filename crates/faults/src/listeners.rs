//! Pairs of friends beside the crowd who write to each other, each with one device that listens: when what was sent reaches devices, and whether
//! all that was acknowledged does. That a gateway attaches its devices again after a partition has moved shows here.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use parking_lot::Mutex;
use plaza_client::{
    Account, Endpoint, Error, LiveEvent,
    chat::{self, entry::Event},
    new_id, text,
};
use plaza_testkit::{
    people::{SOON, befriend, newcomer},
    wait::wait_for,
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// Of six devices some hang on any instance, as good as always.
const PAIRS: usize = 3;

/// The friends, each beside the other, and what their devices were given.
pub(crate) struct Listeners {
    users: Vec<Account>,
    heard: Vec<Heard>,
    /// They end with this.
    _devices: JoinSet<()>,
}

/// Client message ids, in the order in which a device was given them.
type Heard = Arc<Mutex<Vec<String>>>;

impl Listeners {
    /// Registers them, makes them friends and lets their devices listen.
    ///
    /// # Errors
    /// Any refusal.
    pub(crate) async fn gather(address: &str) -> anyhow::Result<Self> {
        let (mut users, mut heard, mut devices) = (Vec::new(), Vec::new(), JoinSet::new());
        for _ in 0..PAIRS {
            // Connections of their own, so that not all are with the same gateway.
            let endpoint = Endpoint::new(address)?.with_longest_wait(Duration::from_millis(300));
            let (one, other) = (newcomer(&endpoint, "talker").await?, newcomer(&endpoint, "talker").await?);
            befriend(&one, &other).await?;
            users.extend([one, other]);
        }
        for user in &users {
            let given = Heard::default();
            devices.spawn(listen(user.clone(), Arc::clone(&given)));
            heard.push(given);
        }
        Ok(Self { users, heard, _devices: devices })
    }

    /// How many messages each device was given.
    pub(crate) fn delivered(&self) -> Vec<u64> {
        self.heard.iter().map(|heard| heard.lock().len() as u64).collect()
    }

    /// Everybody writes to their friend this often until `stop` is set. Answers which devices were not given all that was acknowledged.
    ///
    /// # Errors
    /// A refusal.
    pub(crate) async fn busy(&self, pace: Duration, stop: Arc<AtomicBool>) -> anyhow::Result<Vec<String>> {
        let mut talks = JoinSet::new();
        for (user, account) in self.users.iter().enumerate() {
            let (account, friend, stop) = (account.clone(), self.users[user ^ 1].user_id().to_owned(), Arc::clone(&stop));
            talks.spawn(async move { Ok::<_, anyhow::Error>((user, talk(account, friend, pace, stop).await?)) });
        }
        let mut violations = Vec::new();
        while let Some(talk) = talks.join_next().await {
            let (user, acknowledged) = talk??;
            for device in [user, user ^ 1] {
                let given = wait_for("all that was acknowledged is delivered", SOON, || async {
                    match undelivered(&acknowledged, &self.heard[device].lock()) {
                        0 => Ok(()),
                        missing => Err(format!("{missing} of {} missing", acknowledged.len())),
                    }
                });
                violations.extend(given.await.err().map(|error| format!("the device of listener {device}: {error}")));
            }
        }
        Ok(violations)
    }
}

async fn listen(account: Account, heard: Heard) {
    let mut live = account.live(0);
    // What is not heard after an error is missed in the end.
    while let Some(Ok(event)) = live.next().await {
        if let LiveEvent::Entry(entry) = event
            && let Some(Event::Message(message)) = entry.event
        {
            heard.lock().push(message.client_message_id);
        }
    }
}

/// Client message ids of what was acknowledged.
async fn talk(account: Account, friend: String, pace: Duration, stop: Arc<AtomicBool>) -> anyhow::Result<Vec<String>> {
    let mut acknowledged = Vec::new();
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let request = chat::SendMessageRequest {
            user_id: friend.clone(),
            client_message_id: new_id(),
            content: Some(text("words")),
            ..Default::default()
        };
        let answer = account.call(|mut services| {
            let request = request.clone();
            async move { services.chat.send_message(request).await }
        });
        match answer.await {
            Ok(_) => acknowledged.push(request.client_message_id),
            Err(Error::Unavailable(_)) => {}
            Err(error) => return Err(error).context("a send between friends was refused"),
        }
    }
    Ok(acknowledged)
}

/// How many of these a device was not given.
fn undelivered(acknowledged: &[String], heard: &[String]) -> usize {
    let heard: HashSet<_> = heard.iter().collect();
    acknowledged.iter().filter(|id| !heard.contains(id)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_and_not_given_is_missed() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(undelivered(&ids(&["a", "c"]), &ids(&["a", "b", "c"])), 0);
        assert_eq!(undelivered(&ids(&["a", "c", "d"]), &ids(&["d", "b"])), 2);
    }
}
