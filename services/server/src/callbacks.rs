//! Answers to calls that wait in other processes: one stream to each, opened when the first answer goes there. An answer that is lost on the
//! way costs its caller a second try, which gets the recorded outcome; so nothing here waits for anybody or tries again.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use plaza_processor::{Outcome, Outlet, Replies, ReplyTo};
use plaza_proto::internal::v1::{
    DeliverRequest, DeliverResponse, Reply, callback_service_client::CallbackServiceClient, callback_service_server::CallbackService,
};
use plaza_rpc::remote::Dialer;
use plaza_runtime::{CancellationToken, Stage, Supervisor};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

/// Answers that wait for a process's stream; more are dropped.
const WAITING: usize = 16_384;
/// Answers in one message.
const TOGETHER: usize = 512;

/// The ways to other processes.
pub(crate) struct Callbacks {
    dialer: Dialer,
    supervisor: Supervisor,
    ways: Mutex<HashMap<SocketAddr, mpsc::Sender<Reply>>>,
}

impl Callbacks {
    pub(crate) fn new(dialer: Dialer, supervisor: Supervisor) -> Arc<Self> {
        Arc::new(Self { dialer, supervisor, ways: Mutex::default() })
    }

    fn open(&self, address: SocketAddr) -> mpsc::Sender<Reply> {
        let (way, replies) = mpsc::channel(WAITING);
        let dialer = self.dialer.clone();
        // The last answers are given when the consumers have ended.
        let stop = self.supervisor.stopping(Stage::Producers);
        self.supervisor.spawn("callbacks", Stage::Producers, async move {
            if let Err(error) = carry(address, &dialer, replies, stop).await {
                tracing::debug!(error = &*error, %address, "answers to a process are lost");
            }
            Ok(())
        });
        way
    }
}

async fn carry(
    address: SocketAddr,
    dialer: &Dialer,
    replies: mpsc::Receiver<Reply>,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let batches = futures::stream::unfold((replies, stop), |(mut replies, stop)| async move {
        let mut batch = Vec::new();
        let got = stop.run_until_cancelled(replies.recv_many(&mut batch, TOGETHER)).await;
        if got.is_none() {
            replies.close();
            replies.recv_many(&mut batch, TOGETHER).await;
        }
        (!batch.is_empty()).then_some((DeliverRequest { replies: batch }, (replies, stop)))
    });
    CallbackServiceClient::new(dialer.connect(address).await?).deliver(batches).await?;
    Ok(())
}

impl Outlet for Callbacks {
    fn send(&self, address: SocketAddr, to: ReplyTo, outcome: Outcome) {
        let reply = Reply { instance: to.instance, call: to.call, outcome: outcome.encode_to_vec() };
        let mut ways = self.ways.lock();
        let way = ways.entry(address).or_insert_with(|| self.open(address));
        match way.try_send(reply) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => tracing::warn!(%address, "a process does not take its answers, one is dropped"),
            Err(mpsc::error::TrySendError::Closed(reply)) => {
                *way = self.open(address);
                // A new one has room.
                let _ = way.try_send(reply);
            }
        }
    }
}

/// The receiving side.
pub(crate) struct Receiver(pub(crate) Arc<Replies>);

#[tonic::async_trait]
impl CallbackService for Receiver {
    async fn deliver(&self, request: Request<Streaming<DeliverRequest>>) -> Result<Response<DeliverResponse>, Status> {
        let mut batches = request.into_inner();
        while let Some(DeliverRequest { replies }) = batches.message().await? {
            for Reply { instance, call, outcome } in replies {
                let outcome = Outcome::decode(&*outcome).map_err(|_| Status::invalid_argument("not an encoded outcome"))?;
                self.0.deliver_here(ReplyTo::new(instance, call, None), outcome);
            }
        }
        Ok(Response::new(DeliverResponse {}))
    }
}
