//! Requests that replace the earlier ones of their kind.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::protocol::{Domain, Outcome, Ticket};

use super::nested::Arrival;
use super::refusal::Refusal;
use super::{Effect, Sequencer, Wishes};
use crate::clock::Time;

/// Who came after a request that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    /// Its ticket.
    pub ticket: Ticket,
    /// Its process.
    pub pid: u32,
    /// The user, who is the same.
    pub uid: u32,
}

/// Those with `supersede`, whether they wait or have a turn, by what they have in common.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Groups {
    members: BTreeSet<(Domain, u32, Arc<str>, Ticket)>,
}

impl Groups {
    pub(super) fn enter(&mut self, domain: &Domain, uid: u32, wishes: &Wishes, ticket: Ticket) {
        if let Some(group) = &wishes.supersede {
            self.members.insert((domain.clone(), uid, Arc::clone(group), ticket));
        }
    }

    pub(super) fn leave(&mut self, domain: &Domain, uid: u32, wishes: &Wishes, ticket: Ticket) {
        if let Some(group) = &wishes.supersede {
            self.members.remove(&(domain.clone(), uid, Arc::clone(group), ticket));
        }
    }

    /// Those of `group`, in order.
    fn of<'a>(&'a self, domain: &Domain, uid: u32, group: &Arc<str>) -> impl Iterator<Item = Ticket> + 'a {
        let at = |ticket| (domain.clone(), uid, Arc::clone(group), Ticket(ticket));
        self.members.range(at(0)..=at(u64::MAX)).map(|(.., ticket)| *ticket)
    }

    pub(super) fn has(&self, domain: &Domain, uid: u32, group: &Arc<str>, ticket: Ticket) -> bool {
        self.members.contains(&(domain.clone(), uid, Arc::clone(group), ticket))
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }
}

impl Sequencer {
    /// The waiters that `request` replaces if it is taken, in order.
    pub(super) fn replaced_by(&self, arrival: Arrival<'_>) -> Vec<Ticket> {
        let mut rivals = self.rivals(arrival);
        rivals.retain(|ticket| self.holder(*ticket).is_none());
        rivals
    }

    /// Ends the waiters that a newcomer replaces, and if it says so, tells the holders to stop, but none
    /// that it is within.
    ///
    /// Answers the lines that those stood in, for the caller to settle.
    pub(super) fn replace(
        &mut self,
        now: Time,
        by: Successor,
        arrival: Arrival<'_>,
        out: &mut Vec<Effect>,
    ) -> Vec<Domain> {
        let mut left = Vec::new();
        for ticket in self.replaced_by(arrival) {
            self.tickets.get_mut(&ticket).into_iter().for_each(|entry| entry.extra_mut().superseded = Some(by));
            let Some(entry) = self.end(now, ticket, Outcome::Superseded, None, out) else { continue };
            let refusal = Refusal::Superseded { ticket, by };
            out.extend(entry.connection.map(|connection| refusal.tell(connection, entry.about())));
            left.extend(entry.names().cloned());
        }
        if arrival.wishes().cancel_running {
            let ancestors = self.ancestors(by.uid, arrival.wishes().within).map(|entry| entry.ticket);
            let ancestors: Vec<Ticket> = ancestors.collect();
            for ticket in self.rivals(arrival).into_iter().filter(|rival| !ancestors.contains(rival)) {
                self.stop_holder(ticket, by, out);
            }
        }
        left
    }

    /// Tells a holder once that it is to stop. The turn stays its own until it is given back, or nothing keeps it.
    fn stop_holder(&mut self, ticket: Ticket, by: Successor, out: &mut Vec<Effect>) {
        let Some(entry) = self.tickets.get_mut(&ticket) else { return };
        let extra = entry.extra_mut();
        if extra.superseded.is_some() {
            return;
        }
        extra.superseded = Some(by);
        out.push(Effect::Changed { ticket });
        let refusal = Refusal::TurnSuperseded { ticket, by };
        out.extend(entry.connection.map(|connection| refusal.tell(connection, entry.about())));
    }

    /// Requests of the same user and group in one of the lines that it stands in.
    fn rivals(&self, arrival: Arrival<'_>) -> Vec<Ticket> {
        let Some(group) = &arrival.wishes().supersede else { return Vec::new() };
        let of_line = |domain| self.groups.of(domain, arrival.request.peer.uid, group);
        let mut rivals: Vec<Ticket> = arrival.lines().flat_map(of_line).collect();
        rivals.sort_unstable();
        rivals.dedup();
        rivals
    }
}
