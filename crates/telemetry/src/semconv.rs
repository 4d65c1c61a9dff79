//! The only place that knows OpenTelemetry's names (semantic conventions 1.45): they still change for messaging.

use tonic::Code;

/// Attribute: which kind of RPC, [`GRPC`] here.
pub const RPC_SYSTEM_NAME: &str = "rpc.system.name";
/// Value of [`RPC_SYSTEM_NAME`].
pub const GRPC: &str = "grpc";
/// Attribute: the full method, `plaza.chat.v1.ChatService/SendMessage`.
pub const RPC_METHOD: &str = "rpc.method";
/// Value of [`RPC_METHOD`] for a method that is not known here.
pub const OTHER: &str = "_OTHER";
/// Attribute: how a call ended, by [`status_code`].
pub const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";
/// Attribute: a short name of what went wrong.
pub const ERROR_TYPE: &str = "error.type";
/// Metric: duration of the calls answered, seconds.
pub const RPC_SERVER_CALL_DURATION: &str = "rpc.server.call.duration";

/// Attribute: which kind of log, such as `kafka`.
pub const MESSAGING_SYSTEM_NAME: &str = "messaging.system.name";
/// Attribute: the topic.
pub const MESSAGING_DESTINATION_NAME: &str = "messaging.destination.name";
/// Attribute: the partition, as text.
pub const MESSAGING_DESTINATION_PARTITION_ID: &str = "messaging.destination.partition.id";
/// Attribute: the consumer group, here the processor.
pub const MESSAGING_CONSUMER_GROUP_NAME: &str = "messaging.consumer.group.name";
/// Attribute: [`SEND`] or [`PROCESS`].
pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
/// Attribute: how many records a span is about.
pub const MESSAGING_BATCH_MESSAGE_COUNT: &str = "messaging.batch.message_count";
/// Attribute: a record's place in its partition.
pub const KAFKA_OFFSET: &str = "kafka.offset";
/// Value of [`MESSAGING_OPERATION_TYPE`].
pub const SEND: &str = "send";
/// Value of [`MESSAGING_OPERATION_TYPE`].
pub const PROCESS: &str = "process";

/// Value of [`RPC_RESPONSE_STATUS_CODE`].
pub const fn status_code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
