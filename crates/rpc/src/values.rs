//! Streams whose messages are handed over as they are where both ends are in one process, and encoded where they are not.
//!
//! Each end offers its stream beside the encoded body of the call, in the extensions, which never leave the process. Who finds an offer there
//! takes the stream, and the body that it was to be encoded into stays empty; otherwise the body takes it when it is first read. Everything
//! else of the call is the same both ways: its identity, errors, metrics and end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use parking_lot::Mutex;
use tonic::{Request, Response, Status, Streaming};

/// What comes from the other end.
pub type Messages<T> = BoxStream<'static, Result<T, Status>>;

/// A stream that the other end of the call may take.
struct Offer<I>(Arc<Mutex<Option<BoxStream<'static, I>>>>);

impl<I> Clone for Offer<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A stream for tonic to encode. It has nothing if the other end took the stream as it is.
pub struct Offered<I> {
    offer: Offer<I>,
    taken: Option<BoxStream<'static, I>>,
}

impl<I> Offered<I> {
    fn new(messages: impl Stream<Item = I> + Send + 'static) -> Self {
        Self { offer: Offer(Arc::new(Mutex::new(Some(messages.boxed())))), taken: None }
    }
}

impl<I> Stream for Offered<I> {
    type Item = I;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<I>> {
        if self.taken.is_none() {
            let taken = self.offer.0.lock().take();
            self.taken = taken;
        }
        self.taken.as_mut().map_or(Poll::Ready(None), |messages| messages.poll_next_unpin(cx))
    }
}

/// A request that streams these messages.
pub fn request<T: Send + 'static>(messages: impl Stream<Item = T> + Send + 'static) -> Request<Offered<T>> {
    let mut request = Request::new(Offered::new(messages));
    let offer = request.get_ref().offer.clone();
    request.extensions_mut().insert(offer);
    request
}

/// The messages of a request.
pub fn requested<T: Send + 'static>(mut request: Request<Streaming<T>>) -> Messages<T> {
    let offer = request.extensions_mut().remove::<Offer<T>>();
    match offer.and_then(|offer| offer.0.lock().take()) {
        Some(messages) => messages.map(Ok).boxed(),
        None => request.into_inner().boxed(),
    }
}

/// A response that streams these messages.
pub fn response<T: Send + 'static>(
    messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> Response<Offered<Result<T, Status>>> {
    let mut response = Response::new(Offered::new(messages));
    let offer = response.get_ref().offer.clone();
    response.extensions_mut().insert(offer);
    response
}

/// The messages of a response.
pub fn responded<T: Send + 'static>(mut response: Response<Streaming<T>>) -> Messages<T> {
    let offer = response.extensions_mut().remove::<Offer<Result<T, Status>>>();
    let call = response.into_inner();
    match offer.and_then(|offer| offer.0.lock().take()) {
        // The call lasts until its body is dropped.
        Some(messages) => Values { messages, _call: call }.boxed(),
        None => call.boxed(),
    }
}

struct Values<T> {
    messages: Messages<T>,
    _call: Streaming<T>,
}

impl<T> Stream for Values<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.messages.poll_next_unpin(cx)
    }
}
