//! The sessions of one link that are attached, or asked to be.

use std::sync::Arc;

use foldhash::HashMap;
use futures::future::{AbortHandle, Abortable};
use plaza_processor::StoreError;
use plaza_types::UserId;

use super::{outgoing::Outgoing, sessions::Sessions};

/// One link's.
pub(super) struct Attached {
    all: Arc<Sessions>,
    link: Arc<Outgoing>,
    /// By the gateway's numbers, with what ends the asking.
    sessions: HashMap<u64, (UserId, AbortHandle)>,
}

impl Attached {
    /// None yet.
    pub(super) fn new(all: Arc<Sessions>, link: Arc<Outgoing>) -> Self {
        Self { all, link, sessions: HashMap::default() }
    }

    /// Attaches a session instead of where it was, see [`Sessions::attach`]. It is begun with the first poll, and comes to nothing once the session
    /// left or came again: it would take the session from where it was attached since.
    pub(super) fn attach<F: Future<Output = Result<u64, StoreError>>>(
        &mut self,
        session: u64,
        user: UserId,
        after: u64,
        stored: F,
    ) -> impl Future<Output = Result<(), StoreError>> + use<F> {
        self.detach(session);
        let (asking, until) = AbortHandle::new_pair();
        self.sessions.insert(session, (user, asking));
        let (all, link) = (Arc::clone(&self.all), Arc::clone(&self.link));
        let attached = Abortable::new(async move { all.attach(user, after, &link, session, stored).await }, until);
        async { attached.await.unwrap_or(Ok(())) }
    }

    /// Forgets a session.
    pub(super) fn detach(&mut self, session: u64) {
        if let Some(asked) = self.sessions.remove(&session) {
            self.leave(session, asked);
        }
    }

    fn leave(&self, session: u64, (user, asking): (UserId, AbortHandle)) {
        asking.abort();
        self.all.detach(user, &self.link, session);
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        for (session, asked) in std::mem::take(&mut self.sessions) {
            self.leave(session, asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use bytes::Bytes;
    use futures::FutureExt as _;
    use plaza_proto::chat::v1::told::Told;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_session_that_comes_again_stays_attached_whichever_store_answers_first() {
        let (sessions, link) = (Arc::new(Sessions::new(1)), Arc::new(Outgoing::new(1 << 20)));
        sessions.assigned(0, 1);
        let mut attached = Attached::new(Arc::clone(&sessions), Arc::clone(&link));
        let user = UserId::from_bytes([7; 16]);
        let (answer, answered) = oneshot::channel();
        let mut first = pin!(attached.attach(1, user, 0, async { answered.await.map_err(|_| unreachable!("it answers")) }));
        assert!(first.as_mut().now_or_never().is_none(), "the store is asked");
        attached.attach(1, user, 3, async { Ok(3) }).now_or_never().expect("nothing to wait for").expect("the store answers");
        assert!(answer.send(3).is_ok());
        assert!(first.now_or_never().is_some_and(|done| done.is_ok()));

        sessions.announce(user, 4, &Bytes::from_static(b"event"));
        let frame = link.next().now_or_never().flatten().expect("something is told");
        let told: Vec<Option<Told>> = frame.told.into_iter().map(|told| told.told).collect();
        assert!(matches!(&told[..], [Some(Told::Attached(_)), Some(Told::Live(live))] if live.cursor == 4), "{told:?}");

        attached.detach(1);
        sessions.announce(user, 5, &Bytes::from_static(b"event"));
        assert!(link.next().now_or_never().is_none(), "nothing is told to who left");
    }
}
