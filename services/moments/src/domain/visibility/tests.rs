//! The table of cases: one line for each way in which somebody sees something or does not.

use bytes::Bytes;
use plaza_topics::moments::{Audience, AudienceKind};

use super::*;

const NOW: u64 = 1_000 * DAY;

fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

/// The viewer, the author, and others.
const VIEWER: u8 = 1;
const AUTHOR: u8 = 2;

#[derive(Clone)]
struct Case {
    own: Stance,
    theirs: Stance,
    post: Post,
    range: Range,
}

impl Case {
    /// Two friends, and a post for all friends made a day ago.
    fn friends() -> Self {
        let lists = Stance { lists: true, ..Stance::default() };
        let post = Post { created: NOW - DAY, audience: audience(AudienceKind::All, &[], &[]), ..Post::default() };
        Self { own: lists.clone(), theirs: lists, post, range: Range::All }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn sees(&self, viewer: u8) -> bool {
        sees_post(user(viewer), user(AUTHOR), &self.post, Pair { own: &self.own, theirs: &self.theirs }, self.range, NOW)
    }
}

fn audience(kind: AudienceKind, users: &[u8], tags: &[&str]) -> Audience {
    let users: Bytes = users.iter().flat_map(|number| [*number; 16]).collect();
    Audience { kind: kind.into(), users, tags: tags.iter().map(|tag| (*tag).to_owned()).collect() }
}

#[test]
fn who_sees_a_post() {
    use AudienceKind::{All, Except, Only, Private};
    let case = |change: fn(&mut Case)| Case::friends().with(change);
    let table: [(&str, bool, Case); 33] = [
        ("friends", true, case(|_| {})),
        ("the viewer does not list the author", false, case(|case| case.own.lists = false)),
        ("the author does not list the viewer", false, case(|case| case.theirs.lists = false)),
        ("the viewer blocks the author", false, case(|case| case.own.blocks = true)),
        ("the author blocks the viewer", false, case(|case| case.theirs.blocks = true)),
        ("the viewer has the author on chat only", false, case(|case| case.own.chat_only = true)),
        ("the author has the viewer on chat only", false, case(|case| case.theirs.chat_only = true)),
        ("the author hides from the viewer", false, case(|case| case.theirs.hide_my_moments = true)),
        ("the viewer hides the author", false, case(|case| case.own.hide_their_moments = true)),
        ("the viewer hides own posts from the author", true, case(|case| case.own.hide_my_moments = true)),
        ("the author hides the viewer's posts", true, case(|case| case.theirs.hide_their_moments = true)),
        ("deleted", false, case(|case| case.post.deleted = true)),
        ("private", false, case(|case| case.post.audience = audience(Private, &[], &[]))),
        ("an audience of a newer version", false, case(|case| case.post.audience = Audience { kind: 99, ..audience(All, &[], &[]) })),
        ("only, named", true, case(|case| case.post.audience = audience(Only, &[VIEWER, 9], &[]))),
        ("only, another named", false, case(|case| case.post.audience = audience(Only, &[8, 9], &[]))),
        (
            "only, tagged",
            true,
            case(|case| {
                case.post.audience = audience(Only, &[9], &["work"]);
                case.theirs.tags = vec!["home".into(), "work".into()];
            }),
        ),
        (
            "only, tagged otherwise",
            false,
            case(|case| {
                case.post.audience = audience(Only, &[9], &["work"]);
                case.theirs.tags = vec!["home".into()];
            }),
        ),
        (
            "only, the viewer's own tag on the author does not count",
            false,
            case(|case| {
                case.post.audience = audience(Only, &[9], &["work"]);
                case.own.tags = vec!["work".into()];
            }),
        ),
        (
            "only, named and hidden from",
            false,
            case(|case| {
                case.post.audience = audience(Only, &[VIEWER], &[]);
                case.theirs.hide_my_moments = true;
            }),
        ),
        ("except, named", false, case(|case| case.post.audience = audience(Except, &[VIEWER], &[]))),
        ("except, another named", true, case(|case| case.post.audience = audience(Except, &[9], &[]))),
        (
            "except, tagged",
            false,
            case(|case| {
                case.post.audience = audience(Except, &[], &["work"]);
                case.theirs.tags = vec!["work".into()];
            }),
        ),
        (
            "except, tagged otherwise",
            true,
            case(|case| {
                case.post.audience = audience(Except, &[], &["work"]);
                case.theirs.tags = vec!["home".into()];
            }),
        ),
        ("within three days", true, case(|case| case.range = Range::THREE_DAYS)),
        ("at three days", true, case(|case| (case.range, case.post.created) = (Range::THREE_DAYS, NOW - 3 * DAY))),
        ("past three days", false, case(|case| (case.range, case.post.created) = (Range::THREE_DAYS, NOW - 3 * DAY - 1))),
        ("within a month", true, case(|case| (case.range, case.post.created) = (Range::ONE_MONTH, NOW - 30 * DAY))),
        ("past a month", false, case(|case| (case.range, case.post.created) = (Range::ONE_MONTH, NOW - 30 * DAY - 1))),
        ("within six months", true, case(|case| (case.range, case.post.created) = (Range::SIX_MONTHS, NOW - 183 * DAY))),
        ("past six months", false, case(|case| (case.range, case.post.created) = (Range::SIX_MONTHS, NOW - 183 * DAY - 1))),
        ("everything", true, case(|case| case.post.created = 1)),
        ("strangers", false, case(|case| (case.own, case.theirs) = Default::default())),
    ];
    for (what, sees, case) in table {
        assert_eq!(case.sees(VIEWER), sees, "{what}");
        // The author sees every own post that is there.
        let own = Case { own: Stance::default(), theirs: Stance::default(), ..case };
        assert_eq!(own.sees(AUTHOR), !own.post.deleted, "{what}, the author");
    }
}

#[test]
fn who_sees_what_somebody_did() {
    let lists = || Stance { lists: true, ..Stance::default() };
    let nobody = Stance::default();
    let sees = |actor: u8, own: &Stance, theirs: &Stance| sees_act(user(VIEWER), user(AUTHOR), user(actor), Pair { own, theirs });
    assert!(sees(VIEWER, &nobody, &nobody), "one's own");
    assert!(sees(AUTHOR, &nobody, &nobody), "the author's");
    assert!(!sees(3, &nobody, &nobody), "a stranger's");
    assert!(sees(3, &lists(), &lists()), "a friend's");
    assert!(!sees(3, &lists(), &nobody) && !sees(3, &nobody, &lists()), "that of somebody who is a friend on one side only");
    let blocking = Stance { blocks: true, ..lists() };
    assert!(!sees(3, &blocking, &lists()) && !sees(3, &lists(), &blocking), "that of somebody blocked or who blocks");
    let hiding = Stance { chat_only: true, hide_my_moments: true, hide_their_moments: true, ..lists() };
    assert!(sees(3, &hiding, &hiding), "what is allowed to friends does not matter here");
    // The author has lost a friend: the like is hidden from the author too.
    let pair = Pair { own: &lists(), theirs: &nobody };
    assert!(!sees_act(user(AUTHOR), user(AUTHOR), user(3), pair), "of a friend who is none any more");
}

#[test]
fn an_answer_is_seen_only_with_what_it_answers() {
    let (friend, nobody) = (Stance { lists: true, ..Stance::default() }, Stance::default());
    // 3 is the viewer's friend, 4 is not.
    let pair = |user: UserId| {
        let stance = if user.as_bytes()[0] == 3 { &friend } else { &nobody };
        Some(Pair { own: stance, theirs: stance })
    };
    let comment =
        |by: u8, reply_to: u32, deleted: bool| Comment { user: user(by).to_key(), time: 1, reply_to, deleted, ..Comment::default() };
    let table: [(u8, u32, bool, bool); 12] = [
        (3, 0, false, true),
        (4, 0, false, false),
        (3, 2, false, false),
        (AUTHOR, 2, false, false),
        (VIEWER, 2, false, false),
        (VIEWER, 1, false, true),
        (AUTHOR, 6, false, true),
        (3, 3, false, false),
        (3, 0, true, false),
        (3, 9, false, false),
        (3, 10, false, false),
        (3, 99, false, false),
    ];
    let comments: Vec<Comment> = table.iter().map(|(by, reply_to, deleted, _)| comment(*by, *reply_to, *deleted)).collect();
    let expected: Vec<bool> = table.iter().map(|(.., seen)| *seen).collect();
    assert_eq!(seen_comments(user(VIEWER), user(AUTHOR), &comments, pair), expected);
    assert_eq!(seen_comments(user(VIEWER), user(AUTHOR), &comments[..1], |_| None), [false], "of somebody of whom nothing is known");
}
