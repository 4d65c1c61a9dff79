//! What becomes of a group: who comes, who goes, who may do what. Every change that all are told of takes the next place in the order.

use std::sync::Arc;

use bytes::Bytes;
use plaza_processor::{Effects, Input, Outcome, ReplyWhen};
use plaza_proto::chat::v1::{NoticeKind, SystemNotice};
use plaza_topics::conversation::{Add, Create, Describe, Kind, Payload};
use plaza_types::{ConversationId, Reason, UserId, limits};
use prost::Message as _;

use super::{
    Conversations, Row, State,
    delivery::Delivery,
    event,
    roster::{Group, Member, Pending, Role, Waits},
    row,
};

/// What a command changed: the answer to its caller.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Changed {
    /// The newest sequence then.
    #[prost(uint64, tag = "1")]
    pub head: u64,
    /// Who came in, 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub joined: Vec<Bytes>,
    /// Who must accept first.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub invited: Vec<Bytes>,
    /// To whom owner or an admin must agree first.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub waiting: Vec<Bytes>,
}

/// Why a command is not done.
type Refusal = (Reason, &'static str, &'static str);

const NO_GROUP: Refusal = (Reason::NotFound, "conversation", "no such conversation");
const NOT_A_MEMBER: &str = "not a member of the group";
const NO_PENDING: Refusal = (Reason::NotFound, "invitation", "no such invitation");

/// Decides a command to a group.
pub(super) fn decide(
    machine: &Conversations,
    input: &Input<'_, Payload>,
    conversation: ConversationId,
    kind: &Kind,
    state: &mut State,
    effects: &mut Effects<Conversations>,
) {
    let caller = Bytes::copy_from_slice(&input.envelope.caller);
    let turn = Turn { machine, conversation, time: input.time, caller, state, effects, changed: Changed::default(), told: Vec::new() };
    turn.run(kind);
}

/// One command while it is decided.
struct Turn<'a> {
    machine: &'a Conversations,
    conversation: ConversationId,
    time: u64,
    caller: Bytes,
    state: &'a mut State,
    effects: &'a mut Effects<Conversations>,
    changed: Changed,
    /// What takes a place in the order, in order. Delivered at the end, the last one with the answer.
    told: Vec<Notice>,
}

struct Notice {
    kind: NoticeKind,
    users: Vec<Bytes>,
    text: String,
}

impl Notice {
    fn of(kind: NoticeKind, users: Vec<Bytes>) -> Self {
        Self { kind, users, text: String::new() }
    }
}

impl Turn<'_> {
    fn run(mut self, kind: &Kind) {
        let decided = match kind {
            Kind::Create(create) => self.create(create),
            Kind::AnswerInvitation(answer) => self.answer_invitation(answer.accept),
            _ => self.caller_role().and_then(|role| self.by_member(role, kind)),
        };
        match decided {
            // A refusal comes before any change.
            Err((reason, subject, message)) => super::refuse(self.effects, reason, subject, message),
            Ok(()) => self.conclude(),
        }
    }

    fn by_member(&mut self, role: Role, kind: &Kind) -> Result<(), Refusal> {
        match kind {
            Kind::Add(add) => self.add(role, add),
            Kind::Remove(remove) => self.remove(role, &remove.users),
            Kind::Leave(_) => self.leave(role),
            Kind::SetRole(set) => self.set_role(role, &set.user, if set.admin { Role::Admin } else { Role::Member }),
            Kind::Transfer(person) => self.transfer(role, &person.user),
            Kind::Dissolve(_) => self.dissolve(role),
            Kind::Describe(describe) => self.describe(role, describe),
            Kind::Nickname(nickname) => self.rename(&nickname.nickname),
            Kind::AnswerJoinRequest(answer) => self.answer_join_request(role, &answer.user, answer.accept),
            Kind::Send(_) | Kind::Sides(_) | Kind::Create(_) | Kind::AnswerInvitation(_) | Kind::Recall(_) => Err(NO_GROUP),
        }
    }

    /// What the caller may do in a group that still can change.
    fn caller_role(&self) -> Result<Role, Refusal> {
        let roster = &self.state.roster;
        let role = roster.member(&self.caller).filter(|_| roster.group.is_some()).map(|member| member.role()).ok_or(NO_GROUP)?;
        if roster.living().is_none() {
            return Err((Reason::GroupDissolved, "conversation", "the group is dissolved"));
        }
        Ok(role)
    }

    fn create(&mut self, create: &Create) -> Result<(), Refusal> {
        let Some(people) = &create.people else { return Err(NO_GROUP) };
        if self.state.roster.open {
            return Err((Reason::RequestIdReused, "request", "the request id was used for another group"));
        }
        if people.strangers {
            return Err((Reason::InvalidArgument, "user_ids", "not a contact of the caller"));
        }
        let others: Vec<Bytes> = people.users.iter().filter(|user| **user != self.caller).cloned().collect();
        if others.len() + 1 > people.limit as usize {
            return Err((Reason::QuotaExceeded, "members", "too many members"));
        }
        let roster = Arc::make_mut(&mut self.state.roster);
        roster.open = true;
        roster.group = Some(Group { title: create.title.clone(), created: self.time, ..Group::default() });
        let at_once = others.len().min(limits::GROUP_OPEN - 1);
        let (joined, invited) = others.split_at(at_once);
        let caller = self.caller.clone();
        self.enter(std::slice::from_ref(&caller), Role::Owner);
        self.enter(joined, Role::Member);
        self.changed.joined = joined.to_vec();
        for user in invited {
            self.invite(user, self.caller.clone(), Waits::Invited);
        }
        self.told.push(Notice { kind: NoticeKind::Created, users: joined.to_vec(), text: create.title.clone() });
        self.write_group();
        Ok(())
    }

    fn add(&mut self, role: Role, add: &Add) -> Result<(), Refusal> {
        if add.strangers {
            return Err((Reason::InvalidArgument, "user_ids", "not a contact of the caller"));
        }
        let roster = &self.state.roster;
        let time = self.time;
        let users: Vec<&Bytes> = add.users.iter().filter(|user| !roster.has(user)).collect();
        let asked = roster.pending.iter().filter(|pending| pending.lives(time) && !users.contains(&&pending.user)).count();
        if roster.members.len() + asked + users.len() > add.limit as usize {
            return Err((Reason::QuotaExceeded, "members", "too many members, the invited included"));
        }
        self.forget_expired(&add.users);
        let must_ask = self.state.roster.living().is_some_and(|group| group.approval_required) && role < Role::Admin;
        let mut joined = Vec::new();
        for user in users {
            let known = self.state.roster.pending.iter().find(|pending| pending.user == *user && pending.lives(time)).map(Pending::waits);
            match known {
                // What is waited for already stays as it is, unless this caller's word is enough.
                Some(waits) if must_ask => self.count(user, waits),
                Some(Waits::Invited) if self.is_full() => self.count(user, Waits::Invited),
                _ if must_ask => self.invite(user, self.caller.clone(), Waits::Approval),
                _ if self.is_full() => self.invite(user, self.caller.clone(), Waits::Invited),
                _ => {
                    self.forget_pending(user);
                    self.enter(std::slice::from_ref(user), Role::Member);
                    joined.push(user.clone());
                }
            }
        }
        if !joined.is_empty() {
            self.told.push(Notice::of(NoticeKind::Joined, joined.clone()));
            self.write_group();
        }
        self.changed.joined = joined;
        Ok(())
    }

    /// Whether people are asked before they come in.
    fn is_full(&self) -> bool {
        self.state.roster.members.len() >= limits::GROUP_OPEN
    }

    fn remove(&mut self, role: Role, users: &[Bytes]) -> Result<(), Refusal> {
        if users.contains(&self.caller) {
            return Err((Reason::Yourself, "user_ids", "who wants to go leaves"));
        }
        for user in users {
            let member = self.state.roster.member(user).ok_or((Reason::InvalidArgument, "user_ids", NOT_A_MEMBER))?;
            if role < Role::Admin || member.role() >= role {
                return Err((Reason::RoleRequired, "user_ids", "the owner removes anybody, an admin plain members"));
            }
        }
        self.exit(users);
        self.told.push(Notice::of(NoticeKind::Removed, users.to_vec()));
        self.write_group();
        Ok(())
    }

    fn leave(&mut self, role: Role) -> Result<(), Refusal> {
        if role == Role::Owner {
            return Err((Reason::OwnerStays, "conversation", "the owner transfers the group or dissolves it"));
        }
        let caller = self.caller.clone();
        self.exit(&[caller]);
        self.told.push(Notice::of(NoticeKind::Left, Vec::new()));
        self.write_group();
        Ok(())
    }

    fn set_role(&mut self, role: Role, user: &Bytes, new: Role) -> Result<(), Refusal> {
        let place = self.another(role, user)?;
        if self.state.roster.members[place].role() != new {
            self.give(place, new);
            let kind = if new == Role::Admin { NoticeKind::Admin } else { NoticeKind::Member };
            self.told.push(Notice::of(kind, vec![user.clone()]));
        }
        Ok(())
    }

    fn transfer(&mut self, role: Role, user: &Bytes) -> Result<(), Refusal> {
        let place = self.another(role, user)?;
        self.give(place, Role::Owner);
        if let Some(own) = self.state.roster.members.iter().position(|member| member.user == self.caller) {
            self.give(own, Role::Member);
        }
        self.told.push(Notice::of(NoticeKind::Owner, vec![user.clone()]));
        self.write_group();
        Ok(())
    }

    /// For what only the owner does to another member: where that one is.
    fn another(&self, role: Role, user: &Bytes) -> Result<usize, Refusal> {
        if role != Role::Owner {
            return Err((Reason::RoleRequired, "user_id", "only the owner does"));
        }
        if *user == self.caller {
            return Err((Reason::Yourself, "user_id", "another member"));
        }
        let place = self.state.roster.members.iter().position(|member| member.user == *user);
        place.ok_or((Reason::InvalidArgument, "user_id", NOT_A_MEMBER))
    }

    fn dissolve(&mut self, role: Role) -> Result<(), Refusal> {
        if role != Role::Owner {
            return Err((Reason::RoleRequired, "conversation", "only the owner does"));
        }
        let roster = Arc::make_mut(&mut self.state.roster);
        let pending = std::mem::take(&mut roster.pending);
        if let Some(group) = &mut roster.group {
            group.dissolved = true;
        }
        for pending in &pending {
            self.drop_pending(pending);
        }
        self.told.push(Notice::of(NoticeKind::Dissolved, Vec::new()));
        self.write_group();
        Ok(())
    }

    fn describe(&mut self, role: Role, describe: &Describe) -> Result<(), Refusal> {
        let needed = if describe.approval_required.is_some() { Role::Owner } else { Role::Admin };
        if role < needed {
            return Err((Reason::RoleRequired, "update_mask", "title and notice are for owner and admins, settings for the owner"));
        }
        let Some(group) = &mut Arc::make_mut(&mut self.state.roster).group else { return Err(NO_GROUP) };
        if let Some(title) = describe.title.as_ref().filter(|title| **title != group.title) {
            group.title.clone_from(title);
            self.told.push(Notice { kind: NoticeKind::Title, users: Vec::new(), text: title.clone() });
        }
        if let Some(notice) = describe.notice.as_ref().filter(|notice| **notice != group.notice) {
            group.notice.clone_from(notice);
            self.told.push(Notice { kind: NoticeKind::Notice, users: Vec::new(), text: notice.clone() });
        }
        if let Some(required) = describe.approval_required.filter(|required| *required != group.approval_required) {
            group.approval_required = required;
            self.told.push(Notice::of(NoticeKind::Settings, Vec::new()));
        }
        self.write_group();
        Ok(())
    }

    fn rename(&mut self, nickname: &str) -> Result<(), Refusal> {
        let roster = Arc::make_mut(&mut self.state.roster);
        let Some(member) = roster.members.iter_mut().find(|member| member.user == self.caller) else { return Err(NO_GROUP) };
        nickname.clone_into(&mut member.nickname);
        let member = member.clone();
        self.write_member(&member);
        Ok(())
    }

    fn answer_invitation(&mut self, accept: bool) -> Result<(), Refusal> {
        let caller = self.caller.clone();
        let pending = self.waiting(&caller, Waits::Invited)?;
        self.forget_pending(&caller);
        self.drop_pending(&pending);
        if accept {
            self.let_in(caller);
        }
        Ok(())
    }

    fn answer_join_request(&mut self, role: Role, user: &Bytes, accept: bool) -> Result<(), Refusal> {
        if role < Role::Admin {
            return Err((Reason::RoleRequired, "conversation", "only owner and admins do"));
        }
        let pending = self.waiting(user, Waits::Approval)?;
        if accept && self.is_full() {
            self.invite(user, pending.inviter, Waits::Invited);
            return Ok(());
        }
        self.forget_pending(user);
        if accept {
            self.let_in(user.clone());
        }
        Ok(())
    }

    fn waiting(&self, user: &Bytes, waits: Waits) -> Result<Pending, Refusal> {
        let pending = self.state.roster.pending.iter().find(|pending| pending.user == *user && pending.waits() == waits);
        pending.filter(|pending| pending.lives(self.time)).cloned().ok_or(NO_PENDING)
    }

    fn let_in(&mut self, user: Bytes) {
        self.enter(std::slice::from_ref(&user), Role::Member);
        self.told.push(Notice::of(NoticeKind::Joined, vec![user.clone()]));
        self.changed.joined = vec![user];
        self.write_group();
    }

    /// These are members from the next place in the order on, which tells of it.
    fn enter(&mut self, users: &[Bytes], role: Role) {
        let joined_at = self.state.recent.head + self.told.len() as u64;
        for user in users {
            // Copied, because the state outlives the record.
            let member = Member { user: Bytes::copy_from_slice(user), role: role.into(), joined_at, since: self.time, ..Member::default() };
            self.write_member(&member);
            Arc::make_mut(&mut self.state.roster).members.push(member);
        }
    }

    /// These are members up to the next place in the order, which tells of it.
    fn exit(&mut self, users: &[Bytes]) {
        Arc::make_mut(&mut self.state.roster).members.retain(|member| !users.contains(&member.user));
        for user in users.iter().filter_map(|user| UserId::from_slice(user)) {
            self.effects.row(Row::Member { conversation: self.conversation, user, member: None });
        }
    }

    fn give(&mut self, place: usize, role: Role) {
        let member = &mut Arc::make_mut(&mut self.state.roster).members[place];
        member.set_role(role);
        let member = member.clone();
        self.write_member(&member);
    }

    /// Asks for somebody, in place of what was asked before.
    fn invite(&mut self, user: &Bytes, inviter: Bytes, waits: Waits) {
        let title = self.state.roster.group.as_ref().map(|group| group.title.clone()).unwrap_or_default();
        let pending = Pending { user: Bytes::copy_from_slice(user), inviter, since: self.time, waits: waits.into(), title };
        let roster = Arc::make_mut(&mut self.state.roster);
        roster.pending.retain(|known| known.user != *user);
        roster.pending.push(pending.clone());
        self.write_pending(user, Some(pending));
        self.count(user, waits);
    }

    fn count(&mut self, user: &Bytes, waits: Waits) {
        match waits {
            Waits::Invited => self.changed.invited.push(user.clone()),
            Waits::Approval => self.changed.waiting.push(user.clone()),
        }
    }

    fn forget_pending(&mut self, user: &Bytes) {
        let before = self.state.roster.pending.len();
        Arc::make_mut(&mut self.state.roster).pending.retain(|pending| pending.user != *user);
        if self.state.roster.pending.len() != before {
            self.write_pending(user, None);
        }
    }

    /// Except of these users: a command never removes and writes the same row.
    fn forget_expired(&mut self, except: &[Bytes]) {
        let expired = self.state.roster.pending.iter().filter(|pending| !pending.lives(self.time) && !except.contains(&pending.user));
        let expired: Vec<Bytes> = expired.map(|pending| pending.user.clone()).collect();
        for user in expired {
            self.forget_pending(&user);
        }
    }

    /// Nothing is waited for any more; the invited person's devices are told.
    fn drop_pending(&mut self, pending: &Pending) {
        self.write_pending(&pending.user, None);
        if pending.waits() == Waits::Invited {
            let event = event::invitation(self.conversation, &pending.title, &pending.inviter, false);
            self.machine.tell(std::iter::once(&pending.user), &event, None, self.effects);
        }
    }

    /// Everything is decided: what all are told takes its places, those who are asked are told, and the caller is answered.
    fn conclude(mut self) {
        self.effects.touch_cold();
        let (told, roster) = (std::mem::take(&mut self.told), Arc::clone(&self.state.roster));
        self.changed.head = self.state.recent.head + told.len() as u64;
        let outcome = Outcome::accepted(self.changed.encode_to_vec());
        let last = told.len();
        for (place, notice) in (1..).zip(told) {
            self.notice(&roster, notice, Some((&self.caller.clone(), &outcome)).filter(|_| place == last));
        }
        self.tell_asked();
        if last == 0 {
            self.effects.reply(outcome, ReplyWhen::Written);
        } else {
            // The caller's inbox answers, so that whoever was answered finds it there.
            self.effects.remember(outcome);
        }
    }

    fn notice(&mut self, roster: &super::Roster, notice: Notice, answer: Option<(&Bytes, &Outcome)>) {
        let (conversation, recent) = (self.conversation, &mut self.state.recent);
        recent.head += 1;
        recent.notices += 1;
        recent.time = self.time;
        let (sequence, count) = (recent.head, recent.notices);
        let content = SystemNotice {
            kind: notice.kind.into(),
            actor_id: event::person(&self.caller),
            user_ids: notice.users.iter().map(|user| event::person(user)).collect(),
            text: notice.text,
        };
        let event = event::notice(conversation, sequence, self.time, content);
        let actor = std::slice::from_ref(&self.caller);
        let (joined, left) = match notice.kind {
            NoticeKind::Created => ([actor, &notice.users].concat(), Vec::new()),
            NoticeKind::Joined => (notice.users, Vec::new()),
            NoticeKind::Left => (Vec::new(), actor.to_vec()),
            NoticeKind::Removed => (Vec::new(), notice.users),
            _ => (Vec::new(), Vec::new()),
        };
        let by_themselves = notice.kind == NoticeKind::Left;
        let delivery = Delivery { joined: &joined, left: &left, by_themselves, answer, ..Delivery::of(conversation, sequence, &event) };
        self.machine.deliver(roster, delivery, self.effects);
        self.effects.row(Row::Message { conversation, sequence, event });
        self.effects.row(Row::Notice { conversation, sequence, count });
        self.effects.row(Row::Head { conversation, head: sequence, time: self.time });
    }

    /// Those who were asked by this command are told, and those who may agree.
    fn tell_asked(&mut self) {
        let roster = Arc::clone(&self.state.roster);
        let time = self.time;
        let asked = |users: &[Bytes], waits: Waits| -> Vec<Pending> {
            let fresh = roster.pending.iter().filter(|pending| pending.since == time && pending.waits() == waits);
            fresh.filter(|pending| users.contains(&pending.user)).cloned().collect()
        };
        let invited = asked(&self.changed.invited, Waits::Invited);
        if let Some(first) = invited.first() {
            let event = event::invitation(self.conversation, &first.title, &first.inviter, true);
            self.machine.tell(invited.iter().map(|pending| &pending.user), &event, None, self.effects);
        }
        let waiting: Vec<Bytes> = asked(&self.changed.waiting, Waits::Approval).into_iter().map(|pending| pending.user).collect();
        if !waiting.is_empty() {
            let event = event::join_request(self.conversation, &waiting, &self.caller);
            let may_agree = roster.members.iter().filter(|member| member.role() >= Role::Admin).map(|member| &member.user);
            self.machine.tell(may_agree, &event, None, self.effects);
        }
    }

    fn write_group(&mut self) {
        let roster = &self.state.roster;
        let Some(group) = &roster.group else { return };
        let owner = roster.members.iter().find(|member| member.role() == Role::Owner);
        let group = row::Group {
            title: group.title.clone(),
            notice: group.notice.clone(),
            approval_required: group.approval_required,
            dissolved: group.dissolved,
            created: group.created,
            owner: owner.map(|owner| owner.user.clone()).unwrap_or_default(),
            members: u32::try_from(roster.members.len()).unwrap_or(u32::MAX),
        };
        self.effects.row(Row::Group { conversation: self.conversation, group });
    }

    fn write_member(&mut self, member: &Member) {
        let Some(user) = UserId::from_slice(&member.user) else { return };
        let member =
            row::GroupMember { role: member.role, nickname: member.nickname.clone(), since: member.since, joined_at: member.joined_at };
        self.effects.row(Row::Member { conversation: self.conversation, user, member: Some(member) });
    }

    fn write_pending(&mut self, user: &Bytes, pending: Option<Pending>) {
        let Some(user) = UserId::from_slice(user) else { return };
        self.effects.row(Row::Pending { conversation: self.conversation, user, pending });
    }
}
