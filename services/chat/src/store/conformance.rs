//! What every implementation of the store must do, listed once and run for each.

use std::sync::Arc;

use bytes::Bytes;
use plaza_embedded_db::{Db, Options};
use plaza_processor::{Machine, Timed};
use plaza_types::{ConversationId, UserId};

use super::{
    Head, Store,
    embedded::Embedded,
    scylla::{MIGRATIONS, Scylla},
};
use crate::domain::{
    conversation::{
        self, Conversations,
        row::{Group, GroupMember, Pending, Role, Waits},
    },
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
        mod scylla_store { $(
            #[tokio::test]
            async fn $case() {
                let Some(nodes) = plaza_testkit::external::cql() else { return };
                let lease = plaza_scylla_kit::testing::lease(&nodes, &[super::MIGRATIONS]).await;
                let store = super::Scylla::open(&lease.session).await.expect("tables");
                super::$case(std::sync::Arc::new(store)).await;
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
    a_message_taken_back_stays_so_whoever_writes_it_again
    places_of_a_groups_order_are_counted_up_to_any
    members_and_the_invited_are_those_written_last
    what_a_user_deleted_is_that_users_only
    numbers_go_on_whatever_they_have_come_to
    a_watermark_is_seen_after_what_it_covers
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

fn group(n: u8) -> ConversationId {
    ConversationId::group(1_700_000_000_000_000, [n; 10])
}

async fn a_message_taken_back_stays_so_whoever_writes_it_again(store: Arc<dyn Store>) {
    let here = conversation(1, 2);
    let message = |sequence: u64| conversation::Row::Message { conversation: here, sequence, event: Bytes::from(sequence.to_string()) };
    let recalled = |sequence| conversation::Row::Recalled { conversation: here, sequence, event: Bytes::from_static(b"left") };
    put_conversation(&store, 1, (1..=5).map(message)).await;
    put_conversation(&store, 6, [recalled(2), recalled(5), recalled(6)]).await;
    // An owner that is behind, and a replay.
    put_conversation(&store, 2, [message(2), message(5)]).await;
    let read = |range| {
        let store = Arc::clone(&store);
        async move {
            store
                .messages(here, range)
                .await
                .expect("read")
                .into_iter()
                .map(|(sequence, event)| (sequence, event == "left"))
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(read(1..=9).await, [(1, false), (2, true), (3, false), (4, false), (5, true), (6, true)]);
    assert_eq!(read(2..=2).await, [(2, true)], "the ends of a range belong to it");
    assert_eq!(read(3..=5).await, [(3, false), (4, false), (5, true)]);
    assert_eq!(read(3..=4).await, [(3, false), (4, false)]);
}

async fn places_of_a_groups_order_are_counted_up_to_any(store: Arc<dyn Store>) {
    let (here, there) = (group(1), group(2));
    let notice = |conversation, sequence, count| conversation::Row::Notice { conversation, sequence, count };
    let call = |sequence, sender, before| conversation::Row::CalledAll { conversation: here, sequence, sender: user(sender), before };
    put_conversation(&store, 1, [notice(here, 1, 1), notice(here, 4, 2), notice(here, 300, 3), notice(there, 2, 1)]).await;
    put_conversation(&store, 2, [call(5, 1, 0), call(7, 2, 5), call(8, 2, 5)]).await;
    let expected = [(0, 0), (1, 1), (3, 1), (4, 2), (299, 2), (300, 3), (u64::MAX, 3)];
    for (up_to, count) in expected {
        assert_eq!(store.notices(here, up_to).await.expect("read"), count, "{up_to}");
    }
    assert_eq!((store.notices(there, 1).await.expect("read"), store.notices(group(3), 9).await.expect("read")), (0, 0));
    for (up_to, user_, called) in [(4, 9, 0), (5, 9, 5), (5, 1, 0), (7, 2, 5), (8, 2, 5), (99, 1, 8), (6, 2, 5)] {
        assert_eq!(store.called_all(here, up_to, user(user_)).await.expect("read"), called, "{up_to} {user_}");
    }
    assert_eq!(store.called_all(there, 99, user(1)).await.expect("read"), 0);
}

async fn members_and_the_invited_are_those_written_last(store: Arc<dyn Store>) {
    let (here, there) = (group(1), group(2));
    let member = |conversation, n, role: Option<Role>| conversation::Row::Member {
        conversation,
        user: user(n),
        member: role.map(|role| GroupMember { role: role.into(), ..GroupMember::default() }),
    };
    let pending = |conversation, n, waits: Option<Waits>| conversation::Row::Pending {
        conversation,
        user: user(n),
        pending: waits.map(|waits| Pending { waits: waits.into(), ..Pending::default() }),
    };
    put_conversation(&store, 5, (1..=5).map(|n| member(here, n, Some(Role::Member)))).await;
    put_conversation(&store, 7, [member(here, 2, None), member(here, 3, Some(Role::Admin)), member(there, 1, Some(Role::Owner))]).await;
    put_conversation(&store, 6, [member(here, 2, Some(Role::Member)), member(here, 3, Some(Role::Member))]).await;
    let page = |after: Option<u8>, limit| {
        let store = Arc::clone(&store);
        async move {
            let rows = store.group_members(here, after.map(user), limit).await.expect("read");
            rows.into_iter().map(|(user, member)| (user.as_bytes()[0], member.role())).collect::<Vec<_>>()
        }
    };
    assert_eq!(page(None, 2).await, [(1, Role::Member), (3, Role::Admin)]);
    assert_eq!(page(Some(3), 9).await, [(4, Role::Member), (5, Role::Member)]);
    assert_eq!(store.group_member(here, user(2)).await.expect("read"), None);
    assert_eq!(store.group_member(there, user(1)).await.expect("read").map(|member| member.role()), Some(Role::Owner));
    put_conversation(
        &store,
        8,
        [pending(here, 7, Some(Waits::Approval)), pending(there, 7, Some(Waits::Invited)), pending(here, 8, Some(Waits::Invited))],
    )
    .await;
    let requests = store.join_requests(here, None, 9).await.expect("read");
    assert_eq!(requests.iter().map(|(user, _)| user.as_bytes()[0]).collect::<Vec<_>>(), [7]);
    let invitations = store.invitations(user(7), None, 9).await.expect("read");
    assert_eq!(invitations.iter().map(|(group, _)| *group).collect::<Vec<_>>(), [there]);
    put_conversation(&store, 9, [pending(here, 7, Some(Waits::Invited)), pending(there, 7, None)]).await;
    assert!(store.join_requests(here, None, 9).await.expect("read").is_empty(), "approved");
    assert_eq!(store.invitations(user(7), None, 9).await.expect("read").len(), 1);
    assert!(store.invitations(user(7), Some(here), 9).await.expect("read").is_empty());
    assert_eq!(store.group(here).await.expect("read"), None);
    let titled = |title: &str| conversation::Row::Group { conversation: here, group: Group { title: title.into(), ..Group::default() } };
    put_conversation(&store, 9, [titled("new")]).await;
    put_conversation(&store, 8, [titled("old")]).await;
    assert_eq!(store.group(here).await.expect("read").map(|group| group.title), Some("new".into()));
}

async fn what_a_user_deleted_is_that_users_only(store: Arc<dyn Store>) {
    let here = conversation(1, 2);
    let deleted = |n, conversation, sequence| inbox::Row::Deleted { user: user(n), conversation, sequence };
    put_inbox(&store, 1, [deleted(1, here, 3), deleted(1, here, 300), deleted(1, conversation(1, 3), 4), deleted(1, here, 5)]).await;
    assert_eq!(store.deleted(user(1), here, 1..=299).await.expect("read"), [3, 5]);
    assert_eq!(store.deleted(user(1), here, 300..=300).await.expect("read"), [300]);
    assert!(store.deleted(user(2), here, 1..=999).await.expect("read").is_empty());
    assert!(store.has_deleted(user(1)).await.expect("read") && !store.has_deleted(user(2)).await.expect("read"));
}

/// Where a store that cuts its tables into parts may do so.
async fn numbers_go_on_whatever_they_have_come_to(store: Arc<dyn Store>) {
    let (here, user) = (group(1), user(1));
    let numbers = [9_998, 9_999, 10_000, 10_001, 19_999, 20_000, 20_001];
    let message = |sequence: u64| conversation::Row::Message { conversation: here, sequence, event: Bytes::from(sequence.to_string()) };
    put_conversation(&store, 1, numbers.map(message)).await;
    let entry = |cursor: u64| inbox::Row::Entry { user, cursor, reference: Reference::Event(Bytes::from(cursor.to_string())) };
    put_inbox(&store, 1, numbers.map(entry)).await;
    put_inbox(&store, 1, numbers.map(|sequence| inbox::Row::Deleted { user, conversation: here, sequence })).await;
    for range in [9_999..=10_000, 9_999..=20_000, 10_000..=19_999, 10_002..=10_003, 1..=30_000] {
        let expected: Vec<u64> = numbers.into_iter().filter(|number| range.contains(number)).collect();
        let messages = store.messages(here, range.clone()).await.expect("read");
        assert_eq!(messages.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), expected, "{range:?}");
        assert!(messages.iter().all(|(sequence, event)| *event == sequence.to_string()), "{range:?}");
        let entries = store.entries(user, range.clone()).await.expect("read");
        assert_eq!(entries.iter().map(|(cursor, _)| *cursor).collect::<Vec<_>>(), expected, "{range:?}");
        assert_eq!(store.deleted(user, here, range.clone()).await.expect("read"), expected, "{range:?}");
    }

    let places = [3, 49_999, 50_000, 1_000_000, 90_000_000];
    for (sequence, count) in places.into_iter().zip(1..) {
        let call = conversation::Row::CalledAll { conversation: here, sequence, sender: self::user(2), before: 0 };
        put_conversation(&store, sequence, [conversation::Row::Notice { conversation: here, sequence, count }, call]).await;
    }
    let looks = [(2, 0), (49_998, 1), (49_999, 2), (50_000, 3), (99_999, 3), (999_999, 3), (1_000_000, 4), (89_999_999, 4), (u64::MAX, 5)];
    for (up_to, count) in looks {
        assert_eq!(store.notices(here, up_to).await.expect("read"), count, "{up_to}");
        let newest = places.into_iter().filter(|sequence| *sequence <= up_to).max().unwrap_or_default();
        assert_eq!(store.called_all(here, up_to, user).await.expect("read"), newest, "{up_to}");
    }
}

async fn a_watermark_is_seen_after_what_it_covers(store: Arc<dyn Store>) {
    // So many that writing them takes a while.
    const ROWS: u64 = 1_500;
    const PARTS: u64 = 2;
    let (here, user) = (conversation(1, 2), user(1));
    let written = async {
        for part in 0..PARTS {
            let numbers = part * ROWS + 1..=(part + 1) * ROWS;
            let message = |sequence: u64| conversation::Row::Message { conversation: here, sequence, event: Bytes::from_static(b"m") };
            let head = conversation::Row::Head { conversation: here, head: *numbers.end(), time: 1 };
            put_conversation(&store, part + 1, numbers.clone().map(message).chain([head])).await;
            let entry = |cursor| inbox::Row::Entry { user, cursor, reference: Reference::Message { conversation: here, sequence: cursor } };
            put_inbox(&store, part + 1, numbers.clone().map(entry).chain([inbox::Row::Head { user, head: *numbers.end() }])).await;
        }
    };
    let read = async {
        while store.inbox_head(user).await.expect("read") < PARTS * ROWS {
            let head = store.heads(&[here]).await.expect("read")[0].sequence;
            let messages = store.messages(here, 1..=PARTS * ROWS).await.expect("read");
            assert!(messages.len() as u64 >= head, "{} up to {head}", messages.len());
            let head = store.inbox_head(user).await.expect("read");
            let entries = store.entries(user, 1..=PARTS * ROWS).await.expect("read");
            assert!(entries.len() as u64 >= head, "{} up to {head}", entries.len());
            tokio::task::yield_now().await;
        }
    };
    futures::future::join(written, read).await;
}
