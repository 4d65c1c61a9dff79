//! What other services ask graph: how one user stands to others, read from the rows.

use std::sync::Arc;

use plaza_proto::graph::v1::{self as api, GetRelationsRequest, GetRelationsResponse, relations_service_server::RelationsService};
use plaza_runtime::Clock;
use plaza_types::UserId;
use tonic::{Request, Response, Status};

use crate::{
    commands::store,
    domain::row::is_open,
    form,
    store::{Relation, Store},
};

const OTHERS: usize = 200;

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
