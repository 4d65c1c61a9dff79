//! A live stream without the client library, so that the floor and ours are driven by the same few instructions.

use anyhow::{Context, bail};
use plaza_proto::{
    chat::v1 as chat,
    gateway::v1::{self as gateway, connect_request, connect_response, gateway_service_client::GatewayServiceClient},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::target::Caller;

/// An open stream.
pub(crate) struct Stream {
    pub(crate) frames: mpsc::Sender<gateway::ConnectRequest>,
    pub(crate) answers: Streaming<gateway::ConnectResponse>,
    peer: String,
}

/// What of an answer is measured.
pub(crate) enum Seen {
    Sent,
    Message,
    Other,
}

impl Stream {
    /// Connects, and reads until everything old has come.
    pub(crate) async fn open(caller: &Caller) -> anyhow::Result<Self> {
        let (frames, queue) = mpsc::channel(64);
        let hello = connect_request::Frame::Hello(gateway::Hello { cursor: 0 });
        frames.send(gateway::ConnectRequest { frame: Some(hello) }).await.context("a new queue")?;
        let request = caller.request(ReceiverStream::new(queue));
        let answers = GatewayServiceClient::new(caller.channel.clone()).connect(request).await?.into_inner();
        let mut stream = Self { frames, answers, peer: caller.peer.clone() };
        let Some(connect_response::Frame::Welcome(welcome)) = stream.frame().await? else { bail!("the first frame is no welcome") };
        let mut cursor = 0;
        while cursor < welcome.head {
            if let Some(connect_response::Frame::Entry(entry)) = stream.frame().await? {
                cursor = entry.cursor;
            }
        }
        Ok(stream)
    }

    /// Sends a text of 100 bytes.
    pub(crate) async fn send(&self) -> anyhow::Result<()> {
        let send = connect_request::Frame::Send(message(&self.peer));
        self.frames.send(gateway::ConnectRequest { frame: Some(send) }).await.context("the stream is closed")
    }

    async fn frame(&mut self) -> anyhow::Result<Option<connect_response::Frame>> {
        Ok(self.answers.message().await?.context("the stream ended")?.frame)
    }

    /// The text of the next message.
    pub(crate) async fn next_text(&mut self) -> anyhow::Result<String> {
        loop {
            if let Some(connect_response::Frame::Entry(chat::Entry { event: Some(chat::entry::Event::Message(message)), .. })) =
                self.frame().await?
                && let Some(chat::content::Kind::Text(text)) = message.content.and_then(|content| content.kind)
            {
                return Ok(text.text);
            }
        }
    }

    /// The next answer.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Seen> {
        Ok(match self.frame().await? {
            Some(connect_response::Frame::Sent(_)) => Seen::Sent,
            Some(connect_response::Frame::Entry(chat::Entry { event: Some(chat::entry::Event::Message(_)), .. })) => Seen::Message,
            Some(connect_response::Frame::Refused(refused)) => bail!("refused: {refused:?}"),
            _ => Seen::Other,
        })
    }
}

/// A message of 100 bytes of text.
pub(crate) fn message(peer: &str) -> chat::SendMessageRequest {
    chat::SendMessageRequest {
        user_id: peer.to_owned(),
        client_message_id: plaza_client::new_id(),
        content: Some(plaza_client::text("0123456789".repeat(10))),
        ..Default::default()
    }
}
