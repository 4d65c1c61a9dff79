//! The calls about groups: a well-formed request becomes a command to the conversation, and what it changed is read back once it can be read.
//! Whether people are contacts is asked of graph here and told to the conversation, which decides.

use std::{collections::HashSet, sync::Arc};

use plaza_processor::StoreError;
use plaza_proto::{
    chat::v1 as api,
    graph::v1::{GetRelationsRequest, relations_service_client::RelationsServiceClient},
};
use plaza_rpc::{ApiError, PageTokens, Peer, page};
use plaza_runtime::Clock;
use plaza_topics::conversation::{Add, Answer, Create, Describe, Kind, Nickname, Person, Plain, Remove, SetRole};
use plaza_types::{ClientId, ConversationId, Reason, UserId, limits};
use prost::Message as _;

use crate::{
    commands::{Asker, Commands, fingerprint, store},
    domain::{
        conversation::{
            Changed,
            row::{Group, GroupMember, Pending},
        },
        event,
    },
    form::group as form,
    reader::Reader,
};

/// How many people graph is asked about at once.
const ASKED: usize = 200;
const INVITATIONS: &str = "invitations";

/// The calls about groups.
pub(crate) struct Groups {
    pub(crate) reader: Arc<Reader>,
    pub(crate) commands: Arc<Commands>,
    pub(crate) graph: Peer,
    pub(crate) tokens: PageTokens,
    pub(crate) clock: Clock,
    /// How many members a group may have.
    pub(crate) limit: u32,
}

/// Takes the request id out of a request, and gives the hash of the rest. The name makes requests of the same form differ.
macro_rules! identified {
    ($request:expr, $name:literal) => {{
        let mut rest = $request.clone();
        let id = form::request_id(&std::mem::take(&mut rest.request_id))?;
        (id, fingerprint($name, &rest))
    }};
}

impl Groups {
    pub(crate) async fn create(&self, asker: Asker, request: &api::CreateGroupRequest) -> Result<api::CreateGroupResponse, ApiError> {
        let (id, fingerprint) = identified!(request, "CreateGroup");
        let users = form::creating(asker.user, request, self.limit)?;
        let id = id.unwrap_or_else(|| self.commands.new_id());
        let conversation = ConversationId::made_by(asker.user, id);
        let people = self.people(asker.user, &users).await?;
        let kind = Kind::Create(Create { title: request.title.clone(), people: Some(people) });
        let user = asker.user;
        let changed = self.change(asker, conversation, Some(id), fingerprint, kind).await?;
        let group = self.view(user, conversation).await?;
        Ok(api::CreateGroupResponse { group: Some(group), joined: people_of(&changed.joined), invited: people_of(&changed.invited) })
    }

    pub(crate) async fn get(&self, user: UserId, request: &api::GetGroupRequest) -> Result<api::GetGroupResponse, ApiError> {
        let conversation = form::group(&request.conversation_id)?;
        Ok(api::GetGroupResponse { group: Some(self.view(user, conversation).await?) })
    }

    pub(crate) async fn update(&self, asker: Asker, request: &api::UpdateGroupRequest) -> Result<api::Group, ApiError> {
        let (id, fingerprint) = identified!(request, "UpdateGroup");
        let (conversation, describe): (_, Describe) = form::describing(request)?;
        self.changed(asker, conversation, id, fingerprint, Kind::Describe(describe)).await
    }

    pub(crate) async fn members(&self, user: UserId, request: &api::ListMembersRequest) -> Result<api::ListMembersResponse, ApiError> {
        let conversation = form::group(&request.conversation_id)?;
        let size = page::size(request.page_size)?;
        let query = format!("members {conversation}");
        let after = self.position(user, &query, &request.page_token)?.and_then(|last| UserId::from_slice(&last));
        self.member(user, conversation).await?;
        let mut rows = self.reader.store().group_members(conversation, after, size + 1).await.map_err(store)?;
        let next_page_token = self.next(user, &query, &mut rows, size, |user| user.as_bytes().to_vec());
        let members = rows.into_iter().map(|(user, row)| member(user, row)).collect();
        Ok(api::ListMembersResponse { members, next_page_token })
    }

    pub(crate) async fn add(&self, asker: Asker, request: &api::AddMembersRequest) -> Result<api::AddMembersResponse, ApiError> {
        let (id, fingerprint) = identified!(request, "AddMembers");
        let (conversation, users) = form::people(&request.conversation_id, &request.user_ids, self.limit)?;
        let user = asker.user;
        let add = self.people(user, &users).await?;
        let changed = self.change(asker, conversation, id, fingerprint, Kind::Add(add)).await?;
        Ok(api::AddMembersResponse {
            group: Some(self.view(user, conversation).await?),
            joined: people_of(&changed.joined),
            invited: people_of(&changed.invited),
            waiting: people_of(&changed.waiting),
        })
    }

    pub(crate) async fn remove(&self, asker: Asker, request: &api::RemoveMembersRequest) -> Result<api::Group, ApiError> {
        let (id, fingerprint) = identified!(request, "RemoveMembers");
        let (conversation, users) = form::people(&request.conversation_id, &request.user_ids, self.limit)?;
        let users = users.iter().map(UserId::to_key).collect();
        self.changed(asker, conversation, id, fingerprint, Kind::Remove(Remove { users })).await
    }

    pub(crate) async fn leave(&self, asker: Asker, request: &api::LeaveGroupRequest) -> Result<(), ApiError> {
        let (id, fingerprint) = identified!(request, "LeaveGroup");
        let conversation = form::group(&request.conversation_id)?;
        self.change(asker, conversation, id, fingerprint, Kind::Leave(Plain {})).await.map(|_| ())
    }

    pub(crate) async fn set_role(&self, asker: Asker, request: &api::SetRoleRequest) -> Result<api::GroupMember, ApiError> {
        let (id, fingerprint) = identified!(request, "SetRole");
        let (conversation, target, admin) = form::role(request)?;
        self.change(asker, conversation, id, fingerprint, Kind::SetRole(SetRole { user: target.to_key(), admin })).await?;
        self.member_now(conversation, target).await
    }

    pub(crate) async fn transfer(&self, asker: Asker, request: &api::TransferOwnershipRequest) -> Result<api::Group, ApiError> {
        let (id, fingerprint) = identified!(request, "TransferOwnership");
        let (conversation, target) = form::person(&request.conversation_id, &request.user_id)?;
        self.changed(asker, conversation, id, fingerprint, Kind::Transfer(Person { user: target.to_key() })).await
    }

    pub(crate) async fn dissolve(&self, asker: Asker, request: &api::DissolveGroupRequest) -> Result<api::Group, ApiError> {
        let (id, fingerprint) = identified!(request, "DissolveGroup");
        let conversation = form::group(&request.conversation_id)?;
        self.changed(asker, conversation, id, fingerprint, Kind::Dissolve(Plain {})).await
    }

    pub(crate) async fn rename(&self, asker: Asker, request: &api::UpdateMyMembershipRequest) -> Result<api::GroupMember, ApiError> {
        let (id, fingerprint) = identified!(request, "UpdateMyMembership");
        let conversation = form::nickname(request)?;
        let user = asker.user;
        let kind = Kind::Nickname(Nickname { nickname: request.nickname.clone() });
        self.change(asker, conversation, id, fingerprint, kind).await?;
        self.member_now(conversation, user).await
    }

    pub(crate) async fn invitations(
        &self,
        user: UserId,
        request: &api::ListInvitationsRequest,
    ) -> Result<api::ListInvitationsResponse, ApiError> {
        let size = page::size(request.page_size)?;
        let after = self.position(user, INVITATIONS, &request.page_token)?.and_then(|last| ConversationId::from_slice(&last));
        let mut rows = self.reader.store().invitations(user, after, size + 1).await.map_err(store)?;
        let next_page_token = self.next(user, INVITATIONS, &mut rows, size, |conversation| conversation.as_bytes().to_vec());
        let invitation = |(conversation, row): (ConversationId, Pending)| api::Invitation {
            conversation_id: conversation.to_string(),
            inviter_id: event::person(&row.inviter),
            created_at: Some(event::timestamp(row.since)),
            expires_at: Some(event::timestamp(row.since + limits::INVITATION_EXPIRY)),
            title: row.title,
        };
        let now = self.clock.now_micros();
        let invitations = rows.into_iter().filter(|(_, row)| row.lives(now)).map(invitation).collect();
        Ok(api::ListInvitationsResponse { invitations, next_page_token })
    }

    pub(crate) async fn answer_invitation(
        &self,
        asker: Asker,
        request: &api::AnswerInvitationRequest,
    ) -> Result<api::AnswerInvitationResponse, ApiError> {
        let (id, fingerprint) = identified!(request, "AnswerInvitation");
        let conversation = form::group(&request.conversation_id)?;
        let (user, accept) = (asker.user, request.accept);
        self.change(asker, conversation, id, fingerprint, Kind::AnswerInvitation(Answer { accept, ..Answer::default() })).await?;
        let group = if accept { Some(self.view(user, conversation).await?) } else { None };
        Ok(api::AnswerInvitationResponse { group })
    }

    pub(crate) async fn join_requests(
        &self,
        user: UserId,
        request: &api::ListJoinRequestsRequest,
    ) -> Result<api::ListJoinRequestsResponse, ApiError> {
        let conversation = form::group(&request.conversation_id)?;
        let size = page::size(request.page_size)?;
        let query = format!("join requests {conversation}");
        let after = self.position(user, &query, &request.page_token)?.and_then(|last| UserId::from_slice(&last));
        if self.member(user, conversation).await?.role < api::GroupRole::Admin as i32 {
            return Err(ApiError::new(Reason::RoleRequired, "only owner and admins do"));
        }
        let mut rows = self.reader.store().join_requests(conversation, after, size + 1).await.map_err(store)?;
        let next_page_token = self.next(user, &query, &mut rows, size, |user| user.as_bytes().to_vec());
        let wish = |(user, row): (UserId, Pending)| api::JoinRequest {
            user_id: user.to_string(),
            inviter_id: event::person(&row.inviter),
            created_at: Some(event::timestamp(row.since)),
            expires_at: Some(event::timestamp(row.since + limits::INVITATION_EXPIRY)),
        };
        let now = self.clock.now_micros();
        let join_requests = rows.into_iter().filter(|(_, row)| row.lives(now)).map(wish).collect();
        Ok(api::ListJoinRequestsResponse { join_requests, next_page_token })
    }

    pub(crate) async fn answer_join_request(&self, asker: Asker, request: &api::AnswerJoinRequestRequest) -> Result<(), ApiError> {
        let (id, fingerprint) = identified!(request, "AnswerJoinRequest");
        let (conversation, target) = form::person(&request.conversation_id, &request.user_id)?;
        let answer = Answer { accept: request.accept, user: target.to_key() };
        self.change(asker, conversation, id, fingerprint, Kind::AnswerJoinRequest(answer)).await.map(|_| ())
    }

    /// The people as the conversation is told of them. Whoever does not exist is no contact.
    async fn people(&self, user: UserId, others: &[UserId]) -> Result<Add, ApiError> {
        let mut contacts = HashSet::new();
        for asked in others.chunks(ASKED) {
            let request = GetRelationsRequest { user_id: user.to_string(), other_ids: asked.iter().map(ToString::to_string).collect() };
            let answer = RelationsServiceClient::new(self.graph.clone()).get_relations(request).await.map_err(|status| {
                tracing::warn!(%status, "graph does not say who is a contact");
                ApiError::unavailable(crate::commands::BUSY)
            })?;
            let relations = answer.into_inner().relations.into_iter();
            let friends = relations.filter(|to| to.lists && to.listed_by && !to.blocks && !to.blocked_by);
            contacts.extend(friends.filter_map(|to| to.user_id.parse::<UserId>().ok()));
        }
        let strangers = others.iter().any(|other| !contacts.contains(other));
        Ok(Add { users: others.iter().map(UserId::to_key).collect(), strangers, limit: self.limit })
    }

    /// Has the conversation decide; everything that follows from it can be read then.
    async fn change(
        &self,
        asker: Asker,
        conversation: ConversationId,
        id: Option<ClientId>,
        fingerprint: u64,
        kind: Kind,
    ) -> Result<Changed, ApiError> {
        let answer = self.commands.to_conversation(asker, conversation, id, fingerprint, kind).await?;
        let changed = Changed::decode(answer).map_err(|_| ApiError::internal())?;
        self.reader.decided(conversation, changed.head);
        self.reader.head(conversation).await.map_err(store)?;
        Ok(changed)
    }

    /// The same, and the group as it is then.
    async fn changed(
        &self,
        asker: Asker,
        conversation: ConversationId,
        id: Option<ClientId>,
        fingerprint: u64,
        kind: Kind,
    ) -> Result<api::Group, ApiError> {
        let user = asker.user;
        self.change(asker, conversation, id, fingerprint, kind).await?;
        self.view(user, conversation).await
    }

    async fn member(&self, user: UserId, conversation: ConversationId) -> Result<GroupMember, ApiError> {
        let member = self.reader.store().group_member(conversation, user).await.map_err(store)?;
        match member {
            Some(member) => Ok(member),
            None => Err(self.commands.outside(user, conversation).await?),
        }
    }

    async fn view(&self, user: UserId, conversation: ConversationId) -> Result<api::Group, ApiError> {
        let member = self.member(user, conversation).await?;
        let group: Result<Option<Group>, StoreError> = self.reader.store().group(conversation).await;
        let group = group.map_err(store)?.ok_or_else(|| ApiError::not_found("conversation"))?;
        Ok(api::Group {
            conversation_id: conversation.to_string(),
            title: group.title,
            notice: group.notice,
            settings: Some(api::GroupSettings { approval_required: group.approval_required }),
            owner_id: event::person(&group.owner),
            member_count: group.members,
            my_role: member.role,
            dissolved: group.dissolved,
            created_at: Some(event::timestamp(group.created)),
        })
    }

    /// A member after a change of it; it may have left since.
    async fn member_now(&self, conversation: ConversationId, user: UserId) -> Result<api::GroupMember, ApiError> {
        let row = self.reader.store().group_member(conversation, user).await.map_err(store)?;
        row.map(|row| member(user, row)).ok_or_else(|| ApiError::not_found("member"))
    }

    fn position(&self, user: UserId, query: &str, token: &str) -> Result<Option<Vec<u8>>, ApiError> {
        if token.is_empty() { Ok(None) } else { self.tokens.open(user, query, token).map(Some) }
    }

    /// Cuts a page of one row too many, and says where to go on if there was one.
    fn next<K, V>(&self, user: UserId, query: &str, rows: &mut Vec<(K, V)>, size: usize, key: impl Fn(&K) -> Vec<u8>) -> String {
        let more = rows.len() > size;
        rows.truncate(size);
        rows.last().filter(|_| more).map(|(last, _)| self.tokens.seal(user, query, &key(last))).unwrap_or_default()
    }
}

fn member(user: UserId, row: GroupMember) -> api::GroupMember {
    let joined_at = Some(event::timestamp(row.since));
    api::GroupMember { user_id: user.to_string(), role: row.role, nickname: row.nickname, joined_at }
}

fn people_of(users: &[bytes::Bytes]) -> Vec<String> {
    users.iter().map(|user| event::person(user)).collect()
}
