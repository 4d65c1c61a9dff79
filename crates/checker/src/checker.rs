//! Judges a history by the invariants of `docs/architecture.md`. It knows only what clients did and saw; every violation names what it saw.

pub mod groups;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::history::{Entry, Final, History, Message, What};

/// A broken invariant, with the number it has in the documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: u32,
    /// What was seen.
    pub what: String,
}

struct Report(Vec<Violation>);

impl Report {
    fn add(&mut self, invariant: u32, what: String) {
        self.0.push(Violation { invariant, what });
    }
}

/// Everything that is wrong with a history; empty when nothing is.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let mut report = Report(Vec::new());
    for user in 0..history.finals.len() {
        cursors_are_dense(history, user, &mut report);
        conversations_are_dense(history, user, &mut report);
        unread_is_a_recount(history, user, &mut report);
        reads_are_own(history, user, &mut report);
        contacts_are_as_answered(history, user, &mut report);
    }
    members_agree(history, &mut report);
    groups::views_are_the_order_of_their_times(history, &mut report);
    acknowledged_are_there_once(history, &mut report);
    devices_saw_the_inbox(history, &mut report);
    report.0
}

fn messages(entries: &[Entry]) -> impl Iterator<Item = (u64, &Message)> {
    entries.iter().filter_map(|entry| match &entry.what {
        What::Message(message) => Some((entry.cursor, message)),
        _ => None,
    })
}

fn cursors_are_dense(history: &History, user: usize, report: &mut Report) {
    for (place, entry) in history.finals[user].inbox.iter().enumerate() {
        if entry.cursor != place as u64 + 1 {
            report.add(4, format!("user {user}: inbox entry {} has cursor {}", place + 1, entry.cursor));
            return;
        }
    }
}

fn conversations_are_dense(history: &History, user: usize, report: &mut Report) {
    let end = &history.finals[user];
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let is_group = |conversation: &str| history.groups.contains_key(conversation);
    for (cursor, message) in messages(&end.inbox).filter(|(_, message)| !is_group(&message.conversation)) {
        let last = last.entry(&message.conversation).or_default();
        if message.sequence != *last + 1 {
            report
                .add(2, format!("user {user}: cursor {cursor} has sequence {} of {} after {last}", message.sequence, message.conversation));
        }
        *last = message.sequence;
    }
    for (conversation, listed) in end.messages.iter().filter(|(conversation, _)| !is_group(conversation)) {
        let in_inbox: Vec<_> =
            messages(&end.inbox).map(|(_, message)| message).filter(|message| message.conversation == *conversation).collect();
        if !listed.iter().eq(in_inbox.iter().copied()) {
            report
                .add(2, format!("user {user}: {conversation} lists {} messages, the inbox has {} or others", listed.len(), in_inbox.len()));
        }
    }
    for (conversation, shown) in end.conversations.iter().filter(|(conversation, _)| !is_group(conversation)) {
        let count = end.messages.get(conversation).map_or(0, |messages| messages.len() as u64);
        if shown.head != count {
            report.add(2, format!("user {user}: {conversation} has head {} and {count} messages", shown.head));
        }
    }
}

fn members_agree(history: &History, report: &mut Report) {
    for (conversation, members) in &history.members {
        let mut views = members.iter().map(|user| (user, history.finals[*user].messages.get(conversation)));
        let Some((first, view)) = views.next() else {
            continue;
        };
        for (other, its_view) in views {
            if view != its_view {
                report.add(2, format!("users {first} and {other} see different messages in {conversation}"));
            }
        }
    }
    // Whatever comes of a client message id is one message.
    for (user, end) in history.finals.iter().enumerate() {
        let mut seen = HashSet::new();
        for (cursor, message) in messages(&end.inbox).filter(|(_, message)| message.is_sent()) {
            if !seen.insert((&message.sender, &message.id)) {
                report.add(3, format!("user {user}: cursor {cursor} repeats client message id {}", message.id));
            }
        }
    }
}

fn acknowledged_are_there_once(history: &History, report: &mut Report) {
    let inboxes: Vec<HashMap<(&str, &str), Vec<&Message>>> = history
        .finals
        .iter()
        .map(|end| {
            let mut by_id: HashMap<_, Vec<_>> = HashMap::new();
            for (_, message) in messages(&end.inbox) {
                by_id.entry((message.sender.as_str(), message.id.as_str())).or_default().push(message);
            }
            by_id
        })
        .collect();
    for sent in &history.sends {
        let Some(first) = sent.acked.first() else {
            continue;
        };
        if sent.acked.iter().any(|sequence| sequence != first) {
            report.add(3, format!("send {} was answered with sequences {:?}", sent.id, sent.acked));
        }
        if !history.members.contains_key(&sent.conversation) && !history.groups.contains_key(&sent.conversation) {
            report.add(1, format!("send {} was acknowledged as {first} of {:?}, which is nobody's", sent.id, sent.conversation));
        }
        let sender = history.finals[sent.from].user_id.as_str();
        for user in history.members.get(&sent.conversation).into_iter().flatten() {
            let copies = inboxes[*user].get(&(sender, sent.id.as_str())).map_or(&[][..], Vec::as_slice);
            match copies {
                [copy] if copy.sequence == *first && copy.text == sent.text && copy.conversation == sent.conversation => {}
                [copy] => report.add(2, format!("send {} was answered {first}, user {user} has {copy:?}", sent.id)),
                [] => report.add(1, format!("send {} was acknowledged as {first} and is not in the inbox of user {user}", sent.id)),
                more => report.add(1, format!("send {} is {} times in the inbox of user {user}", sent.id, more.len())),
            }
        }
    }
}

fn devices_saw_the_inbox(history: &History, report: &mut Report) {
    'devices: for (number, device) in history.devices.iter().enumerate() {
        let inbox = &history.finals[device.user].inbox;
        let mut last = device.from;
        for entry in &device.shown {
            if entry.cursor != last + 1 {
                report.add(4, format!("device {number} of user {} was shown {} after {last}", device.user, entry.cursor));
                continue 'devices;
            }
            last = entry.cursor;
            if inbox.get(last as usize - 1).is_none_or(|kept| kept != entry) {
                report.add(4, format!("device {number} of user {} was shown at {last} what is not there: {:?}", device.user, entry.what));
                continue 'devices;
            }
        }
        if let Some(head) = history.heads.get(&device.user).filter(|head| last < **head) {
            let next = inbox.get(last as usize).map(|entry| &entry.what);
            report.add(4, format!("device {number} of user {} was shown nothing after {last} of {head}: next is {next:?}", device.user));
        }
    }
}

fn unread_is_a_recount(history: &History, user: usize, report: &mut Report) {
    let end = &history.finals[user];
    for (conversation, shown) in &end.conversations {
        let recount = recount(end, conversation, shown.read);
        if shown.unread != recount {
            report.add(
                5,
                format!("user {user}: {conversation} shows {} unread after {}, a recount gives {recount}", shown.unread, shown.read),
            );
        }
    }
    for (conversation, told) in history.reads.get(&user).into_iter().flatten() {
        let read = end.conversations.get(conversation).map_or(0, |shown| shown.read);
        if read < *told {
            report.add(5, format!("user {user}: read {told} of {conversation} was acknowledged, {read} is there"));
        }
    }
}

fn recount(end: &Final, conversation: &str, read: u64) -> u64 {
    let messages = end.messages.get(conversation).into_iter().flatten();
    messages.filter(|message| message.is_sent() && message.sequence > read && message.sender != end.user_id).count() as u64
}

/// A user is shown positions they asked for, that of a message of their own, up to which everything counts as read once there are
/// many of these, and in the list the place they came in at.
fn reads_are_own(history: &History, user: usize, report: &mut Report) {
    let end = &history.finals[user];
    let mut sent: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let mut joined = HashSet::new();
    for (_, message) in messages(&end.inbox) {
        if message.is_sent() && message.sender == end.user_id {
            sent.entry(&message.conversation).or_default().insert(message.sequence);
        } else if message.joined.contains(&end.user_id) {
            joined.insert((message.conversation.as_str(), message.sequence.saturating_sub(1)));
        }
    }
    let asked = history.asked.get(&user);
    let is_own = |conversation: &str, position: u64| {
        let sent = sent.get(conversation);
        if let Some(asked) = asked {
            return [asked.get(conversation), sent].into_iter().flatten().any(|positions| positions.contains(&position));
        }
        let attempted = history.attempted.get(&user).and_then(|attempted| attempted.get(conversation));
        attempted.max(sent.and_then(BTreeSet::last)).is_some_and(|most| position <= *most)
    };
    for entry in &end.inbox {
        if let What::Read { conversation, sequence } = &entry.what
            && !is_own(conversation, *sequence)
        {
            report.add(8, format!("user {user}: cursor {} shows read position {sequence} of {conversation}, not their own", entry.cursor));
        }
    }
    for (conversation, shown) in end.conversations.iter().filter(|_| asked.is_some()) {
        if shown.read != 0 && !is_own(conversation, shown.read) && !joined.contains(&(conversation.as_str(), shown.read)) {
            report.add(8, format!("user {user}: {conversation} shows read position {}, not their own", shown.read));
        }
    }
}

fn contacts_are_as_answered(history: &History, user: usize, report: &mut Report) {
    let Some(friends) = history.friends.get(&user) else { return };
    let end = &history.finals[user];
    let friends: BTreeSet<_> = friends.iter().map(|friend| history.finals[*friend].user_id.clone()).collect();
    if end.contacts != friends {
        report.add(6, format!("user {user} has the contacts {:?}, and was answered {friends:?}", end.contacts));
    }
    if !end.blocked.is_empty() {
        report.add(6, format!("user {user} blocks {:?}, and blocked nobody", end.blocked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Conversation, Device, Sent};

    /// Two friends, one conversation, three messages, one device each, one read.
    fn good() -> History {
        let ids = ["ada", "bob"];
        let message = |sequence: u64| {
            let from = usize::from(sequence.is_multiple_of(2));
            Message {
                conversation: "d".into(),
                sequence,
                sender: ids[from].into(),
                id: format!("m{sequence}"),
                text: format!("t{sequence}"),
                ..Message::default()
            }
        };
        let listed: Vec<_> = (1..=3).map(message).collect();
        let mut history = History { members: [("d".to_owned(), vec![0, 1])].into(), ..History::default() };
        for (user, id) in ids.into_iter().enumerate() {
            let mut inbox = vec![Entry { cursor: 1, what: What::Other("opened".into()) }];
            inbox.extend(listed.iter().map(|message| Entry { cursor: message.sequence + 1, what: What::Message(message.clone()) }));
            let mut shown = Conversation { head: 3, read: 0, unread: if user == 0 { 1 } else { 2 } };
            if user == 1 {
                inbox.push(Entry { cursor: 5, what: What::Read { conversation: "d".into(), sequence: 2 } });
                shown = Conversation { head: 3, read: 2, unread: 1 };
            }
            history.heads.insert(user, inbox.len() as u64);
            history.friends.insert(user, [1 - user].into());
            history.asked.entry(user).or_default();
            history.devices.push(Device { user, from: 1, shown: inbox[1..].to_vec() });
            history.finals.push(Final {
                user_id: id.into(),
                inbox,
                messages: [("d".to_owned(), listed.clone())].into(),
                conversations: [("d".to_owned(), shown)].into(),
                contacts: [ids[1 - user].to_owned()].into(),
                ..Final::default()
            });
        }
        history.reads.insert(1, [("d".to_owned(), 2)].into());
        history.asked.insert(1, [("d".to_owned(), [2].into())].into());
        history.sends = listed
            .iter()
            .map(|m| Sent {
                from: usize::from(m.sequence.is_multiple_of(2)),
                id: m.id.clone(),
                conversation: "d".into(),
                acked: vec![m.sequence],
                text: m.text.clone(),
            })
            .collect();
        history
    }

    fn planted(invariant: u32, plant: impl FnOnce(&mut History)) {
        let mut history = good();
        plant(&mut history);
        let found = check(&history);
        assert!(found.iter().any(|violation| violation.invariant == invariant), "{found:?}");
    }

    fn message_mut(entry: &mut Entry) -> &mut Message {
        match &mut entry.what {
            What::Message(message) => message,
            other => panic!("{other:?} is no message"),
        }
    }

    #[test]
    fn a_good_history_passes() {
        assert_eq!(check(&good()), []);
        let mut unknown = good();
        unknown.sends.push(Sent {
            from: 0,
            id: "lost".into(),
            conversation: String::new(),
            acked: vec![],
            text: "never acknowledged".into(),
        });
        assert_eq!(check(&unknown), []);
    }

    #[test]
    fn a_lost_message_is_found() {
        planted(1, |history| {
            history.finals[1].inbox.remove(2);
        });
        planted(1, |history| {
            history.sends.push(Sent { from: 0, id: "m4".into(), conversation: "d".into(), acked: vec![4], text: "t4".into() })
        });
    }

    #[test]
    fn an_acknowledged_send_to_a_conversation_that_nobody_has_is_found() {
        for conversation in ["", "e"] {
            planted(1, |history| {
                let sent = Sent { from: 0, id: "m4".into(), conversation: conversation.into(), acked: vec![1], text: "t4".into() };
                history.sends.push(sent);
            });
        }
    }

    #[test]
    fn a_message_delivered_twice_is_found() {
        let twice = |history: &mut History| {
            let mut again = history.finals[0].inbox[3].clone();
            again.cursor = 5;
            history.finals[0].inbox.push(again);
        };
        planted(1, twice);
        planted(3, twice);
    }

    #[test]
    fn another_order_and_another_content_are_found() {
        planted(2, |history| history.finals[0].inbox.swap(1, 2));
        planted(2, |history| message_mut(&mut history.finals[0].inbox[1]).text = "altered".into());
        planted(2, |history| {
            let listed = history.finals[1].messages.get_mut("d").expect("there");
            listed[0].text = "altered".into();
        });
        planted(2, |history| history.finals[0].conversations.get_mut("d").expect("there").head = 4);
        planted(2, |history| history.sends[0].acked = vec![2]);
    }

    #[test]
    fn a_resend_that_became_a_second_message_is_found() {
        planted(3, |history| history.sends[0].acked.push(2));
        planted(3, |history| message_mut(&mut history.finals[0].inbox[3]).id = "m1".into());
    }

    #[test]
    fn a_cursor_that_jumps_repeats_or_changes_its_entry_is_found() {
        planted(4, |history| history.finals[0].inbox[2].cursor = 9);
        planted(4, |history| {
            history.devices[0].shown.remove(0);
        });
        planted(4, |history| {
            let again = history.devices[0].shown[0].clone();
            history.devices[0].shown.insert(1, again);
        });
        planted(4, |history| message_mut(&mut history.devices[1].shown[0]).text = "shown and then lost".into());
        planted(4, |history| history.devices[0].shown.push(Entry { cursor: 5, what: What::Other("never stored".into()) }));
    }

    #[test]
    fn wrong_unread_counts_and_lost_reads_are_found() {
        planted(5, |history| history.finals[0].conversations.get_mut("d").expect("there").unread = 2);
        planted(5, |history| history.finals[1].conversations.get_mut("d").expect("there").read = 0);
    }

    #[test]
    fn a_device_that_is_not_shown_all_is_found() {
        planted(4, |history| history.devices[0].shown.clear());
        planted(4, |history| history.devices[1].shown.truncate(2));
        planted(4, |history| history.devices.push(Device { user: 1, ..Device::default() }));
        // Until then it was right.
        let mut stopped = good();
        stopped.heads.insert(1, 3);
        stopped.devices[1].shown.truncate(2);
        assert_eq!(check(&stopped), []);
        stopped.heads.clear();
        stopped.devices[0].shown.clear();
        assert_eq!(check(&stopped), []);
    }

    fn show_read(history: &mut History, sequence: u64) {
        history.finals[0].inbox.push(Entry { cursor: 5, what: What::Read { conversation: "d".into(), sequence } });
    }

    #[test]
    fn somebody_elses_read_position_is_found() {
        planted(8, |history| show_read(history, 2));
        planted(8, |history| show_read(history, 9));
        planted(8, |history| history.finals[0].conversations.get_mut("d").expect("there").read = 2);
        // It is no other's once it is asked for, or that of an own message.
        for (asked, own) in [(2, 2), (2, 1), (2, 3)] {
            let mut history = good();
            history.asked.insert(0, [("d".to_owned(), [asked].into())].into());
            show_read(&mut history, own);
            assert_eq!(check(&history), []);
        }
    }

    #[test]
    fn a_read_position_above_the_highest_one_is_found_where_no_more_is_known() {
        let unknown = |history: &mut History| {
            history.asked.clear();
            history.attempted = history.reads.clone();
        };
        let mut history = good();
        unknown(&mut history);
        assert_eq!(check(&history), []);
        planted(8, |history| {
            unknown(history);
            show_read(history, 4);
        });
    }

    #[test]
    fn contacts_that_are_lost_added_or_blocked_are_found() {
        planted(6, |history| history.finals[0].contacts.clear());
        planted(6, |history| {
            history.finals[1].contacts.insert("eve".into());
        });
        planted(6, |history| {
            history.finals[1].blocked.insert("ada".into());
        });
    }
}
