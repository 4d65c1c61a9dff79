//! What every implementation of the store must do, listed once and run for each.

use std::sync::Arc;

use bytes::Bytes;
use plaza_embedded_db::{Db, Options};
use plaza_processor::{Machine, Timed};
use plaza_types::{ConversationId, UserId};

use super::{Head, Store, embedded::Embedded};
use crate::domain::{
    conversation::{self, Conversations},
    inbox::{self, Inboxes, Membership, Reading, Reference, Run},
};

macro_rules! cases {
    ($($case:ident)*) => {
        mod embedded_store { $(
            #[tokio::test]
            async fn $case() {
                let folder = tempfile::tempdir().expect("a folder");
                let db = plaza_embedded_db::Db::open(folder.path(), super::Options::default()).expect("a store");
                super::$case(super::embedded(&db)).await;
            }
        )* }
    };
}
cases! {
    what_was_never_written_is_not_there
    messages_are_read_in_ranges_up_to_their_ends
    entries_come_back_as_they_were
    the_later_write_wins_whatever_order_they_arrive_in
    the_later_write_wins_within_one_batch_too
    a_user_sees_own_conversations_only
}

pub(crate) fn embedded(db: &Db) -> Arc<dyn Store> {
    Arc::new(Embedded::open(db).expect("tables"))
}

fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

fn conversation(one: u8, other: u8) -> ConversationId {
    ConversationId::direct(user(one), user(other))
}

pub(crate) async fn put_conversation(store: &Arc<dyn Store>, time: u64, rows: impl IntoIterator<Item = conversation::Row>) {
    let store: Arc<dyn plaza_processor::Store<conversation::Row>> = Arc::clone(store) as _;
    let rows: Vec<_> = rows.into_iter().map(|row| Timed { time, row }).collect();
    store.write_rows(Conversations::NAME, &rows, &[]).await.expect("written");
}

pub(crate) async fn put_inbox(store: &Arc<dyn Store>, time: u64, rows: impl IntoIterator<Item = inbox::Row>) {
    let store: Arc<dyn plaza_processor::Store<inbox::Row>> = Arc::clone(store) as _;
    let rows: Vec<_> = rows.into_iter().map(|row| Timed { time, row }).collect();
    store.write_rows(Inboxes::NAME, &rows, &[]).await.expect("written");
}

async fn what_was_never_written_is_not_there(store: Arc<dyn Store>) {
    let (user, conversation) = (user(1), conversation(1, 2));
    assert_eq!(store.inbox_head(user).await.expect("read"), 0);
    assert_eq!(store.entries(user, 1..=9).await.expect("read"), []);
    assert_eq!(store.messages(conversation, 1..=9).await.expect("read"), []);
    assert_eq!(store.heads(&[conversation]).await.expect("read"), [Head::default()]);
    assert_eq!(store.sent(conversation, user).await.expect("read"), 0);
    assert_eq!(store.member(user, conversation).await.expect("read"), None);
    assert_eq!(store.conversations(user).await.expect("read"), []);
}

async fn messages_are_read_in_ranges_up_to_their_ends(store: Arc<dyn Store>) {
    let (here, there) = (conversation(1, 2), conversation(1, 3));
    let message = |conversation, sequence| conversation::Row::Message { conversation, sequence, event: Bytes::from(sequence.to_string()) };
    for sequence in (1..=300).rev() {
        // Each written twice, as a replay does.
        put_conversation(&store, sequence, [message(here, sequence), message(there, sequence), message(here, sequence)]).await;
    }
    put_conversation(&store, 301, [conversation::Row::Head { conversation: here, head: 300, time: 7 }]).await;
    put_conversation(&store, 301, [conversation::Row::Sent { conversation: here, user: user(1), sequence: 299 }]).await;
    let read = store.messages(here, 255..=257).await.expect("read");
    assert_eq!(read, [255, 256, 257].map(|sequence: u64| (sequence, Bytes::from(sequence.to_string()))));
    assert_eq!(store.messages(here, 300..=900).await.expect("read").len(), 1);
    assert_eq!(store.messages(here, 1..=300).await.expect("read").len(), 300);
    assert_eq!(store.heads(&[there, here]).await.expect("read"), [Head::default(), Head { sequence: 300, time: 7 }]);
    assert_eq!((store.sent(here, user(1)).await.expect("read"), store.sent(here, user(2)).await.expect("read")), (299, 0));
}

async fn entries_come_back_as_they_were(store: Arc<dyn Store>) {
    let references = [
        Reference::Message { conversation: conversation(1, 2), sequence: 1 << 40 },
        Reference::Event(Bytes::from_static(b"event")),
        Reference::Event(Bytes::new()),
    ];
    let rows = (1..).zip(references.clone()).map(|(cursor, reference)| inbox::Row::Entry { user: user(1), cursor, reference });
    put_inbox(&store, 5, rows.chain([inbox::Row::Head { user: user(1), head: 3 }])).await;
    let read = store.entries(user(1), 1..=3).await.expect("read");
    assert_eq!(read, (1..).zip(references).collect::<Vec<_>>());
    assert_eq!(store.entries(user(1), 2..=2).await.expect("read").len(), 1);
    assert_eq!((store.inbox_head(user(1)).await.expect("read"), store.inbox_head(user(2)).await.expect("read")), (3, 0));
}

async fn the_later_write_wins_whatever_order_they_arrive_in(store: Arc<dyn Store>) {
    let (user, conversation) = (user(1), conversation(1, 2));
    let head = |head| inbox::Row::Head { user, head };
    let reading = |read| inbox::Row::Reading {
        user,
        conversation,
        reading: Reading { read, runs: vec![Run { first: read + 1, last: read + 2 }], called: 1 },
    };
    let membership = |draft: &str| inbox::Row::Membership {
        user,
        conversation,
        membership: Membership { draft: draft.into(), since: 1, ..Membership::default() },
    };
    put_inbox(&store, 20, [membership("new"), reading(20), head(20)]).await;
    put_inbox(&store, 10, [membership("old"), reading(10), head(10)]).await;
    let member = store.member(user, conversation).await.expect("read").expect("a member");
    assert_eq!((member.membership.draft.as_str(), member.reading.read, member.reading.runs.len()), ("new", 20, 1));
    assert_eq!(store.inbox_head(user).await.expect("read"), 20);
}

async fn the_later_write_wins_within_one_batch_too(store: Arc<dyn Store>) {
    for (other, times) in (2..).zip([[10, 20, 30], [30, 20, 10], [20, 30, 10], [20, 10, 30]]) {
        let (user, conversation) = (user(other), conversation(1, other));
        let at = |time: u64| {
            let (membership, reading) = (Membership { since: time, ..Membership::default() }, Reading { read: time, ..Reading::default() });
            [
                inbox::Row::Membership { user, conversation, membership },
                inbox::Row::Reading { user, conversation, reading },
                inbox::Row::Head { user, head: time },
                inbox::Row::Entry { user, cursor: time, reference: Reference::Event(Bytes::new()) },
            ]
            .map(|row| Timed { time, row })
        };
        let inboxes: Arc<dyn plaza_processor::Store<inbox::Row>> = Arc::clone(&store) as _;
        inboxes.write_rows(Inboxes::NAME, &times.map(at).concat(), &[]).await.expect("written");
        let member = store.member(user, conversation).await.expect("read").expect("a member");
        assert_eq!((member.membership.since, member.reading.read, store.inbox_head(user).await.expect("read")), (30, 30, 30), "{times:?}");
        assert_eq!(store.entries(user, 1..=99).await.expect("read").len(), 3, "every entry is written");
        let at = |time: u64| {
            [
                conversation::Row::Sent { conversation, user, sequence: time },
                conversation::Row::Head { conversation, head: time, time },
                conversation::Row::Message { conversation, sequence: time, event: Bytes::new() },
            ]
            .map(|row| Timed { time, row })
        };
        let conversations: Arc<dyn plaza_processor::Store<conversation::Row>> = Arc::clone(&store) as _;
        conversations.write_rows(Conversations::NAME, &times.map(at).concat(), &[]).await.expect("written");
        assert_eq!(store.heads(&[conversation]).await.expect("read"), [Head { sequence: 30, time: 30 }], "{times:?}");
        assert_eq!(store.sent(conversation, user).await.expect("read"), 30);
        assert_eq!(store.messages(conversation, 1..=99).await.expect("read").len(), 3);
        // What a batch before wrote later still stands.
        put_inbox(&store, 29, [inbox::Row::Head { user, head: 29 }, inbox::Row::Head { user, head: 28 }]).await;
        assert_eq!(store.inbox_head(user).await.expect("read"), 30);
    }
}

async fn a_user_sees_own_conversations_only(store: Arc<dyn Store>) {
    let mut own: Vec<ConversationId> = (2..60).map(|other| conversation(1, other)).collect();
    for (user, conversation) in own.iter().map(|id| (user(1), *id)).chain([(user(2), conversation(1, 2)), (user(0), conversation(0, 2))]) {
        put_inbox(&store, 1, [inbox::Row::Membership { user, conversation, membership: Membership { since: 1, ..Membership::default() } }])
            .await;
    }
    put_inbox(&store, 2, [inbox::Row::Reading { user: user(1), conversation: own[3], reading: Reading { read: 4, ..Reading::default() } }])
        .await;
    let read = store.conversations(user(1)).await.expect("read");
    assert_eq!(read.iter().find(|(id, _)| *id == own[3]).map(|(_, member)| member.reading.read), Some(4));
    own.sort_unstable();
    assert_eq!(read.iter().map(|(id, _)| *id).collect::<Vec<_>>(), own);
    assert_eq!(store.member(user(3), conversation(1, 3)).await.expect("read"), None, "the other one's row is not theirs");
}
