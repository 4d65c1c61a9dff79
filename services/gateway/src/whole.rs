//! The body of an answer that is there as a whole, given out so that it is written at once.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::Collected;

/// The HTTP/2 library copies pieces of this size into one buffer with what stands before and after them; a larger one is written by itself, and the
/// trailers are then a write of their own: 10 us and a wake of the other side for each answer.
const PIECE: usize = 255;
/// Of a larger body the pieces would cost more than the write.
const IN_PIECES: usize = 2048;

/// A message and its trailers.
pub(crate) struct Whole {
    data: Bytes,
    trailers: Option<HeaderMap>,
    in_pieces: bool,
}

impl Whole {
    pub(crate) fn new(body: Collected<Bytes>) -> Self {
        let trailers = body.trailers().cloned();
        let data = body.to_bytes();
        Self { in_pieces: data.len() <= IN_PIECES, data, trailers }
    }
}

// Its size is not told: what is made of it for browsers is longer.
impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = if self.in_pieces { PIECE } else { usize::MAX };
        let piece = piece.min(self.data.len());
        let frame = match piece {
            0 => self.trailers.take().map(Frame::trailers),
            _ => Some(Frame::data(self.data.split_to(piece))),
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http_body::Body as _;
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn is_small_enough_to_be_collected_or_not_cut_at_all() {
        for (bytes, pieces) in [(0, 0), (1, 1), (255, 1), (256, 2), (2048, 9), (2049, 1), (100_000, 1)] {
            let data: Vec<u8> = (0..bytes).map(|place| (place % 251) as u8).collect();
            let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
            let body = Full::new(Bytes::from(data.clone())).with_trailers(std::future::ready(Some(Ok(trailers.clone()))));
            let mut whole = Whole::new(body.collect().await.expect("infallible"));
            let (mut given, mut count) = (Vec::new(), 0);
            while given.len() < bytes {
                let piece = whole.frame().await.expect("more").expect("infallible").into_data().expect("data");
                assert!(bytes > IN_PIECES || piece.len() <= PIECE);
                (given, count) = ([&given[..], &piece].concat(), count + 1);
            }
            assert_eq!((count, given == data, whole.is_end_stream()), (pieces, true, false), "{bytes}");
            let last = whole.frame().await.expect("trailers").expect("infallible");
            assert_eq!(last.into_trailers().expect("trailers"), trailers);
            assert!(whole.is_end_stream() && whole.frame().await.is_none());
        }
    }
}
