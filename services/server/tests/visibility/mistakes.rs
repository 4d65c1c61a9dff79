//! Every mistake that a system could make is made by a made-up one, and one of the first histories shows it.

use crate::{
    check::{Difference, Player},
    fake::{Fake, Mistake},
    history::{History, shorten},
    step::Step,
    system::{Refusal, System},
};

/// Histories in which each mistake shows.
const HISTORIES: u64 = 2_000;

async fn play(history: &History, mistake: Mistake) -> Result<(), Difference> {
    let mut player = Player::new(Fake::new(history.people, mistake), history);
    for step in &history.steps {
        if let Step::Wait(hours) = step {
            player.system.wait(*hours);
        }
        player.step(step).await?;
    }
    player.everybody().await
}

/// Plays it unwatched, and sees only what a few more changes do.
async fn change(history: &History, mistake: Mistake) -> Result<(), Difference> {
    let mut player = Player::new(Fake::new(history.people, mistake), history);
    for step in &history.steps {
        let (Step::Do(act) | Step::While { act, .. }) = step else { continue };
        if player.model.can(act) {
            player.model.act(act);
            // Refusals are as they may be.
            let _: Result<_, Refusal> = player.system.act(act).await;
        }
    }
    player.changes(history.seed).await
}

fn changes_show(mistake: Mistake) {
    futures::executor::block_on(async {
        for seed in 0..HISTORIES {
            if let Err(difference) = change(&History::of(seed), mistake).await {
                println!("{mistake:?}: history {seed}: {difference}");
                return;
            }
        }
        panic!("{mistake:?} is not caught by changes after {HISTORIES} histories");
    });
}

fn is_caught(mistake: Mistake) {
    futures::executor::block_on(async {
        for seed in 0..HISTORIES {
            let history = History::of(seed);
            let Err(difference) = play(&history, mistake).await else { continue };
            let short = shorten(&history, async |shorter| play(shorter, mistake).await.is_err()).await;
            println!("{mistake:?}: {} steps of {}: {short}{difference}", short.steps.len(), history.steps.len());
            assert!(short.steps.len() <= 12, "{mistake:?} is shown by {} steps", short.steps.len());
            return;
        }
        panic!("{mistake:?} is not caught by {HISTORIES} histories");
    });
}

#[test]
fn a_system_without_a_mistake_is_not_accused() {
    futures::executor::block_on(async {
        for seed in 0..HISTORIES {
            let history = History::of(seed);
            assert_eq!(play(&history, Mistake::None).await, Ok(()), "seed {seed}");
            if seed.is_multiple_of(8) {
                assert_eq!(change(&history, Mistake::None).await, Ok(()), "seed {seed}");
            }
        }
    });
}

macro_rules! changes_show {
    ($($test:ident = $mistake:ident;)*) => {
        $(#[test]
        fn $test() {
            changes_show(Mistake::$mistake);
        })*
    };
}

changes_show! {
    changes_show_blocks_ignored = BlocksIgnored;
    changes_show_one_sided_friendship = OneSidedFriendship;
    changes_show_chat_only_one_way = ChatOnlyHidesOneWay;
    changes_show_hide_mine_ignored = HideMineIgnored;
    changes_show_hide_theirs_on_profile = HideTheirsOnlyInTimeline;
    changes_show_counts_of_all = CountOfAllLikes;
    changes_show_what_an_author_sees = AuthorSeesEverybody;
    changes_show_answers_left_alone = AnswersWithoutTheirComment;
    changes_show_answers_checked_one_deep = AnswersCheckedOneDeep;
    changes_show_notices_of_hidden_posts = NoticeOfHiddenPost;
    changes_show_notices_of_strangers = NoticeOfStrangers;
    changes_show_erased_likes = PartingErasesLikes;
    changes_show_lost_posts = NothingBeforeFriendship;
    changes_show_late_edges = EdgesOneReadLate;
}

macro_rules! caught {
    ($($test:ident = $mistake:ident;)*) => {
        $(#[test]
        fn $test() {
            is_caught(Mistake::$mistake);
        })*
    };
}

caught! {
    blocks_ignored = BlocksIgnored;
    block_hides_one_way = BlockHidesOneWay;
    one_sided_friendship = OneSidedFriendship;
    chat_only_hides_one_way = ChatOnlyHidesOneWay;
    hide_mine_ignored = HideMineIgnored;
    hide_theirs_ignored = HideTheirsIgnored;
    hide_theirs_only_in_timeline = HideTheirsOnlyInTimeline;
    range_ignored = RangeIgnored;
    range_hides_own_posts = RangeHidesOwnPosts;
    range_of_the_viewer = RangeOfTheViewer;
    range_only_on_profile = RangeOnlyOnProfile;
    month_of_thirty_one_days = MonthOfThirtyOneDays;
    tags_as_they_were = TagsAsTheyWere;
    tags_of_except_ignored = TagsOfExceptIgnored;
    only_for_all_friends = OnlyForAllFriends;
    private_for_tagged = PrivateForTagged;
    deleted_on_profile = DeletedOnProfile;
    count_of_all_likes = CountOfAllLikes;
    count_of_all_comments = CountOfAllComments;
    author_sees_everybody = AuthorSeesEverybody;
    chat_only_hides_comments = ChatOnlyHidesComments;
    likes_of_others_unfiltered = LikesOfOthersUnfiltered;
    answers_without_their_comment = AnswersWithoutTheirComment;
    answers_to_deleted = AnswersToDeleted;
    answers_checked_one_deep = AnswersCheckedOneDeep;
    notice_of_like_taken_back = NoticeOfLikeTakenBack;
    notice_of_hidden_post = NoticeOfHiddenPost;
    notice_of_strangers = NoticeOfStrangers;
    notice_of_own_acts = NoticeOfOwnActs;
    notice_of_earlier_likes = NoticeOfEarlierLikes;
    notice_of_reply_as_comment = NoticeOfReplyAsComment;
    hints_unfiltered = HintsUnfiltered;
    mention_not_told = MentionNotTold;
    parting_erases_likes = PartingErasesLikes;
    nothing_before_friendship = NothingBeforeFriendship;
    edges_one_read_late = EdgesOneReadLate;
    hidden_is_forbidden = HiddenIsForbidden;
    hidden_is_worded = HiddenIsWorded;
    like_of_hidden_counts = LikeOfHiddenCounts;
    answer_to_hidden_accepted = AnswerToHiddenAccepted;
    pages_by_number = PagesByNumber;
    page_repeats_its_last = PageRepeatsItsLast;
    end_not_said = EndNotSaid;
    audience_shown = AudienceShown;
    liked_by_somebody = LikedBySomebody;
    oldest_first = OldestFirst;
}
