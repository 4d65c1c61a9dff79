//! The live stream: one task that connects, says hello with the last cursor, hands entries on, sends and sends again, and starts over when
//! the connection is lost. Entries reach the caller once and in order, whatever happens in between.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use plaza_proto::{
    chat::v1 as chat,
    gateway::v1::{self as gateway, connect_request, connect_response, gateway_service_client::GatewayServiceClient},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, service::interceptor::InterceptedService, transport::Channel};

use crate::{
    Account, Error, To,
    account::{Authorized, message},
    error::expired,
};

/// What the stream tells.
#[derive(Debug, Clone)]
pub enum LiveEvent {
    /// Connected, or connected again; the newest cursor there is.
    Welcome {
        /// The newest cursor.
        head: u64,
    },
    /// The next inbox entry.
    Entry(Box<chat::Entry>),
}

/// An open live stream. Dropping it closes the connection; the cursor to go on with is that of the last entry taken.
pub struct Live {
    events: mpsc::Receiver<Result<LiveEvent, Error>>,
    sender: Sender,
    task: JoinHandle<()>,
}

/// The sending side of a live stream; cheap to clone.
#[derive(Clone)]
pub struct Sender {
    commands: mpsc::Sender<Command>,
}

enum Command {
    Send(Box<chat::SendMessageRequest>, oneshot::Sender<Result<gateway::Sent, Error>>),
    MarkRead(chat::MarkReadRequest),
}

type Pending = HashMap<String, (chat::SendMessageRequest, oneshot::Sender<Result<gateway::Sent, Error>>)>;

/// Entries and frames that wait in each direction; beyond it the connection is not read.
const WAITING: usize = 256;
/// A busy server is asked again after this time at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Live {
    #[expect(clippy::disallowed_methods, reason = "the library's one task; it ends with the handle")]
    pub(crate) fn open(account: Account, cursor: u64) -> Self {
        let (commands, incoming) = mpsc::channel(WAITING);
        let (outgoing, events) = mpsc::channel(WAITING);
        let task = tokio::spawn(Connection { account, cursor, pending: Pending::new(), incoming, outgoing, untold: None }.run());
        Self { events, sender: Sender { commands }, task }
    }

    /// The next event; `None` after an error ended the stream for good.
    ///
    /// # Errors
    /// [`Error::SignedOut`], once, or another error that trying again does not help.
    pub async fn next(&mut self) -> Option<Result<LiveEvent, Error>> {
        self.events.recv().await
    }

    /// The sending side.
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sender {
    /// Sends a message on the stream; sent again with the same id after a lost connection, until the server decides.
    ///
    /// # Errors
    /// The server's refusal; [`Error::Unavailable`] when the stream was closed: then it may have been sent.
    pub async fn send(&self, to: To, content: chat::Content) -> Result<gateway::Sent, Error> {
        self.send_request(message(to, content)).await
    }

    /// The same for a request made by the caller, client id included.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn send_request(&self, request: chat::SendMessageRequest) -> Result<gateway::Sent, Error> {
        let (answer, decided) = oneshot::channel();
        let closed = || Error::Unavailable("the stream is closed".into());
        self.commands.send(Command::Send(Box::new(request), answer)).await.map_err(|_| closed())?;
        decided.await.map_err(|_| closed())?
    }

    /// Moves the read position of a conversation; the inbox says so. Not tried again.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the stream was closed.
    pub async fn mark_read(&self, conversation_id: &str, sequence: u64) -> Result<(), Error> {
        let request = chat::MarkReadRequest { conversation_id: conversation_id.to_owned(), sequence, request_id: String::new() };
        self.commands.send(Command::MarkRead(request)).await.map_err(|_| Error::Unavailable("the stream is closed".into()))
    }
}

struct Connection {
    account: Account,
    cursor: u64,
    pending: Pending,
    incoming: mpsc::Receiver<Command>,
    outgoing: mpsc::Sender<Result<LiveEvent, Error>>,
    /// Came, but the caller has no room for it yet. Until then the connection is not read, but still written.
    untold: Option<LiveEvent>,
}

/// How a connection ended.
enum End {
    /// Nobody listens any more.
    Closed,
    /// To be made again, after this time at least.
    Again(Duration),
    /// The access token's time was over.
    Expired,
}

impl Connection {
    async fn run(mut self) {
        let mut backoff = self.account.backoff();
        loop {
            let started = Instant::now();
            let end = self.connected().await;
            // A connection that held for a while was good: the next one starts without delay.
            if started.elapsed() > Duration::from_secs(30) {
                backoff = self.account.backoff();
            }
            match end {
                Ok(End::Closed) => return,
                Ok(End::Again(after)) => tokio::time::sleep(after + backoff.next_wait()).await,
                Ok(End::Expired) | Err(Error::Unavailable(_)) => tokio::time::sleep(backoff.next_wait()).await,
                Err(error) => {
                    // Nobody waits for an answer that cannot come.
                    self.incoming.close();
                    while self.incoming.try_recv().is_ok() {}
                    self.pending.clear();
                    let last = self.untold.take().map(Ok);
                    for event in last.into_iter().chain([Err(error)]) {
                        let _ = self.outgoing.send(event).await;
                    }
                    return;
                }
            }
        }
    }

    async fn connected(&mut self) -> Result<End, Error> {
        let (channel, authorized) = self.account.streaming().await?;
        match self.stream(channel, authorized.clone()).await {
            Ok(end) => Ok(end),
            Err(status) if expired(&status) => {
                self.account.expired(&authorized).await;
                Ok(End::Expired)
            }
            Err(status) => Err(status.into()),
        }
    }

    async fn stream(&mut self, channel: Channel, authorized: Authorized) -> Result<End, Status> {
        let mut client = GatewayServiceClient::new(InterceptedService::new(channel, authorized));
        let (frames, queue) = mpsc::channel(WAITING);
        let hello = gateway::Hello { cursor: self.cursor };
        let _ = frames.send(frame(connect_request::Frame::Hello(hello))).await;
        let mut stream = client.connect(ReceiverStream::new(queue)).await?.into_inner();
        let mut pings = tokio::time::interval(Duration::from_secs(30));
        let mut full = false;
        // What was in flight when the last connection broke goes out again, with the ids it had; then what the server was too busy for.
        let mut again = self.in_flight();
        let mut again_at = Instant::now();
        loop {
            tokio::select! {
                received = stream.message(), if self.untold.is_none() => {
                    let Some(answer) = received? else { return Ok(End::Again(Duration::ZERO)) };
                    match answer.frame {
                        Some(connect_response::Frame::Welcome(welcome)) => {
                            if let Some(interval) = welcome.heartbeat_interval.and_then(|interval| Duration::try_from(interval).ok()) {
                                pings = tokio::time::interval(interval.max(Duration::from_millis(100)));
                            }
                            self.untold = Some(LiveEvent::Welcome { head: welcome.head });
                        }
                        Some(connect_response::Frame::Entry(entry)) => {
                            self.cursor = entry.cursor;
                            self.untold = Some(LiveEvent::Entry(Box::new(entry)));
                        }
                        Some(connect_response::Frame::Sent(sent)) => {
                            if let Some((_, answer)) = self.pending.remove(&sent.client_message_id) {
                                let _ = answer.send(Ok(sent));
                            }
                        }
                        Some(connect_response::Frame::Refused(refused)) => {
                            if let Some((request, after)) = decided(&mut self.pending, refused) {
                                again_at = again_at.max(Instant::now() + after);
                                again.push_back(request);
                            }
                        }
                        Some(connect_response::Frame::Moved(moved)) => {
                            let after = moved.retry_after.and_then(|after| Duration::try_from(after).ok()).unwrap_or_default();
                            return Ok(End::Again(after));
                        }
                        Some(connect_response::Frame::Pong(_)) | None => {}
                    }
                }
                room = self.outgoing.reserve(), if self.untold.is_some() => {
                    let Ok(room) = room else { return Ok(End::Closed) };
                    if let Some(event) = self.untold.take() { room.send(Ok(event)) }
                }
                room = after(again_at, frames.reserve()), if !again.is_empty() => {
                    let Ok(room) = room else { return Ok(End::Again(Duration::ZERO)) };
                    if let Some(request) = again.pop_front() { room.send(frame(connect_request::Frame::Send(request))) }
                }
                (room, command) = with_room(&frames, &mut self.incoming), if again.is_empty() => {
                    let Some(room) = room else { return Ok(End::Again(Duration::ZERO)) };
                    let next = match command {
                        None => return Ok(End::Closed),
                        Some(Command::MarkRead(request)) => connect_request::Frame::MarkRead(request),
                        Some(Command::Send(request, answer)) => {
                            self.pending.insert(request.client_message_id.clone(), ((*request).clone(), answer));
                            connect_request::Frame::Send(*request)
                        }
                    };
                    room.send(frame(next));
                }
                _ = pings.tick() => {
                    let ping = frame(connect_request::Frame::Ping(gateway::Ping { nonce: 0 }));
                    // A connection that takes no frame for a whole heartbeat is gone.
                    let was_full = std::mem::replace(&mut full, frames.try_send(ping).is_err());
                    if was_full && full { return Ok(End::Again(Duration::ZERO)) }
                }
            }
        }
    }

    /// What was sent and not decided, in the order of its ids.
    fn in_flight(&self) -> VecDeque<chat::SendMessageRequest> {
        let mut requests: Vec<_> = self.pending.values().map(|(request, _)| request.clone()).collect();
        requests.sort_by(|a, b| a.client_message_id.cmp(&b.client_message_id));
        requests.into()
    }
}

/// Tells a caller of a refusal; or answers what is to be sent again, and after which time.
fn decided(pending: &mut Pending, refused: gateway::Refused) -> Option<(chat::SendMessageRequest, Duration)> {
    let code = Code::from_i32(refused.code);
    if code == Code::Unavailable || code == Code::DeadlineExceeded {
        let (request, _) = pending.get(&refused.client_message_id)?;
        let wait = refused.retry_after.and_then(|after| Duration::try_from(after).ok()).unwrap_or(Duration::from_millis(50));
        return Some((request.clone(), wait.min(LONGEST_PAUSE)));
    }
    let (_, answer) = pending.remove(&refused.client_message_id)?;
    let _ = answer.send(Err(Error::Refused { code, reason: refused.reason, message: refused.message }));
    None
}

async fn after<T>(time: Instant, then: impl Future<Output = T>) -> T {
    tokio::time::sleep_until(time).await;
    then.await
}

/// The next command once there is room for its frame; no room when the connection takes nothing any more.
async fn with_room<'a>(
    frames: &'a mpsc::Sender<gateway::ConnectRequest>,
    commands: &mut mpsc::Receiver<Command>,
) -> (Option<mpsc::Permit<'a, gateway::ConnectRequest>>, Option<Command>) {
    match frames.reserve().await {
        Ok(room) => (Some(room), commands.recv().await),
        Err(_) => (None, None),
    }
}

fn frame(frame: connect_request::Frame) -> gateway::ConnectRequest {
    gateway::ConnectRequest { frame: Some(frame) }
}
