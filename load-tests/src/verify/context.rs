//! What was around a violation: the part of the history that a person must see to judge it.

use std::fmt::Write;

use plaza_checker::{
    Violation,
    history::{Entry, History, What},
};

/// Entries shown on each side.
const AROUND: usize = 4;

/// The part of the history that a violation is about: the send and its conversation if it names one, otherwise the inbox it names.
#[must_use]
pub fn around(history: &History, violation: &Violation) -> String {
    let words: Vec<&str> = violation.what.split_whitespace().map(|word| word.trim_end_matches([':', ','])).collect();
    let after = |name: &str| words.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
    let mut text = String::new();
    if let Some(sent) = after("send").and_then(|id| history.sends.iter().find(|sent| sent.id == id)) {
        let _ = writeln!(text, "send {} by user {} to {}, answered {:?}", sent.id, sent.from, sent.conversation, sent.acked);
        let members = history.members.get(&sent.conversation).cloned().unwrap_or_else(|| vec![sent.from]);
        for member in members {
            let inbox = &history.finals[member].inbox;
            let at = inbox.iter().position(|entry| matches!(&entry.what, What::Message(message) if message.id == sent.id || message.conversation == sent.conversation && sent.acked.contains(&message.sequence)));
            entries(&mut text, member, inbox, at);
        }
    } else if let Some(end) =
        after("user").and_then(|user| user.parse::<usize>().ok()).and_then(|user| Some((user, history.finals.get(user)?)))
    {
        let cursor = after("cursor").and_then(|cursor| cursor.parse::<u64>().ok());
        let at = cursor.and_then(|cursor| end.1.inbox.iter().position(|entry| entry.cursor == cursor));
        entries(&mut text, end.0, &end.1.inbox, at);
    }
    text
}

fn entries(text: &mut String, user: usize, inbox: &[Entry], at: Option<usize>) {
    let middle = at.unwrap_or(inbox.len());
    let _ = writeln!(text, "inbox of user {user}, {} entries{}", inbox.len(), if at.is_none() { ", the last of them" } else { "" });
    for (place, entry) in inbox.iter().enumerate().skip(middle.saturating_sub(AROUND)).take(2 * AROUND + 1) {
        let mark = if Some(place) == at { '>' } else { ' ' };
        let what = match &entry.what {
            What::Message(message) => {
                let text: String = message.text.chars().take(40).collect();
                format!("{} {} {} {text:?}", message.conversation, message.sequence, message.id)
            }
            What::Read { conversation, sequence } => format!("read {conversation} to {sequence}"),
            What::Other(other) => other.chars().take(80).collect(),
        };
        let _ = writeln!(text, "{mark} {:>6} {what}", entry.cursor);
    }
}
