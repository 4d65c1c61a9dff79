//! Likes, comments and notices of one post, rule by rule, with the stored form checked after every record.

use bytes::Bytes;
use plaza_processor::{Effects, Envelope, Input, Key, Machine, Outcome, Position, StateRow, outcome};
use plaza_proto::moments::v1 as api;
use plaza_topics::{
    GRAPH, NOTICES,
    moments::{Act, Audience, AudienceKind, Comment, Create, DeleteComment, Kind, OnPost, Payload},
};
use plaza_types::{ClientId, Reason, UserId};
use prost::Message as _;

use crate::domain::{
    COMMENTS, LIKES, PARTICIPANTS, RECENT,
    engagement::{self, CHUNK, Engagement, Like},
    notice,
    post::{CommentId, PostId},
    posts::{OfAuthor, OfPost, Posts, Row, State},
};

const AUTHOR: u8 = 1;

fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

fn id() -> PostId {
    PostId { author: user(AUTHOR), request: ClientId::new(1_700_000_000_000_000, [1; 10]) }
}

struct World {
    state: State,
    now: u64,
}

/// What followed from one record.
struct Followed {
    rows: Vec<Row>,
    acts: Vec<Act>,
    outcome: Outcome,
}

impl Followed {
    fn reason(&self) -> Option<Reason> {
        match &self.outcome.kind {
            Some(outcome::Kind::Refused(refusal)) => Reason::from_number(refusal.reason),
            _ => None,
        }
    }

    fn noticed(&self) -> Vec<(u8, notice::Kind)> {
        let noticed = self.rows.iter().filter_map(|row| match row {
            Row::Notice { recipient, notice } => Some((recipient.as_bytes()[0], notice.kind)),
            _ => None,
        });
        noticed.collect()
    }
}

impl World {
    fn new() -> Self {
        Self { state: State::New, now: 1_700_000_000_000_000 }
    }

    fn command(&mut self, caller: UserId, kind: Kind, key: Option<Key>) -> Followed {
        self.now += 1;
        let envelope =
            Envelope { caller: caller.to_key(), request: Bytes::copy_from_slice(id().request.as_bytes()), ..Envelope::default() };
        let payload = Payload { kind: Some(kind) };
        let keys = Posts.keys(&user(AUTHOR).to_key(), &envelope, &payload);
        let key = key.unwrap_or_else(|| keys[0].clone());
        assert!(keys.contains(&key));
        let before = self.state.clone();
        let mut effects = Effects::<Posts>::default();
        let input = Input { envelope: &envelope, payload: &payload, position: Position::default(), time: self.now };
        Posts.apply(input, 0, &key, &mut self.state, &mut effects);
        // What is written is the state.
        let (_, cold) = Posts.encode(&before, true);
        let (hot, touched) = Posts.encode(&self.state, effects.cold());
        let row = StateRow { hot, cold: touched.or(cold).unwrap_or_default(), ..StateRow::default() };
        assert_eq!(Posts.decode(&row).as_ref(), Ok(&self.state));
        let acts = effects.emissions().iter().filter(|emission| emission.topic == NOTICES);
        Followed {
            rows: effects.rows().to_vec(),
            acts: acts.map(|emission| Act::decode(emission.payload.clone()).expect("an act")).collect(),
            outcome: effects.outcome().cloned().unwrap_or_default(),
        }
    }

    fn like(&mut self, by: u8) -> Followed {
        self.command(user(by), Kind::Like(OnPost { post: id().request_key() }), None)
    }

    fn unlike(&mut self, by: u8) -> Followed {
        self.command(user(by), Kind::Unlike(OnPost { post: id().request_key() }), None)
    }

    fn comment(&mut self, by: u8, reply_to: u32) -> Followed {
        self.command(user(by), Kind::Comment(Comment { post: id().request_key(), text: "words".into(), reply_to }), None)
    }

    fn delete_comment(&mut self, by: u8, number: u32) -> Followed {
        self.command(user(by), Kind::DeleteComment(DeleteComment { post: id().request_key(), number }), None)
    }

    fn likes(&self) -> Vec<u8> {
        let State::Post(post) = &self.state else { panic!("a post") };
        post.engagement.likes.iter().filter(|like| !like.gone).map(|like| like.user[0]).collect()
    }
}

#[test]
fn liking_twice_is_liking_once_and_liking_again_is_a_new_act_without_a_live_hint() {
    let mut world = World::new();
    assert_eq!(world.like(2).noticed(), [(AUTHOR, notice::Kind::Like)]);
    assert!(world.like(2).rows.is_empty());
    assert_eq!(world.like(3).noticed(), [(AUTHOR, notice::Kind::Like), (2, notice::Kind::Like)]);
    assert_eq!(world.likes(), [2, 3]);
    world.unlike(2);
    assert_eq!(world.likes(), [3]);
    assert!(world.unlike(2).rows.is_empty(), "what is gone cannot go");
    world.comment(4, 0);
    let again = world.like(2);
    assert_eq!(again.noticed(), [AUTHOR, 4, 3].map(|told| (told, notice::Kind::Like)), "those who take part now");
    assert!(again.rows.iter().all(|row| !matches!(row, Row::Notice { notice, .. } if notice.time != world.now)));
    assert!(again.acts.is_empty(), "devices are told again");
    assert_eq!(world.likes(), [2, 3]);
    world.unlike(3);
    let own = world.like(AUTHOR);
    assert_eq!(own.noticed(), [2, 4].map(|told| (told, notice::Kind::Like)), "nobody of their own acts, nor who takes part no more");
}

#[test]
fn the_answered_one_is_told_of_an_answer_and_the_others_of_a_comment() {
    use notice::Kind::{Comment, Reply};
    let mut world = World::new();
    let first = world.comment(2, 0);
    let Some(outcome::Kind::Accepted(answer)) = first.outcome.kind.clone() else { panic!("accepted") };
    let answer = api::CommentResponse::decode(answer).expect("an answer").comment.expect("a comment");
    let expected = CommentId { post: id(), user: user(2), request: id().request }.to_string();
    assert_eq!((answer.comment_id, answer.text.as_str()), (expected, "words"));
    world.like(3);
    let reply = world.comment(4, 1);
    assert_eq!(reply.noticed(), [(AUTHOR, Comment), (3, Comment), (2, Reply)]);
    assert_eq!((reply.acts.len(), reply.acts[0].answered.clone(), reply.acts[0].number), (1, user(2).to_key(), 2));
    assert!(world.comment(2, 1).acts[0].answered.is_empty(), "one's own comment");
    assert_eq!(world.comment(AUTHOR, 2).noticed().iter().filter(|(_, kind)| *kind == Reply).count(), 1);
    let of_author = world.comment(2, 4).noticed();
    assert!(of_author.contains(&(AUTHOR, Reply)), "{of_author:?}");
}

#[test]
fn a_comment_is_deleted_by_its_author_or_the_posts_and_not_answered_then() {
    let mut world = World::new();
    for by in [2, 3, 4] {
        world.comment(by, 0);
    }
    assert_eq!(world.delete_comment(3, 1).reason(), Some(Reason::NotTheSender), "another's");
    let gone = world.delete_comment(2, 1);
    assert!(gone.rows.contains(&Row::Words { id: id(), number: 1, text: String::new() }), "its words are gone");
    for by in [2, 3] {
        assert_eq!(world.delete_comment(by, 1).reason(), Some(Reason::NotFound), "a deleted one");
    }
    assert_eq!(world.delete_comment(AUTHOR, 2).reason(), None);
    assert_eq!(world.delete_comment(AUTHOR, 9).reason(), Some(Reason::NotFound));
    assert_eq!(world.delete_comment(AUTHOR, 0).reason(), Some(Reason::NotFound));
    assert_eq!(world.comment(4, 1).reason(), Some(Reason::NotFound), "an answer to a deleted one");
    assert_eq!(world.comment(4, 9).reason(), Some(Reason::NotFound), "an answer to none");
    assert_eq!(world.comment(4, 3).reason(), None);
}

#[test]
fn nothing_happens_to_a_deleted_post() {
    let mut world = World::new();
    world.like(2);
    let delete = |caller| (user(caller), Kind::Delete(OnPost { post: id().request_key() }));
    let (caller, kind) = delete(AUTHOR);
    let deleted = world.command(caller, kind, None);
    assert!(matches!(&deleted.rows[..], [Row::Post { post, .. }] if post.deleted && post.content.is_empty()));
    for followed in [world.like(3), world.unlike(2), world.comment(3, 0), world.delete_comment(AUTHOR, 1)] {
        assert_eq!(followed.reason(), Some(Reason::NotFound));
        assert!(followed.rows.is_empty() && followed.acts.is_empty());
    }
    let (caller, kind) = delete(2);
    let envelope = Envelope { caller: caller.to_key(), request: id().request_key(), ..Envelope::default() };
    assert!(Posts.keys(&user(AUTHOR).to_key(), &envelope, &Payload { kind: Some(kind) }).is_empty(), "another's post");
}

#[test]
fn likes_comments_and_those_told_are_bounded() {
    let mut world = World::new();
    let person = |number: usize| UserId::from_bytes((number as u128 + 1_000_000).to_be_bytes());
    let like = |number: usize| Like { user: person(number).to_key(), time: number as u64 + 1, gone: false };
    let comment = |number: usize| engagement::Comment { user: person(number).to_key(), time: 1, ..engagement::Comment::default() };
    let engagement = Engagement { likes: (1..LIKES).map(like).collect(), comments: (1..COMMENTS).map(comment).collect() };
    world.state = State::Post(Box::new(OfPost { deleted: false, engagement }));
    let kind = Kind::Like(OnPost { post: id().request_key() });
    let last = world.command(person(LIKES), kind.clone(), None);
    assert_eq!(last.noticed().len(), PARTICIPANTS + 1, "the author and the newest");
    assert!(last.rows.iter().any(|row| matches!(row, Row::Notice { recipient, .. } if *recipient == person(LIKES - 1))));
    assert!(last.rows.iter().all(|row| !matches!(row, Row::Likes { likes, .. } if likes.len() > CHUNK)), "a like rewrites all likes");
    let full = world.command(person(LIKES + 1), kind, None);
    assert_eq!((full.reason(), full.rows.len()), (Some(Reason::QuotaExceeded), 0));
    assert_eq!(world.comment(2, 0).reason(), None);
    assert_eq!(world.comment(2, 0).reason(), Some(Reason::QuotaExceeded));
}

#[test]
fn a_post_is_spread_unless_it_is_private_and_who_is_called_is_noticed() {
    let create = |kind: AudienceKind| {
        let audience = Audience { kind: kind.into(), ..Audience::default() };
        Kind::Create(Create { audience, mentions: vec![user(2).to_key()], idle_after: 5, ..Create::default() })
    };
    let emitted = |kind| {
        let envelope = Envelope { caller: user(AUTHOR).to_key(), request: id().request_key(), ..Envelope::default() };
        let payload = Payload { kind: Some(create(kind)) };
        let keys = Posts.keys(&user(AUTHOR).to_key(), &envelope, &payload);
        let (mut state, mut effects) = (State::New, Effects::<Posts>::default());
        let input = Input { envelope: &envelope, payload: &payload, position: Position::default(), time: 7 };
        Posts.apply(input, 0, &keys[0], &mut state, &mut effects);
        assert_eq!(effects.rows().len(), 3, "the post, its place, a notice");
        effects.emissions().iter().map(|emission| emission.topic).collect::<Vec<_>>()
    };
    assert_eq!(emitted(AudienceKind::All), [GRAPH, NOTICES]);
    assert_eq!(emitted(AudienceKind::Private), []);
}

#[test]
fn an_author_remembers_the_newest_posts() {
    let (mut state, now) = (State::New, 1_700_000_000_000_000);
    for number in 0..RECENT as u64 + 5 {
        let request = ClientId::new(now + number * 1_000, [1; 10]);
        let envelope =
            Envelope { caller: user(AUTHOR).to_key(), request: Bytes::copy_from_slice(request.as_bytes()), ..Envelope::default() };
        let payload = Payload { kind: Some(Kind::Create(Create::default())) };
        let keys = Posts.keys(&user(AUTHOR).to_key(), &envelope, &payload);
        let input = Input { envelope: &envelope, payload: &payload, position: Position::default(), time: number + 1 };
        Posts.apply(input, 0, &keys[0], &mut state, &mut Effects::default());
    }
    let State::Author(OfAuthor { recent, .. }) = state else { panic!("an author") };
    assert_eq!((recent.len(), recent[0].created, recent[RECENT - 1].created), (RECENT, 6, RECENT as u64 + 5));
}
