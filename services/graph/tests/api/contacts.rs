//! The list of contacts and what its owner keeps about each, blocks, and what other services are told.

use plaza_proto::graph::v1::{
    BlockRequest, Contact, GetRelationsRequest, GetStancesRequest, ListBlockedRequest, ListContactsRequest, ListFriendRequestsRequest,
    ListListedRequest, ListTagsRequest, Permissions, RemoveContactRequest, RequestBox, UnblockRequest, UpdateContactRequest,
    relations_service_client::RelationsServiceClient,
};
use prost_types::FieldMask;
use tonic::{Code, Status};

use crate::world::{Person, World, get_contact, refusal, why};

async fn update(one: &Person, request: UpdateContactRequest, paths: &[&str]) -> Result<Contact, Status> {
    let update_mask = Some(FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
    let request = UpdateContactRequest { update_mask, ..request };
    Ok(one.graph.clone().update_contact(one.identity.request(request)).await?.into_inner().contact.expect("a contact"))
}

fn about(person: &Person) -> UpdateContactRequest {
    UpdateContactRequest {
        user_id: person.id.clone(),
        remark: "Bobby".to_owned(),
        tags: vec!["choir".to_owned(), "école".to_owned()],
        starred: true,
        permissions: Some(Permissions { chat_only: true, hide_my_moments: true, hide_their_moments: true }),
        ..UpdateContactRequest::default()
    }
}

#[tokio::test]
async fn the_named_fields_change_and_no_others() {
    let world = World::new().await;
    let (ann, bob, cem) = (world.person(), world.person(), world.person());
    world.befriend(&ann, &bob).await;
    let before = get_contact(&ann, &bob).await.expect("listed");
    let changed = update(&ann, about(&bob), &["remark", "permissions.hide_my_moments"]).await.expect("changed");
    let permissions = Permissions { hide_my_moments: true, ..Permissions::default() };
    assert_eq!(changed, Contact { remark: "Bobby".to_owned(), permissions: Some(permissions), ..before });
    let all = update(&ann, about(&bob), &["tags", "starred", "permissions"]).await.expect("changed");
    assert_eq!((all.remark.as_str(), all.tags.len(), all.starred), ("Bobby", 2, true));
    assert_eq!(all.permissions, about(&bob).permissions);
    assert_eq!(get_contact(&ann, &bob).await.expect("listed"), all);
    let other_side = get_contact(&bob, &ann).await.expect("listed");
    assert_eq!((other_side.remark.as_str(), other_side.starred), ("", false), "what one keeps about another is one's own");
    let none =
        update(&ann, UpdateContactRequest { user_id: bob.id.clone(), ..Default::default() }, &["tags", "remark"]).await.expect("emptied");
    assert!(none.tags.is_empty() && none.remark.is_empty() && none.starred);

    assert_eq!(why(update(&ann, about(&cem), &["starred"]).await), refusal(Code::NotFound, "NOT_FOUND"));
    assert_eq!(why(update(&ann, about(&ann), &["starred"]).await), refusal(Code::InvalidArgument, "YOURSELF"));
}

#[tokio::test]
async fn two_hundred_different_tags() {
    let world = World::new().await;
    let ann = world.person();
    let mut friends = Vec::new();
    for _ in 0..11 {
        let friend = world.person();
        world.befriend(&friend, &ann).await;
        friends.push(friend);
    }
    let tagged = |number: usize| UpdateContactRequest {
        tags: (number * 20..number * 20 + 20).map(|tag| format!("tag {tag}")).collect(),
        ..about(&friends[number])
    };
    for number in 0..10 {
        update(&ann, tagged(number), &["tags"]).await.expect("tagged");
    }
    assert_eq!(why(update(&ann, tagged(10), &["tags"]).await), refusal(Code::ResourceExhausted, "QUOTA_EXCEEDED"));
    assert!(get_contact(&ann, &friends[10]).await.expect("listed").tags.is_empty());
}

#[tokio::test]
async fn lists_go_on_where_they_stopped() {
    let world = World::new().await;
    let ann = world.person();
    let mut friends = Vec::new();
    for _ in 0..7 {
        let friend = world.person();
        world.befriend(&friend, &ann).await;
        let request = BlockRequest { user_id: friend.id.clone(), request_id: world.request_id() };
        ann.graph.clone().block(ann.identity.request(request)).await.expect("blocked");
        friends.push(friend.id);
    }
    friends.sort();
    let (mut contacts, mut blocked, mut received) = (Vec::new(), Vec::new(), Vec::new());
    let mut page_token = String::new();
    loop {
        let request = ListContactsRequest { page_size: 3, page_token };
        let page = ann.graph.clone().list_contacts(ann.identity.request(request)).await.expect("a page").into_inner();
        contacts.extend(page.contacts.into_iter().map(|contact| contact.user_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(contacts, friends, "a block does not remove");
    loop {
        let request = ListBlockedRequest { page_size: 7, page_token };
        let page = ann.graph.clone().list_blocked(ann.identity.request(request)).await.expect("a page").into_inner();
        blocked.extend(page.user_ids);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(blocked, friends);
    loop {
        let request = ListFriendRequestsRequest { r#box: RequestBox::Received.into(), page_size: 2, page_token };
        let page = ann.graph.clone().list_friend_requests(ann.identity.request(request)).await.expect("a page").into_inner();
        assert!(page.requests.len() <= 2);
        received.extend(page.requests);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(received.len(), 7);
    assert!(received.is_sorted_by_key(|request| std::cmp::Reverse(request.created.map(|time| (time.seconds, time.nanos)))));
}

#[tokio::test]
async fn blocks_are_a_list_of_their_own() {
    let world = World::new().await;
    let (ann, bob) = (world.person(), world.person());
    let block = |id: &str| ann.identity.request(BlockRequest { user_id: id.to_owned(), request_id: String::new() });
    let blocked = async || {
        ann.graph.clone().list_blocked(ann.identity.request(ListBlockedRequest::default())).await.expect("a list").into_inner().user_ids
    };
    for _ in 0..2 {
        ann.graph.clone().block(block(&bob.id)).await.expect("blocked");
        assert_eq!(blocked().await, std::slice::from_ref(&bob.id));
    }
    assert_eq!(why(ann.graph.clone().block(block(&ann.id)).await), refusal(Code::InvalidArgument, "YOURSELF"));
    assert_eq!(why(get_contact(&ann, &bob).await), refusal(Code::NotFound, "NOT_FOUND"));
    for _ in 0..2 {
        let request = UnblockRequest { user_id: bob.id.clone(), request_id: String::new() };
        ann.graph.clone().unblock(ann.identity.request(request)).await.expect("unblocked");
        assert!(blocked().await.is_empty());
    }
    let request = RemoveContactRequest { user_id: bob.id.clone(), request_id: String::new() };
    assert_eq!(why(ann.graph.clone().remove_contact(ann.identity.request(request)).await), refusal(Code::NotFound, "NOT_FOUND"));
}

#[tokio::test]
async fn other_services_are_told_how_people_stand() {
    let world = World::new().await;
    let (ann, bob, cem, dee) = (world.person(), world.person(), world.person(), world.stranger());
    world.befriend(&ann, &bob).await;
    let request = BlockRequest { user_id: ann.id.clone(), request_id: String::new() };
    bob.graph.clone().block(bob.identity.request(request)).await.expect("blocked");
    world.ask(&cem, &ann).await.expect("asked");
    world.received(&ann, &cem).await;
    let mut relations = RelationsServiceClient::new(world.peer.clone());
    let request = GetRelationsRequest { user_id: ann.id.clone(), other_ids: vec![bob.id.clone(), cem.id.clone(), dee.id.clone()] };
    let found = relations.get_relations(request).await.expect("relations").into_inner().relations;
    assert_eq!(found.iter().map(|relation| relation.user_id.as_str()).collect::<Vec<_>>(), [&bob.id, &cem.id, &dee.id]);
    let flags: Vec<_> = found.iter().map(|it| (it.lists, it.listed_by, it.blocks, it.blocked_by, it.requested)).collect();
    assert_eq!(flags, [(true, true, false, true, false), (false, false, false, false, true), (false, false, false, false, false)]);
}

#[tokio::test]
async fn moments_is_told_how_two_stand_to_each_other_whom_one_lists_and_the_tags() {
    let world = World::new().await;
    let (ada, bob, cyd) = (world.person(), world.person(), world.person());
    world.befriend(&ada, &bob).await;
    world.befriend(&ada, &cyd).await;
    update(&ada, about(&bob), &["tags", "permissions"]).await.expect("changed");
    bob.graph.clone().block(bob.identity.request(BlockRequest { user_id: ada.id.clone(), ..Default::default() })).await.expect("blocked");
    let mut relations = RelationsServiceClient::new(world.peer.clone());
    let ask = GetStancesRequest { user_id: ada.id.clone(), other_ids: vec![cyd.id.clone(), bob.id.clone()] };
    let answer = relations.get_stances(ask).await.expect("stances").into_inner();
    let (own, theirs) = (&answer.own[1], &answer.theirs[1]);
    assert_eq!((own.lists, own.blocks, theirs.lists, theirs.blocks), (true, false, true, true));
    assert_eq!((own.tags.as_slice(), own.permissions), (about(&bob).tags.as_slice(), about(&bob).permissions));
    assert!(theirs.tags.is_empty() && theirs.permissions == Some(Permissions::default()) && theirs.version > 0 && own.version > 0);
    assert!(answer.own[0].lists && answer.theirs[0].lists && answer.own[0].tags.is_empty());
    let mut listed = vec![bob.id.clone(), cyd.id.clone()];
    listed.sort();
    let mut list = async |after: &str| {
        let request = ListListedRequest { user_id: ada.id.clone(), after: after.to_owned() };
        relations.list_listed(request).await.expect("a list").into_inner().user_ids
    };
    assert_eq!((list("").await, list(&listed[0]).await), (listed.clone(), listed[1..].to_vec()));
    let tags = relations.list_tags(ListTagsRequest { user_id: ada.id.clone() }).await.expect("tags").into_inner().tags;
    assert_eq!(tags, about(&bob).tags);
    let many = GetStancesRequest { user_id: ada.id.clone(), other_ids: vec![bob.id.clone(); 201] };
    assert_eq!(why(relations.get_stances(many).await), refusal(Code::InvalidArgument, "INVALID_ARGUMENT"));
}
