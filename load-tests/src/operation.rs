//! What people do, and what of it is measured.

use serde::{Deserialize, Serialize};

/// A class of operation, with arrivals of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A message to a friend.
    SendDirect,
    /// A message to a group.
    SendGroup,
    /// A page of the inbox behind the newest entries.
    Sync,
    /// Marks the newest message as read.
    MarkRead,
    /// A ping on the live stream.
    Heartbeat,
    /// The list of conversations.
    ListConversations,
    /// A page of the timeline.
    Timeline,
    /// A post on Moments.
    Post,
    /// A like of a post that the liker was shown.
    Like,
    /// A comment on a post that the author of the comment was shown.
    Comment,
    /// A friend request between two who are none.
    Request,
}

impl Operation {
    /// Every class.
    pub const ALL: [Self; 11] = [
        Self::SendDirect,
        Self::SendGroup,
        Self::Sync,
        Self::MarkRead,
        Self::Heartbeat,
        Self::ListConversations,
        Self::Timeline,
        Self::Post,
        Self::Like,
        Self::Comment,
        Self::Request,
    ];

    /// What is measured from its scheduled start to its answer.
    #[must_use]
    pub fn measure(self) -> Measure {
        match self {
            Self::SendDirect => Measure::AckDirect,
            Self::SendGroup => Measure::AckGroup,
            Self::Sync => Measure::Sync,
            Self::MarkRead => Measure::MarkRead,
            Self::Heartbeat => Measure::Heartbeat,
            Self::ListConversations => Measure::ListConversations,
            Self::Timeline => Measure::Timeline,
            Self::Post => Measure::Post,
            Self::Like => Measure::Like,
            Self::Comment => Measure::Comment,
            Self::Request => Measure::Request,
        }
    }
}

/// A latency that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// A direct message, until it was acknowledged.
    AckDirect,
    /// A group message, until it was acknowledged.
    AckGroup,
    /// A direct message, until the other one's stream showed it.
    DeliverDirect,
    /// A group message, until a member's stream showed it: one figure for each member.
    DeliverGroup,
    /// A page of the inbox.
    Sync,
    /// A read position.
    MarkRead,
    /// A ping until its pong.
    Heartbeat,
    /// The list of conversations.
    ListConversations,
    /// A page of the timeline.
    Timeline,
    /// A post, until it was acknowledged.
    Post,
    /// A post, until it was on the timeline of one friend, asked every 20 ms: a sample of the posts.
    PostArrives,
    /// A like.
    Like,
    /// A comment.
    Comment,
    /// A friend request.
    Request,
    /// Its acceptance, from when the request was answered.
    Accept,
    /// A live stream, from when it was cut until it was welcomed again.
    Reconnect,
}

impl Measure {
    /// Every one.
    pub const ALL: [Self; 16] = [
        Self::AckDirect,
        Self::AckGroup,
        Self::DeliverDirect,
        Self::DeliverGroup,
        Self::Sync,
        Self::MarkRead,
        Self::Heartbeat,
        Self::ListConversations,
        Self::Timeline,
        Self::Post,
        Self::PostArrives,
        Self::Like,
        Self::Comment,
        Self::Request,
        Self::Accept,
        Self::Reconnect,
    ];

    /// Its place among all.
    #[must_use]
    pub fn place(self) -> usize {
        self as usize
    }

    /// Its name in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AckDirect => "send direct: ack",
            Self::AckGroup => "send group: ack",
            Self::DeliverDirect => "send direct: delivery",
            Self::DeliverGroup => "send group: delivery",
            Self::Sync => "sync page",
            Self::MarkRead => "mark read",
            Self::Heartbeat => "heartbeat",
            Self::ListConversations => "list conversations",
            Self::Timeline => "timeline page",
            Self::Post => "post: ack",
            Self::PostArrives => "post: arrival",
            Self::Like => "like",
            Self::Comment => "comment",
            Self::Request => "friend request",
            Self::Accept => "friend accept",
            Self::Reconnect => "reconnect",
        }
    }

    /// Whether an objective for acknowledgements holds for it.
    #[must_use]
    pub fn is_ack(self) -> bool {
        !self.is_delivery() && self != Self::Reconnect
    }

    /// Whether an objective for deliveries holds for it.
    #[must_use]
    pub fn is_delivery(self) -> bool {
        matches!(self, Self::DeliverDirect | Self::DeliverGroup | Self::PostArrives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_in_all() {
        assert!(Measure::ALL.iter().enumerate().all(|(place, measure)| measure.place() == place));
        let measures: std::collections::BTreeSet<_> = Operation::ALL.iter().map(|operation| operation.measure()).collect();
        assert_eq!(measures.len(), Operation::ALL.len());
    }
}
