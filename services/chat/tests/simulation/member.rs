//! A member of the group as a client is one: asks with one id until it is decided.

use std::time::Duration;

use bytes::Bytes;
use plaza_chat::domain::conversation::Changed;
use plaza_processor::{Caller, Command, outcome::Kind};
use plaza_proto::chat::v1::{Content, SendMessageResponse, Text, content};
use plaza_runtime::{Clock, Rng};
use plaza_topics::{CHAT, conversation as chat};
use plaza_types::{ClientId, ConversationId, Reason, UserId};
use prost::Message as _;

/// What a try waits for its decision.
const PATIENCE: Duration = Duration::from_secs(2);
/// Tries of one command, far more than the odds of failing need.
const TRIES: usize = 60;

/// How commands are asked.
#[derive(Clone)]
pub(crate) struct Asking {
    caller: Caller,
    clock: Clock,
    rng: Rng,
    pub(crate) group: ConversationId,
}

/// Somebody.
pub(crate) struct Member {
    pub(crate) who: usize,
    pub(crate) asking: Asking,
}

/// User number `n`.
pub(crate) fn person(n: usize) -> UserId {
    let mut bytes = [5; 16];
    bytes[..8].copy_from_slice(&(n as u64 + 1).to_be_bytes());
    UserId::from_bytes(bytes)
}

pub(crate) fn people(of: impl IntoIterator<Item = usize>) -> chat::Add {
    chat::Add { users: of.into_iter().map(|who| person(who).to_key()).collect(), strangers: false, limit: 500 }
}

pub(crate) fn message(text: &str) -> chat::Send {
    let content = Content { kind: Some(content::Kind::Text(Text { text: text.to_owned() })) };
    chat::Send { content: content.encode_to_vec().into(), ..chat::Send::default() }
}

impl Asking {
    pub(crate) fn new(caller: Caller, clock: Clock, rng: Rng, group: ConversationId) -> Self {
        Self { caller, clock, rng, group }
    }

    fn new_id(&self) -> ClientId {
        ClientId::new(self.clock.now_micros(), self.rng.bytes())
    }
}

/// A message that was sent.
pub(crate) struct Sent {
    pub(crate) sequence: u64,
    client: ClientId,
    at: u64,
}

impl Member {
    async fn ask(&self, request: ClientId, kind: chat::Kind) -> Bytes {
        let payload: Bytes = chat::Payload { kind: Some(kind) }.encode_to_vec().into();
        for _ in 0..TRIES {
            let now = self.asking.clock.now_micros();
            let command = Command {
                topic: CHAT,
                key: self.asking.group.to_key(),
                caller: person(self.who),
                request,
                fingerprint: 1,
                payload: payload.clone(),
                now,
                deadline: now + u64::try_from(PATIENCE.as_micros()).expect("small"),
                traceparent: None,
            };
            match self.asking.caller.call(command).await.ok().and_then(|outcome| outcome.kind) {
                Some(Kind::Accepted(answer)) => return answer,
                Some(Kind::Refused(refusal)) if refusal.reason == Reason::Undecided.number() => {}
                Some(Kind::Refused(refusal)) => panic!("{} was refused: {refusal:?}", self.who),
                None => {}
            }
        }
        panic!("{} was never answered", self.who);
    }

    pub(crate) async fn change(&self, kind: chat::Kind) -> Changed {
        Changed::decode(self.ask(self.asking.new_id(), kind).await).expect("what changed")
    }

    pub(crate) async fn send(&self, send: chat::Send) -> Sent {
        let client = self.asking.new_id();
        let sent = SendMessageResponse::decode(self.ask(client, chat::Kind::Send(send)).await).expect("a response");
        let at = sent.sent_at.expect("a time");
        let at = u64::try_from(at.seconds).expect("after 1970") * 1_000_000 + u64::try_from(at.nanos).expect("positive") / 1000;
        Sent { sequence: sent.sequence, client, at }
    }

    pub(crate) async fn recall(&self, sent: &Sent) {
        let recall = chat::Recall {
            sequence: sent.sequence,
            sender: person(self.who).to_key(),
            client: Bytes::copy_from_slice(sent.client.as_bytes()),
            sent_at: sent.at,
        };
        self.ask(self.asking.new_id(), chat::Kind::Recall(recall)).await;
    }

    /// Gives the first place of the time that begins.
    pub(crate) async fn accept(&self) -> u64 {
        self.change(chat::Kind::AnswerInvitation(chat::Answer { accept: true, ..chat::Answer::default() })).await.head
    }

    /// Gives the last place of the time that ends.
    pub(crate) async fn leave(&self) -> u64 {
        self.change(chat::Kind::Leave(chat::Plain {})).await.head
    }

    /// Removes another one; gives the last place of that one's time.
    pub(crate) async fn remove(&self, who: usize) -> u64 {
        self.change(chat::Kind::Remove(chat::Remove { users: vec![person(who).to_key()] })).await.head
    }
}
