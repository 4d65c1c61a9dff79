//! What is kept of groups and of what users deleted, beside the store's other questions. Written by the two processors only.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use plaza_processor::StoreError;
use plaza_types::{ConversationId, UserId};

use crate::domain::conversation::row::{Group, GroupMember, Pending};

/// The questions about groups.
#[async_trait]
pub trait Groups: Send + Sync {
    /// A group; `None` for what is none.
    async fn group(&self, conversation: ConversationId) -> Result<Option<Group>, StoreError>;

    /// A member of a group; `None` for who is none now.
    async fn group_member(&self, conversation: ConversationId, user: UserId) -> Result<Option<GroupMember>, StoreError>;

    /// At most `limit` members of a group, in the order of their ids, after one.
    async fn group_members(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, GroupMember)>, StoreError>;

    /// At most `limit` of those whom owner or an admin may agree to, in the order of their ids, after one. Expired ones too.
    async fn join_requests(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Pending)>, StoreError>;

    /// At most `limit` of a user's invitations, in the order of the groups' ids, after one. Expired ones too.
    async fn invitations(
        &self,
        user: UserId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<(ConversationId, Pending)>, StoreError>;

    /// How many places of a group's order up to this one are no messages.
    async fn notices(&self, conversation: ConversationId, sequence: u64) -> Result<u64, StoreError>;

    /// The newest message up to this one by which somebody else calls everybody; 0 for none.
    async fn called_all(&self, conversation: ConversationId, sequence: u64, user: UserId) -> Result<u64, StoreError>;

    /// Which of these messages a user deleted, in order.
    async fn deleted(&self, user: UserId, conversation: ConversationId, sequences: RangeInclusive<u64>) -> Result<Vec<u64>, StoreError>;

    /// Whether a user deleted anything, ever.
    async fn has_deleted(&self, user: UserId) -> Result<bool, StoreError>;
}
