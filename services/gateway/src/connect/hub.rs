//! All open streams of this gateway, and what they have in common: the links to the owners of inboxes, the limits, the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use foldhash::HashMap;
use parking_lot::RwLock;
use plaza_proto::{
    chat::v1::{self as chat, Ask, Owned, Told, ask, told},
    gateway::v1::{Sent, connect_response::Frame as Answer},
};
use plaza_rpc::ApiError;
use plaza_runtime::{Clock, Rng};
use plaza_telemetry::propagation;
use plaza_types::Reason;
use prost::Message;
use tokio::{sync::Semaphore, time::Instant};
use tonic::{Code, Status};
use tracing::Span;

use super::{
    device::{PAGE, Want},
    directory::{Asks, Directory, LinkId, Moved},
    refused,
    session::{Call, CallId, Limits, Session, State},
};
use crate::{Config, admission::Admission, metrics::Metrics, revocation::Revocations, tokens};

const SEND: &str = "/plaza.chat.v1.ChatService/SendMessage";
const MARK_READ: &str = "/plaza.chat.v1.ChatService/MarkRead";
// Unanswered frames of all devices together.
const UNANSWERED: usize = 65_536;

/// The open streams.
pub(crate) struct Hub {
    config: Config,
    admission: Arc<Admission>,
    revocations: Arc<Revocations>,
    clock: Clock,
    metrics: Metrics,
    sessions: RwLock<HashMap<u64, Arc<Session>>>,
    /// Never locked while a session's state is to be locked after it.
    directory: RwLock<Directory>,
    numbers: AtomicU64,
    unanswered: Arc<Semaphore>,
    closing: AtomicBool,
}

impl Hub {
    pub(crate) fn new(
        config: Config,
        admission: Arc<Admission>,
        revocations: Arc<Revocations>,
        clock: Clock,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            admission,
            revocations,
            clock,
            metrics,
            sessions: RwLock::default(),
            directory: RwLock::default(),
            numbers: AtomicU64::new(1),
            unanswered: Arc::new(Semaphore::new(UNANSWERED)),
            closing: AtomicBool::new(false),
        })
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// UNAVAILABLE when there are too many, or the process is stopping.
    pub(crate) fn open(&self, access: tokens::Access) -> Result<Arc<Session>, ApiError> {
        let session = Arc::new(Session::new(self.number(), access));
        let mut sessions = self.sessions.write();
        if sessions.len() >= self.config.max_streams || self.is_closing() {
            return Err(ApiError::unavailable(Duration::from_secs(1)));
        }
        sessions.insert(session.id, Arc::clone(&session));
        self.metrics.streams.add(1, &[]);
        Ok(session)
    }

    pub(crate) fn close(&self, session: &Session) {
        self.sessions.write().remove(&session.id);
        self.metrics.streams.add(-1, &[]);
        self.ask(session, Want::Detach);
    }

    pub(crate) fn hello(&self, session: &Session, state: &mut State, cursor: u64) {
        let owner = self.directory.read().of(session.access.user);
        session.set_link(owner);
        state.device.hello(cursor, owner.is_some(), |want| self.ask(session, want));
    }

    /// Sends a message of a device. Called with the session's state locked, so that losing a link either sees the call or is seen here.
    pub(crate) fn send(&self, session: &Session, state: &mut State, client_message_id: String, request: Bytes) {
        let span =
            tracing::info_span!(parent: None, "send", otel.name = "plaza.gateway.v1.GatewayService/Connect send", otel.kind = "server");
        let traceparent = span.in_scope(propagation::current_traceparent).unwrap_or_default().to_vec();
        let (user, device) = ids(session);
        self.call(session, state, SEND, CallId::Send(client_message_id), span, |call| {
            ask::Ask::Send(chat::Send { user, device, call, request, traceparent })
        });
    }

    /// Moves a read position for a device; called as [`Hub::send`].
    pub(crate) fn mark_read(&self, session: &Session, state: &mut State, request: chat::MarkReadRequest) {
        let (user, device) = ids(session);
        let id = CallId::Read(request.request_id.clone());
        self.call(session, state, MARK_READ, id, Span::none(), |call| {
            ask::Ask::Read(chat::Read { user, device, call, request: Some(request) })
        });
    }

    fn call(&self, session: &Session, state: &mut State, path: &str, id: CallId, span: Span, ask: impl FnOnce(u64) -> ask::Ask) {
        let admitted = self.admission.user(path, session.access.user).and_then(|()| {
            let busy = |_| ApiError::unavailable(Duration::from_millis(100));
            Arc::clone(&self.unanswered).try_acquire_owned().map_err(busy)
        });
        let directory = self.directory.read();
        let link = session.link().filter(|link| directory.asks(*link).is_some()).or_else(|| directory.any());
        match (admitted, link.and_then(|link| Some((link, directory.asks(link)?)))) {
            (Ok(permit), Some((link, asks))) => {
                let number = self.number();
                state.owe(Call { number, link, id, span, permit });
                // Fails only when the link is lost, and then the call is refused with all others.
                let _ = asks.send(Ask { session: session.id, ask: Some(ask(number)) });
            }
            (Ok(_), None) => state.device.tell(refused(id, &ApiError::unavailable(Duration::from_millis(200)).into())),
            (Err(error), _) => state.device.tell(refused(id, &error.into())),
        }
    }

    /// Asks the owner of a device's inbox; without a link the device is attached when there is one.
    pub(crate) fn ask(&self, session: &Session, want: Want) {
        let user = session.access.user.as_bytes().to_vec();
        let ask = match want {
            Want::Attach { after } => ask::Ask::Attach(chat::Attach { user, after }),
            Want::Pull { after } => ask::Ask::Pull(chat::Pull { user, after, limit: PAGE }),
            Want::Detach => ask::Ask::Detach(chat::Detach {}),
        };
        let Some(link) = session.link() else { return };
        if let Some(asks) = self.directory.read().asks(link) {
            let _ = asks.send(Ask { session: session.id, ask: Some(ask) });
        }
    }

    /// There is a link; what its instance owns it will say.
    pub(crate) fn linked(&self, asks: Asks) -> LinkId {
        let id = self.number();
        let mut directory = self.directory.write();
        directory.linked(id, asks);
        self.metrics.linked.record(directory.links() as u64, &[]);
        id
    }

    /// A link is lost: what was asked on it will not be answered.
    pub(crate) fn unlinked(&self, link: LinkId) {
        let moved = {
            let mut directory = self.directory.write();
            let moved = directory.unlinked(link);
            self.metrics.linked.record(directory.links() as u64, &[]);
            moved
        };
        for session in self.sessions.read().values() {
            session.change(|state| {
                state.refuse_calls(Some(link));
                self.reattach(session, state, &moved);
            });
        }
    }

    /// The instance behind a link said what it owns.
    pub(crate) fn owned(&self, link: LinkId, owned: &Owned) {
        let moved = self.directory.write().owned(link, owned);
        for session in self.sessions.read().values().filter(|session| moved.concerns(session.access.user)) {
            session.change(|state| self.reattach(session, state, &moved));
        }
    }

    /// Attaches a device whose inbox has another owner now, with the cursor it has; without an owner it waits for one.
    fn reattach(&self, session: &Session, state: &mut State, moved: &Moved) {
        if !moved.concerns(session.access.user) {
            return;
        }
        let owner = self.directory.read().of(session.access.user);
        state.device.unlinked();
        self.ask(session, Want::Detach);
        session.set_link(owner);
        if owner.is_some() {
            state.device.linked(|want| self.ask(session, want));
        }
    }

    /// An instance said something.
    pub(crate) fn told(&self, link: LinkId, told: Told) {
        let session = self.sessions.read().get(&told.session).map(Arc::clone);
        let (Some(session), Some(told)) = (session, told.told) else { return };
        let answers_call = matches!(told, told::Told::Sent(_) | told::Told::Refused(_) | told::Told::Read(_));
        let heartbeat = || prost_types::Duration::try_from(self.config.heartbeat()).unwrap_or_default();
        let want = |want| self.ask(&session, want);
        let gap = session.change(|state| match told {
            // Another instance's device by now.
            _ if !answers_call && session.link() != Some(link) => Ok(()),
            told::Told::Attached(attached) => {
                state.device.attached(attached.head, heartbeat());
                Ok(())
            }
            told::Told::Behind(behind) => {
                state.device.behind(behind.head, heartbeat(), want);
                Ok(())
            }
            told::Told::Live(entry) => {
                state.device.live(entry, want);
                Ok(())
            }
            told::Told::Page(page) => state.device.page(page.entries, page.head, want),
            told::Told::Sent(sent) => {
                if let Some(Call { id: CallId::Send(client_message_id), span: _span, permit: _permit, .. }) = state.answered(sent.call) {
                    state.device.tell(accepted(client_message_id, sent.response));
                }
                Ok(())
            }
            told::Told::Refused(answer) => {
                if let Some(call) = state.answered(answer.call) {
                    state
                        .device
                        .tell(refused(call.id, &Status::with_details(Code::from_i32(answer.code), answer.message, answer.details.into())));
                }
                Ok(())
            }
            told::Told::Read(read) => {
                drop(state.answered(read.call));
                Ok(())
            }
        });
        if gap.is_err() {
            tracing::error!(user.id = %session.access.user, "an inbox page left entries out");
            session.end(ApiError::unavailable(Duration::from_secs(1)));
            self.ask(&session, Want::Detach);
        }
    }

    /// Looks after the open streams for ever.
    pub(crate) async fn watch(&self) {
        let limits = Limits {
            hello: self.config.hello_timeout(),
            silence: self.config.heartbeat() * 3,
            slow: self.config.slow_consumer_timeout(),
            drain: self.config.drain(),
        };
        let shortest = limits.hello.min(limits.silence).min(limits.slow);
        let mut turns = tokio::time::interval((shortest / 8).clamp(Duration::from_millis(5), Duration::from_secs(1)));
        let (mut seen, mut cleaned) = (0, Instant::now());
        loop {
            turns.tick().await;
            let (now, micros) = (Instant::now(), self.clock.now_micros());
            let version = self.revocations.version();
            for session in self.sessions.read().values() {
                let revoked = version != seen && self.revocations.covers(session.access.device, session.access.issued);
                let late = session.check(now, micros, &limits, |want| self.ask(session, want));
                if late || revoked && session.end(tokens::revoked()) {
                    self.ask(session, Want::Detach);
                }
            }
            seen = version;
            if now.duration_since(cleaned) > Duration::from_secs(30) {
                cleaned = now;
                self.revocations.forget_before(micros);
                self.admission.forget_idle();
            }
        }
    }

    /// Sends everybody away, to come back spread over the time that draining takes.
    pub(crate) fn move_away(&self, rng: &Rng) {
        let sessions = self.sessions.read();
        self.closing.store(true, Ordering::Release);
        let spread = self.config.drain_ms.max(1);
        for session in sessions.values() {
            session.moved(Duration::from_millis(rng.next_u64() % spread));
        }
    }

    /// Whether everybody was sent away.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

fn ids(session: &Session) -> (Vec<u8>, Vec<u8>) {
    (session.access.user.as_bytes().to_vec(), session.access.device.as_bytes().to_vec())
}

fn accepted(client_message_id: String, response: Bytes) -> Answer {
    match chat::SendMessageResponse::decode(response) {
        Ok(chat::SendMessageResponse { conversation_id, sequence, sent_at }) => {
            Answer::Sent(Sent { client_message_id, conversation_id, sequence, sent_at })
        }
        Err(_) => refused(CallId::Send(client_message_id), &ApiError::new(Reason::Internal, "internal error").into()),
    }
}
