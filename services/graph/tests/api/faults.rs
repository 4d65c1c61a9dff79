//! With a log and a store that fail in every way they may, whoever asks again until there is an answer gets what they asked for, once, and
//! two people's edges end as both of them left them: in their lists, in what conversations are told, and in what their devices are told.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use plaza_event_log::fault::{Faults, Faulty as FaultyLog};
use plaza_processor::fault::Odds;
use plaza_proto::{
    chat::v1::entry::Event,
    graph::v1::{
        AcceptFriendRequestRequest, BlockRequest, GetRelationsRequest, ListContactsRequest, ListFriendRequestsRequest, Relation,
        RemoveContactRequest, RequestBox, RequestState, SendFriendRequestRequest, relations_service_client::RelationsServiceClient,
    },
};
use plaza_runtime::Rng;
use plaza_types::limits::SECOND;
use tonic::{Code, Request, Response, Status};

use crate::{
    faulty::Faulty,
    world::{Person, World, wait_for},
};

/// Asks the same again until there is an answer.
async fn until_answered<T>(mut ask: impl AsyncFnMut() -> Result<Response<T>, Status>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer.into_inner(),
            Err(status) if [Code::Unavailable, Code::DeadlineExceeded].contains(&status.code()) => {}
            Err(status) => panic!("{status:?}"),
        }
    }
}

/// Has a method answer the same twice.
macro_rules! twice {
    ($person:ident, $method:ident, $message:expr) => {
        let message = $message;
        let ask = async || $person.graph.clone().$method(shortly($person, &message)).await;
        assert_eq!(until_answered(ask).await, until_answered(ask).await, "asked again");
    };
}

/// Does not wait for long for what a fault has swallowed.
fn shortly<T: Clone>(person: &Person, message: &T) -> Request<T> {
    let mut request = person.identity.request(message.clone());
    request.set_timeout(Duration::from_secs(1));
    request
}

/// Two who made friends, and what they did then.
struct Pair<'a> {
    one: &'a Person,
    other: &'a Person,
    /// The one removed the other.
    removed: bool,
    /// The other blocked the one.
    blocked: bool,
}

impl<'a> Pair<'a> {
    /// The two make friends, by a request that is accepted or by two that cross, and perhaps fall out.
    async fn meet(world: &World, nth: usize, one: &'a Person, other: &'a Person) -> Self {
        if nth % 3 == 2 {
            tokio::join!(ask(world, one, other), ask(world, other, one));
        } else {
            ask(world, one, other).await;
            wait_for("the request arrives", async || requests(other, RequestBox::Received).await.iter().any(|(id, _)| *id == one.id)).await;
            let request_id = world.request_id();
            twice!(other, accept_friend_request, AcceptFriendRequestRequest { user_id: one.id.clone(), request_id: request_id.clone() });
        }
        let friends = Self { one, other, removed: false, blocked: false };
        wait_for("both list each other", async || friends.stand(world).await).await;
        let pair = Self { removed: nth % 4 == 1, blocked: nth % 4 == 2, ..friends };
        let request_id = world.request_id();
        if pair.removed {
            twice!(one, remove_contact, RemoveContactRequest { user_id: other.id.clone(), request_id: request_id.clone() });
        }
        if pair.blocked {
            twice!(other, block, BlockRequest { user_id: one.id.clone(), request_id: request_id.clone() });
        }
        pair
    }

    /// From whom to whom, whether the first lists and blocks the second, and what the devices of the first are told of their list.
    fn sides(&self) -> [(&'a Person, &'a Person, bool, bool, Vec<bool>); 2] {
        let told = |changed: bool, listed: bool| if changed { vec![true, listed] } else { vec![true] };
        [
            (self.one, self.other, !self.removed, false, told(self.removed, false)),
            (self.other, self.one, true, self.blocked, told(self.blocked, true)),
        ]
    }

    /// Whether the rows of both say so.
    async fn stand(&self, world: &World) -> bool {
        let [(_, _, lists, ..), (_, _, listed_by, blocked_by, _)] = self.sides();
        let expected = Relation { user_id: self.other.id.clone(), lists, listed_by, blocked_by, ..Relation::default() };
        let request = GetRelationsRequest { user_id: self.one.id.clone(), other_ids: vec![self.other.id.clone()] };
        let ask = async || RelationsServiceClient::new(world.peer.clone()).get_relations(request.clone()).await;
        until_answered(ask).await.relations == [expected]
    }
}

async fn ask(world: &World, one: &Person, other: &Person) {
    let request_id = world.request_id();
    twice!(
        one,
        send_friend_request,
        SendFriendRequestRequest { user_id: other.id.clone(), request_id: request_id.clone(), ..Default::default() }
    );
}

async fn requests(person: &Person, kept_in: RequestBox) -> Vec<(String, RequestState)> {
    let list = ListFriendRequestsRequest { r#box: kept_in.into(), page_size: 200, page_token: String::new() };
    let answer = until_answered(async || person.graph.clone().list_friend_requests(shortly(person, &list)).await).await;
    answer.requests.into_iter().map(|request| (request.user_id.clone(), request.state())).collect()
}

async fn contacts(person: &Person) -> BTreeSet<String> {
    let list = ListContactsRequest { page_size: 200, page_token: String::new() };
    let answer = until_answered(async || person.graph.clone().list_contacts(shortly(person, &list)).await).await;
    answer.contacts.into_iter().map(|contact| contact.user_id).collect()
}

/// What the one's devices were told of the other's place in their list.
async fn told(world: &World, one: &Person, other: &Person) -> Vec<bool> {
    let events = world.inbox(one).await.into_iter();
    let about = |event| match event {
        Event::ContactChanged(changed) if changed.user_id == other.id => Some(changed.listed),
        _ => None,
    };
    events.filter_map(about).collect()
}

async fn both_sides_end_as_they_were_left(seed: u64) {
    // Slow calls would only make the test slow.
    let faults = Faults { slow: Duration::ZERO, late_appends: 0.05, ..Faults::all() };
    let odds = Odds { before: 50, after: 50, late: 50 };
    let world =
        World::around(|log| Arc::new(FaultyLog::new(log, seed, faults)), |store| Arc::new(Faulty::new(store, Rng::seeded(seed), odds)))
            .await;
    let people: Vec<_> = (0..6).map(|_| world.person()).collect();
    let mut pairs = Vec::new();
    for (place, one) in people.iter().enumerate() {
        for other in &people[..place] {
            pairs.push(Pair::meet(&world, pairs.len(), one, other).await);
            world.wait(SECOND);
        }
    }
    let sides: Vec<_> = pairs.iter().flat_map(Pair::sides).collect();
    for pair in &pairs {
        wait_for(&format!("seed {seed}: two stand as they left it"), async || pair.stand(&world).await).await;
    }
    for person in &people {
        let own = sides.iter().filter(|(one, _, lists, ..)| *lists && one.id == person.id);
        let expected: BTreeSet<_> = own.map(|(_, other, ..)| other.id.clone()).collect();
        assert_eq!(contacts(person).await, expected, "seed {seed}");
        for kept_in in [RequestBox::Received, RequestBox::Sent] {
            let open: Vec<_> = requests(person, kept_in).await.into_iter().filter(|(_, state)| *state != RequestState::Accepted).collect();
            assert_eq!(open, [], "seed {seed}: every request was accepted");
        }
    }
    for (one, other, lists, blocks, expected) in sides {
        wait_for(&format!("seed {seed}: devices are told {expected:?}, once"), async || told(&world, one, other).await == expected).await;
        wait_for(&format!("seed {seed}: the conversation knows how one stands to the other"), async || {
            let (user, other) = (one.identity.user.to_key(), other.identity.user.to_key());
            let told = world.sides.lock();
            let newest = told.iter().filter(|side| side.user == user && side.other == other).max_by_key(|side| side.version);
            newest.is_some_and(|side| (side.lists, side.blocks) == (lists, blocks))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_both_sides_end_as_they_were_left() {
    for seed in 1..4 {
        both_sides_end_as_they_were_left(seed).await;
    }
}
