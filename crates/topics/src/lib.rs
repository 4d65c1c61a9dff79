//! Every topic once: its name, what its records' payloads are, who owns it and who reads it. Payloads are added to, never changed: records
//! of older binaries are replayed by newer ones.
//!
//! | topic | key | owner (applies it) | appended by | also read by |
//! | --- | --- | --- | --- | --- |
//! | `accounts` | user | nobody | accounts | gateway (revoked devices), chat relays [`account::Event`] to the inbox |
//! | `graph` | user | graph | graph API, graph itself | - |
//! | `chat` | conversation | chat's conversation processor | chat API, graph | - |
//! | `inbox` | user (or a partition's recipients) | chat's inbox processor | chat, graph, accounts, chat API | - |

use plaza_event_log::Topic;

pub mod account;
pub mod conversation;
pub mod graph;
pub mod inbox;

/// Account events, keyed by user; payload [`account::Event`], bare (no envelope).
pub const ACCOUNTS: Topic = Topic("accounts");
/// Commands and emissions to users' edges, keyed by user; payload [`graph::Payload`].
pub const GRAPH: Topic = Topic("graph");
/// Commands and emissions to conversations, keyed by conversation; payload [`conversation::Payload`].
pub const CHAT: Topic = Topic("chat");
/// What goes into users' inboxes, keyed by user, or empty when it names several users of the same partition; payload [`inbox::Payload`].
pub const INBOX: Topic = Topic("inbox");

/// All of them.
pub const ALL: [Topic; 4] = [ACCOUNTS, GRAPH, CHAT, INBOX];
