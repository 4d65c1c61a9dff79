//! All chance of a run, from its seed (SplitMix64).

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// One sequence, shared by everything in a run. A run has one thread, so the order of draws is fixed.
pub(crate) struct Dice(AtomicU64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed.wrapping_mul(0xd134_2543_de82_ef95)))
    }

    pub(crate) fn draw(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `limit - 1`.
    pub(crate) fn below(&self, limit: usize) -> usize {
        (self.draw() % limit as u64) as usize
    }

    /// In so many of a thousand cases.
    pub(crate) fn happens(&self, per_mille: usize) -> bool {
        self.below(1000) < per_mille
    }

    pub(crate) fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub(crate) fn millis(&self, limit: usize) -> Duration {
        Duration::from_millis(self.below(limit) as u64)
    }

    pub(crate) fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
