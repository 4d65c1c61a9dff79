//! What every record of a processed topic is wrapped in.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

/// The value of a record: who asks, by when, where the answer goes, where it came from, and the payload of the topic.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    /// The number of the rules the record is to be decided by, stamped by who appends it.
    #[prost(uint32, tag = "1")]
    pub rules: u32,
    /// When it was made, microseconds since the epoch. An emission carries the write time of the record that caused it.
    #[prost(uint64, tag = "2")]
    pub time: u64,
    /// Past this write time nobody waits for it and it is refused, microseconds; 0 for emissions.
    #[prost(uint64, tag = "3")]
    pub deadline: u64,
    /// Who asks: the scope of the request id, 16 bytes; empty for emissions.
    #[prost(bytes = "bytes", tag = "4")]
    pub caller: Bytes,
    /// The caller's request id (UUIDv7), 16 bytes; empty for emissions.
    #[prost(bytes = "bytes", tag = "5")]
    pub request: Bytes,
    /// A hash of what is asked: the same id with another one is refused.
    #[prost(fixed64, tag = "6")]
    pub fingerprint: u64,
    /// Where the decision goes. An emission may carry the address of the command that caused it.
    #[prost(message, optional, tag = "7")]
    pub reply_to: Option<ReplyTo>,
    /// Of an emission: the record that caused it.
    #[prost(message, optional, tag = "8")]
    pub origin: Option<Origin>,
    /// The topic's payload.
    #[prost(bytes = "bytes", tag = "9")]
    pub payload: Bytes,
}

/// Where a decision goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct ReplyTo {
    /// The process that waits: a random number it made at start.
    #[prost(fixed64, tag = "1")]
    pub instance: u64,
    /// Which of its calls.
    #[prost(uint64, tag = "2")]
    pub call: u64,
    /// Where the process can be told, the upper half of an address of IP version 6; one of version 4 is mapped.
    #[prost(fixed64, tag = "3")]
    pub address_high: u64,
    /// The lower half.
    #[prost(fixed64, tag = "4")]
    pub address_low: u64,
    /// 0 where there is no other process.
    #[prost(uint32, tag = "5")]
    pub port: u32,
}

impl ReplyTo {
    /// A call of a process that can be told at this address, or only by itself.
    #[must_use]
    pub fn new(instance: u64, call: u64, address: Option<SocketAddr>) -> Self {
        let Some(address) = address else { return Self { instance, call, ..Self::default() } };
        let bits = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        Self { instance, call, address_high: (bits >> 64) as u64, address_low: bits as u64, port: address.port().into() }
    }

    /// Where the process can be told by others.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let port = u16::try_from(self.port).ok().filter(|port| *port != 0)?;
        let ip = Ipv6Addr::from_bits(u128::from(self.address_high) << 64 | u128::from(self.address_low));
        Some(SocketAddr::new(ip.to_canonical(), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_versions_come_back() {
        for address in ["127.0.0.1:7710", "10.1.2.3:65535", "[::1]:1", "[2001:db8::ff00:42:8329]:7710"] {
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(ReplyTo::new(1, 2, Some(address)).address(), Some(address));
        }
        assert_eq!(ReplyTo::new(1, 2, None).address(), None);
    }
}

/// The record an emission comes from, and its place among that record's emissions.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Origin {
    /// The topic.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// The partition.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// The topic's generation.
    #[prost(uint32, tag = "3")]
    pub generation: u32,
    /// The offset.
    #[prost(uint64, tag = "4")]
    pub offset: u64,
    /// A function of the record alone: key's place in the record and place among the key's emissions.
    #[prost(uint32, tag = "5")]
    pub index: u32,
}
