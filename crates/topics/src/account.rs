//! Payloads of the `accounts` topic.

use bytes::Bytes;

/// Something about an account that others must know.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// The user, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub user: Bytes,
    /// When it happened, microseconds since the epoch.
    #[prost(uint64, tag = "2")]
    pub time: u64,
    /// What happened.
    #[prost(oneof = "Kind", tags = "3, 4")]
    pub kind: Option<Kind>,
}

/// What happened.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// A device was signed out: its access tokens issued at or before the event's time are void.
    #[prost(message, tag = "3")]
    DeviceRevoked(DeviceRevoked),
    /// Profile, settings or devices changed.
    #[prost(message, tag = "4")]
    ProfileChanged(ProfileChanged),
}

/// A device was signed out.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeviceRevoked {
    /// The device, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub device: Bytes,
}

/// Profile, settings or devices changed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProfileChanged {}
