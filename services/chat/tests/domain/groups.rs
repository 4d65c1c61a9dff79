//! What the machines decide about groups: who may do what, when a user's time begins and ends, and what each thing costs.

use bytes::Bytes;
use plaza_chat::domain::{
    conversation::{
        Changed,
        row::{Role, Waits},
    },
    event,
    inbox::Reference,
};
use plaza_proto::chat::v1::{NoticeKind, entry};
use plaza_topics::{conversation as chat, inbox as topic};
use plaza_types::{ClientId, ConversationId, Reason, UserId, limits};
use prost::Message as _;

use super::world::{self, World, accepted, text, user};

pub(crate) const LIMIT: u32 = 500;

pub(crate) fn group() -> ConversationId {
    ConversationId::group(1_700_000_000_000_000, [9; 10])
}

/// User number `n` of many.
pub(crate) fn person(n: usize) -> UserId {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&(n as u64 + 1).to_be_bytes());
    UserId::from_bytes(bytes)
}

pub(crate) fn people(of: impl IntoIterator<Item = UserId>) -> chat::Add {
    chat::Add { users: of.into_iter().map(|user| user.to_key()).collect(), strangers: false, limit: LIMIT }
}

pub(crate) fn single(user: UserId) -> chat::Person {
    chat::Person { user: user.to_key() }
}

impl World {
    pub(crate) fn ask(&mut self, caller: UserId, kind: chat::Kind) -> Result<Changed, Reason> {
        let changed = accepted(self.chat(Some(caller), group(), kind))?;
        Ok(Changed::decode(changed).expect("what changed"))
    }

    pub(crate) fn create(&mut self, owner: UserId, others: impl IntoIterator<Item = UserId>) -> Result<Changed, Reason> {
        self.ask(owner, chat::Kind::Create(chat::Create { title: "title".into(), people: Some(people(others)) }))
    }

    pub(crate) fn add(&mut self, caller: UserId, others: impl IntoIterator<Item = UserId>) -> Result<Changed, Reason> {
        self.ask(caller, chat::Kind::Add(people(others)))
    }

    pub(crate) fn remove(&mut self, caller: UserId, others: impl IntoIterator<Item = UserId>) -> Result<Changed, Reason> {
        let users = others.into_iter().map(|user| user.to_key()).collect();
        self.ask(caller, chat::Kind::Remove(chat::Remove { users }))
    }

    pub(crate) fn leave(&mut self, caller: UserId) -> Result<Changed, Reason> {
        self.ask(caller, chat::Kind::Leave(chat::Plain {}))
    }

    pub(crate) fn promote(&mut self, caller: UserId, who: UserId, admin: bool) -> Result<Changed, Reason> {
        self.ask(caller, chat::Kind::SetRole(chat::SetRole { user: who.to_key(), admin }))
    }

    pub(crate) fn accept(&mut self, caller: UserId, accept: bool) -> Result<Changed, Reason> {
        self.ask(caller, chat::Kind::AnswerInvitation(chat::Answer { accept, ..chat::Answer::default() }))
    }

    fn agree(&mut self, caller: UserId, user: UserId, accept: bool) -> Result<Changed, Reason> {
        self.ask(caller, chat::Kind::AnswerJoinRequest(chat::Answer { accept, user: user.to_key() }))
    }

    fn describe(&mut self, caller: UserId, describe: chat::Describe) -> Result<Changed, Reason> {
        self.ask(caller, chat::Kind::Describe(describe))
    }

    /// The places of the group's order that reached a user's inbox.
    pub(crate) fn heard(&self, user: UserId) -> Vec<u64> {
        let heard = self.entries.get(&user).into_iter().flatten().filter_map(|entry| match entry {
            Reference::Message { conversation, sequence } if *conversation == group() => Some(*sequence),
            _ => None,
        });
        heard.collect()
    }

    /// What a user's list shows: unread messages, and whether one of them calls the user. As readers put it together.
    pub(crate) fn shown(&self, user: UserId) -> (u64, bool) {
        let reading = self.readings[&(user, group())].clone();
        let last = self.memberships[&(user, group())].last(self.heads[&group()]);
        let notices = |up_to: u64| self.notices.range(..=(group(), up_to)).next_back().map_or(0, |(_, count)| *count);
        let call = self.calls.range(..=(group(), last)).next_back();
        let called = call.map_or(0, |((_, sequence), (sender, before))| if *sender == user { *before } else { *sequence });
        (reading.unread(last) - (notices(last) - notices(reading.read).min(notices(last))), reading.mentioned() || called > reading.read)
    }

    fn events(&self, user: UserId) -> Vec<entry::Event> {
        let told = self.entries.get(&user).into_iter().flatten().map(|entry| match entry {
            Reference::Event(event) => world::event(event),
            Reference::Message { conversation, sequence } => world::event(&self.events[&(*conversation, *sequence)]),
        });
        told.collect()
    }

    fn recall(&mut self, caller: UserId, sender: UserId, sequence: u64, sent_at: u64) -> Result<Bytes, Reason> {
        let client = ClientId::new(sent_at, [0; 10]);
        let client = Bytes::copy_from_slice(client.as_bytes());
        let recall = chat::Recall { sequence, sender: sender.to_key(), client, sent_at };
        accepted(self.chat(Some(caller), group(), chat::Kind::Recall(recall)))
    }

    fn role(&self, user: UserId) -> Role {
        self.members[&(group(), user)].role()
    }
}

#[test]
fn a_group_begins_with_its_creation_and_everybody_is_told_of_it_once() {
    let (owner, one, other) = (user(1), user(2), user(3));
    let mut world = World::default();
    assert_eq!(world.send(owner, group(), text("x")), Err(Reason::NotFound), "before it is made");
    let changed = world.create(owner, [one, other]).expect("made");
    assert_eq!((changed.head, changed.joined, changed.invited.len()), (1, vec![one.to_key(), other.to_key()], 0));
    for user in [owner, one, other] {
        assert_eq!(world.heard(user), [1]);
        let events = world.events(user);
        let [entry::Event::MembershipChanged(changed)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((changed.sequence, changed.joined.len()), (1, 3));
        assert_eq!(changed.notice.as_ref().map(|notice| notice.kind()), Some(NoticeKind::Created));
        assert_eq!(world.shown(user), (0, false), "a notice is nothing unread");
    }
    assert_eq!((world.role(owner), world.role(one)), (Role::Owner, Role::Member));
    let row = &world.groups[&group()];
    assert_eq!((row.title.as_str(), row.owner.clone(), row.members), ("title", owner.to_key(), 3));
    assert_eq!(world.create(owner, [one]), Err(Reason::RequestIdReused), "made once");
    assert_eq!(world.send(one, group(), text("x")), Ok(2));
}

#[test]
fn strangers_and_too_many_are_refused_and_nothing_changes() {
    let owner = person(0);
    let mut world = World::default();
    let strangers = chat::Add { strangers: true, ..people([user(2)]) };
    let create = |people| chat::Kind::Create(chat::Create { title: "t".into(), people: Some(people) });
    assert_eq!(world.ask(owner, create(strangers.clone())), Err(Reason::InvalidArgument));
    assert_eq!(world.create(owner, (1..=500).map(person)), Err(Reason::QuotaExceeded), "a group of 501");
    assert!(world.entries.is_empty() && world.groups.is_empty());
    let changed = world.create(owner, (1..500).map(person)).expect("500");
    assert_eq!((changed.joined.len(), changed.invited.len()), (39, 460));
    assert_eq!(world.ask(owner, chat::Kind::Add(strangers)), Err(Reason::InvalidArgument));
    assert_eq!(world.add(owner, [person(500)]), Err(Reason::QuotaExceeded), "the invited have their seats");
    world.accept(person(499), false).expect("declined");
    assert_eq!(world.add(owner, [person(500)]).map(|changed| changed.invited.len()), Ok(1));
    assert_eq!(world.add(owner, [person(499)]), Err(Reason::QuotaExceeded));
}

#[test]
fn above_forty_the_invited_must_accept() {
    let owner = person(0);
    let mut world = World::default();
    let changed = world.create(owner, (1..=41).map(person)).expect("made");
    assert_eq!((changed.joined.len(), changed.invited), (39, vec![person(40).to_key(), person(41).to_key()]));
    let events = world.events(person(40));
    let [entry::Event::GroupInvitation(invitation)] = &events[..] else { panic!("{events:?}") };
    assert!(invitation.pending && invitation.inviter_id == owner.to_string() && invitation.title == "title");
    assert_eq!(world.pending[&(group(), person(40))].waits(), Waits::Invited);
    assert!(world.heard(person(40)).is_empty(), "the invited hear nothing");
    assert_eq!(world.send(person(40), group(), text("x")), Err(Reason::NotFound));
    assert_eq!(world.accept(person(50), true), Err(Reason::NotFound), "who was not invited");
    world.send(owner, group(), text("x")).expect("sent");
    assert_eq!(world.accept(person(40), true).map(|changed| changed.head), Ok(3));
    assert_eq!(world.heard(person(40)), [3]);
    assert_eq!(world.accept(person(40), true), Err(Reason::NotFound), "once");
    // Twice invited is invited once; below the bound people come in at once.
    let told = world.entries[&person(41)].len();
    assert_eq!(world.add(person(1), [person(41)]).map(|changed| changed.invited.len()), Ok(1));
    assert_eq!(world.entries[&person(41)].len(), told);
    world.remove(owner, [person(2), person(3)]).expect("removed");
    assert_eq!(world.add(person(1), [person(41)]).map(|changed| changed.joined.len()), Ok(1));
    assert!(!world.pending.contains_key(&(group(), person(41))));
    assert_eq!(world.accept(person(41), true), Err(Reason::NotFound));
}

#[test]
fn an_invitation_expires_by_the_time_of_the_record() {
    let owner = person(0);
    let mut world = World::default();
    world.create(owner, (1..=41).map(person)).expect("made");
    let made = world.pending[&(group(), person(40))].since;
    world.time = made + limits::INVITATION_EXPIRY - 1;
    assert!(world.accept(person(40), true).is_ok());
    world.time = made + limits::INVITATION_EXPIRY;
    assert_eq!(world.accept(person(41), true), Err(Reason::NotFound));
    assert_eq!(world.add(owner, [person(41)]).map(|changed| changed.invited.len()), Ok(1), "invited anew");
    assert!(world.pending.contains_key(&(group(), person(41))), "a row is not removed and written by one command");
    assert!(world.accept(person(41), true).is_ok());
}

#[test]
fn where_approval_is_required_owner_or_admin_agree_first() {
    let (owner, admin, member, guest) = (user(1), user(2), user(3), user(4));
    let mut world = World::default();
    world.create(owner, [admin, member]).expect("made");
    world.promote(owner, admin, true).expect("promoted");
    let approval = chat::Describe { approval_required: Some(true), ..chat::Describe::default() };
    assert_eq!(world.describe(admin, approval.clone()), Err(Reason::RoleRequired));
    world.describe(owner, approval).expect("set");
    assert_eq!(world.add(member, [guest]).map(|changed| changed.waiting), Ok(vec![guest.to_key()]));
    assert!(!world.entries.contains_key(&guest), "the guest is not asked yet");
    for (who, told) in [(owner, true), (admin, true), (member, false)] {
        let asked = world.events(who).iter().any(|event| matches!(event, entry::Event::GroupJoinRequest(_)));
        assert_eq!(asked, told);
    }
    assert_eq!(world.agree(member, guest, true), Err(Reason::RoleRequired));
    assert_eq!(world.accept(guest, true), Err(Reason::NotFound), "not by the guest alone");
    world.agree(admin, guest, false).expect("declined");
    assert_eq!(world.agree(admin, guest, true), Err(Reason::NotFound));
    world.add(member, [guest]).expect("asked again");
    world.agree(admin, guest, true).expect("agreed");
    assert_eq!(world.heard(guest).len(), 1);
    assert_eq!(world.add(admin, [user(5)]).map(|changed| changed.joined.len()), Ok(1), "an admin's word is enough");
}

#[test]
fn roles_decide_who_may_do_what() {
    let (owner, admin, other, member, eve) = (user(1), user(2), user(3), user(4), user(9));
    let mut world = World::default();
    world.create(owner, [admin, other, member]).expect("made");
    let title = chat::Describe { title: Some("new".into()), ..chat::Describe::default() };
    assert_eq!(world.describe(member, title.clone()), Err(Reason::RoleRequired));
    assert_eq!(world.promote(member, other, true), Err(Reason::RoleRequired));
    assert_eq!(world.promote(owner, owner, false), Err(Reason::Yourself));
    assert_eq!(world.promote(owner, eve, true), Err(Reason::InvalidArgument));
    world.promote(owner, admin, true).expect("promoted");
    world.promote(owner, other, true).expect("promoted");
    let head = world.heads[&group()];
    world.promote(owner, other, true).expect("again");
    assert_eq!(world.heads[&group()], head, "nothing changed, nothing told");
    world.describe(admin, title).expect("described");
    for (by, whom, why) in [
        (admin, owner, Reason::RoleRequired),
        (admin, other, Reason::RoleRequired),
        (member, other, Reason::RoleRequired),
        (admin, admin, Reason::Yourself),
        (admin, eve, Reason::InvalidArgument),
        (eve, member, Reason::NotFound),
    ] {
        assert_eq!(world.remove(by, [whom]), Err(why), "{by} {whom}");
        assert_eq!(world.remove(by, [member, whom].into_iter().filter(|user| *user != by)).is_ok(), by == admin && whom == admin);
        if by == admin && whom == admin {
            world.add(owner, [member]).expect("back");
        }
    }
    let all = chat::Send { mentions_all: true, ..text("all") };
    assert_eq!(world.send(member, group(), all.clone()), Err(Reason::RoleRequired));
    world.send(admin, group(), all).expect("called");
    assert_eq!(world.leave(owner), Err(Reason::OwnerStays));
    assert_eq!(world.ask(admin, chat::Kind::Transfer(single(admin))), Err(Reason::RoleRequired));
    assert_eq!(world.ask(owner, chat::Kind::Transfer(single(owner))), Err(Reason::Yourself));
    assert_eq!(world.ask(admin, chat::Kind::Dissolve(chat::Plain {})), Err(Reason::RoleRequired));
    world.ask(owner, chat::Kind::Transfer(single(member))).expect("transferred");
    assert_eq!((world.role(member), world.role(owner), world.groups[&group()].owner.clone()), (Role::Owner, Role::Member, member.to_key()));
    world.leave(owner).expect("free to go");
    assert_eq!(world.groups[&group()].members, 3);
    world.ask(member, chat::Kind::Dissolve(chat::Plain {})).expect("dissolved");
    for outcome in [
        world.leave(admin),
        world.add(member, [eve]),
        world.remove(member, [admin]),
        world.ask(member, chat::Kind::Nickname(chat::Nickname::default())),
        world.ask(member, chat::Kind::Dissolve(chat::Plain {})),
    ] {
        assert_eq!(outcome, Err(Reason::GroupDissolved));
    }
    assert_eq!(world.send(member, group(), text("x")), Err(Reason::GroupDissolved));
    assert_eq!(world.mark_read(admin, group(), world.heads[&group()]), Ok(world.heads[&group()]), "still readable");
}

#[test]
fn a_users_time_begins_and_ends_at_exact_places() {
    let (owner, guest) = (user(1), user(2));
    let mut world = World::default();
    world.create(owner, [user(3)]).expect("made");
    world.send(owner, group(), text("before")).expect("sent");
    assert_eq!(world.add(owner, [guest]).map(|changed| changed.head), Ok(3));
    world.send(owner, group(), text("while")).expect("sent");
    world.send(guest, group(), text("own")).expect("sent");
    assert_eq!(world.shown(guest), (1, false));
    world.remove(owner, [guest]).expect("removed");
    world.send(owner, group(), chat::Send { mentions_all: true, ..text("after") }).expect("sent");
    assert_eq!(world.heard(guest), [3, 4, 5, 6], "the removal is the last that is heard");
    let membership = &world.memberships[&(guest, group())];
    assert_eq!((membership.joined_at, membership.left_at, membership.gone), (2, Some(6), false));
    assert_eq!(membership.title, "title");
    assert_eq!(world.shown(guest), (1, false), "what comes after is not counted and calls nobody");
    assert_eq!(world.send(guest, group(), text("x")), Err(Reason::NotFound));
    assert_eq!(world.leave(guest), Err(Reason::NotFound));
    world.add(owner, [guest]).expect("back");
    let membership = &world.memberships[&(guest, group())];
    assert_eq!((membership.joined_at, membership.left_at), (7, None), "a new time begins");
    assert_eq!(world.shown(guest), (0, false));
    world.leave(guest).expect("left");
    let membership = &world.memberships[&(guest, group())];
    assert!(membership.gone && membership.left_at == Some(9));
    assert_eq!(world.heard(guest), [3, 4, 5, 6, 8, 9]);
    assert_eq!(world.add(owner, [guest]).map(|changed| changed.head), Ok(10));
    assert!(!world.memberships[&(guest, group())].gone);
    let early = chat::Send { quoted: 9, quote: Bytes::from_static(b"\x08\x09"), ..text("q") };
    assert_eq!(world.send(guest, group(), early), Err(Reason::InvalidArgument), "a quote from before the own time");
}

#[test]
fn everybody_is_called_by_one_row() {
    let (owner, admin, member) = (user(1), user(2), user(3));
    let mut world = World::default();
    world.create(owner, [admin, member]).expect("made");
    world.promote(owner, admin, true).expect("promoted");
    world.readings.clear();
    let all = || chat::Send { mentions_all: true, ..text("all") };
    let first = world.send(owner, group(), all()).expect("sent");
    assert_eq!(world.readings.len(), 1, "only the sender's own is written");
    world.mark_read(member, group(), 0).expect("nothing");
    world.mark_read(admin, group(), 1).expect("read");
    world.mark_read(member, group(), 1).expect("read");
    assert!(world.shown(member).1 && world.shown(admin).1 && !world.shown(owner).1);
    world.send(admin, group(), all()).expect("sent");
    world.send(admin, group(), all()).expect("sent");
    assert!(world.shown(owner).1 && world.shown(admin).1, "the owner's call still is unread");
    world.mark_read(admin, group(), first).expect("read");
    assert!(!world.shown(admin).1, "nobody calls themself");
    assert!(world.shown(member).1);
}

#[test]
fn a_message_is_taken_back_by_its_sender_within_two_minutes() {
    let (owner, sender, late) = (user(1), user(2), user(3));
    let mut world = World::default();
    world.create(owner, [sender, user(4)]).expect("made");
    let sequence = world.send(sender, group(), text("secret words")).expect("sent");
    let sent_at = world.time_of(sequence);
    world.add(owner, [late]).expect("added");
    world.remove(owner, [user(4)]).expect("removed");
    assert_eq!(world.recall(owner, sender, sequence, sent_at), Err(Reason::NotTheSender));
    assert_eq!(world.recall(user(9), sender, sequence, sent_at), Err(Reason::NotFound));
    assert_eq!(world.recall(late, sender, sequence, sent_at), Err(Reason::NotFound), "before the own time");
    assert_eq!(world.recall(sender, sender, sequence + 9, sent_at), Err(Reason::NotFound));
    world.time = sent_at + limits::RECALL_WINDOW;
    assert_eq!(world.recall(sender, sender, sequence, sent_at), Err(Reason::TooLate));
    world.time = sent_at + limits::RECALL_WINDOW - 1;
    assert!(world.recall(sender, sender, sequence, sent_at).is_ok());
    let told = |world: &World, user| world.events(user).iter().filter(|event| matches!(event, entry::Event::MessageRecalled(_))).count();
    assert_eq!([owner, sender, late, user(4)].map(|user| told(&world, user)), [1, 1, 0, 0]);
    let left = &world.recalled[&(group(), sequence)];
    let [announced] = &world.announced_recalls[..] else { panic!("{:?}", world.announced_recalls) };
    assert_eq!((announced.sequence, &announced.event), (sequence, left), "readers of this process forget it at once");
    assert!(!left.windows(6).any(|words| words == b"secret"));
    let entry::Event::Message(message) = world::event(left) else { panic!("a message") };
    assert!(message.recalled && message.content.is_none() && message.sequence == sequence && message.sender_id == sender.to_string());
    world.time += limits::RECALL_WINDOW;
    assert!(world.recall(sender, sender, sequence, sent_at).is_ok(), "the second time is the same");
    assert_eq!(told(&world, owner), 1);
}

#[test]
fn messages_deleted_are_those_of_the_own_time() {
    let (owner, guest) = (user(1), user(2));
    let mut world = World::default();
    world.create(owner, [user(3)]).expect("made");
    world.send(owner, group(), text("before")).expect("sent");
    world.add(owner, [guest]).expect("added");
    world.send(owner, group(), text("while")).expect("sent");
    let delete = topic::Delete { conversation: group().to_key(), sequences: vec![2, 3, 4] };
    let kind = topic::Payload { kind: Some(topic::Kind::Delete(delete)) };
    accepted(world.inbox(Some(guest), kind.encode_to_vec().into(), None)).expect("deleted");
    let mut deleted: Vec<u64> = world.deleted.iter().map(|(user, _, sequence)| if *user == guest { *sequence } else { 0 }).collect();
    deleted.sort_unstable();
    assert_eq!(deleted, [3, 4]);
    let events = world.events(guest);
    assert!(matches!(events.last(), Some(entry::Event::MessagesDeleted(told)) if told.sequences == [3, 4]), "{events:?}");
    assert!(world.events(owner).iter().all(|event| !matches!(event, entry::Event::MessagesDeleted(_))), "nobody else is told");
    assert_eq!(accepted(world.inbox(Some(user(9)), kind.encode_to_vec().into(), None)), Err(Reason::NotFound));
    assert_eq!(event::without_content(&world.events[&(group(), 3)]), None, "a notice stays");
    let left = event::without_content(&world.events[&(group(), 4)]).expect("a message");
    assert!(matches!(world::event(&left), entry::Event::Message(message) if message.deleted && message.content.is_none()));
}

#[test]
fn a_message_to_five_hundred_costs_one_body_and_one_record_for_each_partition() {
    let owner = person(0);
    let mut world = World::default();
    world.create(owner, (1..500).map(person)).expect("made");
    for n in 40..500 {
        world.accept(person(n), true).expect("accepted");
    }
    assert_eq!(world.groups[&group()].members, 500);
    let (entries, readings, bodies) = (world.entries.values().map(Vec::len).sum::<usize>(), world.readings.len(), world.events.len());
    world.fanned_out = (0, 0);
    let body = "b".repeat(16 * 1024);
    let mentions = [1, 2, 3].map(|n| person(n).to_key()).to_vec();
    let sequence = world.send(person(9), group(), chat::Send { mentions, ..text(&body) }).expect("sent");
    let (records, bytes) = world.fanned_out;
    assert_eq!(records, usize::try_from(world::PARTITIONS).expect("small"));
    assert!(bytes < records * (body.len() + 600) + 500 * 20, "{bytes} bytes in {records} records");
    assert_eq!(world.events.len(), bodies + 1, "one body");
    assert_eq!(world.entries.values().map(Vec::len).sum::<usize>(), entries + 500, "one reference for each member");
    assert_eq!(world.readings.len(), readings, "nobody's other row is new");
    for n in 0..500 {
        let entry = world.entries[&person(n)].last().expect("told");
        assert_eq!(*entry, Reference::Message { conversation: group(), sequence });
        assert_eq!(world.shown(person(n)).1, (1..=3).contains(&n));
    }
}
