//! From the protocol to the history: the same entry or message gives the same record, wherever it was read.

use plaza_proto::chat::v1::{self as chat, NoticeKind, content::Kind, entry::Event};

use crate::history::{Entry, Message, What};

impl From<&chat::Entry> for Entry {
    fn from(entry: &chat::Entry) -> Self {
        let what = match &entry.event {
            Some(Event::Message(message)) => What::Message(message.into()),
            Some(Event::MembershipChanged(chat::MembershipChanged { conversation_id, sequence, notice: Some(notice), .. })) => {
                What::Message(change(conversation_id, *sequence, notice))
            }
            Some(Event::ReadChanged(read)) => What::Read { conversation: read.conversation_id.clone(), sequence: read.read },
            other => What::Other(format!("{other:?}")),
        };
        Self { cursor: entry.cursor, what }
    }
}

impl From<&chat::Message> for Message {
    fn from(message: &chat::Message) -> Self {
        let text = match message.content.as_ref().and_then(|content| content.kind.as_ref()) {
            Some(Kind::SystemNotice(notice)) => return change(&message.conversation_id, message.sequence, notice),
            Some(Kind::Text(text)) => text.text.clone(),
            other => format!("{other:?}"),
        };
        Self {
            conversation: message.conversation_id.clone(),
            sequence: message.sequence,
            sender: message.sender_id.clone(),
            id: message.client_message_id.clone(),
            text,
            ..Self::default()
        }
    }
}

/// A change of a group as the history has it: the same from an inbox and from a list of messages.
fn change(conversation: &str, sequence: u64, notice: &chat::SystemNotice) -> Message {
    let (actor, users) = (notice.actor_id.clone(), notice.user_ids.clone());
    let (joined, left) = match notice.kind() {
        NoticeKind::Created => ([vec![actor.clone()], users].concat(), Vec::new()),
        NoticeKind::Joined => (users, Vec::new()),
        NoticeKind::Left => (Vec::new(), vec![actor.clone()]),
        NoticeKind::Removed => (Vec::new(), users),
        _ => (Vec::new(), Vec::new()),
    };
    let text = format!("{} {}", notice.kind().as_str_name(), notice.text);
    Message { conversation: conversation.to_owned(), sequence, sender: actor, id: String::new(), text, joined, left }
}
