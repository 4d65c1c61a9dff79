//! A system that is the model with one mistake, to show that the checks find it. Without a mistake it shows that the checks find nothing.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use crate::{
    model::{Answer, Contact, Hint, Like, Model, NoticeKind, SeenComment, SeenNotice, SeenPost},
    step::{Act, Audience, Range, Who},
    system::{Page, Refusal, System},
};

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    BlocksIgnored,
    BlockHidesOneWay,
    OneSidedFriendship,
    ChatOnlyHidesOneWay,
    HideMineIgnored,
    HideTheirsIgnored,
    HideTheirsOnlyInTimeline,
    RangeIgnored,
    RangeHidesOwnPosts,
    RangeOfTheViewer,
    RangeOnlyOnProfile,
    MonthOfThirtyOneDays,
    TagsAsTheyWere,
    TagsOfExceptIgnored,
    OnlyForAllFriends,
    PrivateForTagged,
    DeletedOnProfile,
    CountOfAllLikes,
    CountOfAllComments,
    AuthorSeesEverybody,
    ChatOnlyHidesComments,
    LikesOfOthersUnfiltered,
    AnswersWithoutTheirComment,
    AnswersToDeleted,
    AnswersCheckedOneDeep,
    NoticeOfLikeTakenBack,
    NoticeOfHiddenPost,
    NoticeOfStrangers,
    NoticeOfOwnActs,
    NoticeOfEarlierLikes,
    NoticeOfReplyAsComment,
    HintsUnfiltered,
    MentionNotTold,
    PartingErasesLikes,
    NothingBeforeFriendship,
    EdgesOneReadLate,
    HiddenIsForbidden,
    HiddenIsWorded,
    LikeOfHiddenCounts,
    AnswerToHiddenAccepted,
    PagesByNumber,
    PageRepeatsItsLast,
    EndNotSaid,
    AudienceShown,
    LikedBySomebody,
    OldestFirst,
}

pub(crate) struct Fake {
    mistake: Mistake,
    model: Model,
    /// As it was before the last act.
    before: Mutex<Option<Model>>,
    /// For each friendship, when it began.
    since: Vec<(Who, Who, u64)>,
    /// Notices of what is no more.
    ghosts: Vec<(BTreeSet<Who>, SeenNotice)>,
}

impl Fake {
    pub(crate) fn new(people: usize, mistake: Mistake) -> Self {
        Self { mistake, model: Model { people, ..Model::default() }, before: Mutex::new(None), since: Vec::new(), ghosts: Vec::new() }
    }

    pub(crate) fn wait(&mut self, hours: u64) {
        self.model.now += hours;
        *self.before.lock().expect("unpoisoned") = None;
    }

    /// The state as a system would take it to be that makes its mistake in who sees which posts.
    fn believed(&self, viewer: Who) -> Model {
        let mut believed = self.model.clone();
        let people = believed.people;
        match self.mistake {
            Mistake::BlocksIgnored => believed.blocks.clear(),
            Mistake::BlockHidesOneWay => believed.blocks.retain(|(_, blocked)| *blocked == viewer),
            Mistake::OneSidedFriendship => {
                for ((one, other), _) in self.model.contacts.clone() {
                    believed.contacts.entry((other, one)).or_default();
                }
            }
            Mistake::ChatOnlyHidesOneWay => {
                (0..people).filter_map(|other| believed.contacts.get_mut(&(viewer, other)).map(|kept| kept.chat_only = false)).count();
            }
            Mistake::HideMineIgnored => believed.contacts.values_mut().for_each(|kept| kept.hide_my_moments = false),
            Mistake::HideTheirsIgnored => believed.contacts.values_mut().for_each(|kept| kept.hide_their_moments = false),
            Mistake::RangeIgnored => believed.ranges.clear(),
            Mistake::RangeOfTheViewer => {
                let own = believed.ranges.get(&viewer).copied().unwrap_or(Range::All);
                believed.ranges = (0..people).map(|who| (who, own)).collect();
            }
            Mistake::MonthOfThirtyOneDays => {
                let of_month = |who: &Who| self.model.ranges.get(who) == Some(&Range::OneMonth);
                let nearly = believed.posts.iter_mut().filter(|post| of_month(&post.author) && self.model.now - post.hour < 31 * 24);
                nearly.for_each(|post| post.hour = self.model.now);
            }
            Mistake::TagsOfExceptIgnored => believed.posts.iter_mut().for_each(|post| {
                if let Audience::Except(_, tags) = &mut post.audience {
                    tags.clear();
                }
            }),
            Mistake::OnlyForAllFriends => believed.posts.iter_mut().for_each(|post| {
                if matches!(post.audience, Audience::Only(..)) && post.author != viewer {
                    post.audience = Audience::All;
                }
            }),
            Mistake::PrivateForTagged => believed.posts.iter_mut().for_each(|post| {
                if post.audience == Audience::Private && post.author != viewer {
                    post.audience = Audience::Only(Vec::new(), vec![0]);
                }
            }),
            Mistake::NothingBeforeFriendship => {
                let since =
                    |author| self.since.iter().rev().find(|(one, other, _)| (*one, *other) == (viewer, author)).map(|found| found.2);
                believed.posts.iter_mut().filter(|post| Some(post.order) < since(post.author)).for_each(|post| post.deleted = true);
            }
            Mistake::AnswersToDeleted | Mistake::AnswersWithoutTheirComment | Mistake::AnswersCheckedOneDeep => {
                self.free_answers(&mut believed)
            }
            Mistake::EdgesOneReadLate => {
                if let Some(before) = self.before.lock().expect("unpoisoned").take() {
                    (believed.contacts, believed.blocks, believed.ranges) = (before.contacts, before.blocks, before.ranges);
                }
            }
            _ => {}
        }
        believed
    }

    /// Lets answers be seen that hang on a comment that is not.
    fn free_answers(&self, believed: &mut Model) {
        let gone = |comment: usize| self.model.comments.iter().any(|known| known.comment == comment && known.deleted);
        let answers_an_answer =
            |comment: usize| self.model.comments.iter().any(|known| known.comment == comment && known.answers.is_some());
        for comment in &mut believed.comments {
            let free = match self.mistake {
                Mistake::AnswersToDeleted => comment.answers.is_some_and(gone),
                Mistake::AnswersCheckedOneDeep => comment.answers.is_some_and(answers_an_answer),
                _ => comment.answers.is_some(),
            };
            if free {
                comment.answers = None;
            }
        }
    }

    fn timeline(&self, viewer: Who) -> Vec<SeenPost> {
        let mut believed = self.believed(viewer);
        if self.mistake == Mistake::RangeOnlyOnProfile {
            believed.ranges.clear();
        }
        let mut posts = believed.timeline(viewer);
        if self.mistake == Mistake::OldestFirst {
            posts.reverse();
        }
        posts.into_iter().filter_map(|post| self.mistaken(viewer, post)).collect()
    }

    fn profile(&self, viewer: Who, author: Who) -> Vec<SeenPost> {
        let mut believed = self.believed(viewer);
        if self.mistake == Mistake::HideTheirsOnlyInTimeline {
            believed.contacts.values_mut().for_each(|kept| kept.hide_their_moments = false);
        }
        if self.mistake == Mistake::DeletedOnProfile {
            believed.posts.iter_mut().for_each(|post| post.deleted = false);
        }
        believed.posts_of(viewer, author).into_iter().filter_map(|post| self.mistaken(viewer, post)).collect()
    }

    fn single(&self, viewer: Who, post: usize) -> Option<SeenPost> {
        self.believed(viewer).get(viewer, post).and_then(|post| self.mistaken(viewer, post))
    }

    /// The post with the mistakes that are made in showing it.
    fn mistaken(&self, viewer: Who, mut post: SeenPost) -> Option<SeenPost> {
        let likes: Vec<Who> = self.model.likes.iter().filter(|like| like.post == post.post).map(|like| like.by).collect();
        let comments = self.model.comments.iter().filter(|comment| comment.post == post.post && !comment.deleted);
        match self.mistake {
            Mistake::CountOfAllLikes => post.like_count = likes.len(),
            Mistake::CountOfAllComments => post.comment_count = comments.count(),
            Mistake::LikesOfOthersUnfiltered => {
                post.like_count = likes.len();
                post.likes = likes;
            }
            Mistake::AuthorSeesEverybody if viewer == post.author => {
                post.like_count = likes.len();
                post.likes = likes;
            }
            Mistake::ChatOnlyHidesComments => {
                let chat_only = |one, other| self.model.contacts.get(&(one, other)).is_some_and(|kept| kept.chat_only);
                post.comments.retain(|comment| !chat_only(viewer, comment.by));
            }
            Mistake::AudienceShown => {
                post.audience = self.model.posts.iter().find(|known| known.post == post.post).map(|known| known.audience.clone());
            }
            Mistake::LikedBySomebody => post.liked_by_me = !likes.is_empty(),
            Mistake::RangeHidesOwnPosts => {
                let days = match self.model.ranges.get(&viewer) {
                    Some(Range::ThreeDays) if viewer == post.author => 3,
                    _ => return Some(post),
                };
                let hour = self.model.posts.iter().find(|known| known.post == post.post).map_or(0, |known| known.hour);
                return Some(post).filter(|_| self.model.now - hour <= days * 24);
            }
            _ => {}
        }
        // Answers that were let go still say what they answer.
        for comment in &mut post.comments {
            self.restore(comment);
        }
        Some(post)
    }

    fn restore(&self, comment: &mut SeenComment) {
        let known = self.model.comments.iter().find(|known| known.comment == comment.comment);
        comment.answers = known.and_then(|known| known.answers);
    }

    fn told(&self, viewer: Who) -> Vec<SeenNotice> {
        let mut believed = self.believed(viewer);
        match self.mistake {
            Mistake::NoticeOfHiddenPost => {
                believed.contacts.values_mut().for_each(|kept| kept.hide_my_moments = false);
                believed.ranges.clear();
            }
            Mistake::NoticeOfStrangers => {
                for one in 0..believed.people {
                    believed.contacts.entry((one, viewer)).or_default();
                    believed.contacts.entry((viewer, one)).or_default();
                }
            }
            Mistake::NoticeOfOwnActs => {
                believed.likes.iter_mut().for_each(|like| _ = like.told.insert(like.by));
                believed.comments.iter_mut().for_each(|comment| _ = comment.told.insert(comment.by));
            }
            Mistake::NoticeOfEarlierLikes => {
                let takes_part = |post| self.model.likes.iter().any(|like| like.by == viewer && like.post == post);
                believed
                    .likes
                    .iter_mut()
                    .filter(|like| like.by != viewer && takes_part(like.post))
                    .for_each(|like| _ = like.told.insert(viewer));
            }
            Mistake::MentionNotTold => believed.posts.iter_mut().for_each(|post| post.mentions.clear()),
            _ => {}
        }
        let mut notices = believed.notices(viewer);
        notices.extend(self.ghosts.iter().filter(|(told, _)| told.contains(&viewer)).map(|(_, notice)| notice.clone()));
        for notice in &mut notices {
            notice.comment.iter_mut().for_each(|comment| self.restore(comment));
            if self.mistake == Mistake::NoticeOfReplyAsComment && notice.kind == NoticeKind::Reply {
                notice.kind = NoticeKind::Comment;
            }
        }
        notices
    }

    fn done(&mut self, act: &Act) -> Answer {
        *self.before.lock().expect("unpoisoned") = Some(self.model.clone());
        match act {
            Act::Unlike(..) if self.mistake == Mistake::NoticeOfLikeTakenBack => {
                let before = self.model.likes.clone();
                let answer = self.model.act(act);
                let left = |like: &Like| self.model.likes.iter().any(|left| left.order == like.order);
                for like in before.into_iter().filter(|like| !left(like)) {
                    let notice = SeenNotice { kind: NoticeKind::Like, post: like.post, actor: like.by, comment: None };
                    self.ghosts.push((like.told, notice));
                }
                return answer;
            }
            Act::Unfriend(one, other) if self.mistake == Mistake::PartingErasesLikes => {
                let of = |author: Who| self.model.posts.iter().filter(move |post| post.author == author).map(|post| post.post);
                let posts: Vec<usize> = of(*one).collect();
                self.model.likes.retain(|like| like.by != *other || !posts.contains(&like.post));
            }
            Act::Befriend(one, other) => {
                self.since.extend([(*one, *other, self.model.done), (*other, *one, self.model.done)]);
            }
            Act::Like(who, post) if self.mistake == Mistake::LikeOfHiddenCounts && self.model.get(*who, *post).is_none() => {
                let counted = Like { post: *post, by: *who, told: Default::default(), order: self.model.done };
                self.model.likes.push(counted);
            }
            Act::Post { who, audience: Audience::Only(people, tags), post, mentions } if self.mistake == Mistake::TagsAsTheyWere => {
                let tagged = |kept: &Contact| tags.iter().any(|tag| kept.tags.contains(tag));
                let now = self.model.contacts.iter().filter(|((one, _), kept)| one == who && tagged(kept)).map(|((_, other), _)| *other);
                let people = people.iter().copied().chain(now).collect();
                let frozen = Act::Post { who: *who, audience: Audience::Only(people, Vec::new()), post: *post, mentions: mentions.clone() };
                return self.model.act(&frozen);
            }
            Act::Comment { who, post, comment, answers: Some(answered) } if self.mistake == Mistake::AnswerToHiddenAccepted => {
                let exists = self.model.comments.iter().any(|known| known.comment == *answered);
                let answers = Some(*answered).filter(|_| !exists);
                return self.model.act(&Act::Comment { who: *who, post: *post, comment: *comment, answers });
            }
            _ => {}
        }
        self.model.act(act)
    }

    fn refusal(&self, exists: bool, code: &str) -> Refusal {
        let (code, message) = match self.mistake {
            Mistake::HiddenIsForbidden if exists => ("PermissionDenied", "no such post"),
            Mistake::HiddenIsWorded if exists => (code, "not yours to see"),
            _ => (code, "no such post"),
        };
        Refusal { code: code.to_owned(), reason: code.to_owned(), message: message.to_owned(), details: String::new() }
    }

    fn exists(&self, act: &Act) -> bool {
        match act {
            Act::Like(_, post) | Act::Unlike(_, post) | Act::DeletePost(_, post) | Act::Comment { post, .. } => {
                self.model.posts.iter().any(|known| known.post == *post)
            }
            _ => false,
        }
    }

    fn cut<T>(&self, items: Vec<T>, size: u32, token: &str, place: impl Fn(&T) -> usize, newest_first: bool) -> Page<T> {
        let from = match token.parse::<usize>() {
            Err(_) => 0,
            Ok(number) if self.mistake == Mistake::PagesByNumber => number,
            Ok(last) => {
                let last = if self.mistake == Mistake::PageRepeatsItsLast && newest_first { last + 1 } else { last };
                let later = |item: &T| if newest_first { place(item) < last } else { place(item) > last };
                items.iter().position(later).unwrap_or(items.len())
            }
        };
        let to = (from + size as usize).min(items.len());
        let more = if self.mistake == Mistake::EndNotSaid { to > from } else { to < items.len() };
        let token = match self.mistake {
            _ if !more => String::new(),
            Mistake::PagesByNumber => to.to_string(),
            _ => place(&items[to - 1]).to_string(),
        };
        (items.into_iter().skip(from).take(to - from).collect(), token)
    }
}

impl System for Fake {
    const PATIENCE: Duration = Duration::ZERO;

    async fn newcomer(&mut self) -> Result<Who, Refusal> {
        self.model.people += 1;
        Ok(self.model.people - 1)
    }

    async fn act(&mut self, act: &Act) -> Result<Option<SeenPost>, Refusal> {
        let exists = self.exists(act);
        match self.done(act) {
            Answer::Done => Ok(match *act {
                Act::Post { who, post, .. } | Act::Like(who, post) | Act::Unlike(who, post) => self.single(who, post),
                _ => None,
            }),
            Answer::Missing => Err(self.refusal(exists, "NotFound")),
            Answer::NotTheirs => Err(self.refusal(false, "PermissionDenied")),
        }
    }

    async fn timeline(&self, viewer: Who, size: u32, token: &str) -> Result<Page<SeenPost>, Refusal> {
        let posts = Fake::timeline(self, viewer);
        Ok(self.cut(posts, size, token, |post| post.post, true))
    }

    async fn posts_of(&self, viewer: Who, author: Who, size: u32, token: &str) -> Result<Page<SeenPost>, Refusal> {
        let posts = self.profile(viewer, author);
        Ok(self.cut(posts, size, token, |post| post.post, true))
    }

    async fn get(&self, viewer: Who, post: usize) -> Result<SeenPost, Refusal> {
        let exists = self.exists(&Act::Like(viewer, post));
        self.single(viewer, post).ok_or_else(|| self.refusal(exists, "NotFound"))
    }

    async fn comments(&self, viewer: Who, post: usize, size: u32, token: &str) -> Result<Page<SeenComment>, Refusal> {
        let exists = self.exists(&Act::Like(viewer, post));
        let comments = self.single(viewer, post).map(|post| post.comments).ok_or_else(|| self.refusal(exists, "NotFound"))?;
        Ok(self.cut(comments, size, token, |comment| comment.comment, false))
    }

    fn hints(&self, viewer: Who) -> Result<Vec<Hint>, Refusal> {
        if self.mistake == Mistake::HintsUnfiltered {
            let told = self.model.likes.iter().filter(|like| like.told.contains(&viewer));
            return Ok(told.map(|like| Hint { kind: NoticeKind::Like, post: like.post, actor: like.by, comment: None }).collect());
        }
        Ok(self.model.notices(viewer).iter().map(SeenNotice::hint).collect())
    }

    async fn notices(&self, viewer: Who, size: u32, token: &str) -> Result<Page<SeenNotice>, Refusal> {
        // Notices have no numbers of their own.
        let notices: Vec<_> = self.told(viewer).into_iter().enumerate().collect();
        let (page, token) = self.cut(notices, size, token, |(number, _)| number + 1, false);
        Ok((page.into_iter().map(|(_, notice)| notice).collect(), token))
    }
}
