//! How what happened in a conversation gets to its members: one record for each inbox partition, which carries the event once and names the
//! recipients there. Whoever leaves with it is still a recipient of it, and of nothing after it.

use bytes::Bytes;
use plaza_processor::{Effects, Emission, Outcome};
use plaza_topics::{INBOX, inbox};
use plaza_types::{ConversationId, UserId, partition};
use prost::Message as _;
use smallvec::SmallVec;

use super::{Conversations, roster::Roster};

/// Something with a place in the order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery<'a> {
    pub(super) conversation: ConversationId,
    pub(super) sequence: u64,
    pub(super) event: &'a Bytes,
    /// Who sent it; `None` for a change of a group.
    pub(super) sender: Option<UserId>,
    /// Who is called.
    pub(super) mentions: &'a [Bytes],
    /// Whose time begins with it.
    pub(super) joined: &'a [Bytes],
    /// Whose time ends with it; no members any more.
    pub(super) left: &'a [Bytes],
    /// Whether they left by themselves.
    pub(super) by_themselves: bool,
    /// The caller who is answered when it is in the inbox.
    pub(super) answer: Option<(&'a Bytes, &'a Outcome)>,
}

impl<'a> Delivery<'a> {
    pub(super) fn of(conversation: ConversationId, sequence: u64, event: &'a Bytes) -> Self {
        let none: &[Bytes] = &[];
        Self { conversation, sequence, event, sender: None, mentions: none, joined: none, left: none, by_themselves: false, answer: None }
    }
}

type Parts = SmallVec<[(u32, Vec<Bytes>); 2]>;

impl Conversations {
    /// The users by the partitions of their inboxes.
    fn parts<'a>(&self, users: impl Iterator<Item = &'a Bytes>) -> Parts {
        let mut parts = Parts::new();
        for user in users {
            let partition = partition::of(user, self.inbox_partitions);
            match parts.iter_mut().find(|(known, _)| *known == partition) {
                Some((_, users)) => users.push(user.clone()),
                None => parts.push((partition, vec![user.clone()])),
            }
        }
        parts
    }

    /// One record for each inbox partition that has recipients.
    pub(super) fn deliver(&self, roster: &Roster, delivery: Delivery<'_>, effects: &mut Effects<Self>) {
        let Delivery { conversation, sequence, event, sender, .. } = delivery;
        let title = roster.group.as_ref().filter(|_| !delivery.left.is_empty()).map(|group| group.title.clone()).unwrap_or_default();
        for (partition, recipients) in self.parts(roster.members.iter().map(|member| &member.user).chain(delivery.left)) {
            let here = |users: &[Bytes]| users.iter().filter(|user| recipients.contains(*user)).cloned().collect::<Vec<_>>();
            let answer = delivery.answer.filter(|(user, _)| recipients.contains(*user));
            let mut mentioned = here(delivery.mentions);
            mentioned.retain(|user| sender.is_none_or(|sender| **user != sender.as_bytes()[..]));
            let message = inbox::Message {
                conversation: conversation.to_key(),
                sequence,
                sender: sender.map(|sender| sender.to_key()).unwrap_or_default(),
                event: event.clone(),
                mentioned,
                joined: here(delivery.joined),
                left: here(delivery.left),
                by_themselves: delivery.by_themselves,
                title: title.clone(),
                answer_to: answer.map(|(user, _)| user.clone()).unwrap_or_default(),
                answer: answer.map(|(_, answer)| answer.encode_to_vec().into()).unwrap_or_default(),
                recipients,
            };
            emit(partition, inbox::Kind::Message(message), answer.is_some(), effects);
        }
    }

    /// The same event for some users, outside the order.
    pub(super) fn tell<'a>(
        &self,
        users: impl Iterator<Item = &'a Bytes>,
        event: &Bytes,
        recalled: Option<&inbox::Recalled>,
        effects: &mut Effects<Self>,
    ) {
        for (partition, users) in self.parts(users) {
            let told = inbox::Told { users, event: event.clone(), recalled: recalled.cloned() };
            emit(partition, inbox::Kind::Told(told), false, effects);
        }
    }
}

fn emit(partition: u32, kind: inbox::Kind, carry_reply: bool, effects: &mut Effects<Conversations>) {
    effects.emit(Emission {
        topic: INBOX,
        key: Bytes::new(),
        partition: Some(partition),
        payload: inbox::Payload { kind: Some(kind) }.encode_to_vec().into(),
        carry_reply,
    });
}
