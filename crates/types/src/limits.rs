//! Limits of the product, in one place. Characters are Unicode scalar values; sizes are bytes of UTF-8; times are microseconds.

/// One second.
pub const SECOND: u64 = 1_000_000;
/// One day.
pub const DAY: u64 = 86_400 * SECOND;

/// How long a client id is remembered: the same id within it is the same request.
pub const REQUEST_WINDOW: u64 = DAY;
/// How far a client id's time may lie ahead of the server's.
pub const REQUEST_AHEAD: u64 = 600 * SECOND;

/// Items of a page when the caller does not say.
pub const PAGE_DEFAULT: u32 = 50;
/// Items of a page at most.
pub const PAGE_MAX: u32 = 200;

/// Shortest and longest handle, characters.
pub const HANDLE: std::ops::RangeInclusive<usize> = 6..=20;
/// Shortest and longest password, characters.
pub const PASSWORD: std::ops::RangeInclusive<usize> = 8..=128;
/// Shortest and longest display name, characters.
pub const DISPLAY_NAME: std::ops::RangeInclusive<usize> = 1..=64;
/// Longest text of a message, bytes.
pub const TEXT_BYTES: usize = 16 * 1024;

/// Contacts of one user.
pub const CONTACTS: usize = 10_000;
/// Different tags of one user.
pub const TAGS: usize = 200;
/// Longest note of a friend request, characters.
pub const REQUEST_NOTE: usize = 100;
/// New friend requests of one sender within a day.
pub const REQUESTS_PER_DAY: usize = 50;
/// Pending friend requests of one sender.
pub const REQUESTS_PENDING: usize = 500;
/// Unanswered friend requests of one sender to one person.
pub const REQUESTS_UNANSWERED: u32 = 3;
/// How long a friend request waits for an answer.
pub const REQUEST_EXPIRY: u64 = 10 * DAY;

/// Posts of one author within a day (UTC), those deleted meanwhile included: their places in lists stay. So a day of somebody with [`CONTACTS`]
/// friends has 500,000 references of some 60 bytes at most, 30 MB, and a partition of the store may have 100 MB.
pub const POSTS_PER_DAY: usize = 50;

/// Members of a group, the invited included, unless configured otherwise.
pub const GROUP_MEMBERS: usize = 500;
/// Members a group has at least when it is made.
pub const GROUP_SMALLEST: usize = 2;
/// Up to so many members people are added without being asked; those beyond must accept.
pub const GROUP_OPEN: usize = 40;
/// Shortest and longest title of a group, characters.
pub const GROUP_TITLE: std::ops::RangeInclusive<usize> = 1..=64;
/// Longest notice of a group, characters.
pub const GROUP_NOTICE: usize = 2_000;
/// Longest name of a member in a group, characters.
pub const GROUP_NICKNAME: usize = 64;
/// How long an invitation to a group, or a wish to add somebody, waits for an answer.
pub const INVITATION_EXPIRY: u64 = 10 * DAY;
/// How long after it was sent a message can be taken back.
pub const RECALL_WINDOW: u64 = 120 * SECOND;
/// Messages deleted by one call.
pub const DELETED_AT_ONCE: usize = 100;
