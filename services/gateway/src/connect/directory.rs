//! Which chat instance owns which inboxes, as the instances say on their links. A device is attached to the owner of its user's inbox; when
//! that changes, the device goes there with the cursor it has. Two can say that they own a partition while one does not know yet that it lost
//! it: the later epoch counts. To have it wrong for a moment costs a device nothing but time, for its entries wait for it.

use std::collections::HashMap;

use plaza_proto::chat::v1::{Ask, Owned};
use plaza_types::{UserId, partition};
use tokio::sync::mpsc;

/// A link, by a number that is never used again.
pub(crate) type LinkId = u64;

/// Where asks go. Sends and asks are bounded: the ones by the unanswered, the others by the number of streams.
pub(crate) type Asks = mpsc::UnboundedSender<Ask>;

/// The links and where each partition's devices go.
#[derive(Default)]
pub(crate) struct Directory {
    links: HashMap<LinkId, Linked>,
    /// By partition. Empty until the first instance says how many there are.
    routes: Vec<Option<Route>>,
}

struct Linked {
    asks: Asks,
    epochs: HashMap<u32, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    epoch: u64,
    link: LinkId,
}

/// The partitions whose devices must go elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Moved(Vec<bool>);

impl Moved {
    /// Whether a user's devices must.
    pub(crate) fn concerns(&self, user: UserId) -> bool {
        self.0.get(partition_of(user, self.0.len())).copied().unwrap_or_default()
    }
}

impl Directory {
    pub(crate) fn linked(&mut self, id: LinkId, asks: Asks) {
        self.links.insert(id, Linked { asks, epochs: HashMap::new() });
    }

    pub(crate) fn unlinked(&mut self, id: LinkId) -> Moved {
        self.links.remove(&id);
        self.route(self.routes.len())
    }

    /// What the instance behind a link owns now.
    pub(crate) fn owned(&mut self, id: LinkId, owned: &Owned) -> Moved {
        if let Some(link) = self.links.get_mut(&id) {
            link.epochs = owned.owned.iter().map(|owned| (owned.partition, owned.epoch)).collect();
        }
        self.route(owned.partitions as usize)
    }

    fn route(&mut self, partitions: usize) -> Moved {
        // Another number of partitions puts every user elsewhere.
        let known = if self.routes.len() == partitions { std::mem::take(&mut self.routes) } else { Vec::new() };
        let owner = |partition: u32| {
            let claims = self.links.iter().filter_map(|(link, linked)| Some(Route { epoch: *linked.epochs.get(&partition)?, link: *link }));
            claims.max_by_key(|route| (route.epoch, route.link))
        };
        let routes: Vec<_> = (0..partitions).map(|partition| owner(u32::try_from(partition).unwrap_or(u32::MAX))).collect();
        let moved = routes.iter().enumerate().map(|(partition, route)| known.get(partition) != Some(route)).collect();
        self.routes = routes;
        Moved(moved)
    }

    /// The link to the owner of a user's inbox.
    pub(crate) fn of(&self, user: UserId) -> Option<LinkId> {
        self.routes.get(partition_of(user, self.routes.len())).copied().flatten().map(|route| route.link)
    }

    /// A link's way in.
    pub(crate) fn asks(&self, link: LinkId) -> Option<&Asks> {
        self.links.get(&link).map(|linked| &linked.asks)
    }

    /// Any link: what is asked of it is decided by whoever owns it, wherever that is.
    pub(crate) fn any(&self) -> Option<LinkId> {
        self.links.keys().next().copied()
    }

    pub(crate) fn links(&self) -> usize {
        self.links.len()
    }
}

fn partition_of(user: UserId, partitions: usize) -> usize {
    partition::of(user.as_bytes(), u32::try_from(partitions).unwrap_or(u32::MAX)) as usize
}

#[cfg(test)]
mod tests {
    use plaza_proto::chat::v1::Ownership;

    use super::*;

    fn owned(partitions: u32, owned: &[(u32, u64)]) -> Owned {
        Owned { partitions, owned: owned.iter().map(|(partition, epoch)| Ownership { partition: *partition, epoch: *epoch }).collect() }
    }

    /// One for each of two partitions.
    fn users() -> [UserId; 2] {
        [0, 1].map(|wanted| {
            let mut users = (0..=u8::MAX).map(|byte| UserId::from_bytes([byte; 16]));
            users.find(|user| partition_of(*user, 2) == wanted).expect("users are spread")
        })
    }

    fn link(directory: &mut Directory, id: LinkId) {
        directory.linked(id, mpsc::unbounded_channel().0);
    }

    #[test]
    fn each_device_goes_to_the_owner_and_moves_only_when_that_changes() {
        let ([first, second], mut directory) = (users(), Directory::default());
        link(&mut directory, 1);
        assert_eq!(directory.of(first), None, "nobody said what they own");
        assert!(directory.owned(1, &owned(2, &[(0, 5), (1, 5)])).concerns(first));
        assert_eq!((directory.of(first), directory.of(second)), (Some(1), Some(1)));
        link(&mut directory, 2);
        assert!(directory.owned(1, &owned(2, &[(0, 5)])).concerns(second));
        assert_eq!((directory.of(first), directory.of(second)), (Some(1), None));
        let moved = directory.owned(2, &owned(2, &[(1, 9)]));
        assert!(moved.concerns(second) && !moved.concerns(first));
        assert_eq!((directory.of(first), directory.of(second)), (Some(1), Some(2)));
    }

    #[test]
    fn the_later_of_two_owners_counts_until_it_is_gone() {
        let ([first, _], mut directory) = (users(), Directory::default());
        link(&mut directory, 1);
        link(&mut directory, 2);
        directory.owned(2, &owned(2, &[(0, 9)]));
        assert!(!directory.owned(1, &owned(2, &[(0, 5)])).concerns(first), "an owner that does not know yet");
        assert_eq!(directory.of(first), Some(2));
        assert!(directory.unlinked(2).concerns(first));
        assert_eq!(directory.of(first), Some(1));
        assert!(directory.owned(1, &owned(2, &[(0, 10)])).concerns(first), "lost and owned again: nothing is attached there");
    }

    #[test]
    fn another_number_of_partitions_moves_everybody() {
        let ([first, second], mut directory) = (users(), Directory::default());
        link(&mut directory, 1);
        directory.owned(1, &owned(1, &[(0, 5)]));
        let moved = directory.owned(1, &owned(2, &[(0, 5), (1, 5)]));
        assert!(moved.concerns(first) && moved.concerns(second));
    }
}
