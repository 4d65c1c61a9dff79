//! The caller's end: what is to be written, and who waits for which answer.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use foldhash::{HashMap, HashMapExt as _};
use http::{Response, request};
use parking_lot::Mutex;
use plaza_proto::internal::v1::Answer;
use tokio::sync::oneshot;
use tonic::{Status, body::Body};

use super::frame;

/// Calls that wait for their answers; more are refused.
const WAITING: usize = 16_384;
/// Bytes that wait to be written. The other side does not take them, or there would be few.
const QUEUED: usize = 8 << 20;

/// Takes calls for one instance. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Line(Arc<Mutex<State>>);

struct State {
    queued: BytesMut,
    /// Who writes, when there was nothing to write.
    writer: Option<Waker>,
    waiting: HashMap<u64, Waiting>,
    last: u64,
    open: bool,
}

struct Waiting {
    caller: oneshot::Sender<Answer>,
    /// What came so far of a large answer.
    parts: Vec<Answer>,
}

/// A call was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nothing travels here any more.
    Closed,
    /// Too much waits.
    Full,
}

/// The connection is lost.
#[derive(Debug, thiserror::Error)]
#[error("the connection is lost")]
pub(crate) struct Lost;

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("waiting", &self.0.lock().waiting.len()).finish_non_exhaustive()
    }
}

impl Line {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { queued: BytesMut::new(), writer: None, waiting: HashMap::new(), last: 0, open: true })))
    }

    /// Sends a call.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(crate) fn call(&self, head: &request::Parts, body: Bytes) -> Result<Called, Refused> {
        let (caller, answer) = oneshot::channel();
        let mut state = self.0.lock();
        if !state.open {
            return Err(Refused::Closed);
        }
        if state.waiting.len() >= WAITING || state.queued.len() >= QUEUED {
            return Err(Refused::Full);
        }
        state.last += 1;
        let id = state.last;
        frame::put_call(&mut state.queued, id, head, body);
        state.waiting.insert(id, Waiting { caller, parts: Vec::new() });
        let writer = state.writer.take();
        drop(state);
        wake(writer);
        Ok(Called { line: self.clone(), id, answer })
    }

    fn give_up(&self, id: u64) {
        let mut state = self.0.lock();
        if state.waiting.remove(&id).is_none() {
            return;
        }
        frame::put_given_up(&mut state.queued, id);
        let writer = state.writer.take();
        drop(state);
        wake(writer);
    }

    /// All that waits to be written; `None` when that was the last.
    pub(super) fn poll_queued(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.0.lock();
        if !state.queued.is_empty() {
            return Poll::Ready(Some(state.queued.split().freeze()));
        }
        if !state.open {
            return Poll::Ready(None);
        }
        match &mut state.writer {
            Some(writer) => writer.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Gives an answer to who waits for it, once its last part is there.
    pub(super) fn answered(&self, answer: Answer) {
        let mut state = self.0.lock();
        // Whoever gave up may be answered all the same.
        if answer.more {
            if let Some(waiting) = state.waiting.get_mut(&answer.id) {
                waiting.parts.push(answer);
            }
        } else if let Some(Waiting { caller, parts }) = state.waiting.remove(&answer.id) {
            drop(state);
            let _ = caller.send(frame::join(parts, answer));
        }
    }

    /// Takes no more calls.
    pub(super) fn close(&self) {
        let mut state = self.0.lock();
        state.open = false;
        let writer = state.writer.take();
        drop(state);
        wake(writer);
    }

    /// The same, and nobody is answered any more.
    pub(super) fn lose(&self) {
        self.close();
        let lost = std::mem::take(&mut self.0.lock().waiting);
        drop(lost);
    }
}

fn wake(writer: Option<Waker>) {
    if let Some(writer) = writer {
        writer.wake();
    }
}

/// A call under way. Dropped before it is answered, it is given up at the other end, too.
pub(crate) struct Called {
    line: Line,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Called {
    /// Its answer.
    ///
    /// # Errors
    /// The connection is lost, and the answer with it.
    pub(crate) async fn answer(mut self) -> Result<Response<Body>, Lost> {
        let answer = (&mut self.answer).await.map_err(|_| Lost)?;
        Ok(frame::response(answer).unwrap_or_else(|error| Status::from(error).into_http()))
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        self.line.give_up(self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, task::noop_waker};
    use http::Request;
    use http_body_util::BodyExt as _;

    use super::*;

    fn call(line: &Line, bytes: usize) -> Result<Called, Refused> {
        let (head, ()) = Request::post("/plaza.test.v1.Test/Call").body(()).expect("a path").into_parts();
        line.call(&head, Bytes::from(vec![0; bytes]))
    }

    fn part(id: u64, body: &'static [u8], more: bool) -> Answer {
        Answer { id, body: Bytes::from_static(body), more, ..Answer::default() }
    }

    #[test]
    fn what_waits_is_written_at_once() {
        let line = Line::new();
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let calls: Vec<_> = (0..3).map(|_| call(&line, 10).expect("room")).collect();
        let Poll::Ready(Some(one)) = line.poll_queued(&cx) else { panic!("three calls wait") };
        drop(calls);
        let Poll::Ready(Some(given_up)) = line.poll_queued(&cx) else { panic!("all were given up") };
        assert!(one.len() > 3 * given_up.len() && given_up.len() == 3 * 7, "{} {}", one.len(), given_up.len());
        assert!(line.poll_queued(&cx).is_pending());
        let last = call(&line, 10).expect("room");
        line.close();
        assert_eq!(call(&line, 10).map(drop), Err(Refused::Closed));
        assert!(matches!(line.poll_queued(&cx), Poll::Ready(Some(_))), "it was taken before");
        assert_eq!(line.poll_queued(&cx), Poll::Ready(None));
        let mut answer = Box::pin(last.answer());
        assert!(answer.poll_unpin(&mut cx).is_pending());
        line.lose();
        assert!(matches!(answer.poll_unpin(&mut cx), Poll::Ready(Err(Lost))));
    }

    #[test]
    fn no_more_waits_than_so_much() {
        let line = Line::new();
        let calls: Vec<_> = (0..WAITING).map(|_| call(&line, 0).expect("room")).collect();
        assert_eq!(call(&line, 0).map(drop), Err(Refused::Full));
        drop(calls);
        assert!(call(&line, 0).is_ok());

        let line = Line::new();
        let calls: Vec<_> = (0..QUEUED / 65_536).map(|_| call(&line, 65_536).expect("room")).collect();
        assert_eq!(call(&line, 0).map(drop), Err(Refused::Full));
        assert!(line.poll_queued(&Context::from_waker(&noop_waker())).is_ready());
        assert!(call(&line, 0).is_ok());
        drop(calls);
    }

    #[tokio::test]
    async fn parts_are_put_together_and_nobody_gets_anothers() {
        let line = Line::new();
        let (first, second, gone) = (call(&line, 0).expect("room"), call(&line, 0).expect("room"), call(&line, 0).expect("room"));
        drop(gone);
        for answer in [part(1, b"a", true), part(3, b"x", true), part(2, b"z", false), part(3, b"x", false), part(1, b"b", true)] {
            line.answered(answer);
        }
        line.answered(part(1, b"c", false));
        line.answered(part(4, b"never asked", false));
        for (called, told) in [(first, "abc"), (second, "z")] {
            let body = called.answer().await.expect("an answer").into_body().collect().await.expect("a body");
            assert_eq!(body.to_bytes(), told);
        }
        assert!(line.0.lock().waiting.is_empty());
    }
}
