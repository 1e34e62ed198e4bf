//! The waiters of one line: the higher priority first, and in order of arrival where it is equal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::protocol::Ticket;

use super::order::Order;

/// One lane for each priority that somebody has. A place costs O(log n) and a step for each lane, of which there are
/// at most as many as priorities.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Lanes {
    /// Of priority 0, which most have.
    usual: Order,
    /// Of all others; never empty.
    others: BTreeMap<i8, Order>,
    waiting: usize,
}

impl Lanes {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Who is next.
    pub(super) fn head(&self) -> Option<Ticket> {
        self.in_order().find_map(Order::head)
    }

    /// Who came last of those with this priority.
    pub(super) fn last(&self, priority: i8) -> Option<Ticket> {
        self.lane(priority)?.last()
    }

    /// Those who wait, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Ticket> + '_ {
        self.in_order().flat_map(Order::iter)
    }

    /// The place of `ticket`, from 1, if it waits here with this priority.
    pub(super) fn position(&self, ticket: Ticket, priority: i8) -> Option<usize> {
        let in_lane = self.lane(priority)?.position(ticket)?;
        Some(self.above(priority) + in_lane)
    }

    /// How many would be ahead of one that comes now.
    pub(super) fn ahead(&self, priority: i8) -> usize {
        self.above(priority) + self.lane(priority).map_or(0, Order::len)
    }

    /// Adds `ticket` as the last of its priority; it must be larger than every earlier one of that.
    pub(super) fn enter(&mut self, ticket: Ticket, priority: i8) {
        let lane = if priority == 0 { &mut self.usual } else { self.others.entry(priority).or_default() };
        lane.enter(ticket);
        self.waiting += 1;
    }

    /// Takes `ticket` out; whether it was there.
    pub(super) fn leave(&mut self, ticket: Ticket, priority: i8) -> bool {
        let was_there = if priority == 0 {
            self.usual.leave(ticket)
        } else {
            let Some(lane) = self.others.get_mut(&priority) else { return false };
            let was_there = lane.leave(ticket);
            if lane.len() == 0 {
                self.others.remove(&priority);
            }
            was_there
        };
        self.waiting -= usize::from(was_there);
        was_there
    }

    fn lane(&self, priority: i8) -> Option<&Order> {
        if priority == 0 { Some(&self.usual) } else { self.others.get(&priority) }
    }

    fn in_order(&self) -> impl Iterator<Item = &Order> {
        let before = self.others.range(1..).rev().map(|(_, lane)| lane);
        let after = self.others.range(..0).rev().map(|(_, lane)| lane);
        before.chain([&self.usual]).chain(after)
    }

    /// How many have a higher priority.
    fn above(&self, priority: i8) -> usize {
        let usual = if priority < 0 { self.usual.len() } else { 0 };
        let others = self.others.iter().rev().take_while(|(other, _)| **other > priority);
        usual + others.map(|(_, lane)| lane.len()).sum::<usize>()
    }
}
