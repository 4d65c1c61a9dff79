//! Live streams that send garbage, or nothing, or not in the order they must.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use plaza_client::{
    chat,
    gateway::{ConnectRequest, ConnectResponse, Hello, Ping, connect_request::Frame, connect_response::Frame as Answer},
    new_id, text,
};
use plaza_testkit::{
    people::{SOON, befriend},
    raw,
};
use prost::Message;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::{TEXT, World, refused, seen};

const CONNECT: &str = "/plaza.gateway.v1.GatewayService/Connect";

fn frame(frame: Frame) -> Bytes {
    ConnectRequest { frame: Some(frame) }.encode_to_vec().into()
}

fn hello() -> Bytes {
    frame(Frame::Hello(Hello { cursor: 0 }))
}

/// Sends these frames and then nothing; answers what came up to `most` answers or the end, and the end.
async fn talk(world: &World, frames: Vec<Bytes>, most: usize) -> anyhow::Result<(Vec<Answer>, Option<Status>)> {
    let request = raw::request(stream::iter(frames).chain(stream::pending()), Some(&world.token))?;
    let talk = async {
        let mut answers = Vec::new();
        let mut received = match world.connection.streaming(CONNECT, request).await {
            Ok(received) => received,
            Err(status) => return Ok((answers, Some(status))),
        };
        while answers.len() < most {
            match received.message().await {
                Ok(Some(answer)) => {
                    let answer = ConnectResponse::decode(answer)?.frame;
                    answers.extend(answer.filter(|answer| !matches!(answer, Answer::Welcome(_) | Answer::Entry(_))));
                }
                Ok(None) => break,
                Err(status) => return Ok((answers, Some(status))),
            }
        }
        Ok((answers, None))
    };
    timeout(SOON, talk).await.map_err(|_| anyhow::anyhow!("neither {most} answers nor the end came"))?
}

#[tokio::test]
async fn a_stream_that_does_not_keep_to_the_order_ends() -> anyhow::Result<()> {
    let world = World::new().await?;
    let bob = world.newcomer("bob").await?;
    let conversation_id = befriend(&world.ada, &bob).await?;
    let before = (seen(&world.ada).await?, seen(&bob).await?);
    let send = chat::SendMessageRequest { conversation_id, client_message_id: new_id(), content: Some(text(TEXT)), ..Default::default() };
    let send = || frame(Frame::Send(send.clone()));
    let unknown_kind = Bytes::from_static(b"\xfa\x01\x02\x08\x01");
    let cases: Vec<(&str, Vec<Bytes>)> = vec![
        ("garbage", vec![Bytes::from_static(&[0xff; 16])]),
        ("garbage after hello", vec![hello(), Bytes::from_static(&[0xff; 16])]),
        ("a send before hello", vec![send()]),
        ("a ping before hello", vec![frame(Frame::Ping(Ping { nonce: 1 }))]),
        ("hello twice", vec![hello(), hello()]),
        ("no frame", vec![Bytes::new()]),
        ("a frame of a kind that does not exist", vec![hello(), unknown_kind]),
        ("nothing", vec![]),
    ];
    for (what, frames) in cases {
        let (_, end) = talk(&world, frames, usize::MAX).await.map_err(|error| error.context(what.to_owned()))?;
        let end = end.map_or(Ok(()), Err);
        refused(end, Code::InvalidArgument, "STREAM_PROTOCOL", what)?;
    }
    let (_, end) = talk(&world, vec![hello(), Bytes::from(vec![0; 100 << 10])], usize::MAX).await?;
    refused(end.map_or(Ok(()), Err), Code::ResourceExhausted, "TOO_LARGE", "a frame of 100 KiB")?;
    assert_eq!((seen(&world.ada).await?, seen(&bob).await?), before);

    let no_token = raw::request(stream::pending(), None)?;
    let answer = world.connection.streaming(CONNECT, no_token).await.map(drop);
    refused(answer, Code::Unauthenticated, "TOKEN_MISSING", "no token")?;
    let mut late = raw::request(stream::iter([hello()]).chain(stream::pending()), Some(&world.token))?;
    late.set_timeout(Duration::ZERO);
    let answer = world.connection.streaming(CONNECT, late).await.map(drop);
    refused(answer, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "a deadline already past")?;
    world.close(&[&bob]).await
}

#[tokio::test]
async fn a_frame_that_asks_for_what_must_not_be_is_refused_and_the_stream_goes_on() -> anyhow::Result<()> {
    let world = World::new().await?;
    let bob = world.newcomer("bob").await?;
    let before = seen(&bob).await?;
    let to_stranger = chat::SendMessageRequest {
        user_id: bob.user_id().into(),
        client_message_id: new_id(),
        content: Some(text(TEXT)),
        ..Default::default()
    };
    let malformed = chat::SendMessageRequest { client_message_id: "no id".into(), ..to_stranger.clone() };
    let nothing = chat::SendMessageRequest::default();
    let mark = chat::MarkReadRequest { conversation_id: "nonsense".into(), sequence: 1, request_id: new_id() };
    let not_mine = chat::MarkReadRequest {
        conversation_id: plaza_types::ConversationId::direct(bob.user_id().parse()?, bob.user_id().parse()?).to_string(),
        ..mark.clone()
    };
    // A text that is not UTF-8, inside a frame that is well formed.
    let no_text = Bytes::from_static(b"\x12\x04\x0a\x02\xff\xfe");
    let frames = vec![
        hello(),
        frame(Frame::Send(to_stranger)),
        frame(Frame::Send(malformed)),
        frame(Frame::Send(nothing)),
        frame(Frame::MarkRead(mark)),
        frame(Frame::MarkRead(not_mine)),
        frame(Frame::Ping(Ping { nonce: 7 })),
        no_text,
    ];
    let asked = frames.len() - 1;
    let (answers, end) = talk(&world, frames, asked).await?;
    let mut reasons: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Answer::Refused(refused) => refused.reason.clone(),
            other => format!("{other:?}"),
        })
        .collect();
    reasons.sort_unstable();
    let invalid = "INVALID_ARGUMENT";
    assert_eq!(reasons, [invalid, invalid, invalid, invalid, "NOT_A_CONTACT", "NOT_FOUND", "Pong(Pong { nonce: 7 })"]);
    assert!(end.is_none(), "the stream ended: {end:?}");
    assert_eq!(seen(&bob).await?, before);
    world.close(&[&bob]).await
}
