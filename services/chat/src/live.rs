//! Live delivery. A gateway keeps one link to each chat instance, and all its devices are sessions on that link: attached, they are told each
//! entry as it is announced; behind, they pull from the store first. Messages come in on the same link, many under way at a time. One task
//! per link, none per message.

mod attached;
mod outgoing;
mod sessions;

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::Either, stream::FuturesUnordered};
use plaza_processor::{Announce, StoreError};
use plaza_proto::chat::v1::{
    Ask, LinkRequest, LinkResponse, Live as LiveEntry, Page, Pull, Read, ReadDone, Refused, Send, SendMessageRequest, Sent, ask,
    live_service_server::LiveService, told::Told,
};
use plaza_rpc::{ApiError, deadline, values};
use plaza_runtime::{CancellationToken, Clock, Group, Stage, Supervisor};
use plaza_types::UserId;
use prost::Message as _;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use self::sessions::Sessions;
use self::{attached::Attached, outgoing::Outgoing};
use crate::{
    commands::{self, Asker, Commands},
    domain::inbox::{Announcement, Irregular},
    metrics,
    reader::Reader,
};

/// Links at a time; a link is a gateway, so this is never reached by load.
const LINKS: usize = 1024;
/// Things asked on one link and not answered yet.
const ASKED: usize = 8192;
/// Pages read for one link at a time.
const PULLS: usize = 16;
/// Entries of a page.
const PAGE: u32 = 200;
/// How long a page waits for entries that were announced and cannot be read yet.
const SOON: Duration = Duration::from_millis(5);
const LOOKS: usize = 200;

/// The service.
pub(crate) struct Live {
    shared: Arc<Shared>,
    group: Group,
    stopping: CancellationToken,
    queue_bytes: usize,
}

struct Shared {
    sessions: Arc<Sessions>,
    reader: Arc<Reader>,
    commands: Arc<Commands>,
}

impl Live {
    /// Each link's queue holds so many bytes.
    pub(crate) fn new(
        sessions: Arc<Sessions>,
        reader: Arc<Reader>,
        commands: Arc<Commands>,
        supervisor: &Supervisor,
        queue_bytes: usize,
    ) -> Self {
        let shared = Arc::new(Shared { sessions, reader, commands });
        // Its devices are told for as long as their inboxes are decided here: who takes these over does so only when that ends.
        let stage = Stage::Consumers;
        Self { shared, group: supervisor.group("link", stage, LINKS), stopping: supervisor.stopping(stage), queue_bytes }
    }
}

#[tonic::async_trait]
impl LiveService for Live {
    type LinkStream = values::Offered<Result<LinkResponse, Status>>;

    async fn link(&self, request: Request<Streaming<LinkRequest>>) -> Result<Response<Self::LinkStream>, Status> {
        let outgoing = Arc::new(Outgoing::new(self.queue_bytes));
        let link = Link {
            shared: Arc::clone(&self.shared),
            outgoing: Arc::clone(&outgoing),
            attached: Attached::new(Arc::clone(&self.shared.sessions), Arc::clone(&outgoing)),
            pulls: Arc::new(Semaphore::new(PULLS)),
        };
        let (incoming, stopping) = (values::requested(request), self.stopping.clone());
        let started = self.group.try_spawn(async move {
            stopping.run_until_cancelled(link.run(incoming)).await;
        });
        started.map_err(|_| ApiError::unavailable(Duration::from_secs(1)))?;
        let frames = futures::stream::unfold(Reading(outgoing), |reading| async move {
            let frame = reading.0.next().await?;
            Some((Ok(frame), reading))
        });
        Ok(values::response(frames))
    }
}

/// The reading end: when it goes, the link ends.
struct Reading(Arc<Outgoing>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What the inbox processor announces to: the devices, and those who will read the messages.
pub(crate) struct Announcements {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) clock: Clock,
}

impl Announce<Announcement> for Announcements {
    fn announce(&self, _: u32, announcements: Vec<Announcement>) {
        // All recipients of a message here follow each other.
        let mut kept = None;
        for announcement in announcements {
            match announcement {
                Announcement::Entry { user, cursor, event, message } => {
                    if let Some((conversation, sequence)) = message.filter(|_| message != kept) {
                        self.reader.keep(conversation, sequence, &event);
                        kept = message;
                    }
                    self.sessions.announce(user, cursor, &event);
                }
                Announcement::Head { user, cursor } => self.sessions.has(user, cursor),
                Announcement::Recalled { conversation, sequence, event } => self.reader.recalled(conversation, sequence, &event),
                Announcement::Irregular(Irregular::Repeated) => metrics::get().repeated.add(1, &[]),
                Announcement::Irregular(Irregular::Gap) => {
                    metrics::get().gaps.add(1, &[]);
                    tracing::error!("message missing in an inbox");
                }
            }
        }
    }

    fn assigned(&self, partition: u32) {
        self.reader.assigned();
        self.sessions.assigned(partition, self.clock.now_micros());
    }

    fn revoked(&self, partition: u32) {
        self.sessions.revoked(partition);
    }
}

/// One gateway's link.
struct Link {
    shared: Arc<Shared>,
    outgoing: Arc<Outgoing>,
    attached: Attached,
    pulls: Arc<Semaphore>,
}

impl Link {
    async fn run(mut self, mut incoming: values::Messages<LinkRequest>) {
        let outgoing = Arc::clone(&self.outgoing);
        let mut closed = pin!(outgoing.closed());
        let mut asked = FuturesUnordered::new();
        let sessions = Arc::clone(&self.shared.sessions);
        let mut ownership = sessions.ownership();
        outgoing.owned(sessions.owned(&ownership.borrow_and_update()));
        loop {
            tokio::select! {
                () = &mut closed => break,
                // The sender lives as long as the sessions do.
                Ok(()) = ownership.changed() => outgoing.owned(sessions.owned(&ownership.borrow_and_update())),
                Some(done) = asked.next(), if !asked.is_empty() => {
                    // Answers come many at a time. What is still under way is waited for in the next turn.
                    let mut ready = Some(done);
                    while let Some(done) = ready {
                        // The gateway must come again.
                        if let Err(error) = done {
                            commands::store(error);
                            return;
                        }
                        ready = asked.next().now_or_never().flatten();
                    }
                }
                request = async { outgoing.room().await; incoming.next().await }, if asked.len() < ASKED => match request {
                    Some(Ok(request)) => asked.extend(request.asks.into_iter().filter_map(|ask| self.start(ask))),
                    None | Some(Err(_)) => break,
                },
            }
        }
    }

    /// Begins what is asked; nothing is left to do for what is done at once.
    fn start(&mut self, ask: Ask) -> Option<impl Future<Output = Result<(), StoreError>> + use<>> {
        let session = ask.session;
        let shared = Arc::clone(&self.shared);
        match ask.ask? {
            ask::Ask::Attach(attach) => {
                let user = UserId::from_slice(&attach.user)?;
                let head = async move { shared.reader.store().inbox_head(user).await };
                Some(Either::Left(self.attached.attach(session, user, attach.after, head)))
            }
            ask::Ask::Detach(_) => {
                self.attached.detach(session);
                None
            }
            ask => {
                let (outgoing, pulls) = (Arc::clone(&self.outgoing), Arc::clone(&self.pulls));
                Some(Either::Right(async move { shared.answer(session, ask, &outgoing, &pulls).await }))
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.outgoing.close();
    }
}

impl Shared {
    async fn answer(&self, session: u64, ask: ask::Ask, outgoing: &Outgoing, pulls: &Semaphore) -> Result<(), StoreError> {
        let told = match ask {
            // The link's own.
            ask::Ask::Attach(_) | ask::Ask::Detach(_) => return Ok(()),
            ask::Ask::Pull(pull) => {
                // Few pages are held at a time, and only while they are read on the other side.
                let permit = pulls.acquire().await;
                let page = self.page(&pull).await?;
                outgoing.room().await;
                drop(permit);
                Told::Page(page)
            }
            ask::Ask::Send(send) => self.send(send).await,
            ask::Ask::Read(read) => self.read(read).await,
        };
        outgoing.answer(session, told);
        Ok(())
    }

    async fn page(&self, pull: &Pull) -> Result<Page, StoreError> {
        let Some(user) = UserId::from_slice(&pull.user) else { return Ok(Page::default()) };
        let limit = pull.limit.clamp(1, PAGE) as usize;
        let mut page = self.reader.page(user, pull.after, limit).await?;
        for _ in 0..LOOKS {
            // What was announced will be readable: without waiting the device would ask in a circle.
            if !page.entries.is_empty() || self.sessions.announced(user) <= pull.after {
                break;
            }
            tokio::time::sleep(SOON).await;
            page = self.reader.page(user, pull.after, limit).await?;
        }
        let entries = page.entries.into_iter().map(|(cursor, event)| LiveEntry { cursor, event }).collect();
        Ok(Page { entries, head: page.head })
    }

    async fn send(&self, send: Send) -> Told {
        let call = send.call;
        let sent = async {
            let user = user(&send.user)?;
            let request = SendMessageRequest::decode(send.request).map_err(|_| ApiError::invalid("request", "not a SendMessageRequest"))?;
            let traceparent = (!send.traceparent.is_empty()).then(|| send.traceparent.into());
            self.commands.send(Asker { user, within: deadline::DEFAULT, traceparent }, &request).await
        };
        sent.await.map_or_else(|error| refused(call, error), |response| Told::Sent(Sent { call, response }))
    }

    async fn read(&self, read: Read) -> Told {
        let call = read.call;
        let moved = async {
            let asker = Asker { user: user(&read.user)?, within: deadline::DEFAULT, traceparent: None };
            self.commands.mark_read(asker, &read.request.unwrap_or_default()).await
        };
        moved.await.map_or_else(|error| refused(call, error), |_| Told::Read(ReadDone { call }))
    }
}

fn user(bytes: &[u8]) -> Result<UserId, ApiError> {
    UserId::from_slice(bytes).ok_or_else(|| ApiError::invalid("user", "16 bytes"))
}

fn refused(call: u64, error: ApiError) -> Told {
    let status = Status::from(error);
    Told::Refused(Refused { call, code: status.code() as i32, message: status.message().to_owned(), details: status.details().to_vec() })
}
