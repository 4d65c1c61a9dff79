//! The live stream goes on where it was, whatever ends a connection, and neither direction waits for the other.

use std::time::Duration;

use plaza_client::{
    Account, Error, Live, LiveEvent, To,
    gateway::{self, connect_request::Frame, connect_response::Frame as Answer},
    text,
};
use tokio::time::timeout;
use tonic::Code;

use crate::server::{Fake, Stream, access, expired, laptop, refused};

const SOON: Duration = Duration::from_secs(20);

async fn live(fake: &mut Fake) -> (Account, Live, Stream) {
    let account = Account::login(&fake.endpoint, "ada_lovelace", "correct horse", &laptop()).await.expect("signed in");
    let live = account.live(0);
    let mut stream = fake.stream().await;
    assert_eq!(stream.hello().await, 0);
    (account, live, stream)
}

async fn cursors(live: &mut Live, count: usize) -> Vec<u64> {
    let mut cursors = Vec::new();
    while cursors.len() < count {
        match timeout(SOON, live.next()).await.expect("an event in time").expect("the stream goes on").expect("no error") {
            LiveEvent::Entry(entry) => cursors.push(entry.cursor),
            LiveEvent::Welcome { .. } => {}
        }
    }
    cursors
}

fn sent(message: &plaza_client::chat::SendMessageRequest, sequence: u64) -> Answer {
    let client_message_id = message.client_message_id.clone();
    Answer::Sent(gateway::Sent { client_message_id, sequence, ..Default::default() })
}

#[tokio::test]
async fn a_stream_outlives_its_token() {
    let mut fake = Fake::start().await;
    let (_account, mut live, stream) = live(&mut fake).await;
    assert_eq!(stream.token, access(0));
    stream.entry(1).await;
    stream.entry(2).await;
    stream.end(expired()).await;

    let mut stream = fake.stream().await;
    assert_eq!((stream.token.clone(), stream.hello().await), (access(1), 2));
    stream.entry(3).await;
    assert_eq!(cursors(&mut live, 3).await, [1, 2, 3]);
    assert_eq!(fake.state.lock().await.refreshes, 1);
}

#[tokio::test]
async fn a_stream_ends_when_the_device_was_signed_out() {
    let mut fake = Fake::start().await;
    let (_account, mut live, stream) = live(&mut fake).await;
    stream.entry(1).await;
    stream.end(refused(Code::Unauthenticated, "TOKEN_REVOKED")).await;
    assert_eq!(cursors(&mut live, 1).await, [1]);
    let Some(Err(Error::SignedOut(reason))) = timeout(SOON, live.next()).await.expect("in time") else { panic!("signed out") };
    assert_eq!(reason, "TOKEN_REVOKED");
    assert!(timeout(SOON, live.next()).await.expect("in time").is_none());
}

#[tokio::test]
async fn who_does_not_read_can_still_send() {
    const ENTRIES: u64 = 2000;
    let mut fake = Fake::start().await;
    let (_account, mut live, mut stream) = live(&mut fake).await;
    let sender = live.sender();
    let (answered, ()) = tokio::join!(timeout(SOON, sender.send(To::User("bob".into()), text("hello"))), async {
        let Some(Frame::Send(message)) = stream.next().await else { panic!("a message") };
        stream.say(sent(&message, 1)).await;
    });
    assert_eq!(answered.expect("in time").expect("sent").sequence, 1);
    let (all_said, said) = tokio::sync::oneshot::channel();
    let talking = async {
        for cursor in 1..=ENTRIES {
            stream.entry(cursor).await;
        }
        all_said.send(()).expect("waited for");
        let mut taken = 0;
        while taken < 600 {
            if let Some(Frame::MarkRead(_)) = stream.next().await {
                taken += 1;
            }
        }
    };
    // More than either direction holds back.
    let marking = async {
        said.await.expect("all is said");
        for sequence in 1..=600 {
            timeout(SOON, sender.mark_read("d-1", sequence)).await.expect("taken though nobody reads").expect("open");
        }
    };
    tokio::join!(talking, marking);
    assert_eq!(cursors(&mut live, 2000).await, (1..=ENTRIES).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_busy_server_is_asked_again_while_entries_go_on() {
    let mut fake = Fake::start().await;
    let (_account, mut live, mut stream) = live(&mut fake).await;
    let sender = live.sender();
    let sending = sender.send(To::User("bob".into()), text("hello"));
    let serving = async {
        let Some(Frame::Send(first)) = stream.next().await else { panic!("a message") };
        stream
            .say(Answer::Refused(gateway::Refused {
                client_message_id: first.client_message_id.clone(),
                code: Code::Unavailable.into(),
                retry_after: Some(prost_types::Duration { seconds: 0, nanos: 900_000_000 }),
                ..Default::default()
            }))
            .await;
        stream.entry(1).await;
        let came = timeout(Duration::from_millis(800), cursors(&mut live, 1)).await;
        assert_eq!(came.expect("entries do not wait for the server to be less busy"), [1]);
        let Some(Frame::Send(again)) = stream.next().await else { panic!("the message again") };
        assert_eq!(again, first);
        stream.say(sent(&again, 7)).await;
    };
    let (answer, ()) = tokio::join!(timeout(SOON, sending), serving);
    assert_eq!(answer.expect("in time").expect("sent").sequence, 7);
}

#[tokio::test]
async fn what_was_in_flight_is_sent_again_with_its_id() {
    let mut fake = Fake::start().await;
    let (_account, live, mut stream) = live(&mut fake).await;
    let sender = live.sender();
    let sending = sender.send(To::User("bob".into()), text("hello"));
    let serving = async {
        let Some(Frame::Send(first)) = stream.next().await else { panic!("a message") };
        drop(stream);
        let mut stream = fake.stream().await;
        stream.hello().await;
        let Some(Frame::Send(again)) = stream.next().await else { panic!("the message again") };
        assert_eq!(again, first);
        stream.say(sent(&again, 3)).await;
    };
    let (answer, ()) = tokio::join!(timeout(SOON, sending), serving);
    assert_eq!(answer.expect("in time").expect("sent").sequence, 3);
}
