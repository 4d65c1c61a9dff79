//! Rule 6: emissions of one source partition first appear in the order of their origins, so one mark per source tells what is a duplicate.

use foldhash::HashMap;

use crate::{Mark, Origin, Position};

/// The live marks. A checkpoint takes a copy at the end of a batch.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Few topics, each with its partitions.
    topics: Vec<(String, HashMap<u32, Place>)>,
}

/// Up to where a source's emissions were seen.
type Place = (Position, u32);

impl Marks {
    /// As of a checkpoint.
    pub(crate) fn new(marks: Vec<Mark>) -> Self {
        let mut live = Self::default();
        for mark in marks {
            live.of(&mark.topic).insert(mark.partition, (mark.position, mark.index));
        }
        live
    }

    /// Whether this emission is at or below its source's mark; if not, it is the mark from now on.
    pub(crate) fn has_seen(&mut self, origin: &Origin) -> bool {
        let place = (Position { generation: origin.generation, offset: origin.offset }, origin.index);
        let partitions = self.of(&origin.topic);
        match partitions.get_mut(&origin.partition) {
            Some(mark) if place <= *mark => return true,
            Some(mark) => *mark = place,
            None => _ = partitions.insert(origin.partition, place),
        }
        false
    }

    pub(crate) fn copy(&self) -> Vec<Mark> {
        let marks = self.topics.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(|(partition, (position, index))| Mark {
                topic: topic.clone(),
                partition: *partition,
                position: *position,
                index: *index,
            })
        });
        let mut marks: Vec<_> = marks.collect();
        marks.sort_unstable_by(|one, other| (&one.topic, one.partition).cmp(&(&other.topic, other.partition)));
        marks
    }

    fn of(&mut self, topic: &str) -> &mut HashMap<u32, Place> {
        let place = self.topics.iter().position(|(known, _)| known == topic).unwrap_or_else(|| {
            self.topics.push((topic.to_owned(), HashMap::default()));
            self.topics.len() - 1
        });
        &mut self.topics[place].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(topic: &str, partition: u32, generation: u32, offset: u64, index: u32) -> Origin {
        Origin { topic: topic.to_owned(), partition, generation, offset, index }
    }

    #[test]
    fn each_source_has_its_own_mark_and_only_what_is_above_it_is_new() {
        let mut marks = Marks::default();
        assert!(!marks.has_seen(&origin("a", 0, 1, 5, 1)));
        assert!(marks.has_seen(&origin("a", 0, 1, 5, 1)));
        assert!(marks.has_seen(&origin("a", 0, 1, 5, 0)));
        assert!(marks.has_seen(&origin("a", 0, 1, 4, 9)));
        assert!(!marks.has_seen(&origin("a", 0, 1, 5, 2)));
        assert!(!marks.has_seen(&origin("a", 1, 1, 1, 0)));
        assert!(!marks.has_seen(&origin("b", 0, 1, 1, 0)));
    }

    #[test]
    fn a_new_generation_starts_anew_and_an_old_one_does_not_come_back() {
        let mut marks = Marks::default();
        assert!(!marks.has_seen(&origin("a", 0, 1, 500, 0)));
        assert!(!marks.has_seen(&origin("a", 0, 2, 1, 0)));
        assert!(marks.has_seen(&origin("a", 0, 1, 501, 0)));
    }

    #[test]
    fn a_copy_makes_the_same_marks() {
        let mut marks = Marks::default();
        marks.has_seen(&origin("b", 3, 1, 5, 1));
        marks.has_seen(&origin("a", 2, 1, 7, 0));
        let mut again = Marks::new(marks.copy());
        assert_eq!(again.copy(), marks.copy());
        assert!(again.has_seen(&origin("a", 2, 1, 7, 0)));
        assert!(!again.has_seen(&origin("a", 2, 1, 7, 1)));
    }
}
