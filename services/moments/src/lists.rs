//! Pages of posts and notices. What the store lists are candidates; a page is filled with those that the viewer sees. It goes on below the
//! last one shown, so whatever comes meanwhile is above it.

use plaza_proto::moments::v1 as api;
use plaza_types::UserId;
use tonic::Status;

use crate::{
    commands::store,
    domain::post::{Post, PostId},
    store::{Place, Position},
    view::{Sight, View},
};

/// Candidates read for one page at most; above that the page ends early and says where to go on.
const CANDIDATES: usize = 2_000;
/// Candidates read at once at most.
const AT_ONCE: usize = 200;

/// What came of a page.
pub(crate) struct Page<T> {
    /// Those shown.
    pub(crate) items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub(crate) next: Option<Position>,
}

/// A page while it is filled.
struct Filling<T> {
    size: usize,
    items: Vec<(Place, T)>,
    position: Position,
    read: usize,
}

impl<T> Filling<T> {
    fn new(from: Position, size: usize) -> Self {
        Self { size, items: Vec::new(), position: from, read: 0 }
    }

    /// How many candidates to read next.
    fn wanted(&self) -> usize {
        // One more than is shown tells whether the page is the last.
        (self.size + 1 - self.items.len()).clamp(20, AT_ONCE)
    }

    /// Takes what was seen of the candidates read next. Tells whether to read on.
    fn take(&mut self, candidates: &[Place], seen: impl Iterator<Item = (Place, T)>) -> bool {
        self.read += candidates.len();
        self.items.extend(seen);
        if let Some(last) = candidates.last() {
            self.position = after(*last);
        }
        self.items.len() <= self.size && self.read < CANDIDATES
    }

    /// The page. `ended` says that there are no more candidates.
    fn page(mut self, ended: bool) -> Page<T> {
        let more = self.items.len() > self.size;
        self.items.truncate(self.size);
        let last = self.items.last().map(|(place, _)| *place);
        let next = match (more, ended) {
            (true, _) => last.map(after),
            (false, true) => None,
            // A token is readable, so the place where reading stopped is told by its time alone: the post there may be hidden.
            (false, false) => {
                let after = last.filter(|last| last.created == self.position.time).map(|last| last.post);
                Some(Position { time: self.position.time, after })
            }
        };
        Page { items: self.items.into_iter().map(|(_, item)| item).collect(), next }
    }
}

fn after(place: Place) -> Position {
    Position { time: place.created, after: Some(place.post) }
}

impl View {
    /// A page of a viewer's timeline: the references, and the viewer's own posts.
    pub(crate) async fn timeline(&self, viewer: UserId, from: Position, size: usize) -> Result<Page<api::Post>, Status> {
        let mut sight = self.sight(viewer).await;
        let mut filling = Filling::new(from, size);
        let ended = loop {
            let wanted = filling.wanted();
            let references = self.store.references(viewer, filling.position, wanted).await.map_err(store)?;
            let own = self.store.own(viewer, filling.position, wanted).await.map_err(store)?;
            let mut candidates = [references, own].concat();
            candidates.sort_unstable_by_key(|place| (std::cmp::Reverse(place.created), place.post));
            candidates.truncate(wanted);
            let seen = self.seen_of(&mut sight, &candidates).await?;
            let ended = candidates.len() < wanted;
            if !filling.take(&candidates, seen.into_iter()) || ended {
                break ended;
            }
        };
        self.shown_page(sight, filling.page(ended)).await
    }

    /// A page of one author's posts.
    pub(crate) async fn posts_of(&self, viewer: UserId, author: UserId, from: Position, size: usize) -> Result<Page<api::Post>, Status> {
        let mut sight = self.sight(viewer).await;
        self.meet_authors(&mut sight, vec![author]).await?;
        let Some(begins) = sight.begins(author) else { return Ok(Page { items: Vec::new(), next: None }) };
        let mut filling = Filling::new(from, size);
        let ended = loop {
            let wanted = filling.wanted();
            let mut candidates = self.store.own(author, filling.position, wanted).await.map_err(store)?;
            // Those from before are hidden whatever they are, and so is how many there are.
            candidates.retain(|place| place.created >= begins);
            let seen = self.seen_of(&mut sight, &candidates).await?;
            let ended = candidates.len() < wanted;
            if !filling.take(&candidates, seen.into_iter()) || ended {
                break ended;
            }
        };
        self.shown_page(sight, filling.page(ended)).await
    }

    async fn seen_of(&self, sight: &mut Sight, candidates: &[Place]) -> Result<Vec<(Place, (PostId, Post))>, Status> {
        let ids: Vec<PostId> = candidates.iter().map(|place| place.post).collect();
        let seen = self.seen(sight, &ids).await?;
        Ok(seen.into_iter().map(|(id, post)| (Place { created: post.created, post: id }, (id, post))).collect())
    }

    async fn shown_page(&self, mut sight: Sight, page: Page<(PostId, Post)>) -> Result<Page<api::Post>, Status> {
        Ok(Page { items: self.show(&mut sight, &page.items).await?, next: page.next })
    }

    /// A page of a user's notices.
    pub(crate) async fn notices_of(&self, viewer: UserId, from: Position, size: usize) -> Result<Page<api::Notice>, Status> {
        let mut sight = self.sight(viewer).await;
        let mut filling = Filling::new(from, size);
        let ended = loop {
            let wanted = filling.wanted();
            let notices = self.store.notices(viewer, filling.position, wanted).await.map_err(store)?;
            let places: Vec<Place> = notices.iter().map(|notice| Place { created: notice.time, post: notice.post }).collect();
            let known = self.notices(&mut sight, &notices).await?;
            let ended = places.len() < wanted;
            if !filling.take(&places, known.into_iter().map(|(at, notice)| (places[at], notice))) || ended {
                break ended;
            }
        };
        Ok(filling.page(ended))
    }
}
