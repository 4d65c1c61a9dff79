//! What other services ask graph: how one user stands to others, read from the rows.

use std::{collections::BTreeSet, sync::Arc};

use plaza_proto::graph::v1::{
    self as api, GetRelationsRequest, GetRelationsResponse, GetStancesRequest, GetStancesResponse, ListListedRequest, ListListedResponse,
    ListTagsRequest, ListTagsResponse, relations_service_server::RelationsService,
};
use plaza_runtime::Clock;
use plaza_types::{UserId, limits::CONTACTS};
use tonic::{Request, Response, Status};

use crate::{
    commands::store,
    domain::{emit, row::is_open},
    form,
    store::{Relation, Stance, Store},
};

const OTHERS: usize = 200;
const LISTED: usize = 1_000;

/// The service.
pub(crate) struct Relations {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
}

#[tonic::async_trait]
impl RelationsService for Relations {
    async fn get_relations(&self, request: Request<GetRelationsRequest>) -> Result<Response<GetRelationsResponse>, Status> {
        let request = request.get_ref();
        let (user, others) = form::people(&request.user_id, &request.other_ids, OTHERS)?;
        let found = self.store.relations(user, &others).await.map_err(store)?;
        let now = self.clock.now_micros();
        let relations = others.iter().zip(found).map(|(other, relation)| encode(*other, relation, now)).collect();
        Ok(Response::new(GetRelationsResponse { relations }))
    }

    async fn get_stances(&self, request: Request<GetStancesRequest>) -> Result<Response<GetStancesResponse>, Status> {
        let request = request.get_ref();
        let (user, others) = form::people(&request.user_id, &request.other_ids, OTHERS)?;
        let found = self.store.stances(user, &others).await.map_err(store)?;
        let (own, theirs) = found.into_iter().map(|stances| (stance(stances.own), stance(stances.theirs))).unzip();
        Ok(Response::new(GetStancesResponse { own, theirs }))
    }

    async fn list_listed(&self, request: Request<ListListedRequest>) -> Result<Response<ListListedResponse>, Status> {
        let request = request.get_ref();
        let user = form::person(&request.user_id)?;
        let after = Some(&request.after).filter(|after| !after.is_empty()).map(|after| form::person(after)).transpose()?;
        let found = self.store.contacts(user, after, LISTED).await.map_err(store)?;
        Ok(Response::new(ListListedResponse { user_ids: found.iter().map(|named| named.contact.other.to_string()).collect() }))
    }

    async fn list_tags(&self, request: Request<ListTagsRequest>) -> Result<Response<ListTagsResponse>, Status> {
        let user = form::person(&request.get_ref().user_id)?;
        let found = self.store.contacts(user, None, CONTACTS).await.map_err(store)?;
        let tags: BTreeSet<String> = found.into_iter().flat_map(|named| named.contact.tags).collect();
        Ok(Response::new(ListTagsResponse { tags: tags.into_iter().collect() }))
    }
}

fn encode(other: UserId, relation: Relation, now: u64) -> api::Relation {
    api::Relation {
        user_id: other.to_string(),
        lists: relation.lists,
        listed_by: relation.listed_by,
        blocks: relation.blocks,
        blocked_by: relation.blocked_by,
        requested: relation.asked.is_some_and(|sent| is_open(sent, now)),
    }
}

fn stance(stance: Stance) -> api::Stance {
    api::Stance {
        lists: stance.lists,
        blocks: stance.blocks,
        permissions: Some(emit::permissions(stance.permissions)),
        tags: stance.tags,
        version: stance.version,
    }
}
