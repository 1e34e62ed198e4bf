//! Who would wait for ever.
//!
//! A turn within which nobody waits ends, sooner or later. A waiter gets its turn when it is the first in all of its
//! lines and there is room. Whoever can go on so is taken away, again and again; those who are left are stuck. Nobody
//! who goes on makes it harder for others, so the order does not matter.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::{Domain, Ticket};

use super::cycle::{Rank, Waiter};
use super::line::Line;
use super::nested::Who;
use super::ticket::Entry;
use super::{Sequencer, Wishes};

/// What those who are stuck leave of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Slots in all.
    slots: u64,
    used: u64,
    has_readers: bool,
    has_writers: bool,
    /// The first waiter who does not fit into what is left.
    too_large: Option<Rank>,
}

impl Room {
    fn fits(&self, wishes: &Wishes) -> bool {
        if wishes.shared {
            return !self.has_writers;
        }
        !self.has_readers && u64::from(wishes.take).clamp(1, self.slots) + self.used <= self.slots
    }

    /// Whether there is room for a waiter, and for all who are ahead of it.
    pub(super) fn lets_in(&self, waiter: &Waiter<'_>) -> bool {
        self.fits(waiter.wishes) && self.too_large.is_none_or(|rank| rank > waiter.rank)
    }
}

impl Sequencer {
    /// Those of `members` who never go on. They must be all on whom any of them depends; with a newcomer among them, all
    /// on whom that depends will do.
    pub(super) fn stuck(
        &self,
        mut members: BTreeSet<Who>,
        newcomer: Option<&Waiter<'_>>,
        replaced: &[Ticket],
    ) -> BTreeSet<Who> {
        let tickets = members.iter().filter_map(|who| who.ticket());
        let turns: Vec<Ticket> = tickets.filter(|ticket| self.holder(*ticket).is_some()).collect();
        let mut waiters: Vec<Waiter<'_>> = members.iter().filter_map(|who| self.waiter_of(*who)).collect();
        waiters.extend(newcomer.cloned());
        waiters.sort_unstable_by_key(|waiter| waiter.rank);
        loop {
            let before = members.len();
            for turn in &turns {
                let is_parent = newcomer.is_some_and(|newcomer| newcomer.parent == Some(*turn));
                let waits = is_parent && members.contains(&Who::Newcomer)
                    || self.waited_for_within(*turn).any(|child| members.contains(&child));
                if !waits {
                    members.remove(&Who::Ticket(*turn));
                }
            }
            self.let_in(&waiters, newcomer, replaced, &mut members);
            if members.len() == before {
                return members;
            }
        }
    }

    /// Takes away the waiters who get their turn when all have ended who are not stuck.
    fn let_in(
        &self,
        waiters: &[Waiter<'_>],
        newcomer: Option<&Waiter<'_>>,
        replaced: &[Ticket],
        stuck: &mut BTreeSet<Who>,
    ) {
        let mut rooms: BTreeMap<&Domain, Room> = BTreeMap::new();
        // Lines in which somebody who is stuck is ahead of whoever is still to come.
        let mut blocked: BTreeSet<&Domain> = BTreeSet::new();
        for waiter in waiters {
            if !stuck.contains(&waiter.who()) {
                continue;
            }
            let is_held_up = waiter.lines.iter().any(|domain| {
                let room = rooms.entry(domain).or_insert_with(|| self.room(domain, stuck, newcomer, replaced));
                blocked.contains(domain) || !room.lets_in(waiter)
            });
            if is_held_up {
                blocked.extend(waiter.lines.iter().copied());
            } else {
                stuck.remove(&waiter.who());
            }
        }
    }

    /// What of a line is left by those who are stuck. Takes time for each waiter in it if they leave only a part.
    pub(super) fn room(
        &self,
        domain: &Domain,
        stuck: &BTreeSet<Who>,
        newcomer: Option<&Waiter<'_>>,
        replaced: &[Ticket],
    ) -> Room {
        let slots = u64::from(self.policy(domain).slots());
        let mut room = Room { slots, used: 0, has_readers: false, has_writers: false, too_large: None };
        let Some(line) = self.lines.get(domain) else { return room };
        for (take, shared) in self.slots_of_stuck(domain, line, stuck, newcomer, replaced) {
            room.has_readers |= shared;
            room.has_writers |= !shared;
            room.used += if shared { 0 } else { u64::from(take) };
        }
        if room.has_readers || room.has_writers {
            let waiters = line.order.iter().filter(|ticket| !replaced.contains(ticket));
            let mut waiters = waiters.filter_map(|ticket| self.tickets.get(&ticket));
            room.too_large = waiters.find(|entry| !room.fits(entry.wishes())).map(Entry::rank);
        }
        room
    }

    /// How many slots each of those has that are stuck, and whether they are shared.
    fn slots_of_stuck<'a>(
        &'a self,
        domain: &'a Domain,
        line: &'a Line,
        stuck: &'a BTreeSet<Who>,
        newcomer: Option<&Waiter<'_>>,
        replaced: &'a [Ticket],
    ) -> impl Iterator<Item = (u32, bool)> + 'a {
        let is_stuck = |ticket: &Ticket| stuck.contains(&Who::Ticket(*ticket)) && !replaced.contains(ticket);
        let hosting = line
            .hosting
            .iter()
            .filter(move |(host, hosting)| is_stuck(host) && hosting.has_host || hosting.guests.iter().any(is_stuck));
        let own = self.parents_in(domain, newcomer).filter(move |parent| is_stuck(parent));
        let own =
            own.filter(|parent| !line.hosting.contains_key(parent)).filter_map(|parent| self.tickets.get(&parent));
        let own = own.filter(move |entry| entry.lines().any(|line| line == domain));
        let own = own.map(|entry| (entry.wishes().take, entry.wishes().shared));
        hosting.map(|(_, hosting)| (hosting.take, hosting.shared)).chain(own)
    }
}
