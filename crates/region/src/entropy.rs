use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

/// What the shell reads from the operating system once, at its edge.
pub type Seed = [u8; 32];

/// A seeded source of unpredictable values for a pure machine.
pub struct Entropy(ChaCha12Rng);

impl Entropy {
    pub fn new(seed: Seed) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A seed for a machine inside this one.
    pub fn seed(&mut self) -> Seed {
        self.bytes()
    }

    /// Lower-case hexadecimal of `N` random bytes.
    pub fn hex<const N: usize>(&mut self) -> String {
        hex::encode(self.bytes::<N>())
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy(..)")
    }
}
