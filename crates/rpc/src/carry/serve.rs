//! The end that answers: makes each call of the stream as a task of its own, and sends answers back in the order in which they are ready.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll, ready},
};

use foldhash::{HashMap, HashMapExt as _};
use futures::{FutureExt as _, Stream, StreamExt as _};
use plaza_proto::internal::v1::{
    Answer, Call, CarryRequest, CarryResponse, Leaving,
    call_service_server::{CallService, CallServiceServer},
    carry_request::Step,
    carry_response,
};
use plaza_types::Reason;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status, Streaming, service::Routes};
use tower::Service as _;

use super::frame;
use crate::ApiError;

/// Calls of one caller that are under way or have answers that wait; no more are read.
const UNDER_WAY: usize = 16_384;
/// An answer that is larger goes in parts of this size, with other answers between them.
const PART: usize = 64 * 1024;

/// The method that carries calls to these services. When `leaving` is cancelled its streams say so, answer what they were asked, and end.
#[must_use]
pub fn routes(services: Routes, leaving: CancellationToken) -> Routes {
    Routes::new(CallServiceServer::new(Carrier { services: services.prepare(), leaving }))
}

struct Carrier {
    services: Routes,
    leaving: CancellationToken,
}

#[tonic::async_trait]
impl CallService for Carrier {
    type CarryStream = Carried;

    async fn carry(&self, request: Request<Streaming<CarryRequest>>) -> Result<Response<Carried>, Status> {
        Ok(Response::new(Carried {
            services: self.services.clone(),
            asked: request.into_inner().fuse(),
            under_way: JoinSet::new(),
            handles: HashMap::new(),
            ready: VecDeque::new(),
            leaving: Some(Box::pin(self.leaving.clone().cancelled_owned())),
        }))
    }
}

/// One caller's calls and their answers. Dropped, it ends what is under way.
struct Carried {
    services: Routes,
    asked: futures::stream::Fuse<Streaming<CarryRequest>>,
    under_way: JoinSet<Answer>,
    handles: HashMap<u64, AbortHandle>,
    /// Answers, or what is left of them, that are to be sent.
    ready: VecDeque<Answer>,
    /// Until it was said.
    leaving: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Carried {
    /// Does what is asked; ready when nothing more will be.
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        loop {
            if self.is_full() {
                self.collect(cx);
            }
            if self.is_full() {
                return Poll::Pending;
            }
            match ready!(self.asked.poll_next_unpin(cx)) {
                Some(Ok(CarryRequest { step: Some(Step::Call(call)) })) => self.begin(call),
                Some(Ok(CarryRequest { step: Some(Step::GivenUp(id)) })) => {
                    if let Some(call) = self.handles.remove(&id) {
                        call.abort();
                    }
                }
                Some(Ok(CarryRequest { step: None })) => return Poll::Ready(Err(malformed())),
                Some(Err(error)) => {
                    tracing::debug!(%error, "a caller's stream broke off");
                    return Poll::Ready(Err(malformed()));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    fn is_full(&self) -> bool {
        self.under_way.len() + self.ready.len() >= UNDER_WAY
    }

    /// Takes the answers that are there.
    fn collect(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(done)) = self.under_way.poll_join_next(cx) {
            // The others were given up.
            if let Ok(answer) = done {
                self.handles.remove(&answer.id);
                self.ready.push_back(answer);
            }
        }
    }

    fn begin(&mut self, call: Call) {
        let id = call.id;
        let request = match frame::request(call) {
            Ok(request) => request,
            Err(error) => return self.ready.push_back(frame::failure(id, error)),
        };
        let mut services = self.services.clone();
        let answer = async move {
            match services.call(request).await {
                Ok(response) => frame::answer(id, response).await,
                Err(never) => match never {},
            }
        };
        let answer = AssertUnwindSafe(answer).catch_unwind();
        let call = self.under_way.spawn(async move { answer.await.unwrap_or_else(|_panic| frame::failure(id, ApiError::internal())) });
        self.handles.insert(id, call);
    }
}

fn malformed() -> ApiError {
    ApiError::new(Reason::InvalidArgument, "not an encoded CarryRequest")
}

impl Stream for Carried {
    type Item = Result<CarryResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let say = |step| Poll::Ready(Some(Ok(CarryResponse { step: Some(step) })));
        let this = &mut *self;
        if this.leaving.as_mut().is_some_and(|leaving| leaving.as_mut().poll(cx).is_ready()) {
            this.leaving = None;
            return say(carry_response::Step::Leaving(Leaving {}));
        }
        let ended = this.poll_asked(cx)?.is_ready();
        this.collect(cx);
        match this.ready.pop_front() {
            Some(mut answer) => match frame::part(&mut answer, PART) {
                Some(part) => {
                    this.ready.push_back(answer);
                    say(carry_response::Step::Answer(part))
                }
                None => say(carry_response::Step::Answer(answer)),
            },
            None if ended && this.under_way.is_empty() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}
