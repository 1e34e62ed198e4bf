//! Which of 64 numbers in a row are there: a bit for each.
//!
//! Tickets that live, or wait in one line, or hang on one connection, mostly came one after the other. So tables of them
//! have an entry for each stretch of numbers, and not for each number.

use serde::{Deserialize, Serialize};

/// Numbers in a stretch.
const LENGTH: u64 = 64;

/// Some of the numbers from a multiple of 64 to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stretch(u64);

impl Stretch {
    /// Which stretch this number is in: stretches are numbered, too.
    pub(super) fn of(number: u64) -> u64 {
        number / LENGTH
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many are there.
    pub(super) fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub(super) fn has(self, number: u64) -> bool {
        self.0 & bit(number) != 0
    }

    /// How many are there that are smaller.
    pub(super) fn before(self, number: u64) -> usize {
        (self.0 & (bit(number) - 1)).count_ones() as usize
    }

    /// Whether it was not there before.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        let is_new = !self.has(number);
        self.0 |= bit(number);
        is_new
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let was_there = self.has(number);
        self.0 &= !bit(number);
        was_there
    }

    /// The smallest that is there, if this is the stretch with that number.
    pub(super) fn first(self, stretch: u64) -> Option<u64> {
        (!self.is_empty()).then(|| stretch * LENGTH + u64::from(self.0.trailing_zeros()))
    }

    /// The largest.
    pub(super) fn last(self, stretch: u64) -> Option<u64> {
        (!self.is_empty()).then(|| stretch * LENGTH + u64::from(self.0.ilog2()))
    }

    /// All that are there, in order.
    pub(super) fn numbers(self, stretch: u64) -> impl Iterator<Item = u64> {
        let rest = std::iter::successors(Some(self.0), |bits| Some(bits & bits.wrapping_sub(1)));
        rest.take_while(|bits| *bits != 0).map(move |bits| stretch * LENGTH + u64::from(bits.trailing_zeros()))
    }
}

fn bit(number: u64) -> u64 {
    1 << (number % LENGTH)
}
