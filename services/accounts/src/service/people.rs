//! Whom a caller may see: themself, their contacts, whoever has a pending friend request with them, and whoever lets strangers find them and
//! does not block the caller. Everybody else looks like somebody who does not exist.

use std::collections::HashMap;

use plaza_proto::graph::v1::{GetRelationsRequest, Relation, relations_service_client::RelationsServiceClient};
use plaza_rpc::ApiError;
use plaza_types::UserId;

use super::Accounts;
use crate::{
    domain::{User, rules::Handle},
    error::Error,
};

impl Accounts {
    /// Those of the users that the caller may see, in the order asked.
    pub(crate) async fn visible_users(&self, caller: UserId, ids: &[UserId]) -> Result<Vec<User>, Error> {
        let users = self.store.users(ids).await?;
        let others: Vec<_> = users.iter().map(|user| user.id).filter(|id| *id != caller).collect();
        if others.is_empty() {
            return Ok(users);
        }
        let relations = self.relations(caller, &others).await?;
        Ok(users.into_iter().filter(|user| user.id == caller || may_see(user, relations.get(&user.id))).collect())
    }

    /// The user of this handle, if the caller may see them.
    pub(crate) async fn find(&self, caller: UserId, handle: &Handle) -> Result<User, Error> {
        let found = match self.store.user_of(&handle.key).await? {
            Some(id) => self.store.users(&[id]).await?.pop(),
            None => None,
        };
        // Graph is asked for a handle that nobody has too, so that it takes as long as one of a hidden person.
        let id = found.as_ref().map_or_else(|| UserId::new(self.clock.now_micros(), self.rng.bytes()), |user| user.id);
        let relations = self.relations(caller, &[id]).await?;
        let visible = found.filter(|user| user.id == caller || may_see(user, relations.get(&id)));
        visible.ok_or_else(|| ApiError::not_found("user").into())
    }

    async fn relations(&self, caller: UserId, others: &[UserId]) -> Result<HashMap<UserId, Relation>, Error> {
        let request = GetRelationsRequest { user_id: caller.to_string(), other_ids: others.iter().map(ToString::to_string).collect() };
        let answer = RelationsServiceClient::new(self.graph.clone()).get_relations(request).await;
        let relations = answer.map_err(|status| Error::Graph(Box::new(status)))?.into_inner().relations;
        Ok(relations.into_iter().filter_map(|relation| Some((relation.user_id.parse().ok()?, relation))).collect())
    }
}

fn may_see(user: &User, relation: Option<&Relation>) -> bool {
    relation.is_some_and(|relation| relation.lists || relation.requested || (user.settings.findable_by_handle && !relation.blocked_by))
}
