//! What one viewer is shown. It fetches what the rule of [`crate::domain::visibility`] needs, asks it about everything, and encodes what
//! passed. Nothing here decides who sees what, and nothing leaves the service without having come through here.

use std::{collections::HashMap, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use plaza_proto::moments::v1 as api;
use plaza_rpc::ApiError;
use plaza_runtime::Clock;
use plaza_types::UserId;
use tonic::Status;

use crate::{
    commands::store,
    domain::{
        emit,
        engagement::{Engagement, Like},
        notice::{Kind, Notice},
        post::{CommentId, Post, PostId},
        visibility::{self, Pair, Range},
    },
    knowledge::{Knowledge, Stances},
    store::Store,
};

/// Likes that come with a post.
const LIKES: usize = 100;
/// Comments that come with a post.
const COMMENTS: usize = 20;
/// Reads of the store that are under way for one request.
pub(crate) const AT_ONCE: usize = 16;

/// Shows things to viewers.
pub(crate) struct View {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) knowledge: Knowledge,
    pub(crate) clock: Clock,
}

/// What is known for one viewer while one request is answered.
pub(crate) struct Sight {
    pub(crate) viewer: UserId,
    now: u64,
    /// What is kept of edges and settings is as of the beginning of the request or later.
    cached: bool,
    stances: HashMap<UserId, Stances>,
    ranges: HashMap<UserId, Range>,
}

impl Sight {
    fn pair(&self, user: UserId) -> Option<Pair<'_>> {
        self.stances.get(&user).map(|stances| Pair { own: &stances.own, theirs: &stances.theirs })
    }

    fn sees(&self, id: PostId, post: &Post) -> bool {
        let known = self.pair(id.author).zip(self.ranges.get(&id.author));
        known.is_some_and(|(pair, range)| visibility::sees_post(self.viewer, id.author, post, pair, *range, self.now))
    }

    fn likes<'a>(&self, id: PostId, likes: &'a [Like]) -> Vec<(UserId, &'a Like)> {
        let seen = |user| self.pair(user).is_some_and(|pair| visibility::sees_act(self.viewer, id.author, user, pair));
        let mut seen: Vec<_> =
            likes.iter().filter(|like| !like.gone).filter_map(|like| Some((like.user()?, like))).filter(|(user, _)| seen(*user)).collect();
        seen.sort_by_key(|(_, like)| like.time);
        seen
    }

    /// The numbers of the comments that the viewer of the post sees.
    fn comments(&self, id: PostId, engagement: &Engagement) -> Vec<u32> {
        let seen = visibility::seen_comments(self.viewer, id.author, &engagement.comments, |user| self.pair(user));
        (1..).zip(seen).filter(|(_, seen)| *seen).map(|(number, _)| number).collect()
    }

    /// Whether the viewer sees anything at all of an author, and from when on.
    pub(crate) fn begins(&self, author: UserId) -> Option<u64> {
        if author == self.viewer {
            return Some(0);
        }
        let pair = self.pair(author).filter(|pair| visibility::sees_moments_of(*pair));
        pair.and(self.ranges.get(&author)).map(|range| range.begins(self.now))
    }

    /// Whether the viewer may know what a notice tells of a post that the viewer sees.
    fn may_know(&self, notice: &Notice, engagement: &Engagement, comments: &[u32]) -> bool {
        match notice.kind {
            Kind::Unspecified => false,
            Kind::Mention => true,
            // A like given again was told at its own time.
            Kind::Like => {
                self.likes(notice.post, &engagement.likes).iter().any(|(user, like)| *user == notice.actor && like.time == notice.time)
            }
            Kind::Comment | Kind::Reply => comments.binary_search(&notice.number).is_ok(),
        }
    }
}

impl View {
    /// A viewer who knows only themself, at the beginning of a request.
    pub(crate) async fn sight(&self, viewer: UserId) -> Sight {
        let cached = self.knowledge.is_current().await;
        let (stances, ranges) = (HashMap::from([(viewer, Stances::default())]), HashMap::from([(viewer, Range::All)]));
        Sight { viewer, now: self.clock.now_micros(), cached, stances, ranges }
    }

    async fn meet(&self, sight: &mut Sight, mut new: Vec<UserId>) -> Result<(), Status> {
        new.retain(|user| !sight.stances.contains_key(user));
        new.sort_unstable();
        new.dedup();
        if !new.is_empty() {
            sight.stances.extend(self.knowledge.stances(sight.viewer, &new, sight.cached).await?);
        }
        Ok(())
    }

    /// Finds out all that the rule needs to know of these authors.
    pub(crate) async fn meet_authors(&self, sight: &mut Sight, mut new: Vec<UserId>) -> Result<(), Status> {
        new.retain(|author| !sight.ranges.contains_key(author));
        new.sort_unstable();
        new.dedup();
        if !new.is_empty() {
            self.meet(sight, new.clone()).await?;
            // Whoever is no friend shows nothing, whatever the range.
            new.retain(|author| sight.pair(*author).is_some_and(visibility::sees_moments_of));
            sight.ranges.extend(self.knowledge.ranges(&new, sight.cached).await?);
        }
        Ok(())
    }

    /// Those of the posts that the viewer sees, in the same order.
    pub(crate) async fn seen(&self, sight: &mut Sight, ids: &[PostId]) -> Result<Vec<(PostId, Post)>, Status> {
        self.meet_authors(sight, ids.iter().map(|id| id.author).collect()).await?;
        let posts = self.store.posts(ids).await.map_err(store)?;
        let posts = ids.iter().copied().zip(posts).filter_map(|(id, post)| Some((id, post?)));
        Ok(posts.filter(|(id, post)| sight.sees(*id, post)).collect())
    }

    /// A post that the viewer sees, and the same refusal for every other.
    pub(crate) async fn post(&self, sight: &mut Sight, id: PostId) -> Result<Post, Status> {
        let seen = self.seen(sight, &[id]).await?.pop();
        seen.map(|(_, post)| post).ok_or_else(|| ApiError::not_found("post").into())
    }

    async fn engagements(&self, sight: &mut Sight, ids: &[PostId]) -> Result<Vec<Engagement>, Status> {
        let engagements = self.store.engagements(ids).await.map_err(store)?;
        self.meet(sight, engagements.iter().flat_map(Engagement::actors).collect()).await?;
        Ok(engagements)
    }

    /// Posts that the viewer sees, with what the viewer sees there.
    pub(crate) async fn show(&self, sight: &mut Sight, posts: &[(PostId, Post)]) -> Result<Vec<api::Post>, Status> {
        let ids: Vec<PostId> = posts.iter().map(|(id, _)| *id).collect();
        let engagements = self.engagements(sight, &ids).await?;
        let seen: Vec<Vec<u32>> = posts.iter().zip(&engagements).map(|((id, _), engagement)| sight.comments(*id, engagement)).collect();
        let first = posts.iter().zip(&engagements).zip(&seen).map(|(((id, _), engagement), seen)| {
            let first = &seen[..seen.len().min(COMMENTS)];
            self.comments(*id, engagement, first)
        });
        let first = at_once(first.collect()).await?;
        let mut shown = Vec::with_capacity(posts.len());
        for (((id, post), engagement), (seen, comments)) in posts.iter().zip(&engagements).zip(seen.iter().zip(first)) {
            let likes = sight.likes(*id, &engagement.likes);
            let base = if id.author == sight.viewer { emit::created(*id, post) } else { emit::shown(*id, post) };
            let like =
                |(user, like): &(UserId, &Like)| api::PostLike { user_id: user.to_string(), created: Some(emit::timestamp(like.time)) };
            shown.push(api::Post {
                liked_by_me: likes.iter().any(|(user, _)| *user == sight.viewer),
                like_count: count(likes.len()),
                likes: likes.iter().take(LIKES).map(like).collect(),
                comment_count: count(seen.len()),
                comments,
                ..base
            });
        }
        Ok(shown)
    }

    /// One post as the viewer sees it.
    pub(crate) async fn shown(&self, viewer: UserId, id: PostId) -> Result<api::Post, Status> {
        let mut sight = self.sight(viewer).await;
        let post = self.post(&mut sight, id).await?;
        let shown = self.show(&mut sight, &[(id, post)]).await?.pop();
        shown.ok_or_else(|| ApiError::internal().into())
    }

    async fn comments(&self, id: PostId, engagement: &Engagement, numbers: &[u32]) -> Result<Vec<api::PostComment>, Status> {
        let words = self.store.words(id, numbers).await.map_err(store)?;
        let comment = |(number, words): (&u32, String)| emit::comment(id, engagement, *number, words);
        Ok(numbers.iter().zip(words).filter_map(comment).collect())
    }

    /// At most `limit` of the comments on a post that its viewer sees, those later than a time, and the time behind which there are more. No
    /// two comments on a post are of the same time, and the viewer is told it anyway: a number would count those that are hidden.
    pub(crate) async fn page_of_comments(
        &self,
        sight: &mut Sight,
        id: PostId,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<api::PostComment>, Option<u64>), Status> {
        let engagement = self.engagements(sight, &[id]).await?.pop().unwrap_or_default();
        let mut numbers = sight.comments(id, &engagement);
        let time = |number: &u32| engagement.comment(*number).map(|comment| comment.time);
        numbers.retain(|number| time(number) > Some(after));
        let more = numbers.len() > limit;
        numbers.truncate(limit);
        let next = numbers.last().filter(|_| more).and_then(time);
        Ok((self.comments(id, &engagement, &numbers).await?, next))
    }

    /// The number of a comment that the viewer of its post sees, or that was deleted and the viewer may be the one who did. Whether the viewer
    /// may delete it is for the post to decide.
    pub(crate) async fn to_delete(&self, sight: &mut Sight, id: CommentId) -> Result<Option<u32>, Status> {
        let engagement = self.engagements(sight, &[id.post]).await?.pop().unwrap_or_default();
        let may_have = |number: &u32| {
            let deleted = engagement.comment(*number).is_some_and(|comment| comment.deleted);
            deleted && [id.post.author, id.user].contains(&sight.viewer)
        };
        let seen = |number: &u32| sight.comments(id.post, &engagement).binary_search(number).is_ok();
        Ok(engagement.number_of(id).filter(|number| may_have(number) || seen(number)))
    }

    /// The number of a comment that the viewer of its post sees.
    pub(crate) async fn seen_comment(&self, sight: &mut Sight, id: CommentId) -> Result<Option<u32>, Status> {
        let engagement = self.engagements(sight, &[id.post]).await?.pop().unwrap_or_default();
        let seen = sight.comments(id.post, &engagement);
        Ok(engagement.number_of(id).filter(|number| seen.binary_search(number).is_ok()))
    }

    /// Those of the notices that the viewer may know, in the same order, each with its place among those given.
    pub(crate) async fn notices(&self, sight: &mut Sight, notices: &[Notice]) -> Result<Vec<(usize, api::Notice)>, Status> {
        let mut ids: Vec<PostId> = notices.iter().map(|notice| notice.post).collect();
        ids.sort_unstable();
        ids.dedup();
        let seen: Vec<PostId> = self.seen(sight, &ids).await?.into_iter().map(|(id, _)| id).collect();
        let engagements = self.engagements(sight, &seen).await?;
        let comments: Vec<Vec<u32>> = seen.iter().zip(&engagements).map(|(id, engagement)| sight.comments(*id, engagement)).collect();
        let known = notices.iter().enumerate().filter_map(|(at, notice)| {
            let place = seen.binary_search(&notice.post).ok()?;
            sight.may_know(notice, &engagements[place], &comments[place]).then_some((at, notice, &engagements[place]))
        });
        let shown = known.map(|(at, notice, engagement)| async move {
            let number = Some(notice.number).filter(|number| *number > 0);
            let comment = self.comments(notice.post, engagement, number.as_slice()).await?.pop();
            Ok((at, shown_notice(notice, comment)))
        });
        at_once(shown.collect()).await
    }
}

fn shown_notice(notice: &Notice, comment: Option<api::PostComment>) -> api::Notice {
    let kind = match notice.kind {
        Kind::Unspecified => api::NoticeKind::Unspecified,
        Kind::Like => api::NoticeKind::Like,
        Kind::Comment => api::NoticeKind::Comment,
        Kind::Reply => api::NoticeKind::Reply,
        Kind::Mention => api::NoticeKind::Mention,
    };
    api::Notice {
        kind: kind.into(),
        post_id: notice.post.to_string(),
        actor_id: notice.actor.to_string(),
        comment,
        created: Some(emit::timestamp(notice.time)),
    }
}

/// What these come to, in their order, a bounded number of them at a time.
async fn at_once<T>(reads: Vec<impl Future<Output = Result<T, Status>>>) -> Result<Vec<T>, Status> {
    stream::iter(reads).buffered(AT_ONCE).try_collect().await
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
