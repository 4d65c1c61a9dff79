//! The stored form of what stands at a place of an inbox: a tag, then conversation and sequence, or the event.

use bytes::{Buf, Bytes};
use plaza_processor::StoreError;
use plaza_types::ConversationId;

use super::malformed;
use crate::domain::inbox::Reference;

const MESSAGE: u8 = 0;
const EVENT: u8 = 1;

pub(super) fn encode(reference: &Reference) -> Vec<u8> {
    match reference {
        Reference::Message { conversation, sequence } => [&[MESSAGE][..], conversation.as_bytes(), &sequence.to_be_bytes()].concat(),
        Reference::Event(event) => [&[EVENT][..], event].concat(),
    }
}

pub(super) fn decode(value: &[u8]) -> Result<Reference, StoreError> {
    match value.split_first() {
        Some((&MESSAGE, rest)) if rest.len() == 25 => {
            let conversation = ConversationId::from_slice(&rest[..17]).ok_or_else(|| malformed("an entry"))?;
            Ok(Reference::Message { conversation, sequence: (&rest[17..]).get_u64() })
        }
        Some((&EVENT, event)) => Ok(Reference::Event(Bytes::copy_from_slice(event))),
        _ => Err(malformed("an entry")),
    }
}
