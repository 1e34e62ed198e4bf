//! About how long those who wait will wait, by past runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// The waits of a line, from its head on: whoever is next has the slot that is free first, for as long as a run usually
/// takes. What each takes of several slots, and with whom it shares, is left aside.
#[derive(Debug)]
pub(crate) struct Waits {
    /// How long until each slot is free.
    slots: BinaryHeap<Reverse<Duration>>,
    usual_run: Option<Duration>,
}

impl Waits {
    /// For a domain with so many slots, in which those who have a turn have so long left. Of more turns than slots, as
    /// when all are shared, the shortest make no room.
    pub(crate) fn new(mut lefts: Vec<Duration>, slots: u32, usual_run: Option<Duration>) -> Waits {
        lefts.sort_unstable_by_key(|left| Reverse(*left));
        lefts.truncate(usize::try_from(slots).unwrap_or(usize::MAX).max(1));
        Waits { slots: lefts.into_iter().map(Reverse).collect(), usual_run }
    }
}

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let Reverse(wait) = self.slots.pop()?;
        // Nobody knows how long this one will run, and so not when those behind it begin in this slot.
        if let Some(usual_run) = self.usual_run {
            self.slots.push(Reverse(wait.saturating_add(usual_run)));
        }
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(lefts: &[u64], slots: u32, usual: Option<u64>) -> Vec<u64> {
        let lefts = lefts.iter().map(|left| Duration::from_millis(*left)).collect();
        let waits = Waits::new(lefts, slots, usual.map(Duration::from_millis));
        waits.take(4).map(|wait| u64::try_from(wait.as_millis()).unwrap()).collect()
    }

    #[test]
    fn whoever_is_next_has_the_slot_that_is_free_first() {
        assert_eq!(waits(&[677], 1, Some(1_000)), [677, 1_677, 2_677, 3_677]);
        assert_eq!(waits(&[736, 677], 2, Some(1_000)), [677, 736, 1_677, 1_736]);
        assert_eq!(waits(&[0, 500], 2, Some(1_000)), [0, 500, 1_000, 1_500]);
    }

    #[test]
    fn nothing_is_made_up() {
        assert!(waits(&[], 1, Some(1_000)).is_empty());
        assert_eq!(waits(&[5_000], 1, None), [5_000], "the rest of a lease, and then nobody knows");
    }

    #[test]
    fn of_more_turns_than_slots_the_longest_are_waited_for() {
        assert_eq!(waits(&[100, 300, 200], 1, Some(1_000)), [300, 1_300, 2_300, 3_300]);
    }
}
