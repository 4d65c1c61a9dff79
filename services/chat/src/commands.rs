//! What changes something: a well-formed request becomes a command in the log, and its owner's decision becomes the answer. Unary calls and
//! live links come here alike. Calls under way are bounded; above that they are turned away at once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use plaza_event_log::{Error, Topic};
use plaza_processor::{CallError, Caller, Command, Outcome, outcome::Kind};
use plaza_proto::chat::v1::{MarkReadRequest, MarkReadResponse, SendMessageRequest, SendMessageResponse, UpdateConversationRequest};
use plaza_rpc::ApiError;
use plaza_runtime::{Clock, Rng};
use plaza_topics::{CHAT, INBOX, inbox};
use plaza_types::{ClientId, ConversationId, Reason, UserId};
use prost::Message as _;
use tokio::sync::Semaphore;
use xxhash_rust::xxh3::xxh3_64;

use crate::{form, metrics, reader::Reader};

const BUSY: Duration = Duration::from_millis(100);

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
        let key = sending.conversation.to_key();
        // The payload is all that makes the message, so its hash is the same however the conversation was named.
        let decided = self.call(asker, CHAT, key, Some(sending.client), xxh3_64(&sending.payload), sending.payload).await;
        let answer = decided.map_err(|error| match error.reason() {
            Reason::NotFound if sending.to_person => ApiError::new(Reason::NotAContact, "the two are not in each other's lists"),
            _ => error,
        })?;
        let sequence = SendMessageResponse::decode(answer.clone()).map_err(|_| ApiError::internal())?.sequence;
        self.reader.decided(sending.conversation, sequence);
        Ok(answer)
    }

    /// Moves the read position.
    pub(crate) async fn mark_read(&self, asker: Asker, request: &MarkReadRequest) -> Result<MarkReadResponse, ApiError> {
        let (conversation, id) = form::marking(&request.conversation_id, &request.request_id)?;
        self.member(asker.user, conversation).await?;
        let head = self.reader.head_for(conversation, request.sequence).await.map_err(store)?;
        let mark = inbox::MarkRead { conversation: conversation.to_key(), sequence: request.sequence.min(head) };
        let fingerprint = fingerprint(MarkReadRequest { request_id: String::new(), ..request.clone() });
        let answer = self.to_inbox(asker, id, fingerprint, inbox::Kind::MarkRead(mark)).await?;
        MarkReadResponse::decode(answer).map_err(|_| ApiError::internal())
    }

    /// Changes settings.
    pub(crate) async fn update(&self, asker: Asker, request: UpdateConversationRequest) -> Result<ConversationId, ApiError> {
        let (conversation, id, update) = form::updating(&request)?;
        self.member(asker.user, conversation).await?;
        let head = self.reader.head(conversation).await.map_err(store)?.sequence;
        let fingerprint = fingerprint(UpdateConversationRequest { request_id: String::new(), ..request });
        self.to_inbox(asker, id, fingerprint, inbox::Kind::Update(inbox::Update { head, ..update })).await?;
        Ok(conversation)
    }

    /// Refuses at once what the owner would refuse, before it costs a record.
    async fn member(&self, user: UserId, conversation: ConversationId) -> Result<(), ApiError> {
        let member = self.reader.store().member(user, conversation).await.map_err(store)?;
        member.map(|_| ()).ok_or_else(|| ApiError::not_found("conversation"))
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
            request: id.unwrap_or_else(|| ClientId::new(now, self.rng.bytes())),
            fingerprint,
            payload,
            now,
            deadline: now.saturating_add(u64::try_from(asker.within.as_micros()).unwrap_or(u64::MAX)),
            traceparent: asker.traceparent,
        };
        decided(self.caller.call(command).await)
    }
}

fn fingerprint(request: impl prost::Message) -> u64 {
    xxh3_64(&request.encode_to_vec())
}

fn decided(outcome: Result<Outcome, CallError>) -> Result<Bytes, ApiError> {
    match outcome {
        Ok(Outcome { kind: Some(Kind::Accepted(answer)) }) => Ok(answer),
        Ok(Outcome { kind: Some(Kind::Refused(refusal)) }) => {
            let reason = Reason::from_number(refusal.reason).unwrap_or(Reason::Internal);
            Err(match reason {
                Reason::NotFound => ApiError::not_found("conversation"),
                _ => ApiError::refused(reason, refusal.subject, refusal.message, refusal.retry_after),
            })
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
    tracing::error!(%error, "chat store cannot be read");
    ApiError::unavailable(BUSY)
}
