//! The order of arrival in one line.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::protocol::Ticket;

use super::stretch::Stretch;

/// Slots of a line that has just got its first waiter.
const SLOTS_MIN: usize = 4;

/// Waiters in order of arrival, which is the order of their tickets.
///
/// A slot has those of one stretch of tickets, so that a long line takes little room. Places are counted by a Fenwick
/// tree (Fenwick 1994, "A new data structure for cumulative frequency tables") laid over a ring of slots, so that leaving
/// and asking for a place cost O(log n). A slot in the middle whose waiters have all left stays until the head or the
/// tail passes it. Only entering ever makes room, at O(1) amortised: a turn that changes hands never pays for it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Order {
    /// Somebody waits in the first and in the last one, unless there is none.
    slots: VecDeque<Slot>,
    /// Where in the ring the first slot is counted.
    start: usize,
    /// The Fenwick tree. Its length is how many slots there may be: zero, or a power of two.
    tree: Vec<u32>,
    waiting: usize,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Slot {
    /// The number of its stretch.
    number: u64,
    waiters: Stretch,
}

impl Order {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Who is next.
    pub(super) fn head(&self) -> Option<Ticket> {
        self.slots.front().and_then(|slot| slot.waiters.first(slot.number)).map(Ticket)
    }

    /// Who came last.
    pub(super) fn last(&self) -> Option<Ticket> {
        self.slots.back().and_then(|slot| slot.waiters.last(slot.number)).map(Ticket)
    }

    /// Those who wait, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Ticket> + '_ {
        self.slots.iter().flat_map(|slot| slot.waiters.numbers(slot.number)).map(Ticket)
    }

    /// The place of `ticket`, from 1, if it waits here.
    pub(super) fn position(&self, ticket: Ticket) -> Option<usize> {
        let index = self.find(ticket)?;
        let end = self.ring(index);
        let up_to = self.sum(end);
        let before = self.sum(self.start);
        let in_earlier_slots = if end >= self.start { up_to - before } else { self.waiting - before + up_to };
        Some(in_earlier_slots + self.slots[index].waiters.before(ticket.0) + 1)
    }

    /// Adds `ticket` at the end; it must be larger than every earlier one.
    pub(super) fn enter(&mut self, ticket: Ticket) {
        assert!(self.last().is_none_or(|last| last < ticket), "ticket {ticket} enters out of order");
        let number = Stretch::of(ticket.0);
        if self.slots.back().is_none_or(|last| last.number != number) {
            if self.slots.len() == self.tree.len() {
                self.make_room();
            }
            self.slots.push_back(Slot { number, waiters: Stretch::default() });
        }
        let last = self.slots.len() - 1;
        self.slots[last].waiters.insert(ticket.0);
        self.waiting += 1;
        self.count(self.ring(last), 1);
    }

    /// Takes `ticket` out; whether it was there.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        let Some(index) = self.find(ticket) else { return false };
        self.slots[index].waiters.remove(ticket.0);
        self.waiting -= 1;
        self.count(self.ring(index), u32::MAX);
        while self.slots.front().is_some_and(|slot| slot.waiters.is_empty()) {
            self.slots.pop_front();
            self.start = self.ring(1);
        }
        while self.slots.back().is_some_and(|slot| slot.waiters.is_empty()) {
            self.slots.pop_back();
        }
        true
    }

    /// The slot in which `ticket` waits.
    fn find(&self, ticket: Ticket) -> Option<usize> {
        let number = Stretch::of(ticket.0);
        let index = match self.slots.front() {
            Some(first) if first.number == number => 0,
            _ => self.slots.binary_search_by_key(&number, |slot| slot.number).ok()?,
        };
        self.slots[index].waiters.has(ticket.0).then_some(index)
    }

    fn ring(&self, index: usize) -> usize {
        (self.start + index) & (self.tree.len() - 1)
    }

    /// Adds `change`, modulo 2³², at one place of the ring.
    fn count(&mut self, place: usize, change: u32) {
        let mut node = place + 1;
        while node <= self.tree.len() {
            self.tree[node - 1] = self.tree[node - 1].wrapping_add(change);
            node += node & node.wrapping_neg();
        }
    }

    /// How many wait in the first `places` of the ring.
    fn sum(&self, places: usize) -> usize {
        let (mut node, mut sum) = (places, 0);
        while node > 0 {
            sum += self.tree[node - 1] as usize;
            node &= node - 1;
        }
        sum
    }

    /// Drops the slots in which nobody waits any more, and makes at least as many free ones as there are others.
    fn make_room(&mut self) {
        self.slots.retain(|slot| !slot.waiters.is_empty());
        self.start = 0;
        self.tree.clear();
        self.tree.resize((2 * self.slots.len()).next_power_of_two().max(SLOTS_MIN), 0);
        for (node, slot) in self.tree.iter_mut().zip(&self.slots) {
            *node = slot.waiters.len();
        }
        for node in 1..=self.tree.len() {
            let parent = node + (node & node.wrapping_neg());
            if parent <= self.tree.len() {
                self.tree[parent - 1] += self.tree[node - 1];
            }
        }
    }
}
