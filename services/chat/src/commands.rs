//! What changes something: a well-formed request becomes a command in the log, and its owner's decision becomes the answer. Unary calls and
//! live links come here alike. Calls under way are bounded; above that they are turned away at once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use plaza_event_log::{Error, Topic};
use plaza_processor::{CallError, Caller, Command, Outcome, outcome::Kind};
use plaza_proto::chat::v1::{
    DeleteMessagesRequest, MarkReadRequest, MarkReadResponse, RecallMessageRequest, SendMessageRequest, SendMessageResponse,
    UpdateConversationRequest,
};
use plaza_rpc::ApiError;
use plaza_runtime::{Clock, Rng};
use plaza_topics::{CHAT, INBOX, conversation, inbox};
use plaza_types::{ClientId, ConversationId, Reason, UserId, id::ConversationKind};
use prost::Message as _;
use tokio::sync::Semaphore;
use xxhash_rust::xxh3::xxh3_64;

use crate::{domain::event, form, listing, metrics, reader::Reader, store::Member};

/// When to come again after having been turned away.
pub(crate) const BUSY: Duration = Duration::from_millis(100);

/// Who asks, how long they wait, and what trace it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// The user.
    pub(crate) user: UserId,
    /// How long the caller waits.
    pub(crate) within: Duration,
    /// W3C trace context, if traced.
    pub(crate) traceparent: Option<Bytes>,
}

/// The changing calls.
pub(crate) struct Commands {
    caller: Caller,
    clock: Clock,
    rng: Rng,
    reader: Arc<Reader>,
    under_way: Semaphore,
}

impl Commands {
    /// At most `limit` calls at a time.
    pub(crate) fn new(caller: Caller, clock: Clock, rng: Rng, reader: Arc<Reader>, limit: usize) -> Self {
        Self { caller, clock, rng, reader, under_way: Semaphore::new(limit) }
    }

    /// Sends a message; gives the encoded `SendMessageResponse`.
    pub(crate) async fn send(&self, asker: Asker, request: &SendMessageRequest) -> Result<Bytes, ApiError> {
        let sending = form::sending(asker.user, request)?;
        let user = asker.user;
        let key = sending.conversation.to_key();
        // The payload is all that makes the message, so its hash is the same however the conversation was named.
        let decided = self.call(asker, CHAT, key, Some(sending.client), xxh3_64(&sending.payload), sending.payload).await;
        let answer = match decided {
            Ok(answer) => answer,
            Err(error) if error.reason() != Reason::NotFound => return Err(error),
            Err(_) if sending.to_person => return Err(ApiError::new(Reason::NotAContact, "the two are not in each other's lists")),
            Err(_) => return Err(self.outside(user, sending.conversation).await?),
        };
        let sequence = SendMessageResponse::decode(answer.clone()).map_err(|_| ApiError::internal())?.sequence;
        self.reader.decided(sending.conversation, sequence);
        Ok(answer)
    }

    /// Moves the read position.
    pub(crate) async fn mark_read(&self, asker: Asker, request: &MarkReadRequest) -> Result<MarkReadResponse, ApiError> {
        let (conversation, id) = form::marking(&request.conversation_id, &request.request_id)?;
        let (user, member) = (asker.user, self.member(asker.user, conversation).await?);
        let head = self.reader.head_for(conversation, request.sequence).await.map_err(store)?;
        let head = self.reader.in_time(user, conversation, member).await.map_err(store)?.membership.last(head);
        let mark = inbox::MarkRead { conversation: conversation.to_key(), sequence: request.sequence.min(head) };
        let fingerprint = fingerprint("", &MarkReadRequest { request_id: String::new(), ..request.clone() });
        let answer = self.to_inbox(asker, id, fingerprint, inbox::Kind::MarkRead(mark)).await?;
        MarkReadResponse::decode(answer).map_err(|_| ApiError::internal())
    }

    /// Changes settings.
    pub(crate) async fn update(&self, asker: Asker, request: UpdateConversationRequest) -> Result<ConversationId, ApiError> {
        let (conversation, id, update) = form::updating(&request)?;
        let (user, member) = (asker.user, self.member(asker.user, conversation).await?);
        let head = self.reader.head(conversation).await.map_err(store)?.sequence;
        let head = self.reader.in_time(user, conversation, member).await.map_err(store)?.membership.last(head);
        let fingerprint = fingerprint("", &UpdateConversationRequest { request_id: String::new(), ..request });
        self.to_inbox(asker, id, fingerprint, inbox::Kind::Update(inbox::Update { head, ..update })).await?;
        Ok(conversation)
    }

    /// Takes a message back. The stored message says whose it is and when it was sent; both never change, so the conversation can decide by them.
    pub(crate) async fn recall(&self, asker: Asker, request: &RecallMessageRequest) -> Result<(), ApiError> {
        let conversation = form::group::recalling(request)?;
        let id = form::group::request_id(&request.request_id)?;
        let (user, sequence) = (asker.user, request.sequence);
        let member = self.member(user, conversation).await?;
        let head = self.reader.head_for(conversation, sequence).await.map_err(store)?;
        let member = self.reader.in_time(user, conversation, member).await.map_err(store)?;
        let stored = if sequence <= head && member.membership.covers(sequence) {
            self.reader.message(conversation, sequence).await.map_err(store)?
        } else {
            None
        };
        let message = stored.and_then(listing::message).ok_or_else(|| ApiError::not_found("message"))?;
        let ids = message.sender_id.parse::<UserId>().ok().zip(message.client_message_id.parse::<ClientId>().ok());
        let Some((sender, client)) = ids else {
            return Err(ApiError::invalid("sequence", "a system notice is nobody's to take back"));
        };
        if message.recalled && sender == user {
            return Ok(());
        }
        let sent_at = message.sent_at.map(listing::micros).unwrap_or_default();
        let recall = conversation::Recall { sequence, sender: sender.to_key(), client: Bytes::copy_from_slice(client.as_bytes()), sent_at };
        let fingerprint = fingerprint("recall", &RecallMessageRequest { request_id: String::new(), ..request.clone() });
        self.to_conversation(asker, conversation, id, fingerprint, conversation::Kind::Recall(recall)).await?;
        let left = event::emptied(conversation, sequence, sender, &message.client_message_id, sent_at);
        self.reader.recalled(conversation, sequence, &left);
        Ok(())
    }

    /// Deletes messages for the caller.
    pub(crate) async fn delete(&self, asker: Asker, request: &DeleteMessagesRequest) -> Result<(), ApiError> {
        let (conversation, sequences) = form::group::deleting(request)?;
        let id = form::group::request_id(&request.request_id)?;
        let member = self.member(asker.user, conversation).await?;
        let newest = sequences.last().copied().unwrap_or_default();
        let head = self.reader.head_for(conversation, newest).await.map_err(store)?;
        let member = self.reader.in_time(asker.user, conversation, member).await.map_err(store)?;
        if newest > head || !sequences.iter().all(|sequence| member.membership.covers(*sequence)) {
            return Err(ApiError::invalid("sequences", "messages of the caller's time in the conversation"));
        }
        let delete = inbox::Delete { conversation: conversation.to_key(), sequences };
        let fingerprint = fingerprint("delete", &DeleteMessagesRequest { request_id: String::new(), ..request.clone() });
        self.to_inbox(asker, id, fingerprint, inbox::Kind::Delete(delete)).await.map(|_| ())
    }

    /// A new id, for a request that has none.
    pub(crate) fn new_id(&self) -> ClientId {
        ClientId::new(self.clock.now_micros(), self.rng.bytes())
    }

    /// What somebody is told who is not in a conversation: whoever never was learns nothing of it.
    pub(crate) async fn outside(&self, user: UserId, conversation: ConversationId) -> Result<ApiError, ApiError> {
        let error = ApiError::not_found("conversation");
        if conversation.kind() != ConversationKind::Group {
            return Ok(error);
        }
        // A store that does not answer must not make somebody a stranger.
        let was_in = self.reader.store().member(user, conversation).await.map_err(store)?.is_some();
        Ok(if was_in { ApiError::new(Reason::NotAMember, "no longer a member of the group") } else { error })
    }

    /// Refuses at once what the owner would refuse, before it costs a record.
    async fn member(&self, user: UserId, conversation: ConversationId) -> Result<Member, ApiError> {
        let member = self.reader.store().member(user, conversation).await.map_err(store)?;
        member.ok_or_else(|| ApiError::not_found("conversation"))
    }

    /// Has a conversation decide a command.
    pub(crate) async fn to_conversation(
        &self,
        asker: Asker,
        conversation: ConversationId,
        id: Option<ClientId>,
        fingerprint: u64,
        kind: conversation::Kind,
    ) -> Result<Bytes, ApiError> {
        let payload = conversation::Payload { kind: Some(kind) }.encode_to_vec().into();
        let user = asker.user;
        match self.call(asker, CHAT, conversation.to_key(), id, fingerprint, payload).await {
            Err(error) if error == ApiError::not_found("conversation") => Err(self.outside(user, conversation).await?),
            decided => decided,
        }
    }

    async fn to_inbox(&self, asker: Asker, id: Option<ClientId>, fingerprint: u64, kind: inbox::Kind) -> Result<Bytes, ApiError> {
        let payload = inbox::Payload { kind: Some(kind) }.encode_to_vec().into();
        let key = asker.user.to_key();
        self.call(asker, INBOX, key, id, fingerprint, payload).await
    }

    async fn call(
        &self,
        asker: Asker,
        topic: Topic,
        key: Bytes,
        id: Option<ClientId>,
        fingerprint: u64,
        payload: Bytes,
    ) -> Result<Bytes, ApiError> {
        let Ok(_permit) = self.under_way.try_acquire() else {
            metrics::get().turned_away.add(1, &[]);
            return Err(ApiError::unavailable(BUSY));
        };
        let now = self.clock.now_micros();
        let command = Command {
            topic,
            key,
            caller: asker.user,
            request: id.unwrap_or_else(|| self.new_id()),
            fingerprint,
            payload,
            now,
            deadline: now.saturating_add(u64::try_from(asker.within.as_micros()).unwrap_or(u64::MAX)),
            traceparent: asker.traceparent,
        };
        decided(self.caller.call(command).await)
    }
}

/// A hash of what is asked: of the request without its id, and of its name where requests of the same form ask the same owner for different
/// things.
pub(crate) fn fingerprint(name: &str, request: &impl prost::Message) -> u64 {
    xxh3_64(&[name.as_bytes(), &request.encode_to_vec()].concat())
}

fn decided(outcome: Result<Outcome, CallError>) -> Result<Bytes, ApiError> {
    match outcome {
        Ok(Outcome { kind: Some(Kind::Accepted(answer)) }) => Ok(answer),
        Ok(Outcome { kind: Some(Kind::Refused(refusal)) }) => {
            let reason = Reason::from_number(refusal.reason).unwrap_or(Reason::Internal);
            Err(ApiError::refused(reason, refusal.subject, refusal.message, refusal.retry_after))
        }
        Ok(Outcome { kind: None }) => Err(ApiError::internal()),
        Err(CallError::Undecided) => Err(ApiError::undecided()),
        Err(CallError::Log(Error::TooLarge { .. })) => Err(ApiError::new(Reason::TooLarge, "the message is too large")),
        Err(CallError::Log(error)) => {
            tracing::warn!(%error, "command not appended");
            Err(ApiError::unavailable(BUSY))
        }
    }
}

/// A store that does not answer.
pub(crate) fn store(error: plaza_processor::StoreError) -> ApiError {
    tracing::warn!(%error, "chat store cannot be read");
    ApiError::unavailable(BUSY)
}
