//! The order of arrival in one line.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::protocol::Ticket;

/// Slots of a line that has just got its first waiter.
const SLOTS_MIN: usize = 4;

/// Waiters in order of arrival, which is the order of their tickets.
///
/// Places are counted by a Fenwick tree (Fenwick 1994, "A new data structure for cumulative frequency tables") laid
/// over a ring of slots, so that leaving and asking for a place cost O(log n). A waiter that leaves from the middle
/// keeps its slot until the head or the tail passes it. Only entering ever makes room, at O(1) amortised: a turn that
/// changes hands never pays for it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Order {
    /// The first and the last one wait, unless there is none.
    slots: VecDeque<Slot>,
    /// Where in the ring the first slot is counted.
    start: usize,
    /// The Fenwick tree. Its length is how many slots there may be: zero, or a power of two.
    tree: Vec<u32>,
    waiting: usize,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Slot {
    ticket: Ticket,
    waits: bool,
}

impl Order {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Who is next.
    pub(super) fn head(&self) -> Option<Ticket> {
        self.slots.front().map(|slot| slot.ticket)
    }

    /// Who came last.
    pub(super) fn last(&self) -> Option<Ticket> {
        self.slots.back().map(|slot| slot.ticket)
    }

    /// Those who wait, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Ticket> + '_ {
        self.slots.iter().filter(|slot| slot.waits).map(|slot| slot.ticket)
    }

    /// The place of `ticket`, from 1, if it waits here.
    pub(super) fn position(&self, ticket: Ticket) -> Option<usize> {
        let index = self.find(ticket)?;
        let end = self.ring(index);
        let up_to = self.sum(end + 1);
        let before = self.sum(self.start);
        Some(if end >= self.start { up_to - before } else { self.waiting - before + up_to })
    }

    /// Adds `ticket` at the end; it must be larger than every earlier one.
    pub(super) fn enter(&mut self, ticket: Ticket) {
        assert!(self.slots.back().is_none_or(|last| last.ticket < ticket), "ticket {ticket} enters out of order");
        if self.slots.len() == self.tree.len() {
            self.make_room();
        }
        let end = self.ring(self.slots.len());
        self.slots.push_back(Slot { ticket, waits: true });
        self.waiting += 1;
        self.count(end, 1);
    }

    /// Takes `ticket` out; whether it was there.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        let Some(index) = self.find(ticket) else { return false };
        self.slots[index].waits = false;
        self.waiting -= 1;
        self.count(self.ring(index), u32::MAX);
        while self.slots.front().is_some_and(|slot| !slot.waits) {
            self.slots.pop_front();
            self.start = self.ring(1);
        }
        while self.slots.back().is_some_and(|slot| !slot.waits) {
            self.slots.pop_back();
        }
        true
    }

    fn find(&self, ticket: Ticket) -> Option<usize> {
        let index = match self.head() {
            Some(head) if head == ticket => 0,
            _ => self.slots.binary_search_by_key(&ticket, |slot| slot.ticket).ok()?,
        };
        self.slots[index].waits.then_some(index)
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

    /// Drops the slots of those who left, and makes at least as many free ones as there are waiters.
    fn make_room(&mut self) {
        self.slots.retain(|slot| slot.waits);
        self.start = 0;
        self.tree.clear();
        self.tree.resize((2 * self.waiting).next_power_of_two().max(SLOTS_MIN), 0);
        self.tree[..self.waiting].fill(1);
        for node in 1..=self.tree.len() {
            let parent = node + (node & node.wrapping_neg());
            if parent <= self.tree.len() {
                self.tree[parent - 1] += self.tree[node - 1];
            }
        }
    }
}
