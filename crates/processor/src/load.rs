//! Loading what a batch needs and memory does not have, each in one concurrent read. The checkpoint was read before.

use foldhash::HashSet;

use crate::{Key, Machine, decide::Decider, item::Item, partition::GivenUp, remembered::Known, retry::until_done, states::Entry};

impl<M: Machine> Decider<'_, M> {
    /// All states that are missing, in one concurrent read. The checkpoint was read before.
    pub(crate) async fn load_states(&mut self, items: &[Item<M::Payload>]) -> Result<(), GivenUp> {
        let mut seen = HashSet::default();
        let keys = items.iter().flat_map(|item| &item.keys);
        let missing: Vec<Key> = keys.filter(|key| !self.states.contains(key) && seen.insert(*key)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let deps = &self.partition.deps;
        let rows = until_done(&deps.config, "read states", || deps.store.states(M::NAME, &missing)).await;
        for (key, row) in missing.iter().zip(rows) {
            #[cfg(feature = "mistakes")]
            crate::mistakes::note_loaded(self.partition, key, row.as_ref());
            let entry = match row {
                Some(row) => Entry::loaded(self.partition.machine.decode(&row)?, &row),
                None => Entry::new(),
            };
            self.states.insert(key, entry);
        }
        Ok(())
    }

    /// What the store knows of the request ids that memory may have forgotten, in one concurrent read.
    pub(crate) async fn load_history(&mut self, items: &mut [Item<M::Payload>]) -> Result<(), GivenUp> {
        let (mut places, mut ids) = (Vec::new(), Vec::new());
        for (place, item) in items.iter().enumerate() {
            if let Some((asked, id)) = item.asked.zip(item.id())
                && self.states.of(&id.key).ids.must_look_up(&asked)
                && !self.is_applied(item)
            {
                places.push(place);
                ids.push(id);
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        let deps = &self.partition.deps;
        let rows = until_done(&deps.config, "read request ids", || deps.store.remembered(M::NAME, &ids)).await;
        for (place, row) in places.into_iter().zip(rows) {
            if let Some(row) = row {
                items[place].history = Known::from_history(row, items[place].position)?;
            }
        }
        Ok(())
    }
}
