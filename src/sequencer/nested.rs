//! Requests within a turn: what they have already by it, and whose they are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::protocol::{Domain, OuterTurn, Ticket, Token};

use super::ticket::{Entry, Turn};
use super::{Enqueue, Sequencer, Wishes};

/// The turn that a request is made within.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Within {
    /// Its ticket.
    pub ticket: Ticket,
    /// Its fencing number, which proves it.
    pub token: Token,
}

impl From<OuterTurn> for Within {
    fn from(outer: OuterTurn) -> Within {
        Within { ticket: Ticket(outer.ticket), token: Token(outer.token) }
    }
}

/// A line that a request need not stand in, for a turn that it is within has it. Both have the same slots there, which
/// are free when both have ended, and all others that share them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// The line.
    pub domain: Domain,
    /// Whose slots they were first.
    pub host: Ticket,
    /// The fencing number with which those were given.
    pub token: Token,
    /// How many they are.
    pub take: u32,
    /// Whether they go together with others.
    pub shared: bool,
}

/// A new request, and the lines that it need not stand in.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) request: &'a Enqueue,
    pub(super) guests: &'a [Guest],
}

impl<'a> Arrival<'a> {
    /// Every line that it has to stand in.
    pub(super) fn lines(self) -> impl Iterator<Item = &'a Domain> + Clone {
        self.request.lines().filter(move |domain| !is_guest_in(self.guests, domain))
    }

    pub(super) fn wishes(self) -> &'a Wishes {
        &self.request.wishes
    }
}

pub(super) fn is_guest_in(guests: &[Guest], domain: &Domain) -> bool {
    guests.iter().any(|guest| guest.domain == *domain)
}

/// Slots of a line that guests have as well.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hosting {
    pub(super) take: u32,
    pub(super) shared: bool,
    /// Whether the turn that had them first has them still.
    pub(super) has_host: bool,
    /// Whether they wait elsewhere or have their turn.
    pub(super) guests: BTreeSet<Ticket>,
}

/// Somebody who may wait for others, in the order of those who are alike otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Who {
    /// A request, which waits or has its turn.
    Ticket(Ticket),
    /// One that has no ticket yet, or a `Wait` that has no number yet.
    Newcomer,
    /// A `Wait`: it is behind all others in its line.
    Wait(u64),
}

impl Who {
    pub(super) fn ticket(self) -> Option<Ticket> {
        if let Who::Ticket(ticket) = self { Some(ticket) } else { None }
    }
}

/// Which turn has which requests and `Wait`s made within it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Families {
    children: BTreeMap<Ticket, BTreeSet<Who>>,
    /// Every turn that has children, by each of its lines.
    parents: BTreeSet<(Domain, Ticket)>,
    /// Those who wait and were made within a turn, which may have ended since.
    waiting: BTreeSet<Who>,
}

impl Families {
    pub(super) fn children(&self, parent: Ticket) -> impl Iterator<Item = Who> + '_ {
        self.children.get(&parent).into_iter().flatten().copied()
    }

    /// The turns in a line that have children.
    pub(super) fn parents_in<'a>(&'a self, domain: &'a Domain) -> impl Iterator<Item = Ticket> + 'a {
        let all = (domain.clone(), Ticket(0))..=(domain.clone(), Ticket(u64::MAX));
        self.parents.range(all).map(|(_, ticket)| *ticket)
    }

    /// Every parent, every child, and whoever waits and was one.
    pub(super) fn members(&self) -> impl Iterator<Item = Who> + '_ {
        let parents = self.children.keys().map(|parent| Who::Ticket(*parent));
        parents.chain(self.children.values().flatten().copied()).chain(self.waiting.iter().copied())
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Those who wait, the newest first; and before them the `Wait`s, which have no place to lose.
    pub(super) fn newest_waiting(&self) -> impl Iterator<Item = Who> + '_ {
        self.waiting.iter().rev().copied()
    }

    pub(super) fn begins_to_wait(&mut self, entry: &Entry) {
        if entry.is_within() {
            self.waiting.insert(Who::Ticket(entry.ticket));
        }
    }

    pub(super) fn waits_no_more(&mut self, who: Who) {
        self.waiting.remove(&who);
    }

    fn enter(&mut self, parent: &Entry, child: Who) {
        self.children.entry(parent.ticket).or_default().insert(child);
        self.parents.extend(parent.names().map(|domain| (domain.clone(), parent.ticket)));
    }

    fn forget(&mut self, parent: &Entry) {
        if self.children.remove(&parent.ticket).is_some() {
            for domain in parent.names() {
                self.parents.remove(&(domain.clone(), parent.ticket));
            }
        }
    }

    pub(super) fn len(&self) -> (usize, usize, usize) {
        (self.children.values().map(BTreeSet::len).sum(), self.parents.len(), self.waiting.len())
    }
}

impl Sequencer {
    /// Whether a request of this user is really within a turn.
    pub fn is_within_turn(&self, uid: u32, within: Option<Within>) -> bool {
        self.parent(uid, within).is_some()
    }

    /// The turn that a request is really within: one of the same user, which is alive.
    pub(super) fn parent(&self, uid: u32, within: Option<Within>) -> Option<&Entry> {
        let Within { ticket, token } = within?;
        let (parent, turn) = self.holder(ticket)?;
        (turn.token == token && parent.uid == uid).then_some(parent)
    }

    /// The turns that a request is within, the innermost first, as far as they are alive without a gap.
    pub(super) fn ancestors(&self, uid: u32, within: Option<Within>) -> impl Iterator<Item = &Entry> {
        let parent = self.parent(uid, within);
        std::iter::successors(parent, move |entry| self.parent(uid, entry.wishes().within))
    }

    /// The lines that a request has already, in the order in which it names them.
    pub(super) fn guests(&self, request: &Enqueue) -> Vec<Guest> {
        let ancestors = || self.ancestors(request.peer.uid, request.wishes.within);
        let in_line = |domain| ancestors().find_map(|ancestor| ancestor.invite(domain));
        if request.wishes.within.is_none() { Vec::new() } else { request.lines().filter_map(in_line).collect() }
    }

    /// Whose slots a guest has, if that turn has them still.
    pub(super) fn host(&self, guest: &Guest) -> Option<(&Entry, Turn)> {
        self.holder(guest.host).filter(|(host, _)| host.lines().any(|line| *line == guest.domain))
    }

    /// A request has slots in a line that others have as well.
    pub(super) fn join(&mut self, ticket: Ticket, guest: &Guest) {
        let has_host = self.host(guest).is_some();
        let line = self.line_in_use(&guest.domain);
        line.join(ticket, guest, has_host);
    }

    /// A ticket is the child of the turn that it is within.
    pub(super) fn enter_family(&mut self, uid: u32, within: Option<Within>, child: Ticket) {
        let Some(parent) = self.parent(uid, within).map(|parent| parent.ticket) else { return };
        if let Some(parent) = self.tickets.get(&parent) {
            self.families.enter(parent, Who::Ticket(child));
        }
    }

    /// A `Wait` begins within a turn.
    pub(super) fn begin_inner_wait(&mut self, parent: Ticket, wait: u64) {
        if let Some(parent) = self.tickets.get(&parent) {
            self.families.enter(parent, Who::Wait(wait));
            self.families.waiting.insert(Who::Wait(wait));
        }
    }

    /// A `Wait` that was made within a turn is over.
    pub(super) fn end_inner_wait(&mut self, parent: Ticket, wait: u64) {
        self.families.waits_no_more(Who::Wait(wait));
        self.leave_parent(parent, Who::Wait(wait));
    }

    /// A ticket that has ended is nobody's child, and nobody's parent.
    pub(super) fn leave_family(&mut self, entry: &Entry) {
        self.families.forget(entry);
        if let Some(Within { ticket, .. }) = entry.wishes().within {
            self.leave_parent(ticket, Who::Ticket(entry.ticket));
        }
    }

    fn leave_parent(&mut self, parent: Ticket, child: Who) {
        let Some(children) = self.families.children.get_mut(&parent) else { return };
        children.remove(&child);
        if children.is_empty()
            && let Some(parent) = self.tickets.get(&parent)
        {
            self.families.forget(parent);
        }
    }
}

impl Entry {
    /// Whether it was made within a turn, which may have ended since.
    pub(super) fn is_within(&self) -> bool {
        self.wishes().within.is_some() || !self.guests().is_empty()
    }

    /// What one within this turn has of its slots in a line.
    fn invite(&self, domain: &Domain) -> Option<Guest> {
        let turn = self.turn()?;
        if let Some(guest) = self.guests().iter().find(|guest| guest.domain == *domain) {
            return Some(guest.clone());
        }
        let Wishes { take, shared, .. } = *self.wishes();
        let is_here = self.names().any(|name| name == domain);
        is_here.then(|| Guest { domain: domain.clone(), host: self.ticket, token: turn.token, take, shared })
    }
}
