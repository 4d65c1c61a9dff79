//! What the rule needs of others: how users stand to each other, from graph, and how far back authors let friends look, from accounts.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use futures::future::try_join_all;
use plaza_proto::{
    accounts::v1::{LookupRequest, MomentsRange, directory_service_client::DirectoryServiceClient},
    graph::v1::{self as graph, GetStancesRequest, ListListedRequest, ListTagsRequest, relations_service_client::RelationsServiceClient},
};
use plaza_rpc::{ApiError, Peer};
use plaza_types::UserId;
use tonic::Status;

use crate::domain::visibility::{Range, Stance};

/// People asked about in one call.
const PEOPLE: usize = 200;
/// People in one page of a list.
const LISTED: usize = 1_000;

/// Whom to ask.
pub(crate) struct Knowledge {
    pub(crate) graph: Peer,
    pub(crate) accounts: Peer,
}

/// How two stand to each other: the one asked about, and the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stances {
    pub(crate) own: Arc<Stance>,
    pub(crate) theirs: Arc<Stance>,
}

impl Knowledge {
    /// How a user and others stand to each other.
    pub(crate) async fn stances(&self, user: UserId, others: &[UserId]) -> Result<HashMap<UserId, Stances>, Status> {
        let chunks = others.chunks(PEOPLE).map(|others| async move {
            let mut graph = RelationsServiceClient::new(self.graph.clone());
            let request = GetStancesRequest { user_id: user.to_string(), other_ids: others.iter().map(ToString::to_string).collect() };
            let answer = graph.get_stances(request).await?.into_inner();
            if answer.own.len() != others.len() || answer.theirs.len() != others.len() {
                return Err(Status::from(ApiError::internal()));
            }
            let sides = answer.own.into_iter().zip(answer.theirs);
            let stances = sides.map(|(own, theirs)| Stances { own: Arc::new(stance(own)), theirs: Arc::new(stance(theirs)) });
            Ok(others.iter().copied().zip(stances.collect::<Vec<_>>()))
        });
        Ok(try_join_all(chunks).await?.into_iter().flatten().collect())
    }

    /// How far back these authors let friends look. Of nobody who does not exist.
    pub(crate) async fn ranges(&self, authors: &[UserId]) -> Result<HashMap<UserId, Range>, Status> {
        let chunks = authors.chunks(PEOPLE).map(|authors| async move {
            let mut accounts = DirectoryServiceClient::new(self.accounts.clone());
            let request = LookupRequest { user_ids: authors.iter().map(ToString::to_string).collect() };
            let known = accounts.lookup(request).await?.into_inner().known;
            Ok::<_, Status>(known.into_iter().filter_map(|known| Some((known.user_id.parse().ok()?, range(known.moments_range())))))
        });
        Ok(try_join_all(chunks).await?.into_iter().flatten().collect())
    }

    /// Whom a user lists, a page behind `after`; fewer than a full page at the end.
    pub(crate) async fn listed(&self, user: UserId, after: Option<UserId>) -> Result<(Vec<UserId>, bool), Status> {
        let mut graph = RelationsServiceClient::new(self.graph.clone());
        let after = after.map(|after| after.to_string()).unwrap_or_default();
        let answer = graph.list_listed(ListListedRequest { user_id: user.to_string(), after }).await?.into_inner();
        let more = answer.user_ids.len() >= LISTED;
        let listed: Result<Vec<UserId>, _> = answer.user_ids.iter().map(|user| user.parse()).collect();
        Ok((listed.map_err(|_| ApiError::internal())?, more))
    }

    /// The tags that a user has on contacts.
    pub(crate) async fn tags(&self, user: UserId) -> Result<BTreeSet<String>, Status> {
        let mut graph = RelationsServiceClient::new(self.graph.clone());
        let answer = graph.list_tags(ListTagsRequest { user_id: user.to_string() }).await?.into_inner();
        Ok(answer.tags.into_iter().collect())
    }
}

fn stance(stance: graph::Stance) -> Stance {
    let permissions = stance.permissions.unwrap_or_default();
    Stance {
        lists: stance.lists,
        blocks: stance.blocks,
        chat_only: permissions.chat_only,
        hide_my_moments: permissions.hide_my_moments,
        hide_their_moments: permissions.hide_their_moments,
        tags: stance.tags,
    }
}

fn range(range: MomentsRange) -> Range {
    match range {
        MomentsRange::ThreeDays => Range::THREE_DAYS,
        MomentsRange::OneMonth => Range::ONE_MONTH,
        MomentsRange::SixMonths => Range::SIX_MONTHS,
        MomentsRange::All | MomentsRange::Unspecified => Range::All,
    }
}
