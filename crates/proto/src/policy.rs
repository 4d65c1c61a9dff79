//! What the descriptors say about each method: who may call it, how important it is, how often, how large. The gateway and the coverage
//! test read methods only from here, so a new method is known to both by being declared.

use std::{collections::HashMap, sync::LazyLock};

use prost::Message;

use crate::options::v1::{Access, Policy};

/// One method of one service.
#[derive(Debug, Clone)]
pub struct Method {
    /// The path of its calls, `/package.Service/Method`.
    pub path: String,
    /// `package.Service`.
    pub service: String,
    /// Whether the client sends a stream.
    pub client_streaming: bool,
    /// Whether the server answers with a stream.
    pub server_streaming: bool,
    /// What its declaration says.
    pub policy: Policy,
}

/// Largest request of a method that does not say, in bytes.
pub const DEFAULT_MAX_REQUEST_BYTES: u32 = 64 * 1024;

impl Method {
    /// Whether anybody outside may call it.
    #[must_use]
    pub fn is_public(&self) -> bool {
        !matches!(self.policy.access(), Access::Internal | Access::Unspecified)
    }

    /// Largest request in bytes.
    #[must_use]
    pub fn max_request_bytes(&self) -> usize {
        let limit = match self.policy.max_request_bytes {
            0 => DEFAULT_MAX_REQUEST_BYTES,
            limit => limit,
        };
        limit as usize
    }
}

/// Every declared method by its path.
#[must_use]
pub fn methods() -> &'static HashMap<String, Method> {
    static METHODS: LazyLock<HashMap<String, Method>> = LazyLock::new(|| read(crate::DESCRIPTORS));
    &METHODS
}

// `prost_types::MethodOptions` drops extensions, so the few messages on the way to them are read by these partial copies of descriptor.proto.
#[derive(Clone, PartialEq, Message)]
struct Files {
    #[prost(message, repeated, tag = "1")]
    file: Vec<File>,
}
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    service: Vec<Service>,
}
#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    method: Vec<Declared>,
}
#[derive(Clone, PartialEq, Message)]
struct Declared {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    options: Option<Options>,
    #[prost(bool, tag = "5")]
    client_streaming: bool,
    #[prost(bool, tag = "6")]
    server_streaming: bool,
}
#[derive(Clone, PartialEq, Message)]
struct Options {
    #[prost(message, optional, tag = "50701")]
    policy: Option<Policy>,
}

fn read(descriptors: &[u8]) -> HashMap<String, Method> {
    let files = Files::decode(descriptors).expect("the build wrote the descriptors");
    let mut methods = HashMap::new();
    for file in files.file {
        for service in file.service {
            let full = format!("{}.{}", file.package, service.name);
            for declared in service.method {
                let path = format!("/{full}/{}", declared.name);
                let policy = declared.options.and_then(|options| options.policy).unwrap_or_default();
                let method = Method {
                    path: path.clone(),
                    service: full.clone(),
                    client_streaming: declared.client_streaming,
                    server_streaming: declared.server_streaming,
                    policy,
                };
                methods.insert(path, method);
            }
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_says_who_may_call_it() {
        assert!(methods().len() > 30);
        for method in methods().values() {
            assert_ne!(method.policy.access(), Access::Unspecified, "{}", method.path);
            assert!(!method.is_public() || method.policy.priority() as i32 > 0, "{}", method.path);
        }
    }

    #[test]
    fn options_are_read_as_declared() {
        let send = &methods()["/plaza.chat.v1.ChatService/SendMessage"];
        assert_eq!(send.policy.access(), Access::User);
        assert_eq!(send.max_request_bytes(), 32768);
        assert!(!methods()["/plaza.chat.v1.LiveService/Link"].is_public());
    }
}
