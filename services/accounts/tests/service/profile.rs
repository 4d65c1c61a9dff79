//! GetMe, UpdateProfile, GetSettings, UpdateSettings.

use plaza_proto::accounts::v1 as proto;
use plaza_proto::common::v1::User;
use tonic::{Code, Status};

use crate::harness::{World, as_caller, mask, why};

async fn me(world: &World, session: &proto::Session) -> User {
    world.accounts().get_me(as_caller(session, proto::GetMeRequest {})).await.expect("me").into_inner().user.expect("a user")
}

async fn settings(world: &World, session: &proto::Session) -> proto::Settings {
    let answer = world.accounts().get_settings(as_caller(session, proto::GetSettingsRequest {})).await;
    answer.expect("settings").into_inner().settings.expect("settings")
}

async fn update(world: &World, session: &proto::Session, request: proto::UpdateProfileRequest) -> Result<User, Status> {
    let answer = world.accounts().update_profile(as_caller(session, request)).await?;
    Ok(answer.into_inner().user.expect("a user"))
}

#[tokio::test]
async fn a_profile_changes_by_its_mask() {
    let world = World::new().await;
    let session = world.register("mei_lin").await;
    let avatar = "0f".repeat(32);
    let all = proto::UpdateProfileRequest {
        display_name: "Mei 美".to_owned(),
        region: Some("Xi'an".to_owned()),
        bio: Some("one\ntwo".to_owned()),
        avatar: Some(avatar.clone()),
        update_mask: mask(&["display_name", "region", "bio", "avatar"]),
    };
    let user = update(&world, &session, all).await.expect("changed");
    assert_eq!((user.display_name.as_str(), user.region.as_deref(), user.bio.as_deref()), ("Mei 美", Some("Xi'an"), Some("one\ntwo")));
    assert_eq!((user.avatar.as_deref(), user.handle.as_str()), (Some(avatar.as_str()), "mei_lin"));
    assert_eq!(me(&world, &session).await, user);
    assert_eq!(world.profile_changes(&session).await, 1);

    world.advance(1);
    let clear =
        proto::UpdateProfileRequest { display_name: "ignored".to_owned(), update_mask: mask(&["region", "bio"]), ..Default::default() };
    let cleared = update(&world, &session, clear.clone()).await.expect("cleared");
    assert_eq!(cleared, User { region: None, bio: None, ..user });
    assert_eq!(world.profile_changes(&session).await, 2);
    assert_eq!(update(&world, &session, clear).await.expect("nothing to do"), cleared);
    assert_eq!(world.profile_changes(&session).await, 2, "nothing changed");
}

#[tokio::test]
async fn a_bad_profile_is_refused_whole_with_every_mistake() {
    let world = World::new().await;
    let session = world.register("mei_lin").await;
    let before = me(&world, &session).await;
    let bad = proto::UpdateProfileRequest {
        display_name: "x".repeat(65),
        region: Some("good".to_owned()),
        bio: Some("a\0b".to_owned()),
        avatar: Some("F".repeat(64)),
        update_mask: mask(&["display_name", "region", "bio", "avatar", "handle"]),
    };
    let refused = update(&world, &session, bad).await.expect_err("four mistakes");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(why(&refused).1, ["display_name", "bio", "avatar", "update_mask.handle"]);
    for update_mask in [None, mask(&[])] {
        let refused =
            update(&world, &session, proto::UpdateProfileRequest { update_mask, ..Default::default() }).await.expect_err("no mask");
        assert_eq!(why(&refused).1, ["update_mask"]);
    }
    assert_eq!(me(&world, &session).await, before);
    assert_eq!(world.profile_changes(&session).await, 0);
}

#[tokio::test]
async fn settings_start_open_and_change_by_their_mask() {
    let world = World::new().await;
    let (one, other) = (world.register("mei_lin").await, world.register("stranger").await);
    let open = proto::Settings { findable_by_handle: true, moments_range: proto::MomentsRange::All.into() };
    assert_eq!(settings(&world, &one).await, open);
    let month = proto::Settings { findable_by_handle: false, moments_range: proto::MomentsRange::OneMonth.into() };
    let changed = world.update_settings(&one, month, &["moments_range"]).await.expect("changed");
    assert_eq!(changed, proto::Settings { findable_by_handle: true, ..month });
    assert_eq!(settings(&world, &one).await, changed);
    assert_eq!(settings(&world, &other).await, open);
    assert_eq!(world.profile_changes(&one).await, 1);
    let unset = proto::Settings { findable_by_handle: false, moments_range: 0 };
    let all = world.update_settings(&one, unset, &["moments_range", "findable_by_handle"]).await.expect("changed");
    assert_eq!(all, proto::Settings { findable_by_handle: false, moments_range: proto::MomentsRange::All.into() });
}

#[tokio::test]
async fn unknown_settings_are_refused() {
    let world = World::new().await;
    let session = world.register("mei_lin").await;
    let before = settings(&world, &session).await;
    let unknown = proto::Settings { findable_by_handle: false, moments_range: 17 };
    let refused = world.update_settings(&session, unknown, &["moments_range", "findable_by_handle", "colour"]).await.expect_err("refused");
    assert_eq!(why(&refused).1, ["settings.moments_range", "update_mask.colour"]);
    let refused = world.update_settings(&session, unknown, &[]).await.expect_err("no mask");
    assert_eq!(why(&refused).1, ["update_mask"]);
    let none = proto::UpdateSettingsRequest { settings: None, update_mask: mask(&["moments_range"]) };
    let refused = world.accounts().update_settings(as_caller(&session, none)).await.expect_err("no settings");
    assert_eq!(why(&refused).1, ["settings"]);
    assert_eq!(settings(&world, &session).await, before);
}
