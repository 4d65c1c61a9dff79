//! What is written outside the state and read by the API. A row is rewritten whole; "gone" is a value of it.

use plaza_types::{ClientId, UserId, limits::REQUEST_EXPIRY};

/// A row of one user's edges. `owner` is always the user whose state decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// Somebody in a list, or no longer in it.
    Contact(Contact),
    /// A name the owner gave.
    Remark(Remark),
    /// A block, or its end.
    Blocked(Blocked),
    /// One asking; never rewritten with other content.
    Request(Request),
    /// The newest asking of a pair in one direction, and what became of it.
    RequestStatus(RequestStatus),
}

/// Somebody in the owner's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Whose list.
    pub owner: UserId,
    /// Who.
    pub other: UserId,
    /// In the list, or gone.
    pub listed: bool,
    /// Since when, microseconds.
    pub since: u64,
    /// Starred by the owner.
    pub starred: bool,
    /// What the owner allows them.
    pub permissions: Permissions,
    /// The owner's tags on them.
    pub tags: Vec<String>,
}

/// What the owner allows one contact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Neither sees the other's Moments.
    pub chat_only: bool,
    /// The contact does not see the owner's Moments.
    pub hide_my_moments: bool,
    /// The owner does not see the contact's Moments.
    pub hide_their_moments: bool,
}

/// The owner's own name for a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Whose list.
    pub owner: UserId,
    /// Who.
    pub other: UserId,
    /// Empty for none.
    pub remark: String,
}

/// Whether the owner blocks somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// Who blocks.
    pub owner: UserId,
    /// Whom.
    pub other: UserId,
    /// Blocks, or no longer.
    pub blocked: bool,
}

/// Which of the owner's two lists of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// Those the owner received.
    Received,
    /// Those the owner sent.
    Sent,
}

/// One asking as its sender or its receiver has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whose list.
    pub owner: UserId,
    /// Which list.
    pub kept_in: Folder,
    /// The other side.
    pub other: UserId,
    /// The request id.
    pub request: ClientId,
    /// When it was sent, microseconds.
    pub time: u64,
    /// What the sender wrote.
    pub note: String,
    /// How they met; empty for not said.
    pub source: String,
}

/// What became of the newest asking of a pair in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestStatus {
    /// Whose list.
    pub owner: UserId,
    /// Which list.
    pub kept_in: Folder,
    /// The other side.
    pub other: UserId,
    /// When the newest one was sent, microseconds: requests of another time are superseded.
    pub time: u64,
    /// What became of it, but for expiry.
    pub status: Status,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Waiting, or expired: time tells.
    Pending,
    /// The two became friends.
    Accepted,
    /// Set aside by its receiver, in whose list alone it says so.
    Ignored,
    /// Taken back by its sender, who removed the other from the list.
    Withdrawn,
}

/// Whether a request sent then still waits for an answer now; both in microseconds.
#[must_use]
pub fn is_open(sent: u64, now: u64) -> bool {
    now < sent.saturating_add(REQUEST_EXPIRY)
}
