//! Who is in a conversation, what each may do there, and who is asked to come in: the part of the state that is written when it changes.

use bytes::Bytes;
use plaza_topics::conversation::Side;
use plaza_types::{ConversationId, UserId, limits};

/// Who is in it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Roster {
    /// Whether it was ever opened; until then it does not exist for anybody.
    #[prost(bool, tag = "1")]
    pub(super) open: bool,
    /// The members; of a direct conversation its two sides.
    #[prost(message, repeated, tag = "2")]
    pub(super) members: Vec<Member>,
    /// What only a group has.
    #[prost(message, optional, tag = "3")]
    pub(super) group: Option<Group>,
    /// Those who are asked to come into the group.
    #[prost(message, repeated, tag = "4")]
    pub(super) pending: Vec<Pending>,
}

/// A member, and for a direct conversation how this one stands to the other.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Member {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) user: Bytes,
    #[prost(uint64, tag = "2")]
    pub(super) version: u64,
    #[prost(bool, tag = "3")]
    pub(super) lists: bool,
    #[prost(bool, tag = "4")]
    pub(super) blocks: bool,
    /// The role in a group.
    #[prost(enumeration = "Role", tag = "5")]
    pub(super) role: i32,
    /// Messages up to this sequence are before the member's time.
    #[prost(uint64, tag = "6")]
    pub(super) joined_at: u64,
    /// When the member came in, microseconds.
    #[prost(uint64, tag = "7")]
    pub(super) since: u64,
    /// How the member is called in the group.
    #[prost(string, tag = "8")]
    pub(super) nickname: String,
}

/// What a member of a group may do; more than the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
pub enum Role {
    /// Not in a group.
    None = 0,
    /// Talks.
    Member = 1,
    /// Describes the group, adds and removes members.
    Admin = 2,
    /// Everything; one in each group.
    Owner = 3,
}

/// What only a group has.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Group {
    #[prost(string, tag = "1")]
    pub(super) title: String,
    #[prost(string, tag = "2")]
    pub(super) notice: String,
    #[prost(bool, tag = "3")]
    pub(super) approval_required: bool,
    #[prost(bool, tag = "4")]
    pub(super) dissolved: bool,
    /// When it was made, microseconds.
    #[prost(uint64, tag = "5")]
    pub(super) created: u64,
}

/// Somebody who is asked to come in.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pending {
    /// Who, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub user: Bytes,
    /// The member who asks, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub inviter: Bytes,
    /// Since when, microseconds.
    #[prost(uint64, tag = "3")]
    pub since: u64,
    /// Whose answer is waited for.
    #[prost(enumeration = "Waits", tag = "4")]
    pub waits: i32,
    /// The title of the group at that time.
    #[prost(string, tag = "5")]
    pub title: String,
}

/// Whose answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
pub enum Waits {
    /// The invited person's.
    Invited = 0,
    /// The owner's or an admin's.
    Approval = 1,
}

impl Pending {
    /// Whether it can still be answered at this time.
    #[must_use]
    pub fn lives(&self, time: u64) -> bool {
        time <= self.since + limits::INVITATION_EXPIRY
    }
}

impl Roster {
    pub(super) fn has(&self, user: &[u8]) -> bool {
        self.member(user).is_some()
    }

    pub(super) fn member(&self, user: &[u8]) -> Option<&Member> {
        self.members.iter().find(|member| member.user == user)
    }

    /// A group's state, as long as it can change.
    pub(super) fn living(&self) -> Option<&Group> {
        self.group.as_ref().filter(|group| !group.dissolved)
    }

    /// Whether the two list each other and neither blocks.
    pub(super) fn friends(&self) -> bool {
        self.listed() && self.members.iter().all(|member| !member.blocks)
    }

    pub(super) fn listed(&self) -> bool {
        self.members.len() == 2 && self.members.iter().all(|member| member.lists)
    }

    /// Takes what is newer. `None` when nothing changes.
    pub(super) fn merged(&self, conversation: ConversationId, sides: &[Side]) -> Option<Self> {
        let mut merged = None;
        for side in sides {
            let pair = UserId::from_slice(&side.user).zip(UserId::from_slice(&side.other));
            if pair.is_none_or(|(user, other)| ConversationId::direct(user, other) != conversation) {
                continue;
            }
            let roster: &mut Self = merged.get_or_insert_with(|| self.clone());
            let place = roster.members.iter().position(|member| member.user == side.user).unwrap_or_else(|| {
                roster.members.push(Member { user: Bytes::copy_from_slice(&side.user), ..Member::default() });
                roster.members.len() - 1
            });
            let known = &mut roster.members[place];
            if side.version > known.version {
                known.version = side.version;
                known.lists = side.lists;
                known.blocks = side.blocks;
            }
        }
        merged.filter(|merged| merged != self)
    }
}
