//! The stored form of states, checkpoints and request ids, the same in every kind of store.

use bytes::Bytes;
use prost::Message;

use crate::{Checkpoint, IdKey, Mark, Position, Remembered, StateRow, StoreError};

/// Stands for the caller of a record that has none.
pub(crate) const NOBODY: [u8; 16] = [0; 16];

#[derive(Clone, PartialEq, prost::Message)]
struct HotRow {
    #[prost(message, optional, tag = "1")]
    applied: Option<Position>,
    #[prost(uint64, tag = "2")]
    applied_time: u64,
    #[prost(bytes = "bytes", tag = "3")]
    hot: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CheckpointRow {
    #[prost(message, optional, tag = "1")]
    next: Option<Position>,
    #[prost(uint64, tag = "2")]
    last_time: u64,
    #[prost(message, repeated, tag = "3")]
    marks: Vec<MarkRow>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MarkRow {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(uint32, tag = "2")]
    partition: u32,
    #[prost(message, optional, tag = "3")]
    position: Option<Position>,
    #[prost(uint32, tag = "4")]
    index: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RequestRow {
    #[prost(message, optional, tag = "1")]
    position: Option<Position>,
    #[prost(fixed64, tag = "2")]
    fingerprint: u64,
    #[prost(bytes = "bytes", tag = "3")]
    outcome: Bytes,
}

impl From<CheckpointRow> for Checkpoint {
    fn from(row: CheckpointRow) -> Self {
        let mark = |mark: MarkRow| Mark {
            topic: mark.topic,
            partition: mark.partition,
            position: mark.position.unwrap_or_default(),
            index: mark.index,
        };
        Self { next: row.next.unwrap_or_default(), last_time: row.last_time, marks: row.marks.into_iter().map(mark).collect() }
    }
}

impl From<&Checkpoint> for CheckpointRow {
    fn from(checkpoint: &Checkpoint) -> Self {
        let mark = |mark: &Mark| MarkRow {
            topic: mark.topic.clone(),
            partition: mark.partition,
            position: Some(mark.position),
            index: mark.index,
        };
        let marks = checkpoint.marks.iter().map(mark).collect();
        Self { next: Some(checkpoint.next), last_time: checkpoint.last_time, marks }
    }
}

pub(crate) fn checkpoint(checkpoint: &Checkpoint) -> Vec<u8> {
    CheckpointRow::from(checkpoint).encode_to_vec()
}

pub(crate) fn read_checkpoint(row: Bytes) -> Result<Checkpoint, StoreError> {
    Ok(CheckpointRow::decode(row).map_err(malformed)?.into())
}

/// The part of a state that every write changes.
pub(crate) fn hot(row: &StateRow) -> Vec<u8> {
    HotRow { applied: Some(row.applied), applied_time: row.applied_time, hot: row.hot.clone() }.encode_to_vec()
}

pub(crate) fn read_state(hot: Bytes, cold: Bytes) -> Result<StateRow, StoreError> {
    let HotRow { applied, applied_time, hot } = HotRow::decode(hot).map_err(malformed)?;
    Ok(StateRow { applied: applied.unwrap_or_default(), applied_time, hot, cold })
}

pub(crate) fn remembered(remembered: &Remembered) -> Vec<u8> {
    let Remembered { position, fingerprint, outcome, .. } = remembered;
    RequestRow { position: Some(*position), fingerprint: *fingerprint, outcome: outcome.clone() }.encode_to_vec()
}

pub(crate) fn read_remembered(id: &IdKey, row: Bytes) -> Result<Remembered, StoreError> {
    let RequestRow { position, fingerprint, outcome } = RequestRow::decode(row).map_err(malformed)?;
    Ok(Remembered { id: id.clone(), position: position.unwrap_or_default(), fingerprint, outcome })
}

fn malformed(error: prost::DecodeError) -> StoreError {
    StoreError { message: format!("malformed row: {error}") }
}
