//! The hash that all tables go by which are looked into for every request.

use std::hash::BuildHasher;

use foldhash::SharedSeed;
use foldhash::fast::{FoldHasher, SeedableRandomState};

/// Hashes alike all over this process, and differently in the next one, so that nobody can prepare names which fall into
/// one place. Where an order would show, maps are not iterated, or sorted first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QuickHasher;

impl BuildHasher for QuickHasher {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> FoldHasher<'static> {
        SeedableRandomState::with_seed(0, SharedSeed::global_random()).build_hasher()
    }
}
