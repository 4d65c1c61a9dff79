//! The model against cases written by hand, each a sentence of the product. Ada, Bob, Cem and Dan; whatever is not said is as at first.

use crate::{
    model::{Answer, Model, NoticeKind, SeenNotice},
    step::{Act, Audience, Permissions, Range, Who},
};

const ADA: Who = 0;
const BOB: Who = 1;
const CEM: Who = 2;
const DAN: Who = 3;

const CHAT_ONLY: Permissions = Permissions { chat_only: true, hide_my_moments: false, hide_their_moments: false };
const HIDE_MINE: Permissions = Permissions { chat_only: false, hide_my_moments: true, hide_their_moments: false };
const HIDE_THEIRS: Permissions = Permissions { chat_only: false, hide_my_moments: false, hide_their_moments: true };

/// Where these pairs are friends.
fn friends(pairs: &[(Who, Who)]) -> Model {
    let mut model = Model { people: 4, ..Model::default() };
    for (one, other) in pairs {
        model.act(&Act::Befriend(*one, *other));
    }
    model
}

fn post(model: &mut Model, who: Who, post: usize, audience: Audience) {
    assert_eq!(model.act(&Act::Post { who, post, audience, mentions: Vec::new() }), Answer::Done);
}

fn comment(model: &mut Model, who: Who, post: usize, comment: usize, answers: Option<usize>) -> Answer {
    model.act(&Act::Comment { who, post, comment, answers })
}

fn shown(model: &Model, viewer: Who) -> Vec<usize> {
    model.timeline(viewer).iter().map(|post| post.post).collect()
}

fn comments(model: &Model, viewer: Who, post: usize) -> Vec<usize> {
    model.comments(viewer, post).unwrap_or_default().iter().map(|comment| comment.comment).collect()
}

fn told(model: &Model, viewer: Who) -> Vec<(NoticeKind, Who)> {
    model.notices(viewer).iter().map(|SeenNotice { kind, actor, .. }| (*kind, *actor)).collect()
}

#[test]
fn own_and_friends_posts_newest_first_and_nobody_elses() {
    let mut model = friends(&[(ADA, BOB), (BOB, CEM)]);
    for (number, who) in [ADA, BOB, CEM].into_iter().enumerate() {
        post(&mut model, who, number, Audience::All);
    }
    assert_eq!([ADA, BOB, CEM, DAN].map(|viewer| shown(&model, viewer)), [vec![1, 0], vec![2, 1, 0], vec![2, 1], vec![]]);
    assert_eq!(model.get(DAN, 0), None);
    assert_eq!(model.posts_of(ADA, CEM), []);
}

#[test]
fn a_friendship_ended_by_one_side_is_none_and_a_new_one_brings_everything_back() {
    let mut model = friends(&[(ADA, BOB)]);
    post(&mut model, ADA, 0, Audience::All);
    post(&mut model, BOB, 1, Audience::All);
    for ends in [Act::Unfriend(ADA, BOB), Act::Unfriend(BOB, ADA), Act::Block(ADA, BOB), Act::Block(BOB, ADA)] {
        let mut ended = model.clone();
        ended.act(&ends);
        assert_eq!([ADA, BOB].map(|viewer| shown(&ended, viewer)), [vec![0], vec![1]], "{ends:?}");
        for mends in [Act::Unblock(ADA, BOB), Act::Unblock(BOB, ADA), Act::Befriend(ADA, BOB)] {
            ended.act(&mends);
        }
        assert_eq!([ADA, BOB].map(|viewer| shown(&ended, viewer)), [vec![1, 0], vec![1, 0]], "{ends:?}");
    }
}

#[test]
fn chat_only_hides_both_ways_and_hiding_one_way() {
    let mut model = friends(&[(ADA, BOB)]);
    post(&mut model, ADA, 0, Audience::All);
    post(&mut model, BOB, 1, Audience::All);
    let cases = [(CHAT_ONLY, [vec![0], vec![1]]), (HIDE_MINE, [vec![1, 0], vec![1]]), (HIDE_THEIRS, [vec![0], vec![1, 0]])];
    for (permissions, expected) in cases {
        let mut hidden = model.clone();
        hidden.act(&Act::Permit(ADA, BOB, permissions));
        assert_eq!([ADA, BOB].map(|viewer| shown(&hidden, viewer)), expected, "{permissions:?}");
        assert_eq!(hidden.get(ADA, 1).is_some(), expected[0].contains(&1));
    }
}

#[test]
fn a_range_hides_what_is_older_from_friends_and_never_from_its_author() {
    for (range, days) in [(Range::ThreeDays, 3), (Range::OneMonth, 30), (Range::SixMonths, 183)] {
        let mut model = friends(&[(ADA, BOB)]);
        post(&mut model, ADA, 0, Audience::All);
        model.act(&Act::Range(ADA, range));
        model.now += days * 24;
        assert_eq!([ADA, BOB].map(|viewer| shown(&model, viewer)), [vec![0], vec![0]]);
        model.now += 1;
        assert_eq!([ADA, BOB].map(|viewer| shown(&model, viewer)), [vec![0], vec![]]);
        model.act(&Act::Range(ADA, Range::All));
        assert_eq!(shown(&model, BOB), [0]);
    }
}

#[test]
fn audiences_follow_the_tags_of_now() {
    let mut model = friends(&[(ADA, BOB), (ADA, CEM)]);
    model.act(&Act::Tag(ADA, BOB, [1].into()));
    // What others call each other is nothing to Ada's posts.
    model.act(&Act::Tag(CEM, ADA, [1].into()));
    post(&mut model, ADA, 0, Audience::Private);
    post(&mut model, ADA, 1, Audience::Only(vec![CEM], Vec::new()));
    post(&mut model, ADA, 2, Audience::Only(Vec::new(), vec![1, 2]));
    post(&mut model, ADA, 3, Audience::Except(vec![CEM], Vec::new()));
    post(&mut model, ADA, 4, Audience::Except(Vec::new(), vec![1]));
    post(&mut model, ADA, 5, Audience::Only(vec![DAN], Vec::new()));
    assert_eq!([ADA, BOB, CEM, DAN].map(|viewer| shown(&model, viewer)), [vec![5, 4, 3, 2, 1, 0], vec![3, 2], vec![4, 1], vec![]]);
    model.act(&Act::Tag(ADA, BOB, [].into()));
    model.act(&Act::Tag(ADA, CEM, [1, 0].into()));
    assert_eq!([BOB, CEM].map(|viewer| shown(&model, viewer)), [vec![4, 3], vec![2, 1]]);
    assert_eq!(model.get(ADA, 1).and_then(|post| post.audience), Some(Audience::Only(vec![CEM], Vec::new())));
    assert_eq!(model.get(CEM, 1).and_then(|post| post.audience), None);
}

#[test]
fn likes_and_comments_of_strangers_are_neither_shown_nor_counted() {
    // Bob and Cem know Ada and not each other.
    let mut model = friends(&[(ADA, BOB), (ADA, CEM)]);
    post(&mut model, ADA, 0, Audience::All);
    for who in [BOB, CEM, CEM, ADA] {
        model.act(&Act::Like(who, 0));
    }
    comment(&mut model, CEM, 0, 0, None);
    let seen = |model: &Model, viewer| {
        let post = model.get(viewer, 0).expect("a friend's post");
        (post.likes, post.like_count, post.liked_by_me, post.comment_count)
    };
    assert_eq!(seen(&model, ADA), (vec![BOB, CEM, ADA], 3, true, 1));
    assert_eq!(seen(&model, BOB), (vec![BOB, ADA], 2, true, 0));
    model.act(&Act::Befriend(BOB, CEM));
    // Chat only is between the two and their posts; they are friends all the same.
    model.act(&Act::Permit(BOB, CEM, CHAT_ONLY));
    assert_eq!(seen(&model, BOB), (vec![BOB, CEM, ADA], 3, true, 1));
    // Not even the author sees what somebody did who is no friend any more.
    model.act(&Act::Block(ADA, CEM));
    model.act(&Act::Unlike(ADA, 0));
    assert_eq!(seen(&model, ADA), (vec![BOB], 1, false, 0));
    assert_eq!(seen(&model, BOB), (vec![BOB, CEM], 2, true, 1));
}

#[test]
fn an_answer_is_never_seen_without_what_it_answers() {
    let mut model = friends(&[(ADA, BOB), (ADA, CEM), (ADA, DAN), (BOB, DAN), (CEM, DAN)]);
    post(&mut model, ADA, 0, Audience::All);
    comment(&mut model, CEM, 0, 0, None);
    comment(&mut model, DAN, 0, 1, Some(0));
    comment(&mut model, ADA, 0, 2, Some(1));
    // Bob knows everybody but Cem, whose comment it all hangs on.
    assert_eq!([ADA, BOB, CEM, DAN].map(|viewer| comments(&model, viewer, 0)), [vec![0, 1, 2], vec![], vec![0, 1, 2], vec![0, 1, 2]]);
    assert_eq!(comment(&mut model, BOB, 0, 3, Some(1)), Answer::Missing);
    assert_eq!(model.act(&Act::DeleteComment(BOB, 0)), Answer::Missing);
    assert_eq!(model.act(&Act::DeleteComment(CEM, 1)), Answer::NotTheirs);
    assert_eq!(model.act(&Act::DeleteComment(ADA, 1)), Answer::Done);
    assert_eq!([ADA, DAN].map(|viewer| comments(&model, viewer, 0)), [vec![0], vec![0]]);
    assert_eq!(model.act(&Act::DeleteComment(CEM, 0)), Answer::Done);
    assert_eq!(comments(&model, ADA, 0), [0; 0]);
}

#[test]
fn a_deleted_post_and_one_that_is_hidden_cannot_be_told_apart() {
    let mut model = friends(&[(ADA, BOB)]);
    post(&mut model, ADA, 0, Audience::All);
    assert_eq!(model.act(&Act::DeletePost(BOB, 0)), Answer::NotTheirs);
    for act in [Act::Like(DAN, 0), Act::Unlike(DAN, 0), Act::DeletePost(DAN, 0)] {
        assert_eq!(model.act(&act), Answer::Missing);
    }
    assert_eq!(comment(&mut model, DAN, 0, 0, None), Answer::Missing);
    assert_eq!(model.act(&Act::DeletePost(ADA, 0)), Answer::Done);
    assert!(shown(&model, ADA).is_empty() && shown(&model, BOB).is_empty());
    assert_eq!(model.act(&Act::Like(ADA, 0)), Answer::Missing);
}

#[test]
fn notices_go_to_the_author_and_to_whoever_took_part_before_and_knows_the_actor() {
    let mut model = friends(&[(ADA, BOB), (ADA, CEM), (ADA, DAN), (BOB, CEM)]);
    model.act(&Act::Post { who: ADA, post: 0, audience: Audience::All, mentions: vec![BOB] });
    model.act(&Act::Like(BOB, 0));
    model.act(&Act::Like(CEM, 0));
    comment(&mut model, DAN, 0, 0, None);
    comment(&mut model, ADA, 0, 1, Some(0));
    let (like, mention) = (NoticeKind::Like, NoticeKind::Mention);
    assert_eq!(told(&model, ADA), [(NoticeKind::Comment, DAN), (like, CEM), (like, BOB)]);
    // Bob does not know Dan, so neither sees what the other did, nor Ada's answer.
    assert_eq!(told(&model, BOB), [(like, CEM), (mention, ADA)]);
    assert_eq!(told(&model, CEM), []);
    assert_eq!(told(&model, DAN), [(NoticeKind::Reply, ADA)]);
    model.act(&Act::Unlike(CEM, 0));
    model.act(&Act::DeleteComment(ADA, 1));
    assert_eq!(told(&model, ADA), [(NoticeKind::Comment, DAN), (like, BOB)]);
    assert_eq!([BOB, DAN].map(|who| told(&model, who)), [vec![(mention, ADA)], vec![]]);
    model.act(&Act::Permit(ADA, BOB, HIDE_MINE));
    assert_eq!(told(&model, BOB), []);
}

#[test]
fn whoever_took_back_their_part_hears_no_more() {
    let mut model = friends(&[(ADA, BOB), (ADA, CEM), (BOB, CEM)]);
    post(&mut model, ADA, 0, Audience::All);
    model.act(&Act::Like(BOB, 0));
    model.act(&Act::Unlike(BOB, 0));
    model.act(&Act::Like(CEM, 0));
    assert_eq!(told(&model, BOB), []);
}
