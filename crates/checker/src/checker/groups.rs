//! Groups: every member's view is the one order between that member's joins and leaves, and nothing outside. The order is what the owner saw,
//! who is in from the first place to the last; who was in when is read from the changes in it.

use std::collections::BTreeMap;

use super::{Report, messages};
use crate::history::{Group, History, Message};

/// The first and the last place of a time in a group; an open end is `None`.
type Time = (u64, Option<u64>);

/// When each user, by UUID, was in a group with this order.
#[must_use]
pub fn times<'a>(order: &[&'a Message]) -> BTreeMap<&'a str, Vec<Time>> {
    let mut times: BTreeMap<&str, Vec<Time>> = BTreeMap::new();
    for message in order {
        for user in &message.joined {
            times.entry(user).or_default().push((message.sequence, None));
        }
        for user in &message.left {
            if let Some((_, last)) = times.entry(user).or_default().last_mut() {
                *last = Some(message.sequence);
            }
        }
    }
    times
}

/// Whether a sequence belongs to one of these times.
#[must_use]
pub fn covers(times: &[Time], sequence: u64) -> bool {
    times.iter().any(|(first, last)| sequence >= *first && last.is_none_or(|last| sequence <= last))
}

pub(super) fn views_are_the_order_of_their_times(history: &History, report: &mut Report) {
    for (conversation, group) in &history.groups {
        let order: Vec<&Message> = heard(history, group.owner, conversation);
        if !order.iter().map(|message| message.sequence).eq(1..=order.len() as u64) {
            report.add(2, format!("the owner of {conversation} did not hear 1 to {}", order.len()));
        }
        let times = times(&order);
        for user in 0..history.finals.len() {
            view(history, conversation, &order, times.get(history.finals[user].user_id.as_str()), user, report);
        }
        for sent in history.sends.iter().filter(|sent| sent.conversation == *conversation) {
            let sender = &history.finals[sent.from].user_id;
            let is_it = |message: &&&Message| message.id == sent.id && message.sender == *sender;
            for sequence in &sent.acked {
                let there = order.get((*sequence as usize).wrapping_sub(1)).filter(is_it);
                if there.is_none_or(|message| message.text != sent.text) {
                    report.add(1, format!("send {} was acknowledged as {sequence} of {conversation} and is not there: {there:?}", sent.id));
                }
            }
        }
        changes_were_made_once(history, conversation, group, &times, report);
    }
}

fn heard<'a>(history: &'a History, user: usize, conversation: &str) -> Vec<&'a Message> {
    messages(&history.finals[user].inbox).map(|(_, message)| message).filter(|message| message.conversation == conversation).collect()
}

fn view(history: &History, conversation: &str, order: &[&Message], times: Option<&Vec<Time>>, user: usize, report: &mut Report) {
    let end = &history.finals[user];
    let times = times.map_or(&[][..], Vec::as_slice);
    let heard = heard(history, user, conversation);
    if let Some(outside) = heard.iter().find(|message| !covers(times, message.sequence)) {
        report.add(8, format!("user {user} heard {} of {conversation}, which is outside {times:?}", outside.sequence));
    }
    let expected = || order.iter().filter(|message| covers(times, message.sequence));
    if !heard.iter().eq(expected()) {
        let missing = expected().find(|message| !heard.contains(message)).map(|message| message.sequence);
        report.add(
            2,
            format!("user {user} heard {} places of {conversation}, not the {} of {times:?}: {missing:?}", heard.len(), expected().count()),
        );
    }
    let Some((first, last)) = times.last().map(|(first, last)| (*first, last.unwrap_or(order.len() as u64))) else {
        if end.conversations.contains_key(conversation) {
            report.add(8, format!("user {user} sees {conversation} without ever having been in it"));
        }
        return;
    };
    let Some(shown) = end.conversations.get(conversation) else {
        if times.last().is_some_and(|(_, last)| last.is_none()) {
            report.add(2, format!("user {user} is in {conversation} and does not see it"));
        }
        return;
    };
    if shown.head != last {
        report.add(2, format!("user {user}: {conversation} has head {}, the time ends with {last}", shown.head));
    }
    let listed = end.messages.get(conversation).map_or(&[][..], Vec::as_slice);
    if !listed.iter().eq(order.iter().copied().filter(|message| (first..=last).contains(&message.sequence))) {
        report.add(2, format!("user {user}: {conversation} lists {} messages, not {first} to {last}", listed.len()));
    }
}

/// What was answered as done is in the order, as often as it was done.
fn changes_were_made_once(history: &History, conversation: &str, group: &Group, times: &BTreeMap<&str, Vec<Time>>, report: &mut Report) {
    for (user, changes) in &group.changes {
        let seen = times.get(history.finals[*user].user_id.as_str()).map_or(&[][..], Vec::as_slice);
        let (joins, leaves) = (seen.len() as u64, seen.iter().filter(|(_, last)| last.is_some()).count() as u64);
        // Of a change without an answer it is not known whether it was made.
        let all = |counted: u64, seen: u64| seen == counted || (changes.unanswered && seen == counted + 1);
        if !all(changes.joins, joins) || !all(changes.leaves, leaves) {
            report.add(3, format!("user {user} joined {conversation} {joins} times and left {leaves} times, and was answered {changes:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::check,
        history::{Changes, Conversation, Entry, Final, Sent, What},
    };

    const GROUP: &str = "g";
    /// 1 ada makes it with bob; 2 bob speaks; 3 bob leaves; 4 ada speaks; 5 ada adds bob; 6 ada speaks.
    const ORDER: u64 = 6;

    fn message(sequence: u64) -> Message {
        let (sender, id) = match sequence {
            2 => ("bob", "m2"),
            4 => ("ada", "m4"),
            6 => ("ada", "m6"),
            _ => ("ada", ""),
        };
        let owned = |users: &[&str]| users.iter().map(|user| (*user).to_owned()).collect();
        Message {
            conversation: GROUP.into(),
            sequence,
            sender: sender.into(),
            id: id.into(),
            text: format!("t{sequence}"),
            joined: owned(match sequence {
                1 => &["ada", "bob"],
                5 => &["bob"],
                _ => &[],
            }),
            left: owned(if sequence == 3 { &["bob"] } else { &[] }),
        }
    }

    fn good() -> History {
        let mut history = History::default();
        for (id, heard, listed) in [("ada", vec![1, 2, 3, 4, 5, 6], 1..=6), ("bob", vec![1, 2, 3, 5, 6], 5..=6), ("eve", vec![], 1..=1)] {
            let inbox = heard.into_iter().zip(1..).map(|(sequence, cursor)| Entry { cursor, what: What::Message(message(sequence)) });
            let mut end = Final { user_id: id.into(), inbox: inbox.collect(), ..Final::default() };
            if id != "eve" {
                let (read, unread) = if id == "ada" { (0, 1) } else { (4, 1) };
                end.conversations.insert(GROUP.into(), Conversation { head: ORDER, read, unread });
                end.messages.insert(GROUP.into(), listed.map(message).collect());
            }
            history.asked.insert(history.finals.len(), BTreeMap::new());
            history.finals.push(end);
        }
        let changes = BTreeMap::from([(1, Changes { joins: 2, leaves: 1, unanswered: false })]);
        history.groups.insert(GROUP.into(), Group { owner: 0, changes });
        for sequence in [2, 4, 6] {
            let from = usize::from(sequence == 2);
            let text = format!("t{sequence}");
            history.sends.push(Sent { from, id: format!("m{sequence}"), conversation: GROUP.into(), acked: vec![sequence], text });
        }
        history
    }

    fn planted(invariant: u32, plant: impl FnOnce(&mut History)) {
        let mut history = good();
        plant(&mut history);
        let found = check(&history);
        assert!(found.iter().any(|violation| violation.invariant == invariant), "{found:?}");
    }

    fn renumbered(history: &mut History, user: usize) {
        history.finals[user].inbox.iter_mut().zip(1..).for_each(|(entry, cursor)| entry.cursor = cursor);
    }

    #[test]
    fn a_good_history_passes() {
        assert_eq!(check(&good()), []);
        let mut unanswered = good();
        unanswered.groups.get_mut(GROUP).and_then(|group| group.changes.get_mut(&1)).expect("there").joins = 1;
        assert!(!check(&unanswered).is_empty());
        unanswered.groups.get_mut(GROUP).and_then(|group| group.changes.get_mut(&1)).expect("there").unanswered = true;
        assert_eq!(check(&unanswered), []);
    }

    #[test]
    fn what_is_heard_outside_the_own_time_is_found() {
        planted(8, |history| {
            history.finals[1].inbox.insert(3, Entry { cursor: 0, what: What::Message(message(4)) });
            renumbered(history, 1);
        });
        planted(8, |history| history.finals[2].inbox.push(Entry { cursor: 1, what: What::Message(message(2)) }));
        planted(8, |history| {
            history.finals[2].conversations.insert(GROUP.into(), Conversation::default());
        });
    }

    #[test]
    fn a_hole_another_order_and_another_content_are_found() {
        planted(2, |history| {
            history.finals[1].inbox.remove(4);
        });
        planted(2, |history| {
            history.finals[1].inbox.swap(0, 1);
            renumbered(history, 1);
        });
        planted(2, |history| {
            history.finals[0].inbox.remove(3);
            renumbered(history, 0);
        });
        planted(2, |history| match &mut history.finals[1].inbox[4].what {
            What::Message(message) => message.text = "altered".into(),
            other => panic!("{other:?}"),
        });
    }

    #[test]
    fn a_list_that_shows_too_much_or_too_little_is_found() {
        planted(2, |history| history.finals[1].messages.get_mut(GROUP).expect("there").insert(0, message(4)));
        planted(2, |history| history.finals[0].conversations.get_mut(GROUP).expect("there").head = 5);
        planted(2, |history| {
            history.finals[1].conversations.clear();
        });
        planted(5, |history| history.finals[0].conversations.get_mut(GROUP).expect("there").unread = 2);
    }

    #[test]
    fn a_read_position_that_is_neither_own_nor_where_the_time_begins_is_found() {
        planted(8, |history| history.finals[1].conversations.get_mut(GROUP).expect("there").read = 3);
        planted(8, |history| history.finals[0].conversations.get_mut(GROUP).expect("there").read = 2);
    }

    #[test]
    fn lost_sends_and_changes_made_twice_are_found() {
        planted(1, |history| history.sends[0].acked = vec![4]);
        planted(1, |history| history.sends[0].acked = vec![9]);
        planted(3, |history| history.groups.get_mut(GROUP).and_then(|group| group.changes.get_mut(&1)).expect("there").leaves = 2);
    }
}
