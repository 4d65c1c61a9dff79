//! Who is whose contact, as graph would say: everybody is everybody's, but those who are named as strangers.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use plaza_proto::graph::v1::{
    GetRelationsRequest, GetRelationsResponse, GetStancesRequest, GetStancesResponse, ListListedRequest, ListListedResponse,
    ListTagsRequest, ListTagsResponse, Relation,
    relations_service_server::{RelationsService, RelationsServiceServer},
};
use plaza_rpc::{Peer, StackDeps, stack};
use plaza_telemetry::RpcMetrics;
use plaza_types::UserId;
use tonic::{Request, Response, Status, service::Routes};

#[derive(Clone, Default)]
pub(crate) struct Contacts {
    strangers: Arc<Mutex<HashSet<String>>>,
}

impl Contacts {
    /// This one is nobody's contact from now on.
    pub(crate) fn estrange(&self, user: UserId) {
        self.strangers.lock().insert(user.to_string());
    }

    pub(crate) fn peer(&self) -> Peer {
        let routes = Routes::new(RelationsServiceServer::new(self.clone()));
        Peer::in_process(stack("graph", routes, &StackDeps { metrics: RpcMetrics::new() }))
    }
}

#[tonic::async_trait]
impl RelationsService for Contacts {
    async fn get_relations(&self, request: Request<GetRelationsRequest>) -> Result<Response<GetRelationsResponse>, Status> {
        let request = request.into_inner();
        let strangers = self.strangers.lock();
        let relation = |user_id: String| {
            let friends = !strangers.contains(&user_id) && !strangers.contains(&request.user_id);
            Relation { user_id, lists: true, listed_by: friends, ..Relation::default() }
        };
        Ok(Response::new(GetRelationsResponse { relations: request.other_ids.into_iter().map(relation).collect() }))
    }

    async fn get_stances(&self, _: Request<GetStancesRequest>) -> Result<Response<GetStancesResponse>, Status> {
        Err(not_asked())
    }

    async fn list_listed(&self, _: Request<ListListedRequest>) -> Result<Response<ListListedResponse>, Status> {
        Err(not_asked())
    }

    async fn list_tags(&self, _: Request<ListTagsRequest>) -> Result<Response<ListTagsResponse>, Status> {
        Err(not_asked())
    }
}

fn not_asked() -> Status {
    Status::unimplemented("chat does not ask this")
}
