//! GetUsers, FindByHandle, Lookup: who may see whom.

use std::sync::atomic::Ordering;

use plaza_proto::{accounts::v1 as proto, common::v1::User, graph::v1::Relation};
use tonic::{Code, Status};

use crate::harness::{World, as_caller, reason, user_id, why};

async fn find(world: &World, caller: &proto::Session, handle: &str) -> Result<User, Status> {
    let request = proto::FindByHandleRequest { handle: handle.to_owned() };
    let answer = world.accounts().find_by_handle(as_caller(caller, request)).await?;
    Ok(answer.into_inner().user.expect("a user"))
}

async fn get(world: &World, caller: &proto::Session, ids: &[String]) -> Result<Vec<User>, Status> {
    let request = proto::GetUsersRequest { user_ids: ids.to_vec() };
    Ok(world.accounts().get_users(as_caller(caller, request)).await?.into_inner().users)
}

#[tokio::test]
async fn who_is_seen_follows_from_settings_and_relations() {
    let relation = |lists, blocked_by, requested| Relation { lists, blocked_by, requested, ..Relation::default() };
    // Findable, how the caller stands to them, whether the caller sees them.
    let table = [
        (true, relation(false, false, false), true),
        (true, relation(false, true, false), false),
        (false, relation(false, false, false), false),
        (false, relation(false, true, false), false),
        (false, relation(true, false, false), true),
        (false, relation(true, true, false), true),
        (false, relation(false, false, true), true),
        (true, Relation { listed_by: true, blocked_by: true, ..Relation::default() }, false),
        (false, Relation { listed_by: true, ..Relation::default() }, false),
        (true, Relation { blocks: true, ..Relation::default() }, true),
    ];
    let world = World::new().await;
    let caller = world.register("the_caller").await;
    let (mut ids, mut expected) = (Vec::new(), Vec::new());
    for (number, (findable, relation, seen)) in table.into_iter().enumerate() {
        let handle = format!("person_{number}");
        let person = world.register(&handle).await;
        if !findable {
            world.hide(&person).await;
        }
        world.graph.set(&caller, &person, relation);
        assert_eq!(find(&world, &caller, &handle).await.is_ok(), seen, "{handle}");
        ids.push(user_id(&person).to_string());
        expected.extend(seen.then_some(handle));
    }
    let asked = world.graph.asked.load(Ordering::SeqCst);
    let users = get(&world, &caller, &ids).await.expect("users");
    assert_eq!(users.iter().map(|user| user.handle.clone()).collect::<Vec<_>>(), expected, "in the order asked");
    assert_eq!(world.graph.asked.load(Ordering::SeqCst), asked + 1, "all of them in one question");
    ids.reverse();
    let reversed = get(&world, &caller, &ids).await.expect("users");
    assert_eq!(reversed.into_iter().rev().collect::<Vec<_>>(), users);
}

#[tokio::test]
async fn everybody_sees_themself() {
    let world = World::new().await;
    let caller = world.register("the_caller").await;
    world.hide(&caller).await;
    assert_eq!(find(&world, &caller, "THE_caller").await.expect("me"), caller.user.clone().expect("me"));
    let id = user_id(&caller).to_string();
    let users = get(&world, &caller, &[id.clone(), "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(), id]).await.expect("users");
    assert_eq!(users, [caller.user.expect("me")], "once, and nobody who does not exist");
    assert_eq!(get(&world, &world.register("somebody").await, &[]).await.expect("nobody asked for"), []);
}

#[tokio::test]
async fn unknown_hidden_and_blocking_people_cannot_be_told_apart() {
    let world = World::new().await;
    let caller = world.register("the_caller").await;
    let (hidden, blocking) = (world.register("hidden_one").await, world.register("blocking").await);
    world.hide(&hidden).await;
    world.graph.set(&caller, &blocking, Relation { blocked_by: true, ..Relation::default() });
    let mut seen = Vec::new();
    for handle in ["nobody_", "hidden_one", "blocking"] {
        let asked = world.graph.asked.load(Ordering::SeqCst);
        let refused = find(&world, &caller, handle).await.expect_err("not seen");
        assert_eq!(refused.code(), Code::NotFound);
        assert_eq!(world.graph.asked.load(Ordering::SeqCst), asked + 1, "the same work for each");
        seen.push((refused.message().to_owned(), refused.details().to_vec(), refused.metadata().clone().into_headers()));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn without_graph_nobody_is_shown() {
    let world = World::new().await;
    let (caller, person) = (world.register("the_caller").await, world.register("person").await);
    world.graph.down.store(true, Ordering::SeqCst);
    let refused = find(&world, &caller, "person").await.expect_err("graph is down");
    assert_eq!((refused.code(), why(&refused).0.as_str()), (Code::Unavailable, "UNAVAILABLE"));
    assert_eq!(reason(get(&world, &caller, &[user_id(&person).to_string()]).await), "UNAVAILABLE");
}

#[tokio::test]
async fn malformed_ids_and_handles_are_named() {
    let world = World::new().await;
    let caller = world.register("the_caller").await;
    let id = user_id(&caller).to_string();
    let refused = get(&world, &caller, &[id.clone(), "x".to_owned(), id.to_uppercase()]).await.expect_err("two are malformed");
    assert_eq!(why(&refused).1, ["user_ids[1]", "user_ids[2]"]);
    let refused = get(&world, &caller, &vec![id; 101]).await.expect_err("too many");
    assert_eq!(why(&refused).1, ["user_ids"]);
    for bad in ["", "short", "no spaces", "naïve_one"] {
        assert_eq!(why(&find(&world, &caller, bad).await.expect_err("malformed")).1, ["handle"]);
    }
}

#[tokio::test]
async fn other_services_learn_who_exists() {
    let world = World::new().await;
    let (open, hidden) = (world.register("open_one").await, world.register("hidden_one").await);
    world.hide(&hidden).await;
    let ids = [user_id(&hidden).to_string(), "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(), user_id(&open).to_string()];
    let known = world.directory().lookup(proto::LookupRequest { user_ids: ids.to_vec() }).await.expect("known").into_inner().known;
    let known: Vec<_> = known.into_iter().map(|known| (known.user_id, known.findable)).collect();
    assert_eq!(known, [(ids[0].clone(), false), (ids[2].clone(), true)]);
    let refused = world.directory().lookup(proto::LookupRequest { user_ids: vec!["x".to_owned()] }).await.expect_err("malformed");
    assert_eq!(why(&refused).1, ["user_ids[0]"]);
    let refused = world.directory().lookup(proto::LookupRequest { user_ids: vec![ids[0].clone(); 201] }).await.expect_err("too many");
    assert_eq!(why(&refused).1, ["user_ids"]);
}
