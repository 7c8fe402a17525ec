//! Bytes that do not compress, the same every time.

use rand::{Rng, SeedableRng};

pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    rand_chacha::ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut bytes);
    bytes
}
