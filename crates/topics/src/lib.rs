//! Every topic once: its name, what its records' payloads are, who owns it and who reads it. Payloads are added to, never changed: records
//! of older binaries are replayed by newer ones.
//!
//! | topic | key | owner (applies it) | appended by | also read by |
//! | --- | --- | --- | --- | --- |
//! | `accounts` | user | nobody | accounts | gateway (revoked devices), moments (settings), chat relays [`account::Event`] to the inbox |
//! | `graph` | user | graph | graph API, graph itself, moments (a post to be spread) | - |
//! | `edges` | user | nobody | graph | moments, which forgets what it kept of the edge |
//! | `chat` | conversation | chat's conversation processor | chat API, graph | - |
//! | `inbox` | user (or a partition's recipients) | chat's inbox processor | chat, graph, accounts, moments, chat API | - |
//! | `moments` | author | moments' posts processor | moments API, graph | - |
//! | `timeline` | viewer (or a partition's viewers) | moments' timeline processor | graph, moments | - |
//! | `notices` | author | nobody | moments | moments relays [`moments::Act`] to the inbox |

use plaza_event_log::Topic;

pub mod account;
pub mod conversation;
pub mod graph;
pub mod inbox;
pub mod moments;
pub mod timeline;

/// Account events, keyed by user; payload [`account::Event`], bare (no envelope).
pub const ACCOUNTS: Topic = Topic("accounts");
/// Commands and emissions to users' edges, keyed by user; payload [`graph::Payload`].
pub const GRAPH: Topic = Topic("graph");
/// Commands and emissions to conversations, keyed by conversation; payload [`conversation::Payload`].
pub const CHAT: Topic = Topic("chat");
/// What goes into users' inboxes, keyed by user, or empty when it names several users of the same partition; payload [`inbox::Payload`].
pub const INBOX: Topic = Topic("inbox");

/// What changed of users' edges, keyed by the edge's owner; payload [`graph::EdgeChanged`]. Its time is the write time of the rows it tells of.
pub const EDGES: Topic = Topic("edges");
/// Commands and emissions to authors and their posts, keyed by author; payload [`moments::Payload`].
pub const MOMENTS: Topic = Topic("moments");
/// What goes into viewers' timelines, keyed by viewer, or by something else when it names several viewers of the same partition; payload
/// [`timeline::Payload`].
pub const TIMELINE: Topic = Topic("timeline");
/// What was done to posts, keyed by author; payload [`moments::Act`].
pub const NOTICES: Topic = Topic("notices");

/// Topics whose records a processor applies, each with the topic in which it parks what cannot be decided.
pub const APPLIED: [(Topic, Topic); 5] = [
    (GRAPH, Topic("graph.dead")),
    (CHAT, Topic("chat.dead")),
    (INBOX, Topic("inbox.dead")),
    (MOMENTS, Topic("moments.dead")),
    (TIMELINE, Topic("timeline.dead")),
];
/// Topics that are only read.
pub const HEARD: [Topic; 3] = [ACCOUNTS, EDGES, NOTICES];

/// All of them.
pub fn all() -> impl Iterator<Item = Topic> {
    APPLIED.into_iter().flat_map(|(topic, parked)| [topic, parked]).chain(HEARD)
}
