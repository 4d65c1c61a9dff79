//! The frames of a device's stream as bytes. Messages pass through undecoded in both directions, and the buffers are small because most
//! streams are idle most of the time.

use bytes::{BufMut, Bytes};
use plaza_proto::{
    chat::v1::MarkReadRequest,
    gateway::v1::{ConnectResponse, Hello, Ping, connect_response},
};
use plaza_rpc::ApiError;
use plaza_types::Reason;
use prost::{
    Message, Oneof,
    encoding::{encode_varint, encoded_len_varint},
};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

// Measured: 7 KiB less for each idle stream than with tonic's defaults.
const BUFFERS: (usize, usize) = (256, 4096);

// Keys on the wire: field number and type.
const ENTRY_OF_RESPONSE: u8 = 2 << 3 | 2;
const CURSOR_OF_ENTRY: u8 = 1 << 3;

/// A frame from a device: `ConnectRequest`, with the message to send left as it is.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Frame {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4")]
    pub(crate) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Kind {
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// An encoded `SendMessageRequest`.
    #[prost(bytes = "bytes", tag = "2")]
    Send(Bytes),
    #[prost(message, tag = "3")]
    MarkRead(MarkReadRequest),
    #[prost(message, tag = "4")]
    Ping(Ping),
}

/// The only field of a `SendMessageRequest` that the gateway reads.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SendHead {
    #[prost(string, tag = "3")]
    pub(crate) client_message_id: String,
}

/// A frame to a device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Out {
    /// An inbox entry, its event encoded as a field of `Entry` once for all recipients.
    Entry { cursor: u64, event: Bytes },
    /// Any other `ConnectResponse`, encoded.
    Encoded(Bytes),
}

impl Out {
    pub(crate) fn frame(frame: connect_response::Frame) -> Self {
        Self::Encoded(ConnectResponse { frame: Some(frame) }.encode_to_vec().into())
    }

    /// Bytes on the wire, about.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Entry { event, .. } => event.len() + 16,
            Self::Encoded(bytes) => bytes.len(),
        }
    }

    fn put(self, to: &mut impl BufMut) {
        match self {
            Self::Entry { cursor, event } => {
                to.put_u8(ENTRY_OF_RESPONSE);
                encode_varint((1 + encoded_len_varint(cursor) + event.len()) as u64, to);
                to.put_u8(CURSOR_OF_ENTRY);
                encode_varint(cursor, to);
                to.put(event);
            }
            Self::Encoded(bytes) => to.put(bytes),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Out;
    type Decode = Frame;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for FrameCodec {
    type Item = Out;
    type Error = Status;

    fn encode(&mut self, item: Out, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.put(to);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFERS.0, BUFFERS.1)
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Frame>, Status> {
        let garbage = |_| ApiError::new(Reason::StreamProtocol, "not an encoded ConnectRequest").into();
        Frame::decode(from).map(Some).map_err(garbage)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFERS.0, BUFFERS.1)
    }
}

#[cfg(test)]
mod tests {
    use plaza_proto::{
        chat::v1::{Entry, Message as ChatMessage, SendMessageRequest, entry::Event},
        gateway::v1::{ConnectRequest, connect_request},
    };

    use super::*;

    #[test]
    fn a_shared_event_becomes_an_entry_of_its_own_cursor() {
        let message = ChatMessage { conversation_id: "d-1".into(), sequence: 7, ..ChatMessage::default() };
        let event: Bytes = Entry { cursor: 0, event: Some(Event::Message(message.clone())) }.encode_to_vec().into();
        for cursor in [1, 127, 128, u64::MAX] {
            let mut bytes = Vec::new();
            Out::Entry { cursor, event: event.clone() }.put(&mut bytes);
            let entry = Entry { cursor, event: Some(Event::Message(message.clone())) };
            assert_eq!(bytes, ConnectResponse { frame: Some(connect_response::Frame::Entry(entry)) }.encode_to_vec());
        }
    }

    #[test]
    fn a_message_to_send_is_not_decoded() {
        let request = SendMessageRequest { client_message_id: "id".into(), user_id: "to".into(), ..SendMessageRequest::default() };
        let frame = ConnectRequest { frame: Some(connect_request::Frame::Send(request.clone())) };
        let Some(Kind::Send(bytes)) = Frame::decode(frame.encode_to_vec().as_slice()).expect("a frame").kind else { panic!("not a send") };
        assert_eq!(SendHead::decode(bytes.clone()).expect("a head").client_message_id, "id");
        assert_eq!(SendMessageRequest::decode(bytes).expect("the request"), request);
    }
}
