//! What was around a violation: the part of the history that a person must see to judge it.

use std::{collections::BTreeMap, fmt::Write};

use plaza_checker::{
    Violation,
    history::{Entry, Final, History, Message, Sent, User, What},
};

/// Entries shown on each side.
pub(super) const AROUND: usize = 4;
/// The invariant of unread counts, in the documentation's numbers.
const UNREAD: u32 = 5;

/// What a violation is about, read from the checker's sentence and from the history.
#[derive(Default)]
struct About<'a> {
    send: Option<&'a Sent>,
    conversation: Option<&'a str>,
    /// Those whose views are shown: whom it names; for a group also the owner, whose view is the order; for a send also who sent it.
    users: Vec<User>,
    /// An entry of the inbox.
    cursor: Option<u64>,
    /// A place in the conversation.
    sequence: Option<u64>,
    /// A read position in the inbox.
    read: Option<u64>,
}

impl<'a> About<'a> {
    fn of(history: &'a History, violation: &Violation) -> Self {
        let words: Vec<&str> = violation.what.split_whitespace().map(|word| word.trim_end_matches([':', ','])).collect();
        let named = |name: &str| words.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
        let number = |name: &str| named(name).and_then(|word| word.parse::<u64>().ok());
        let send = named("send").and_then(|id| history.sends.iter().find(|sent| sent.id == id));
        let known = words.iter().find_map(|word| {
            history.members.keys().chain(history.groups.keys()).map(String::as_str).find(|conversation| conversation == word)
        });
        let conversation = send.map(|sent| sent.conversation.as_str()).or(known);
        let mut about = Self { send, conversation, read: number("position"), ..Self::default() };
        about.cursor = number("cursor").or_else(|| number("at")).or_else(|| number("shown"));
        about.sequence = words.windows(3).find(|words| words[0] == "heard" && words[2] == "of").and_then(|words| words[1].parse().ok());
        let user = |word: Option<&str>| word.and_then(|word| word.parse::<User>().ok());
        about.users.extend(user(named("user")));
        about.users.extend(
            words
                .windows(4)
                .find(|words| words[0] == "users")
                .into_iter()
                .flat_map(|words| [words[1], words[3]].map(Some))
                .filter_map(user),
        );
        about.users.extend(send.map(|sent| sent.from));
        if let Some(conversation) = conversation {
            about.users.extend(history.groups.get(conversation).map(|group| group.owner));
            if send.is_some() {
                about.users.extend(history.members.get(conversation).into_iter().flatten());
            }
        }
        let mut seen = Vec::new();
        about.users.retain(|user| {
            !seen.contains(user) && {
                seen.push(*user);
                true
            }
        });
        about
    }

    /// Where in the conversation to look.
    fn focus(&self, history: &History, end: &Final, invariant: u32) -> Option<u64> {
        let conversation = self.conversation?;
        if let Some(sequence) = self.sequence.or_else(|| self.send?.acked.first().copied()) {
            return Some(sequence);
        }
        if invariant == UNREAD {
            return end.conversations.get(conversation).map(|shown| shown.read + 1);
        }
        let ends = || self.users.iter().filter_map(|user| history.finals.get(*user));
        let views: Vec<BTreeMap<u64, &Message>> = ends()
            .flat_map(|end| [heard(end, conversation), end.messages.get(conversation).into_iter().flatten().collect()])
            .map(|view| view.into_iter().map(|message| (message.sequence, message)).collect())
            .collect();
        let last = views.iter().filter_map(|view| view.keys().last()).max().copied()?;
        let differ =
            |sequence: &u64| views.iter().any(|view| view.get(sequence).is_none_or(|message| views[0].get(sequence) != Some(message)));
        // Where all have the same and nothing is missing, the order is another, or more is claimed than there is.
        (1..=last).find(differ).or_else(|| {
            heard(end, conversation).iter().zip(1..).find(|(message, place)| message.sequence != *place).map(|(_, place)| place)
        })
    }
}

fn heard<'a>(end: &'a Final, conversation: &str) -> Vec<&'a Message> {
    let messages = end.inbox.iter().filter_map(|entry| match &entry.what {
        What::Message(message) if message.conversation == conversation => Some(message),
        _ => None,
    });
    messages.collect()
}

/// The part of the history that a violation is about: its send, and of each user whose view matters the inbox around the place in question,
/// of the conversation alone if it is about one.
#[must_use]
pub fn around(history: &History, violation: &Violation) -> String {
    let about = About::of(history, violation);
    let mut text = String::new();
    if let Some(sent) = about.send {
        let _ = writeln!(text, "send {} by user {} to {}, answered {:?}", sent.id, sent.from, sent.conversation, sent.acked);
    }
    for user in &about.users {
        if let Some(end) = history.finals.get(*user) {
            view(&mut text, history, &about, violation.invariant, *user, end);
        }
    }
    text
}

/// What one user has of it.
fn view(text: &mut String, history: &History, about: &About, invariant: u32, user: User, end: &Final) {
    let is_at = |entry: &&Entry| Some(entry.cursor) == about.cursor;
    // An entry of the inbox is shown among those before and after it, whatever they are of.
    let Some(conversation) = about.conversation.filter(|_| !end.inbox.iter().any(|entry| is_at(&entry))) else {
        let inbox: Vec<&Entry> = end.inbox.iter().collect();
        let at = inbox.iter().position(is_at);
        let _ = writeln!(text, "inbox of user {user}, {} entries{}", inbox.len(), if at.is_none() { ", the last of them" } else { "" });
        return lines(text, &inbox, at, entry);
    };
    match end.conversations.get(conversation) {
        Some(shown) => {
            let _ =
                writeln!(text, "user {user} sees {conversation} with head {}, read {}, unread {}", shown.head, shown.read, shown.unread);
        }
        None => _ = writeln!(text, "user {user} does not see {conversation}"),
    }
    let focus = about.focus(history, end, invariant);
    let inbox = end.inbox.iter().filter(|entry| match &entry.what {
        What::Message(message) => message.conversation == conversation,
        What::Read { conversation: read, .. } => read == conversation,
        What::Other(_) => false,
    });
    let inbox: Vec<&Entry> = inbox.collect();
    let at = inbox.iter().position(|entry| match &entry.what {
        What::Message(message) => {
            about.send.is_some_and(|sent| sent.id == message.id)
                || about.read.is_none() && focus.is_some_and(|focus| message.sequence >= focus)
        }
        What::Read { sequence, .. } => about.read == Some(*sequence),
        What::Other(_) => false,
    });
    let _ = writeln!(text, "inbox of user {user}, {} of {} entries are of {conversation}", inbox.len(), end.inbox.len());
    lines(text, &inbox, at, entry);
    let listed = end.messages.get(conversation).map_or(&[][..], Vec::as_slice);
    if !listed.iter().eq(heard(end, conversation)) {
        let _ = writeln!(text, "{conversation} as user {user} lists it, {} messages", listed.len());
        let listed: Vec<&Message> = listed.iter().collect();
        let at = listed.iter().position(|message| focus.is_some_and(|focus| message.sequence >= focus));
        lines(text, &listed, at, message);
    }
}

/// Those around one, or the last of them.
fn lines<T>(text: &mut String, all: &[&T], at: Option<usize>, line: impl Fn(&T) -> String) {
    let middle = at.unwrap_or(all.len());
    for (place, one) in all.iter().enumerate().skip(middle.saturating_sub(AROUND)).take(2 * AROUND + 1) {
        let _ = writeln!(text, "{} {}", if Some(place) == at { '>' } else { ' ' }, line(one));
    }
}

fn entry(entry: &Entry) -> String {
    let what = match &entry.what {
        What::Message(one) => message(one),
        What::Read { conversation, sequence } => format!("read {conversation} to {sequence}"),
        What::Other(other) => other.chars().take(80).collect(),
    };
    format!("{:>6} {what}", entry.cursor)
}

fn message(message: &Message) -> String {
    let text: String = message.text.chars().take(40).collect();
    format!("{} {} {} {text:?}", message.conversation, message.sequence, message.id)
}

#[cfg(test)]
mod tests {
    use plaza_checker::{
        check,
        history::{Conversation, Device, Group},
    };

    use super::*;

    const LAST: u64 = 12;
    const NAMES: [&str; 3] = ["ada", "bob", "eve"];

    fn message(conversation: &str, sequence: u64) -> Message {
        let made = conversation == "g1" && sequence == 1;
        let sender = NAMES[if conversation == "g1" { 2 } else { usize::from(sequence.is_multiple_of(2)) }];
        Message {
            conversation: conversation.into(),
            sequence,
            sender: sender.into(),
            id: if made { String::new() } else { format!("{conversation}m{sequence}") },
            text: format!("{conversation}t{sequence}"),
            joined: if made { NAMES.map(str::to_owned).to_vec() } else { Vec::new() },
            left: Vec::new(),
        }
    }

    /// Users 0 and 1 write in d1, of 0's group g1 user 2 writes to all, and after that 0 and 1 write as much in d2.
    fn good() -> History {
        let conversations = ["d1", "g1", "d2"];
        let mut history = History { members: [("d1".into(), vec![0, 1]), ("d2".into(), vec![0, 1])].into(), ..History::default() };
        history.groups.insert("g1".into(), Group { owner: 0, ..Group::default() });
        for (user, name) in NAMES.iter().enumerate() {
            let mut end = Final { user_id: (*name).to_owned(), ..Final::default() };
            for conversation in conversations.into_iter().filter(|conversation| user < 2 || *conversation == "g1") {
                let messages: Vec<_> = (1..=LAST).map(|sequence| message(conversation, sequence)).collect();
                end.inbox.extend(messages.iter().map(|message| Entry { cursor: 0, what: What::Message(message.clone()) }));
                let unread = messages.iter().filter(|message| message.is_sent() && message.sender != *name && message.sequence > 3).count();
                end.conversations.insert(conversation.into(), Conversation { head: LAST, read: 3, unread: unread as u64 });
                end.messages.insert(conversation.into(), messages);
                end.inbox.push(Entry { cursor: 0, what: What::Read { conversation: conversation.into(), sequence: 3 } });
                history.attempted.entry(user).or_default().insert(conversation.into(), 3);
                history.reads.entry(user).or_default().insert(conversation.into(), 3);
            }
            end.inbox.iter_mut().zip(1..).for_each(|(entry, cursor)| entry.cursor = cursor);
            history.devices.push(Device { user, from: 0, shown: end.inbox.clone() });
            history.finals.push(end);
        }
        let sent = |conversation: &'static str| {
            (1..=LAST).map(move |sequence| message(conversation, sequence)).filter(Message::is_sent).map(|message| Sent {
                from: NAMES.iter().position(|name| *name == message.sender).expect("one of them"),
                id: message.id,
                conversation: message.conversation,
                acked: vec![message.sequence],
                text: message.text,
            })
        };
        history.sends = conversations.into_iter().flat_map(sent).collect();
        history
    }

    fn renumbered(history: &mut History, user: usize) {
        history.finals[user].inbox.iter_mut().zip(1..).for_each(|(entry, cursor)| entry.cursor = cursor);
        history.devices.clear();
    }

    /// Takes a message out of an inbox, as if it had never come.
    fn lost(history: &mut History, user: usize, conversation: &str, sequence: u64) {
        history.finals[user].inbox.retain(
            |entry| !matches!(&entry.what, What::Message(message) if message.conversation == conversation && message.sequence == sequence),
        );
        renumbered(history, user);
    }

    fn send<'a>(history: &'a mut History, id: &str) -> &'a mut Sent {
        history.sends.iter_mut().find(|sent| sent.id == id).expect("sent")
    }

    fn shown<'a>(history: &'a mut History, user: usize, conversation: &str) -> &'a mut Conversation {
        history.finals[user].conversations.get_mut(conversation).expect("there")
    }

    /// Plants a violation; what is shown of the one with these words has all of these lines, and nothing of the other conversations.
    fn planted(words: &str, lines: &[&str], others: &[&str], plant: impl FnOnce(&mut History)) {
        let mut history = good();
        assert_eq!(check(&history), []);
        plant(&mut history);
        let found = check(&history);
        let violation = found.iter().find(|violation| violation.what.contains(words)).unwrap_or_else(|| panic!("{words}: {found:?}"));
        let text = around(&history, violation);
        for line in lines {
            assert!(
                text.lines().any(|shown| shown.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(line)),
                "{words}: no '{line}' in\n{text}"
            );
        }
        for other in others {
            assert!(!text.contains(other), "{words}: '{other}' in\n{text}");
        }
    }

    const OTHERS: &[&str] = &["g1m", "d2m"];

    #[test]
    fn of_a_send_the_inboxes_of_those_who_should_have_it_are_shown() {
        planted("is not in the inbox of user 1", &["send d1m5 by user 0 to d1, answered [5]", "> 5 d1 5", "> 5 d1 6"], OTHERS, |history| {
            lost(history, 1, "d1", 5)
        });
        planted("answered with sequences", &["send d1m5 by user 0 to d1, answered [5, 6]", "> 5 d1 5"], OTHERS, |history| {
            send(history, "d1m5").acked.push(6)
        });
        planted("was answered 7, user", &["send d1m5 by user 0 to d1, answered [7]", "> 5 d1 5"], OTHERS, |history| {
            send(history, "d1m5").acked = vec![7]
        });
        planted("times in the inbox of user 1", &["send d1m12", "> 12 d1 12", "inbox of user 1, 14 of 40 entries"], OTHERS, |history| {
            let again = history.finals[1].inbox[11].clone();
            history.finals[1].inbox.insert(12, again);
            renumbered(history, 1);
        });
        // What was judged of a group's send is the owner's inbox.
        planted(
            "of g1 and is not there",
            &["send g1m5 by user 2 to g1", "inbox of user 0, 12 of 38", "> 18 g1 6", "inbox of user 2, 13 of 13", "> 5 g1 5"],
            &["d1m", "d2m"],
            |history| {
                lost(history, 0, "g1", 5);
            },
        );
    }

    #[test]
    fn of_an_entry_its_neighbours_in_the_inbox_are_shown() {
        planted("has cursor 99", &["> 99 d1 5", "4 d1 4", "6 d1 6"], &["d2m"], |history| history.finals[0].inbox[4].cursor = 99);
        planted("has sequence 6 of d1 after 4", &["> 5 d1 6", "4 d1 4", "inbox of user 1"], &["d2m"], |history| lost(history, 1, "d1", 5));
        planted("repeats client message id", &["> 7 d1 7 d1m5", "5 d1 5 d1m5"], &["d2m"], |history| {
            match &mut history.finals[1].inbox[6].what {
                What::Message(message) => message.id = "d1m5".into(),
                other => panic!("{other:?}"),
            }
        });
        planted("was shown 6 after 4", &["> 6 d1 6", "5 d1 5", "inbox of user 1"], &["d2m"], |history| {
            _ = history.devices[1].shown.remove(4)
        });
        planted("was shown at 5 what is not there", &["> 5 d1 5", "inbox of user 1"], &["d2m"], |history| {
            history.devices[1].shown[4].what = What::Other("another".into());
        });
    }

    #[test]
    fn of_a_conversation_the_views_of_it_are_shown_where_they_differ() {
        let unlisted = |history: &mut History| _ = history.finals[1].messages.get_mut("d1").expect("there").remove(4);
        planted("user 1: d1 lists 11 messages", &["> 5 d1 5", "d1 as user 1 lists it, 11 messages", "> d1 6"], OTHERS, unlisted);
        planted(
            "users 0 and 1 see different messages in d1",
            &["inbox of user 0", "inbox of user 1", "> 5 d1 5", "> d1 6"],
            OTHERS,
            unlisted,
        );
        planted("user 1: d1 has head 13", &["user 1 sees d1 with head 13", "12 d1 12", "inbox of user 1"], OTHERS, |history| {
            shown(history, 1, "d1").head = 13
        });
        planted("the owner of g1 did not hear", &["inbox of user 0, 12 of 38", "> 18 g1 6"], &["d1m", "d2m"], |history| {
            lost(history, 0, "g1", 5)
        });
        planted("heard 11 places of g1", &["inbox of user 1", "> 18 g1 6", "inbox of user 0", "> 18 g1 5"], &["d1m", "d2m"], |history| {
            lost(history, 1, "g1", 5)
        });
        planted("heard 13 of g1, which is outside", &["user 0 sees g1", "> 26 g1 13", "inbox of user 1"], &["d1m", "d2m"], |history| {
            let mut left = message("g1", LAST);
            left.left.push("bob".into());
            for user in 0..3 {
                history.finals[user]
                    .inbox
                    .iter_mut()
                    .filter(|entry| matches!(&entry.what, What::Message(message) if *message == self::message("g1", LAST)))
                    .for_each(|entry| entry.what = What::Message(left.clone()));
            }
            for user in 0..2 {
                let place = history.finals[user].inbox.iter().position(|entry| entry.what == What::Message(left.clone())).expect("there");
                history.finals[user].inbox.insert(place + 1, Entry { cursor: 0, what: What::Message(message("g1", 13)) });
                renumbered(history, user);
            }
        });
        planted(
            "user 1 is in g1 and does not see it",
            &["user 1 does not see g1", "inbox of user 1, 13 of 39"],
            &["d1m", "d2m"],
            |history| {
                history.finals[1].conversations.remove("g1");
            },
        );
        planted("user 2: g1 has head 11", &["user 2 sees g1 with head 11", "12 g1 12"], &["d1m", "d2m"], |history| {
            shown(history, 2, "g1").head = 11
        });
        planted("user 2: g1 lists 11 messages", &["> 5 g1 5", "g1 as user 2 lists it", "> g1 6"], &["d1m", "d2m"], |history| {
            history.finals[2].messages.get_mut("g1").expect("there").remove(4);
        });
    }

    #[test]
    fn of_an_unread_count_what_comes_after_the_read_position_is_shown() {
        planted("d1 shows 9 unread", &["user 1 sees d1 with head 12, read 3, unread 9", "> 4 d1 4", "3 d1 3"], OTHERS, |history| {
            shown(history, 1, "d1").unread = 9
        });
        planted(
            "read 3 of d1 was acknowledged",
            &["user 1 sees d1 with head 12, read 2", "> 3 d1 3", "inbox of user 1, 13 of 39"],
            OTHERS,
            |history| {
                shown(history, 1, "d1").read = 2;
            },
        );
        planted("shows read position 40 of d1", &["> 40 read d1 to 40", "39 read d2 to 3"], &["g1m"], |history| {
            history.finals[1].inbox.push(Entry { cursor: 40, what: What::Read { conversation: "d1".into(), sequence: 40 } });
        });
        let what = "user 1: d1 had 4 unread before the run, nothing was read, and has 2 now".to_owned();
        let text = around(&good(), &Violation { invariant: UNREAD, what });
        assert!(text.contains("user 1 sees d1") && text.contains(">      4 d1 4"), "{text}");
    }

    #[test]
    fn of_a_history_that_was_not_read_back_what_there_is_is_shown() {
        let what = "user 1: d1 had 4 unread before the run, nothing was read, and has 2 now".to_owned();
        let mut history = good();
        history.finals.truncate(1);
        assert_eq!(around(&history, &Violation { invariant: UNREAD, what }), "");
    }
}
