//! The public calls: decode, authorise, ask the domain's owners or the store, encode. It decides nothing itself.

use std::sync::Arc;

use plaza_processor::StoreError;
use plaza_proto::chat::v1::{
    self as api, Entry, GetConversationRequest, GetConversationResponse, ListConversationsRequest, ListConversationsResponse,
    ListMessagesRequest, ListMessagesResponse, MarkReadRequest, MarkReadResponse, SendMessageRequest, SendMessageResponse, SyncRequest,
    SyncResponse, UpdateConversationRequest, UpdateConversationResponse, chat_service_server::ChatService,
};
use plaza_rpc::{ApiError, Identity, PageTokens, Violations, deadline, page};
use plaza_telemetry::propagation;
use plaza_types::{ConversationId, UserId};
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::{
    commands::{Asker, Commands, store},
    form,
    groups::Groups,
    listing,
    reader::Reader,
};

const CONVERSATIONS: &str = "conversations";

/// The service.
pub(crate) struct Api {
    pub(crate) reader: Arc<Reader>,
    pub(crate) commands: Arc<Commands>,
    pub(crate) groups: Groups,
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

    async fn recall_message(&self, request: Request<api::RecallMessageRequest>) -> Result<Response<api::RecallMessageResponse>, Status> {
        self.commands.recall(asker(&request)?, request.get_ref()).await?;
        Ok(Response::new(api::RecallMessageResponse {}))
    }

    async fn delete_messages(&self, request: Request<api::DeleteMessagesRequest>) -> Result<Response<api::DeleteMessagesResponse>, Status> {
        self.commands.delete(asker(&request)?, request.get_ref()).await?;
        Ok(Response::new(api::DeleteMessagesResponse {}))
    }

    async fn create_group(&self, request: Request<api::CreateGroupRequest>) -> Result<Response<api::CreateGroupResponse>, Status> {
        Ok(Response::new(self.groups.create(asker(&request)?, request.get_ref()).await?))
    }

    async fn get_group(&self, request: Request<api::GetGroupRequest>) -> Result<Response<api::GetGroupResponse>, Status> {
        Ok(Response::new(self.groups.get(Identity::of(&request)?.user, request.get_ref()).await?))
    }

    async fn update_group(&self, request: Request<api::UpdateGroupRequest>) -> Result<Response<api::UpdateGroupResponse>, Status> {
        let group = Some(self.groups.update(asker(&request)?, request.get_ref()).await?);
        Ok(Response::new(api::UpdateGroupResponse { group }))
    }

    async fn list_members(&self, request: Request<api::ListMembersRequest>) -> Result<Response<api::ListMembersResponse>, Status> {
        Ok(Response::new(self.groups.members(Identity::of(&request)?.user, request.get_ref()).await?))
    }

    async fn add_members(&self, request: Request<api::AddMembersRequest>) -> Result<Response<api::AddMembersResponse>, Status> {
        Ok(Response::new(self.groups.add(asker(&request)?, request.get_ref()).await?))
    }

    async fn remove_members(&self, request: Request<api::RemoveMembersRequest>) -> Result<Response<api::RemoveMembersResponse>, Status> {
        let group = Some(self.groups.remove(asker(&request)?, request.get_ref()).await?);
        Ok(Response::new(api::RemoveMembersResponse { group }))
    }

    async fn leave_group(&self, request: Request<api::LeaveGroupRequest>) -> Result<Response<api::LeaveGroupResponse>, Status> {
        self.groups.leave(asker(&request)?, request.get_ref()).await?;
        Ok(Response::new(api::LeaveGroupResponse {}))
    }

    async fn set_role(&self, request: Request<api::SetRoleRequest>) -> Result<Response<api::SetRoleResponse>, Status> {
        let member = Some(self.groups.set_role(asker(&request)?, request.get_ref()).await?);
        Ok(Response::new(api::SetRoleResponse { member }))
    }

    async fn transfer_ownership(
        &self,
        request: Request<api::TransferOwnershipRequest>,
    ) -> Result<Response<api::TransferOwnershipResponse>, Status> {
        let group = Some(self.groups.transfer(asker(&request)?, request.get_ref()).await?);
        Ok(Response::new(api::TransferOwnershipResponse { group }))
    }

    async fn dissolve_group(&self, request: Request<api::DissolveGroupRequest>) -> Result<Response<api::DissolveGroupResponse>, Status> {
        let group = Some(self.groups.dissolve(asker(&request)?, request.get_ref()).await?);
        Ok(Response::new(api::DissolveGroupResponse { group }))
    }

    async fn update_my_membership(
        &self,
        request: Request<api::UpdateMyMembershipRequest>,
    ) -> Result<Response<api::UpdateMyMembershipResponse>, Status> {
        let member = Some(self.groups.rename(asker(&request)?, request.get_ref()).await?);
        Ok(Response::new(api::UpdateMyMembershipResponse { member }))
    }

    async fn list_invitations(
        &self,
        request: Request<api::ListInvitationsRequest>,
    ) -> Result<Response<api::ListInvitationsResponse>, Status> {
        Ok(Response::new(self.groups.invitations(Identity::of(&request)?.user, request.get_ref()).await?))
    }

    async fn answer_invitation(
        &self,
        request: Request<api::AnswerInvitationRequest>,
    ) -> Result<Response<api::AnswerInvitationResponse>, Status> {
        Ok(Response::new(self.groups.answer_invitation(asker(&request)?, request.get_ref()).await?))
    }

    async fn list_join_requests(
        &self,
        request: Request<api::ListJoinRequestsRequest>,
    ) -> Result<Response<api::ListJoinRequestsResponse>, Status> {
        Ok(Response::new(self.groups.join_requests(Identity::of(&request)?.user, request.get_ref()).await?))
    }

    async fn answer_join_request(
        &self,
        request: Request<api::AnswerJoinRequestRequest>,
    ) -> Result<Response<api::AnswerJoinRequestResponse>, Status> {
        self.groups.answer_join_request(asker(&request)?, request.get_ref()).await?;
        Ok(Response::new(api::AnswerJoinRequestResponse {}))
    }
}

impl Api {
    async fn view(&self, user: UserId, conversation: ConversationId) -> Result<plaza_proto::chat::v1::Conversation, ApiError> {
        let view = async {
            let Some((member, head)) = self.reader.member(user, conversation).await? else { return Ok::<_, StoreError>(None) };
            listing::view(&self.reader, user, conversation, &member, head).await.map(Some)
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
        let (size, conversation) = (page::size(request.page_size)?, form::conversation(&request.conversation_id)?);
        let member = self.reader.store().member(user, conversation).await.map_err(store)?;
        let member = member.ok_or_else(|| ApiError::not_found("conversation"))?;
        let head = self.reader.head(conversation).await.map_err(store)?.sequence;
        let membership = self.reader.in_time(user, conversation, member).await.map_err(store)?.membership;
        let head = membership.last(head);
        let messages = listing::messages(&self.reader, user, conversation, &membership, head, (request.before, request.after), size);
        Ok(ListMessagesResponse { messages: messages.await.map_err(store)?, head })
    }
}

fn asker<T>(request: &Request<T>) -> Result<Asker, ApiError> {
    let user = Identity::of(request)?.user;
    Ok(Asker { user, within: deadline::remaining(request), traceparent: propagation::current_traceparent() })
}
