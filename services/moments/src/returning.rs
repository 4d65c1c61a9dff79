//! Viewers who look: their timelines are told so once a day, and those who were passed over while they did not look are given what they
//! missed before they are shown a page.

use std::{cmp::Reverse, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use plaza_event_log::{EventLog, Record, TopicPartition};
use plaza_processor::Envelope;
use plaza_rpc::ApiError;
use plaza_topics::{
    TIMELINE,
    timeline::{Kind, Payload, Rebuilt, Seen},
};
use plaza_types::{UserId, limits::DAY, partition};
use prost::Message as _;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::{
    RULES,
    commands::{Asker, Commands, store},
    domain::emit,
    store::{Place, Position},
    view::{AT_ONCE, View},
};

/// Posts of one friend that are looked for.
const OF_ONE: usize = 500;
/// Posts put in together, the newest ones.
const OF_ALL: usize = 10_000;
/// Posts named by one record.
const REFERENCES: usize = 1_000;
/// Timelines rebuilt at a time in one process.
const AT_A_TIME: usize = 16;
/// Viewers of whom it is remembered that their timelines were told today.
const TOLD: usize = 100_000;

/// Looks after viewers who look.
pub(crate) struct Returning {
    view: Arc<View>,
    commands: Arc<Commands>,
    log: Arc<dyn EventLog>,
    idle_after: u64,
    told: Cache<UserId, u64>,
    rebuilding: Semaphore,
}

impl Returning {
    pub(crate) fn new(view: Arc<View>, commands: Arc<Commands>, log: Arc<dyn EventLog>, idle_after: u64) -> Self {
        Self { view, commands, log, idle_after, told: Cache::new(TOLD), rebuilding: Semaphore::new(AT_A_TIME) }
    }

    /// To be called before a viewer is shown the first page of the timeline: nothing of it is missing afterwards.
    pub(crate) async fn looks(&self, asker: Asker) -> Result<(), Status> {
        let viewer = self.view.store.viewer(asker.user).await.map_err(store)?;
        let now = self.view.clock.now_micros();
        if viewer.skipped > 0 || (viewer.seen > 0 && viewer.is_idle(self.idle_after, now)) {
            return self.comes_back(asker).await;
        }
        let often = DAY.min(self.idle_after / 2);
        let told = self.told.get(&asker.user).unwrap_or_default().max(viewer.seen);
        if now >= told.saturating_add(often) {
            self.told.insert(asker.user, now);
            // Nobody waits for it: whoever looks is not idle for long yet, and is told again with the next page if this is lost.
            if let Err(error) = self.append(asker.user, now, Kind::Seen(Seen {})).await {
                self.told.remove(&asker.user);
                tracing::debug!(%error, "a look was not noted");
            }
        }
        Ok(())
    }

    /// From the answer to `Seen` on nothing is passed over, and what was until then is known.
    async fn comes_back(&self, asker: Asker) -> Result<(), Status> {
        self.commands.note(asker, Kind::Seen(Seen {})).await?;
        let since = self.view.store.viewer(asker.user).await.map_err(store)?.skipped;
        if since == 0 {
            return Ok(());
        }
        let _turn = self.rebuilding.acquire().await.map_err(|_| ApiError::internal())?;
        let places = self.missed(asker.user, since).await?;
        let now = self.view.clock.now_micros();
        for places in places.chunks(REFERENCES) {
            let posts = places.iter().map(|place| (place.post, place.created));
            let payload = emit::references_payload(&[asker.user.to_key()], posts);
            self.append_payload(asker.user, now, payload).await.map_err(|error| {
                tracing::warn!(%error, "a timeline was not rebuilt");
                ApiError::unavailable(std::time::Duration::from_millis(100))
            })?;
        }
        // Its answer comes after the references before it can be read.
        Ok(self.commands.note(asker, Kind::Rebuilt(Rebuilt { since })).await?)
    }

    /// The friends' posts from a time on, the newest ones.
    async fn missed(&self, viewer: UserId, since: u64) -> Result<Vec<Place>, Status> {
        let (mut missed, mut after) = (Vec::new(), None);
        loop {
            let (listed, more) = self.view.knowledge.listed(viewer, after).await?;
            after = listed.last().copied();
            let stances = self.view.knowledge.stances(viewer, &listed, false).await?;
            // Also of those who are blocked or hidden now: their posts must be there when that ends.
            let friends = stances.into_iter().filter(|(_, stances)| stances.own.lists && stances.theirs.lists);
            let own: Vec<_> = friends.map(|(author, _)| self.view.store.own(author, Position::NEWEST, OF_ONE)).collect();
            let mut own = stream::iter(own).buffer_unordered(AT_ONCE);
            while let Some(own) = own.try_next().await.map_err(store)? {
                missed.extend(own.into_iter().filter(|place| place.created >= since));
            }
            missed.sort_unstable_by_key(|place| Reverse(place.created));
            missed.truncate(OF_ALL);
            if !more {
                return Ok(missed);
            }
        }
    }

    async fn append(&self, user: UserId, now: u64, kind: Kind) -> Result<(), plaza_event_log::Error> {
        self.append_payload(user, now, Payload { kind: Some(kind) }.encode_to_vec()).await
    }

    async fn append_payload(&self, user: UserId, now: u64, payload: Vec<u8>) -> Result<(), plaza_event_log::Error> {
        let envelope = Envelope { rules: RULES, time: now, caller: user.to_key(), payload: payload.into(), ..Envelope::default() };
        let to = TopicPartition { topic: TIMELINE, partition: partition::of(user.as_bytes(), self.log.partitions(TIMELINE)) };
        self.log.append(to, Record { key: user.to_key(), value: envelope.encode_to_vec().into(), headers: Vec::new() }).await
    }
}
