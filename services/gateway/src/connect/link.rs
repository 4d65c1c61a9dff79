//! The streams that carry all devices of this gateway to the owners of their inboxes, one to each chat instance, kept up for as long as the
//! instance is there.

use std::{
    collections::HashMap,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream::FuturesUnordered};
use plaza_proto::chat::v1::{Ask, LinkRequest, live_service_client::LiveServiceClient};
use plaza_rpc::{Peer, values};
use plaza_runtime::{CancellationToken, Rng};
use tokio::{sync::mpsc, time::Instant};
use tonic::Status;

use super::{directory::LinkId, hub::Hub};

// A frame with this many of the largest asks is below the 4 MiB that the other side takes.
const ASKS: usize = 64;
const FRAME_BYTES: usize = 64 << 20;
const LONGEST_PAUSE: u64 = 2_000;

/// Keeps a link to every instance of chat.
pub(crate) async fn keep_all(hub: &Hub, chat: &Peer, rng: &Rng) {
    let mut fleet = chat.fleet();
    let mut kept: HashMap<String, CancellationToken> = HashMap::new();
    let mut links = FuturesUnordered::new();
    loop {
        tokio::select! {
            instances = fleet.next() => {
                kept.retain(|name, gone| {
                    let stays = instances.iter().any(|(known, _)| known == name);
                    if !stays {
                        gone.cancel();
                    }
                    stays
                });
                for (name, instance) in instances {
                    kept.entry(name).or_insert_with(|| {
                        let gone = CancellationToken::new();
                        let until = gone.clone();
                        links.push(async move {
                            until.run_until_cancelled(keep(hub, &instance, rng)).await;
                        });
                        gone
                    });
                }
            }
            Some(()) = links.next() => {}
        }
    }
}

/// Keeps a link up until everybody was sent away and it is lost.
async fn keep(hub: &Hub, chat: &Peer, rng: &Rng) {
    let mut failures = 0u32;
    loop {
        let started = Instant::now();
        let ended = carry(hub, chat).await;
        if hub.is_closing() {
            return;
        }
        // A link that held for a while was good.
        failures = if started.elapsed() > Duration::from_secs(10) { 0 } else { failures.saturating_add(1) };
        let longest = LONGEST_PAUSE.min(25 << failures.min(10));
        let pause = Duration::from_millis(rng.next_u64() % longest);
        let error = ended.err().map_or_else(|| "closed by the other side".to_owned(), |status| status.message().to_owned());
        tracing::warn!(error, pause_ms = pause.as_millis(), "the link to chat is lost");
        tokio::time::sleep(pause).await;
    }
}

async fn carry(hub: &Hub, chat: &Peer) -> Result<(), Status> {
    let (link, asks) = mpsc::unbounded_channel();
    let mut client = LiveServiceClient::new(chat.clone()).max_decoding_message_size(FRAME_BYTES);
    let mut told = values::responded(client.link(values::request(Asks(asks))).await?);
    let link = Link { hub, id: hub.linked(link) };
    while let Some(response) = told.try_next().await? {
        if let Some(owned) = response.owned {
            hub.owned(link.id, &owned);
        }
        for told in response.told {
            hub.told(link.id, told);
        }
    }
    Ok(())
}

/// A link that is up, until it is dropped.
struct Link<'a> {
    hub: &'a Hub,
    id: LinkId,
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        self.hub.unlinked(self.id);
    }
}

/// Asks as frames, as many in one as there are.
struct Asks(mpsc::UnboundedReceiver<Ask>);

impl Stream for Asks {
    type Item = LinkRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LinkRequest>> {
        let mut asks = Vec::new();
        match self.0.poll_recv_many(cx, &mut asks, ASKS) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(0) => Poll::Ready(None),
            Poll::Ready(_) => Poll::Ready(Some(LinkRequest { asks })),
        }
    }
}
