//! Randomness as everything inside the system draws it, so that a test can repeat a run by its seed.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// A source of random bytes, fit for keys and tokens. Clones of a seeded one share its sequence.
#[derive(Clone)]
pub struct Rng(Source);

#[derive(Clone)]
enum Source {
    System,
    Seeded(Arc<Mutex<StdRng>>),
}

impl Rng {
    /// The process's generator, seeded by the operating system.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A generator whose whole sequence follows from `seed`. For tests and load only: what it draws can be guessed.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(Mutex::new(StdRng::seed_from_u64(seed)))))
    }

    /// Fills `buffer` with random bytes.
    pub fn fill(&self, buffer: &mut [u8]) {
        match &self.0 {
            Source::System => rand::rng().fill_bytes(buffer),
            Source::Seeded(generator) => generator.lock().fill_bytes(buffer),
        }
    }

    /// A random array, such as the random part of an id.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number, all 64 bits of it.
    pub fn next_u64(&self) -> u64 {
        match &self.0 {
            Source::System => rand::rng().next_u64(),
            Source::Seeded(generator) => generator.lock().next_u64(),
        }
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Rng(system)",
            Source::Seeded(_) => "Rng(seeded)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_sequence_again_and_clones_share_it() {
        let (one, two) = (Rng::seeded(7), Rng::seeded(7));
        let shared = one.clone();
        let drawn = [one.next_u64(), shared.next_u64()];
        assert_eq!(drawn, [two.next_u64(), two.next_u64()]);
        assert_ne!(drawn[0], drawn[1]);
        assert_ne!(Rng::seeded(8).next_u64(), Rng::seeded(7).next_u64());
    }

    #[test]
    fn the_system_never_gives_the_same_bytes_twice() {
        let rng = Rng::system();
        assert_ne!(rng.bytes::<16>(), rng.bytes::<16>());
        assert_ne!(rng.next_u64(), rng.next_u64());
    }
}
