//! The public calls: decode, authorise, ask the domain's owners or the store, encode. It decides nothing itself.

use std::sync::Arc;

use plaza_processor::StoreError;
use plaza_proto::chat::v1::{
    Entry, GetConversationRequest, GetConversationResponse, ListConversationsRequest, ListConversationsResponse, ListMessagesRequest,
    ListMessagesResponse, MarkReadRequest, MarkReadResponse, SendMessageRequest, SendMessageResponse, SyncRequest, SyncResponse,
    UpdateConversationRequest, UpdateConversationResponse, chat_service_server::ChatService,
};
use plaza_rpc::{ApiError, Identity, PageTokens, Violations, deadline, page};
use plaza_telemetry::propagation;
use plaza_types::{ConversationId, UserId};
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::{
    commands::{Asker, Commands, store},
    form, listing,
    reader::Reader,
};

const CONVERSATIONS: &str = "conversations";

/// The service.
pub(crate) struct Api {
    pub(crate) reader: Arc<Reader>,
    pub(crate) commands: Arc<Commands>,
    pub(crate) tokens: PageTokens,
}

#[tonic::async_trait]
impl ChatService for Api {
    async fn send_message(&self, request: Request<SendMessageRequest>) -> Result<Response<SendMessageResponse>, Status> {
        let asker = asker(&request)?;
        let answer = self.commands.send(asker, request.get_ref()).await?;
        Ok(Response::new(SendMessageResponse::decode(answer).map_err(|_| ApiError::internal())?))
    }

    async fn list_messages(&self, request: Request<ListMessagesRequest>) -> Result<Response<ListMessagesResponse>, Status> {
        let user = Identity::of(&request)?.user;
        Ok(Response::new(self.messages(user, request.get_ref()).await?))
    }

    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<SyncResponse>, Status> {
        let user = Identity::of(&request)?.user;
        let SyncRequest { cursor, page_size } = *request.get_ref();
        let page = self.reader.page(user, cursor, page::size(page_size)?).await.map_err(store)?;
        let entry = |(cursor, event)| Entry::decode(event).map(|entry| Entry { cursor, ..entry });
        let entries: Vec<Entry> = page.entries.into_iter().map(entry).collect::<Result<_, _>>().map_err(|error| {
            tracing::error!(%error, user.id = %user, "stored entry cannot be decoded");
            ApiError::internal()
        })?;
        let next_cursor = entries.last().map_or(cursor, |entry| entry.cursor);
        Ok(Response::new(SyncResponse { more: next_cursor < page.head, entries, next_cursor, head: page.head }))
    }

    async fn list_conversations(&self, request: Request<ListConversationsRequest>) -> Result<Response<ListConversationsResponse>, Status> {
        let user = Identity::of(&request)?.user;
        let request = request.get_ref();
        let size = page::size(request.page_size)?;
        let from = match request.page_token.as_str() {
            "" => None,
            token => {
                let position = self.tokens.open(user, CONVERSATIONS, token)?;
                Some(listing::Position::decode(&position[..]).map_err(|_| ApiError::internal())?)
            }
        };
        let (conversations, next) = listing::page(&self.reader, user, from, size).await.map_err(store)?;
        let next_page_token = next.map(|next| self.tokens.seal(user, CONVERSATIONS, &next.encode_to_vec())).unwrap_or_default();
        Ok(Response::new(ListConversationsResponse { conversations, next_page_token }))
    }

    async fn get_conversation(&self, request: Request<GetConversationRequest>) -> Result<Response<GetConversationResponse>, Status> {
        let user = Identity::of(&request)?.user;
        let conversation = form::conversation(&request.get_ref().conversation_id)?;
        let conversation = self.view(user, conversation).await?;
        Ok(Response::new(GetConversationResponse { conversation: Some(conversation) }))
    }

    async fn mark_read(&self, request: Request<MarkReadRequest>) -> Result<Response<MarkReadResponse>, Status> {
        let asker = asker(&request)?;
        Ok(Response::new(self.commands.mark_read(asker, request.get_ref()).await?))
    }

    async fn update_conversation(
        &self,
        request: Request<UpdateConversationRequest>,
    ) -> Result<Response<UpdateConversationResponse>, Status> {
        let asker = asker(&request)?;
        let user = asker.user;
        let conversation = self.commands.update(asker, request.into_inner()).await?;
        let conversation = self.view(user, conversation).await?;
        Ok(Response::new(UpdateConversationResponse { conversation: Some(conversation) }))
    }
}

impl Api {
    async fn view(&self, user: UserId, conversation: ConversationId) -> Result<plaza_proto::chat::v1::Conversation, ApiError> {
        let view = async {
            let Some((member, head)) = self.reader.member(user, conversation).await? else { return Ok::<_, StoreError>(None) };
            listing::view(&self.reader, conversation, &member, head).await.map(Some)
        };
        view.await.map_err(store)?.ok_or_else(|| ApiError::not_found("conversation"))
    }

    async fn messages(&self, user: UserId, request: &ListMessagesRequest) -> Result<ListMessagesResponse, ApiError> {
        let conversation = request.conversation_id.parse::<ConversationId>();
        Violations::default()
            .check(conversation.is_ok(), "conversation_id", "a conversation id")
            .check(request.before.is_none() || request.after.is_none(), "before", "not together with after")
            .check(page::size(request.page_size).is_ok(), "page_size", "at most 200")
            .finish()?;
        let (size, conversation) = (page::size(request.page_size)? as u64, form::conversation(&request.conversation_id)?);
        let member = self.reader.store().member(user, conversation).await.map_err(store)?;
        let joined_at = member.ok_or_else(|| ApiError::not_found("conversation"))?.membership.joined_at;
        let head = self.reader.head(conversation).await.map_err(store)?.sequence;
        // Both ends belong to the range; messages from before the user's time are not the user's to read.
        let (first, last) = match (request.before, request.after) {
            (_, Some(after)) => {
                let below = after.max(joined_at);
                (below.saturating_add(1), head.min(below.saturating_add(size)))
            }
            (before, None) => {
                let last = head.min(before.map_or(head, |before| before.saturating_sub(1)));
                (last.saturating_sub(size).max(joined_at) + 1, last)
            }
        };
        let rows = if first <= last { self.reader.store().messages(conversation, first..=last).await.map_err(store)? } else { Vec::new() };
        Ok(ListMessagesResponse { messages: rows.into_iter().filter_map(|(_, event)| listing::message(event)).collect(), head })
    }
}

fn asker<T>(request: &Request<T>) -> Result<Asker, ApiError> {
    let user = Identity::of(request)?.user;
    Ok(Asker { user, within: deadline::remaining(request), traceparent: propagation::current_traceparent() })
}
