//! Names of the metadata that services give each other. The gateway lets nothing of the kind in from outside.

use http::HeaderName;

/// The calling user: a UUID.
pub const USER: HeaderName = HeaderName::from_static("x-plaza-user");
/// The calling device: a UUID.
pub const DEVICE: HeaderName = HeaderName::from_static("x-plaza-device");
/// The overload class: the number of a `plaza.options.v1.Priority`.
pub const PRIORITY: HeaderName = HeaderName::from_static("x-plaza-priority");
/// How long the caller waits, as gRPC says it.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
