//! The public calls: decode, check the form, have the caller's own edges decide or read the rows, encode. It decides nothing itself but
//! whether the caller may know of the person named.

use std::sync::Arc;

use bytes::Bytes;
use plaza_proto::{
    accounts::v1::{LookupRequest, directory_service_client::DirectoryServiceClient},
    graph::v1::{
        AcceptFriendRequestRequest, AcceptFriendRequestResponse, BlockRequest, BlockResponse, Contact, GetContactRequest,
        GetContactResponse, IgnoreFriendRequestRequest, IgnoreFriendRequestResponse, ListBlockedRequest, ListBlockedResponse,
        ListContactsRequest, ListContactsResponse, ListFriendRequestsRequest, ListFriendRequestsResponse, RemoveContactRequest,
        RemoveContactResponse, SendFriendRequestRequest, SendFriendRequestResponse, UnblockRequest, UnblockResponse, UpdateContactRequest,
        UpdateContactResponse, graph_service_server::GraphService,
    },
};
use plaza_rpc::{ApiError, Identity, PageTokens, Peer, page};
use plaza_runtime::Clock;
use plaza_topics::graph::{Ask, Kind, Plain};
use plaza_types::{ClientId, UserId};
use prost::Message;
use tonic::{Request, Response, Status};

use crate::{
    commands::{Asker, Change, Commands, fingerprint, store},
    domain::{Folder, emit, row::is_open},
    form,
    store::{Named, Place, Relation, Store},
};

const CONTACTS: &str = "contacts";
const BLOCKED: &str = "blocked";

/// The service.
pub(crate) struct Api {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) commands: Commands,
    pub(crate) accounts: Peer,
    pub(crate) tokens: PageTokens,
    pub(crate) clock: Clock,
}

#[tonic::async_trait]
impl GraphService for Api {
    async fn send_friend_request(&self, request: Request<SendFriendRequestRequest>) -> Result<Response<SendFriendRequestResponse>, Status> {
        let asker = Asker::of(&request)?;
        let message = request.get_ref();
        let (other, id) = form::asking(message)?;
        let relation = self.relation(asker.user, other).await?;
        let related = relation.lists || relation.listed_by || relation.asked.is_some_and(|sent| is_open(sent, self.clock.now_micros()));
        // The owner refuses oneself.
        if !related && asker.user != other {
            self.must_be_findable(other).await?;
        }
        let ask = Ask { note: message.note.clone(), source: message.source().to_owned(), listed_by: relation.listed_by };
        let fingerprint = fingerprint("ask", &SendFriendRequestRequest { request_id: String::new(), ..message.clone() }.encode_to_vec());
        decode(self.commands.call(asker, Change { other, id: Some(id), fingerprint, kind: Kind::Ask(ask) }).await?)
    }

    async fn list_friend_requests(
        &self,
        request: Request<ListFriendRequestsRequest>,
    ) -> Result<Response<ListFriendRequestsResponse>, Status> {
        let user = Identity::of(&request)?.user;
        let request = request.get_ref();
        let folder = form::folder(request.r#box)?;
        let query = match folder {
            Folder::Received => "requests received",
            Folder::Sent => "requests sent",
        };
        let size = page::size(request.page_size)?;
        let after = self.position(user, query, &request.page_token, |position| {
            let (time, other) = position.split_first_chunk()?;
            Some(Place { time: u64::from_be_bytes(*time), other: UserId::from_slice(other)? })
        })?;
        let mut found = self.store.requests(user, folder, after, size + 1).await.map_err(store)?;
        let next_page_token = self
            .cut(user, query, &mut found, size, |(request, _)| [&request.time.to_be_bytes(), request.other.as_bytes().as_slice()].concat());
        let now = self.clock.now_micros();
        let requests = found.iter().map(|(request, status)| emit::request(request, *status, now)).collect();
        Ok(Response::new(ListFriendRequestsResponse { requests, next_page_token }))
    }

    async fn accept_friend_request(
        &self,
        request: Request<AcceptFriendRequestRequest>,
    ) -> Result<Response<AcceptFriendRequestResponse>, Status> {
        let asker = Asker::of(&request)?;
        let message = request.get_ref();
        let (other, id) = form::person_and_id(&message.user_id, &message.request_id)?;
        decode(self.plain(asker, "accept", (other, Some(id)), Kind::Accept(Plain {})).await?)
    }

    async fn ignore_friend_request(
        &self,
        request: Request<IgnoreFriendRequestRequest>,
    ) -> Result<Response<IgnoreFriendRequestResponse>, Status> {
        let asker = Asker::of(&request)?;
        let message = request.get_ref();
        let named = form::person_and_any_id(&message.user_id, &message.request_id)?;
        decode(self.plain(asker, "ignore", named, Kind::Ignore(Plain {})).await?)
    }

    async fn list_contacts(&self, request: Request<ListContactsRequest>) -> Result<Response<ListContactsResponse>, Status> {
        let user = Identity::of(&request)?.user;
        let request = request.get_ref();
        let size = page::size(request.page_size)?;
        let after = self.position(user, CONTACTS, &request.page_token, UserId::from_slice)?;
        let mut found = self.store.contacts(user, after, size + 1).await.map_err(store)?;
        let next_page_token = self.cut(user, CONTACTS, &mut found, size, |named| named.contact.other.as_bytes().to_vec());
        Ok(Response::new(ListContactsResponse { contacts: found.into_iter().map(contact).collect(), next_page_token }))
    }

    async fn get_contact(&self, request: Request<GetContactRequest>) -> Result<Response<GetContactResponse>, Status> {
        let user = Identity::of(&request)?.user;
        let other = form::person(&request.get_ref().user_id)?;
        Ok(Response::new(GetContactResponse { contact: Some(self.contact(user, other).await?) }))
    }

    async fn update_contact(&self, request: Request<UpdateContactRequest>) -> Result<Response<UpdateContactResponse>, Status> {
        let asker = Asker::of(&request)?;
        let user = asker.user;
        let message = request.get_ref();
        let (other, id, update) = form::updating(message)?;
        let fingerprint = fingerprint("update", &UpdateContactRequest { request_id: String::new(), ..message.clone() }.encode_to_vec());
        self.commands.call(asker, Change { other, id, fingerprint, kind: Kind::Update(update) }).await?;
        Ok(Response::new(UpdateContactResponse { contact: Some(self.contact(user, other).await?) }))
    }

    async fn remove_contact(&self, request: Request<RemoveContactRequest>) -> Result<Response<RemoveContactResponse>, Status> {
        let asker = Asker::of(&request)?;
        let message = request.get_ref();
        let named = form::person_and_any_id(&message.user_id, &message.request_id)?;
        decode(self.plain(asker, "remove", named, Kind::Remove(Plain {})).await?)
    }

    async fn block(&self, request: Request<BlockRequest>) -> Result<Response<BlockResponse>, Status> {
        let asker = Asker::of(&request)?;
        let message = request.get_ref();
        let named = form::person_and_any_id(&message.user_id, &message.request_id)?;
        let relation = self.relation(asker.user, named.0).await?;
        if !relation.known && !relation.listed_by && asker.user != named.0 {
            self.must_be_findable(named.0).await?;
        }
        decode(self.plain(asker, "block", named, Kind::Block(Plain {})).await?)
    }

    async fn unblock(&self, request: Request<UnblockRequest>) -> Result<Response<UnblockResponse>, Status> {
        let asker = Asker::of(&request)?;
        let message = request.get_ref();
        let named = form::person_and_any_id(&message.user_id, &message.request_id)?;
        decode(self.plain(asker, "unblock", named, Kind::Unblock(Plain {})).await?)
    }

    async fn list_blocked(&self, request: Request<ListBlockedRequest>) -> Result<Response<ListBlockedResponse>, Status> {
        let user = Identity::of(&request)?.user;
        let request = request.get_ref();
        let size = page::size(request.page_size)?;
        let after = self.position(user, BLOCKED, &request.page_token, UserId::from_slice)?;
        let mut found = self.store.blocked(user, after, size + 1).await.map_err(store)?;
        let next_page_token = self.cut(user, BLOCKED, &mut found, size, |blocked| blocked.as_bytes().to_vec());
        Ok(Response::new(ListBlockedResponse { user_ids: found.iter().map(ToString::to_string).collect(), next_page_token }))
    }
}

impl Api {
    async fn plain(&self, asker: Asker, method: &str, (other, id): (UserId, Option<ClientId>), kind: Kind) -> Result<Bytes, ApiError> {
        let fingerprint = fingerprint(method, other.as_bytes());
        self.commands.call(asker, Change { other, id, fingerprint, kind }).await
    }

    async fn contact(&self, user: UserId, other: UserId) -> Result<Contact, ApiError> {
        let found = self.store.contact(user, other).await.map_err(store)?;
        found.map(contact).ok_or_else(|| ApiError::not_found("contact"))
    }

    async fn relation(&self, user: UserId, other: UserId) -> Result<Relation, ApiError> {
        let relations = self.store.relations(user, &[other]).await.map_err(store)?;
        Ok(relations.into_iter().next().unwrap_or_default())
    }

    /// Somebody unknown and somebody who does not want to be found by strangers look the same.
    async fn must_be_findable(&self, other: UserId) -> Result<(), Status> {
        let mut accounts = DirectoryServiceClient::new(self.accounts.clone());
        let known = accounts.lookup(LookupRequest { user_ids: vec![other.to_string()] }).await?.into_inner().known;
        if known.iter().any(|known| known.findable && known.user_id == other.to_string()) {
            Ok(())
        } else {
            Err(ApiError::not_found("user").into())
        }
    }

    fn position<P>(&self, user: UserId, query: &str, token: &str, read: impl FnOnce(&[u8]) -> Option<P>) -> Result<Option<P>, ApiError> {
        if token.is_empty() {
            return Ok(None);
        }
        let position = self.tokens.open(user, query, token)?;
        read(&position).map(Some).ok_or_else(ApiError::internal)
    }

    /// Takes off what was read only to see that there is more, and gives the token that goes on there.
    fn cut<T>(&self, user: UserId, query: &str, found: &mut Vec<T>, size: usize, position: impl FnOnce(&T) -> Vec<u8>) -> String {
        if found.len() <= size {
            return String::new();
        }
        found.truncate(size);
        found.last().map(|last| self.tokens.seal(user, query, &position(last))).unwrap_or_default()
    }
}

fn contact(named: Named) -> Contact {
    emit::contact(named.contact, named.remark)
}

fn decode<M: Message + Default>(answer: Bytes) -> Result<Response<M>, Status> {
    M::decode(answer).map(Response::new).map_err(|_| ApiError::internal().into())
}
