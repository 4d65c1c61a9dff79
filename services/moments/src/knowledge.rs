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

use crate::{
    domain::visibility::{Range, Stance},
    follow::{Caches, Followers},
    metrics,
};

/// People asked about in one call.
const PEOPLE: usize = 200;
/// People in one page of a list.
const LISTED: usize = 1_000;

/// Whom to ask, and what is kept of the answers.
pub(crate) struct Knowledge {
    pub(crate) graph: Peer,
    pub(crate) accounts: Peer,
    pub(crate) caches: Arc<Caches>,
    pub(crate) followers: Followers,
}

/// How two stand to each other: the one asked about, and the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stances {
    pub(crate) own: Arc<Stance>,
    pub(crate) theirs: Arc<Stance>,
}

impl Knowledge {
    /// Whether what is kept may be used by a read that begins now.
    pub(crate) async fn is_current(&self) -> bool {
        let current = self.followers.are_current().await;
        if !current {
            metrics::get().uncached.add(1, &[]);
        }
        current
    }

    /// How a user and others stand to each other. `cached` says that what is kept may be used.
    pub(crate) async fn stances(&self, user: UserId, others: &[UserId], cached: bool) -> Result<HashMap<UserId, Stances>, Status> {
        let kept = &self.caches.stances;
        let known = |other: &UserId| {
            let (own, theirs) = (kept.get(&(user, *other))?, kept.get(&(*other, user))?);
            Some((*other, Stances { own, theirs }))
        };
        let mut stances: HashMap<_, _> = others.iter().filter(|_| cached).filter_map(known).collect();
        let unknown: Vec<UserId> = others.iter().filter(|other| !stances.contains_key(other)).copied().collect();
        if !unknown.is_empty() {
            stances.extend(self.ask_stances(user, &unknown).await?);
        }
        Ok(stances)
    }

    async fn ask_stances(&self, user: UserId, others: &[UserId]) -> Result<HashMap<UserId, Stances>, Status> {
        let kept = &self.caches.stances;
        let began = kept.begin();
        let chunks = others.chunks(PEOPLE).map(|others| async move {
            let mut graph = RelationsServiceClient::new(self.graph.clone());
            let request = GetStancesRequest { user_id: user.to_string(), other_ids: others.iter().map(ToString::to_string).collect() };
            let answer = graph.get_stances(request).await?.into_inner();
            if answer.own.len() != others.len() || answer.theirs.len() != others.len() {
                return Err(Status::from(ApiError::internal()));
            }
            let mut stances = Vec::with_capacity(others.len());
            for (other, (own, theirs)) in others.iter().zip(answer.own.into_iter().zip(answer.theirs)) {
                let versions = (own.version, theirs.version);
                let both = Stances { own: Arc::new(stance(own)), theirs: Arc::new(stance(theirs)) };
                kept.keep(began, (user, *other), both.own.clone(), versions.0);
                kept.keep(began, (*other, user), both.theirs.clone(), versions.1);
                stances.push((*other, both));
            }
            Ok(stances)
        });
        Ok(try_join_all(chunks).await?.into_iter().flatten().collect())
    }

    /// How far back these authors let friends look; nothing of those who do not exist. `cached` says that what is kept may be used.
    pub(crate) async fn ranges(&self, authors: &[UserId], cached: bool) -> Result<HashMap<UserId, Range>, Status> {
        let known = |author: &UserId| Some((*author, self.caches.ranges.get(author)?));
        let mut ranges: HashMap<_, _> = authors.iter().filter(|_| cached).filter_map(known).collect();
        let unknown: Vec<UserId> = authors.iter().filter(|author| !ranges.contains_key(author)).copied().collect();
        if !unknown.is_empty() {
            ranges.extend(self.ask_ranges(&unknown).await?);
        }
        Ok(ranges)
    }

    async fn ask_ranges(&self, authors: &[UserId]) -> Result<HashMap<UserId, Range>, Status> {
        let kept = &self.caches.ranges;
        let began = kept.begin();
        let chunks = authors.chunks(PEOPLE).map(|authors| async move {
            let mut accounts = DirectoryServiceClient::new(self.accounts.clone());
            let request = LookupRequest { user_ids: authors.iter().map(ToString::to_string).collect() };
            let known = accounts.lookup(request).await?.into_inner().known;
            Ok::<_, Status>(known.into_iter().filter_map(|known| Some((known.user_id.parse().ok()?, range(known.moments_range())))))
        });
        let ranges: HashMap<UserId, Range> = try_join_all(chunks).await?.into_iter().flatten().collect();
        for (author, range) in &ranges {
            kept.keep(began, *author, *range, u64::MAX);
        }
        Ok(ranges)
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
