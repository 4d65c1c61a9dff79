//! The decisions: what each command and each word from another user's edges does to one user's. Whoever is ignored, blocked or removed is
//! told nothing, so none of those emits to anybody but the user's own devices and the pair's conversation.

use bytes::Bytes;
use plaza_processor::{Effects, Outcome, ReplyWhen, outcome::Kind};
use plaza_topics::{
    conversation::Side,
    graph::{Accepted, Ask, Asked, Update},
};
use plaza_types::{
    ClientId, Reason, UserId,
    limits::{CONTACTS, DAY, REQUESTS_PENDING, REQUESTS_PER_DAY, REQUESTS_UNANSWERED},
};
use prost::Message;

use super::{
    BLOCKED, Blocked, Contact, Folder, Graph, RECEIVED, Remark, Request, RequestStatus, Row, Sent, State, Status, emit,
    row::is_open,
    state::{Edge, TooManyTags},
};

/// One record being decided for `owner`, about `other`.
pub(super) struct Turn<'a> {
    pub(super) owner: UserId,
    pub(super) other: UserId,
    /// The record's write time, microseconds.
    pub(super) now: u64,
    pub(super) state: &'a mut State,
    pub(super) effects: &'a mut Effects<Graph>,
}

impl Turn<'_> {
    /// Command: ask to be friends.
    pub(super) fn ask(&mut self, ask: &Ask, request: ClientId) {
        self.effects.touch_cold();
        self.state.prune(self.now);
        let listed = self.state.lists(self.other);
        if listed && ask.listed_by {
            return self.refuse(Outcome::refused(Reason::AlreadyContact, "contact", "the two are in each other's lists"));
        }
        if !listed && !self.has_room() {
            return;
        }
        let sent = self.state.sent.get(&self.other).copied();
        let asked_by = self.state.is_asked_by(self.other, self.now);
        if !asked_by {
            if sent.is_some_and(|sent| sent.unanswered >= REQUESTS_UNANSWERED) {
                return self.refuse_quota("friend_requests_unanswered", "this person has not answered the last requests", 0);
            }
            if !sent.is_some_and(|sent| is_open(sent.time, self.now)) {
                if self.state.pending(self.now) >= REQUESTS_PENDING {
                    return self.refuse_quota("friend_requests_pending", "too many requests wait for an answer", 0);
                }
                if *self.state.asked_on(self.now) as usize >= REQUESTS_PER_DAY {
                    return self.refuse_quota("friend_requests_per_day", "too many new requests today", DAY - self.now % DAY);
                }
                *self.state.asked_on(self.now) += 1;
            }
        }
        let request = self.request(Folder::Sent, request, self.now, &ask.note, &ask.source);
        let unanswered = sent.map_or(1, |sent| sent.unanswered.saturating_add(1));
        self.state.sent.insert(self.other, Sent { time: self.now, unanswered });
        self.effects.row(Row::Request(request.clone()));
        if asked_by {
            let answer = emit::ask_answer(&request, Status::Accepted);
            let side = self.befriend();
            self.tell_conversation(side);
            return self.tell_accepted(Some(answer));
        }
        self.row_status(Folder::Sent, self.now, Status::Pending);
        let asked = Asked {
            note: request.note.clone(),
            source: request.source.clone(),
            request: Bytes::copy_from_slice(request.request.as_bytes()),
            time: self.now,
        };
        self.effects.emit(emit::asked(self.owner, self.other, asked));
        self.effects.reply(emit::ask_answer(&request, Status::Pending), ReplyWhen::Written);
    }

    /// Emission: the other asked.
    pub(super) fn asked(&mut self, asked: &Asked) {
        if self.state.blocks(self.other) {
            return;
        }
        if self.state.lists(self.other) {
            return self.tell_accepted(None);
        }
        let Some(request) = ClientId::from_slice(&asked.request) else { return };
        let crossed = self.state.sent.get(&self.other).is_some_and(|sent| is_open(sent.time, self.now)) && self.state.contacts() < CONTACTS;
        self.effects.touch_cold();
        self.state.prune(self.now);
        if !crossed && !self.state.received.contains_key(&self.other) && self.state.received.len() >= RECEIVED {
            return;
        }
        self.state.received.insert(self.other, asked.time);
        let row = self.request(Folder::Received, request, asked.time, &asked.note, &asked.source);
        self.effects.row(Row::Request(row));
        if crossed {
            let side = self.befriend();
            self.tell_conversation(side);
            return self.tell_accepted(None);
        }
        self.row_status(Folder::Received, asked.time, Status::Pending);
        self.effects.emit(emit::request_changed(self.owner, self.other, true, true, asked.note.clone()));
    }

    /// Command: accept what the other asked.
    pub(super) fn accept(&mut self) {
        if !self.state.is_asked_by(self.other, self.now) {
            return self.refuse_missing("friend_request");
        }
        if !self.has_room() {
            return;
        }
        let side = self.befriend();
        self.tell_conversation(side);
        let contact = self.state.contact(self.owner, self.other);
        self.tell_accepted(contact.map(emit::accept_answer));
    }

    /// Emission: the other listed this user because this user had asked. Whoever waits for it is answered in every case.
    pub(super) fn accepted(&mut self, accepted: &Accepted) {
        let may = !self.state.blocks(self.other);
        if may && self.state.lists(self.other) {
            self.close_requests();
        } else if may && self.state.sent.contains_key(&self.other) && self.state.contacts() < CONTACTS {
            _ = self.befriend();
        }
        let waiting = Some(self.other).filter(|_| !accepted.answer.is_empty());
        match self.state.side(self.owner, self.other).filter(|side| side.lists && may) {
            Some(own) => {
                // Told together and told once: the record that opens the conversation is the one that carries the answer.
                let sides = [own].into_iter().chain(accepted.side.clone()).collect();
                self.effects.emit(emit::sides(self.owner, self.other, sides, waiting, accepted.answer.clone()));
            }
            None if waiting.is_some() => {
                // No conversation opens, and the other must not learn why.
                let answer = Outcome::decode(accepted.answer.clone());
                let answer = answer.unwrap_or_else(|_| Outcome::refused(Reason::Internal, "", "the answer cannot be read"));
                self.effects.reply(answer, ReplyWhen::Written);
            }
            None => {}
        }
    }

    /// Command: set aside what the other asked.
    pub(super) fn ignore(&mut self) {
        if !self.state.is_asked_by(self.other, self.now) {
            return self.refuse_missing("friend_request");
        }
        self.set_aside();
        self.done();
    }

    /// Command: change what the user keeps about a contact.
    pub(super) fn update(&mut self, update: &Update) {
        if !self.state.lists(self.other) {
            return self.refuse_missing("contact");
        }
        if update.set_tags
            && let Err(TooManyTags) = self.state.set_tags(self.other, &update.tags)
        {
            return self.refuse_quota("tags", "too many different tags over all contacts", 0);
        }
        self.effects.touch_cold();
        if let Some(edge) = self.state.edges.get_mut(&self.other) {
            let permissions = &mut edge.permissions;
            let fields = [
                (&mut edge.starred, update.starred),
                (&mut permissions.chat_only, update.chat_only),
                (&mut permissions.hide_my_moments, update.hide_my_moments),
                (&mut permissions.hide_their_moments, update.hide_their_moments),
            ];
            for (field, value) in fields {
                *field = value.unwrap_or(*field);
            }
        }
        if let Some(remark) = &update.remark {
            self.row_remark(remark.clone());
        }
        if let Some(contact) = self.state.contact(self.owner, self.other) {
            self.effects.row(Row::Contact(contact));
        }
        self.effects.emit(emit::contact_changed(self.owner, self.other, true));
        self.tell_edge();
        self.done();
    }

    /// Command: remove the other from the list, with all that is kept about them; a request to them that is still waiting is taken back, or
    /// its answer would put them into the list again.
    pub(super) fn remove(&mut self) {
        if !self.state.lists(self.other) {
            return self.refuse_missing("contact");
        }
        // Fewer tags are never too many.
        let _ = self.state.set_tags(self.other, &[]);
        self.set_edge(|edge| *edge = Edge { blocked: edge.blocked, version: edge.version, ..Edge::default() });
        let gone = Contact {
            owner: self.owner,
            other: self.other,
            listed: false,
            since: 0,
            starred: false,
            permissions: Default::default(),
            tags: Vec::new(),
        };
        self.effects.row(Row::Contact(gone));
        self.row_remark(String::new());
        if let Some(sent) = self.state.sent.remove(&self.other) {
            self.row_status(Folder::Sent, sent.time, Status::Withdrawn);
        }
        self.effects.emit(emit::contact_changed(self.owner, self.other, false));
        self.tell_edge();
        self.done();
    }

    /// Command: block.
    pub(super) fn block(&mut self) {
        if !self.state.blocks(self.other) {
            if self.state.blocked() >= BLOCKED {
                return self.refuse_quota("blocked", "too many people are blocked", 0);
            }
            self.state.prune(self.now);
            self.set_blocked(true);
            self.set_aside();
        }
        self.done();
    }

    /// Command: unblock.
    pub(super) fn unblock(&mut self) {
        if self.state.blocks(self.other) {
            self.set_blocked(false);
        }
        self.done();
    }

    pub(super) fn refuse_yourself(&mut self) {
        self.refuse(Outcome::refused(Reason::Yourself, "user_id", "this is the caller"));
    }

    /// Lists the other, who must not be listed yet, and closes the requests between the two; gives what the conversation is to be told.
    fn befriend(&mut self) -> Option<Side> {
        let since = self.now;
        let side = self.change_edge(|edge| {
            edge.listed = true;
            edge.since = since;
        });
        if let Some(contact) = self.state.contact(self.owner, self.other) {
            self.effects.row(Row::Contact(contact));
        }
        self.close_requests();
        self.effects.emit(emit::contact_changed(self.owner, self.other, true));
        self.tell_edge();
        self.effects.emit(emit::backfill(self.owner, self.other));
        // The other may have listed the owner all along, and posts were passed over that only friends are given later.
        self.effects.emit(emit::backfill(self.other, self.owner));
        side
    }

    /// The two are friends: what they asked each other is answered.
    fn close_requests(&mut self) {
        self.effects.touch_cold();
        if let Some(time) = self.state.received.remove(&self.other) {
            self.row_status(Folder::Received, time, Status::Accepted);
        }
        if let Some(sent) = self.state.sent.remove(&self.other) {
            self.row_status(Folder::Sent, sent.time, Status::Accepted);
            self.effects.emit(emit::request_changed(self.owner, self.other, false, false, String::new()));
        }
    }

    /// Tells the other, who had asked, that this user lists them. With an answer, the caller is given it further on: by the caller's inbox once
    /// the conversation is open, or by the other's edges if none opens.
    fn tell_accepted(&mut self, answer: Option<Outcome>) {
        let side = self.state.side(self.owner, self.other);
        let encoded = answer.as_ref().map(Message::encode_to_vec).unwrap_or_default();
        self.effects.emit(emit::accepted(self.owner, self.other, side, encoded.into()));
        if let Some(answer) = answer {
            self.effects.remember(answer);
        }
    }

    fn set_blocked(&mut self, blocked: bool) {
        self.set_edge(|edge| edge.blocked = blocked);
        self.effects.row(Row::Blocked(Blocked { owner: self.owner, other: self.other, blocked }));
        self.effects.emit(emit::contact_changed(self.owner, self.other, self.state.lists(self.other)));
        self.tell_edge();
    }

    /// The row of the contact or the block was written by this record: whoever keeps a copy of it must read it anew.
    fn tell_edge(&mut self) {
        self.effects.emit(emit::edge_changed(self.owner, self.other));
    }

    fn set_edge(&mut self, change: impl FnOnce(&mut Edge)) {
        let side = self.change_edge(change);
        self.tell_conversation(side);
    }

    fn change_edge(&mut self, change: impl FnOnce(&mut Edge)) -> Option<Side> {
        self.effects.touch_cold();
        self.state.set(self.owner, self.other, change)
    }

    fn tell_conversation(&mut self, side: Option<Side>) {
        if let Some(side) = side {
            self.effects.emit(emit::sides(self.owner, self.other, vec![side], None, Bytes::new()));
        }
    }

    fn set_aside(&mut self) {
        self.effects.touch_cold();
        if let Some(time) = self.state.received.remove(&self.other) {
            self.row_status(Folder::Received, time, Status::Ignored);
        }
    }

    fn request(&self, kept_in: Folder, request: ClientId, time: u64, note: &str, source: &str) -> Request {
        Request { owner: self.owner, kept_in, other: self.other, request, time, note: note.to_owned(), source: source.to_owned() }
    }

    fn row_status(&mut self, kept_in: Folder, time: u64, status: Status) {
        self.effects.row(Row::RequestStatus(RequestStatus { owner: self.owner, kept_in, other: self.other, time, status }));
    }

    fn row_remark(&mut self, remark: String) {
        self.effects.row(Row::Remark(Remark { owner: self.owner, other: self.other, remark }));
    }

    fn has_room(&mut self) -> bool {
        let room = self.state.contacts() < CONTACTS;
        if !room {
            self.refuse_quota("contacts", "the list of contacts is full", 0);
        }
        room
    }

    fn done(&mut self) {
        self.effects.reply(Outcome::accepted(Bytes::new()), ReplyWhen::Written);
    }

    fn refuse_missing(&mut self, kind: &str) {
        self.refuse(Outcome::refused(Reason::NotFound, kind, ""));
    }

    fn refuse_quota(&mut self, quota: &str, message: &str, retry_after: u64) {
        let mut outcome = Outcome::refused(Reason::QuotaExceeded, quota, message);
        if let Some(Kind::Refused(refusal)) = &mut outcome.kind {
            refusal.retry_after = retry_after;
        }
        self.refuse(outcome);
    }

    fn refuse(&mut self, outcome: Outcome) {
        self.effects.reply(outcome, ReplyWhen::Decided);
    }
}
