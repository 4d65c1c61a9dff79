//! Taking a message back. Its row is overwritten and masked for good, and every member whose time it belongs to is told once.

use std::sync::Arc;

use plaza_processor::{Effects, Input, Outcome, ReplyWhen};
use plaza_topics::{
    conversation::{Payload, Recall},
    inbox,
};
use plaza_types::{ClientId, ConversationId, Reason, UserId, limits};

use super::{Conversations, Recalled, Row, State, event, refuse};

/// Messages taken back that are remembered. One that is forgotten and taken back again is told again, which changes nothing.
const REMEMBERED: usize = 64;

impl Conversations {
    pub(super) fn recall(
        &self,
        input: &Input<'_, Payload>,
        conversation: ConversationId,
        recall: &Recall,
        state: &mut State,
        effects: &mut Effects<Self>,
    ) {
        let roster = Arc::clone(&state.roster);
        let Some(member) = roster.member(&input.envelope.caller).filter(|_| roster.open) else {
            return refuse(effects, Reason::NotFound, "conversation", "no such conversation");
        };
        let sequence = recall.sequence;
        let ids = UserId::from_slice(&recall.sender).zip(ClientId::from_slice(&recall.client));
        let Some((sender, client)) = ids.filter(|_| (member.joined_at + 1..=state.recent.head).contains(&sequence)) else {
            return refuse(effects, Reason::NotFound, "message", "no such message");
        };
        if input.envelope.caller != recall.sender {
            return refuse(effects, Reason::NotTheSender, "sequence", "only its sender takes a message back");
        }
        if !state.recent.recalled.contains(&sequence) {
            if input.time.saturating_sub(recall.sent_at) > limits::RECALL_WINDOW {
                return refuse(effects, Reason::TooLate, "sequence", "sent more than 2 minutes ago");
            }
            if state.recent.recalled.len() == REMEMBERED {
                state.recent.recalled.remove(0);
            }
            state.recent.recalled.push(sequence);
            let event = event::emptied(conversation, sequence, sender, &client.to_string(), recall.sent_at);
            let recalled = inbox::Recalled { conversation: conversation.to_key(), sequence, event: event.clone() };
            // Those who came after it never had it.
            let had = roster.members.iter().filter(|member| member.joined_at < sequence).map(|member| &member.user);
            self.tell(had, &event::recalled(conversation, sequence), Some(&recalled), effects);
            effects.announce(Recalled { conversation, sequence, event: event.clone() });
            effects.row(Row::Recalled { conversation, sequence, event });
        }
        effects.reply(Outcome::accepted(Vec::new()), ReplyWhen::Written);
    }
}
