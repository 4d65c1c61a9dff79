//! One device's open stream: what it sends, what waits for it, what it is owed an answer to. There is no task and no timer per device: the
//! stream is driven by the connection that carries it, and [`super::hub::Hub`] looks after all of them.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use parking_lot::{Mutex, MutexGuard};
use plaza_proto::gateway::v1::{Moved, Pong, connect_response::Frame as Answer};
use plaza_rpc::ApiError;
use plaza_types::Reason;
use prost::Message;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tonic::{Code, Status, Streaming};
use tracing::Span;

use super::{
    codec::{Frame, Kind, Out, SendHead},
    device::{Device, Want},
    directory::LinkId,
    hub::Hub,
};
use crate::tokens::{self, Access};

// Unanswered frames of one device; beyond it the device is not read.
const UNANSWERED: usize = 128;
// Frames handled before the connection's other streams get a turn.
const TURN: usize = 32;

/// An open stream.
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) access: Access,
    /// The link to the owner of the inbox, 0 for none. Changed only with the state locked.
    link: AtomicU64,
    state: Mutex<State>,
}

/// What changes in a session.
pub(crate) struct State {
    pub(crate) device: Device,
    calls: VecDeque<Call>,
    waker: Option<Waker>,
    heard: Instant,
    taken: Instant,
    ending: Option<Ending>,
}

enum Ending {
    /// What is owed is given first.
    Moved {
        retry_after: Duration,
        since: Instant,
        told: bool,
    },
    Error(Box<ApiError>),
}

/// A frame of the device that is owed an answer.
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) link: LinkId,
    pub(crate) id: CallId,
    pub(crate) span: Span,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// How the device knows a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallId {
    Send(String),
    Read(String),
}

/// How long what may take.
pub(crate) struct Limits {
    pub(crate) hello: Duration,
    pub(crate) silence: Duration,
    pub(crate) slow: Duration,
    pub(crate) drain: Duration,
}

impl Session {
    pub(crate) fn new(id: u64, access: Access) -> Self {
        let now = Instant::now();
        let state = State { device: Device::new(), calls: VecDeque::new(), waker: None, heard: now, taken: now, ending: None };
        Self { id, access, link: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// The link that the device goes by.
    pub(crate) fn link(&self) -> Option<LinkId> {
        Some(self.link.load(Ordering::Acquire)).filter(|link| *link != 0)
    }

    pub(crate) fn set_link(&self, link: Option<LinkId>) {
        self.link.store(link.unwrap_or_default(), Ordering::Release);
    }

    /// Changes the state and wakes the stream if that left something to give.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let (waited, unread) = (state.device.has_waiting(), state.calls.len() >= UNANSWERED);
        let result = change(&mut state);
        if !waited && state.device.has_waiting() {
            state.taken = Instant::now();
        }
        // An answer can be what the reading of further frames waited for.
        let ready = state.device.has_waiting() || state.ending.is_some() || unread && state.calls.len() < UNANSWERED;
        let waker = if ready { state.waker.take() } else { None };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// Ends the stream with an error; what waits is dropped, for the device resumes by its cursor. Whether it ended only now.
    pub(crate) fn end(&self, error: ApiError) -> bool {
        self.change(|state| state.fail(error))
    }

    /// Tells the device to come back later, after what it is owed.
    pub(crate) fn moved(&self, retry_after: Duration) {
        self.change(|state| {
            if state.ending.is_none() {
                state.ending = Some(Ending::Moved { retry_after, since: Instant::now(), told: false });
            }
        });
    }

    /// Ends what has taken too long, and asks again for what did not come. Whether the stream ended now.
    pub(crate) fn check(&self, now: Instant, micros: u64, limits: &Limits, want: impl FnMut(Want)) -> bool {
        self.change(|state| {
            let silent = now.duration_since(state.heard);
            if let Some(Ending::Moved { since, .. }) = &state.ending
                && now.duration_since(*since) > limits.drain / 2
            {
                state.refuse_calls(None);
            }
            state.device.retry(want);
            let error = if micros >= self.access.expires {
                tokens::expired()
            } else if !state.device.said_hello() && silent > limits.hello {
                ApiError::new(Reason::StreamProtocol, "no hello came in time")
            } else if state.device.has_waiting() && now.duration_since(state.taken) > limits.slow {
                ApiError::new(Reason::SlowConsumer, "the stream was not read, connect again with the last cursor")
            } else if silent > limits.silence {
                ApiError::new(Reason::Unavailable, "nothing was heard for three heartbeats")
            } else {
                return false;
            };
            state.fail(error)
        })
    }
}

impl State {
    fn fail(&mut self, error: ApiError) -> bool {
        let first = !matches!(self.ending, Some(Ending::Error(_)));
        if first {
            self.device.end();
            self.calls.clear();
            self.ending = Some(Ending::Error(Box::new(error)));
        }
        first
    }

    pub(crate) fn owe(&mut self, call: Call) {
        self.calls.push_back(call);
    }

    /// The call that an answer is for; none if it was answered already.
    pub(crate) fn answered(&mut self, number: u64) -> Option<Call> {
        let at = self.calls.iter().position(|call| call.number == number)?;
        self.calls.remove(at)
    }

    /// Answers every open call, or every one on a link, with a refusal that invites to ask again.
    pub(crate) fn refuse_calls(&mut self, link: Option<LinkId>) {
        let calls = std::mem::take(&mut self.calls);
        let (refused, left) = calls.into_iter().partition(|call| link.is_none_or(|link| link == call.link));
        self.calls = left;
        let refused: VecDeque<Call> = refused;
        for call in refused {
            self.device.tell(super::refused(call.id, &ApiError::unavailable(Duration::from_millis(100)).into()));
        }
    }
}

/// The frames to a device, and what reads the frames from it.
pub(crate) struct DeviceStream {
    hub: Arc<Hub>,
    session: Arc<Session>,
    incoming: Option<Streaming<Frame>>,
    done: bool,
}

impl DeviceStream {
    pub(crate) fn new(hub: Arc<Hub>, session: Arc<Session>, incoming: Streaming<Frame>) -> Self {
        Self { hub, session, incoming: Some(incoming), done: false }
    }

    fn read(&mut self, state: &mut State, cx: &mut Context<'_>) -> Result<(), ApiError> {
        for _ in 0..TURN {
            // An error or a full queue is dealt with first; answers to what was read must fit into memory.
            let Some(incoming) =
                self.incoming.as_mut().filter(|_| state.ending.is_none() && state.device.has_room() && state.calls.len() < UNANSWERED)
            else {
                return Ok(());
            };
            match Pin::new(incoming).poll_next(cx) {
                Poll::Pending => return Ok(()),
                // A device that says nothing more can still listen.
                Poll::Ready(None) => self.incoming = None,
                Poll::Ready(Some(Err(status))) => return Err(broken(&status)),
                Poll::Ready(Some(Ok(frame))) => {
                    state.heard = Instant::now();
                    self.frame(state, frame)?;
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn frame(&self, state: &mut State, frame: Frame) -> Result<(), ApiError> {
        let order = |text| Err(ApiError::new(Reason::StreamProtocol, text));
        match (frame.kind, state.device.said_hello()) {
            (None, _) => order("a frame of no known kind"),
            (Some(Kind::Hello(hello)), false) => {
                self.hub.hello(&self.session, state, hello.cursor);
                Ok(())
            }
            (Some(Kind::Hello(_)), true) => order("hello came twice"),
            (Some(_), false) => order("the first frame is not hello"),
            (Some(Kind::Ping(ping)), true) => {
                state.device.tell(Answer::Pong(Pong { nonce: ping.nonce }));
                Ok(())
            }
            (Some(Kind::Send(request)), true) => self.send(state, request),
            (Some(Kind::MarkRead(request)), true) => {
                self.hub.mark_read(&self.session, state, request);
                Ok(())
            }
        }
    }

    fn send(&self, state: &mut State, request: Bytes) -> Result<(), ApiError> {
        let head =
            SendHead::decode(request.clone()).map_err(|_| ApiError::new(Reason::StreamProtocol, "not an encoded SendMessageRequest"))?;
        self.hub.send(&self.session, state, head.client_message_id, request);
        Ok(())
    }

    fn next(&mut self, state: &mut MutexGuard<'_, State>, cx: &Context<'_>) -> Poll<Option<Result<Out, Status>>> {
        let state = &mut **state;
        if let Some(Ending::Error(error)) = &state.ending {
            self.done = true;
            return Poll::Ready(Some(Err(ApiError::clone(error).into())));
        }
        if let Some(out) = state.device.take(|want| self.hub.ask(&self.session, want)) {
            state.taken = Instant::now();
            return Poll::Ready(Some(Ok(out)));
        }
        if let Some(Ending::Moved { retry_after, told, .. }) = &mut state.ending
            && state.calls.is_empty()
        {
            if *told {
                self.done = true;
                return Poll::Ready(None);
            }
            *told = true;
            let retry_after = prost_types::Duration::try_from(*retry_after).ok();
            return Poll::Ready(Some(Ok(Out::frame(Answer::Moved(Moved { retry_after })))));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Why a stream of frames broke off.
fn broken(status: &Status) -> ApiError {
    match status.code() {
        Code::OutOfRange => ApiError::new(Reason::TooLarge, "the frame is too large"),
        _ => ApiError::new(Reason::StreamProtocol, "not a stream of ConnectRequest"),
    }
}

impl Stream for DeviceStream {
    type Item = Result<Out, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        let session = Arc::clone(&self.session);
        let mut state = session.state.lock();
        if let Err(error) = self.read(&mut state, cx) {
            state.fail(error);
        }
        self.next(&mut state, cx)
    }
}

impl Drop for DeviceStream {
    fn drop(&mut self) {
        self.hub.close(&self.session);
    }
}
