//! Checksums: the first eight bytes of a SHA-256.

use sha2::{Digest, Sha256};

/// Those of what was put into `digest`.
pub(super) fn first_eight(digest: Sha256) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&digest.finalize()[..8]);
    first
}
