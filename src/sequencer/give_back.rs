//! Giving a turn or a place back, or taking it from somebody.

use std::collections::{BTreeSet, VecDeque};

use crate::clock::Time;
use crate::protocol::{Binding, Cancelled, Domain, DoneReply, Outcome, Released, Reply, Ticket};

use super::line::Line;
use super::refusal::{About, Refusal};
use super::ticket::Entry;
use super::{ConnectionId, Effect, Peer, Sequencer, Which};

/// A `done`, as it came.
pub(super) struct Done {
    pub(super) connection: ConnectionId,
    pub(super) peer: Peer,
    pub(super) which: Which,
    pub(super) exit_status: Option<i32>,
    pub(super) processes: Vec<u32>,
    pub(super) request_id: Option<String>,
}

impl Sequencer {
    pub(super) fn done(&mut self, now: Time, done: &Done, out: &mut Vec<Effect>) {
        let connection = done.connection;
        let mut about = About::which(&done.which, done.request_id.clone());
        let Some(entry) = self.find_done(done) else {
            self.done_late(now, done, out);
            out.push(done_reply(connection, about, false));
            return;
        };
        if let Some(refusal) = refusal_of_done(entry, done) {
            out.push(refusal.tell(connection, about));
            return;
        }
        let ticket = entry.ticket;
        let Some(entry) = self.end(now, ticket, Outcome::Done, done.exit_status, out) else { return };
        if let Some(waiter) = entry.connection.filter(|waiter| entry.turn().is_none() && *waiter != connection) {
            out.push(Refusal::Cancelled { ticket }.tell(waiter, entry.about()));
        }
        about.domain = Some(entry.domain.clone());
        about.request_id = about.request_id.or_else(|| Some(entry.request_id.to_string()));
        about.ticket = Some(ticket);
        out.push(done_reply(connection, about, true));
        self.settle_lines_of(&entry, out);
    }

    pub(super) fn cancel(
        &mut self,
        now: Time,
        connection: ConnectionId,
        peer: Peer,
        which: Which,
        out: &mut Vec<Effect>,
    ) {
        let about = About::which(&which, None);
        // A domain alone means its holder, which `cancel` is not for.
        let named = self.find(&which).filter(|_| !matches!(which, Which::Domain(_)));
        let refusal = match named {
            None => Refusal::NotFound { which },
            Some(entry) if !entry.is_of(peer) => Refusal::OfAnotherUser { ticket: entry.ticket, uid: entry.uid },
            Some(entry) if entry.turn().is_some() => Refusal::NotWaiting { ticket: entry.ticket },
            Some(entry) => {
                let ticket = entry.ticket;
                self.cancel_waiter(now, connection, ticket, out);
                return;
            }
        };
        out.push(refusal.tell(connection, about));
    }

    fn cancel_waiter(&mut self, now: Time, connection: ConnectionId, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(entry) = self.end(now, ticket, Outcome::Cancelled, None, out) else { return };
        let refusal = Refusal::Cancelled { ticket };
        out.extend(entry.connection.map(|waiter| refusal.tell(waiter, entry.about())));
        let (domain, request_id) = (entry.domain.clone(), entry.request_id.clone());
        let reply = Reply::Cancelled(Cancelled { domain, request_id, ticket });
        out.push(Effect::Tell { connection, reply });
        self.settle_lines_of(&entry, out);
    }

    pub(super) fn release(
        &mut self,
        now: Time,
        connection: ConnectionId,
        peer: Peer,
        (which, request_id): (Which, Option<String>),
        out: &mut Vec<Effect>,
    ) {
        let about = About::which(&which, request_id.clone());
        let refusal = match self.find(&which) {
            Some(entry) if self.turns_named(&which) > 1 => {
                Refusal::SeveralHolders { domain: entry.domain.clone(), holders: self.turns_named(&which) }
            }
            None => Refusal::NotFound { which },
            Some(entry) if !entry.is_of(peer) => Refusal::OfAnotherUser { ticket: entry.ticket, uid: entry.uid },
            Some(entry) if entry.turn().is_none() => Refusal::NotActive { ticket: entry.ticket },
            Some(entry) => {
                let reply = Reply::Released(Released {
                    domain: entry.domain.clone(),
                    holder: entry.request_id.clone(),
                    ticket: entry.ticket,
                    request_id,
                });
                self.release_all(now, &self.released_with(entry, &which), Effect::Tell { connection, reply }, out);
                return;
            }
        };
        out.push(refusal.tell(connection, about));
    }

    /// The processes that took the leases that a `done` of `which` may mean, each with when its turn began.
    pub fn lease_takers(&self, which: &Which) -> Vec<(u32, Time)> {
        let entries: Vec<&Entry> = match which {
            Which::Domain(domain) => {
                let holders = self.lines.get(domain).into_iter().flat_map(|line| &line.holders);
                holders.filter_map(|(_, ticket)| self.tickets.get(ticket)).collect()
            }
            _ => self.find(which).into_iter().collect(),
        };
        let leases = entries.into_iter().filter(|entry| entry.keepers.binding == Binding::Lease);
        leases.filter_map(|entry| Some((entry.pid, entry.turn()?.active_at))).collect()
    }

    /// A `done` for a ticket that has ended already may be the first that is heard of how its command did.
    fn done_late(&mut self, now: Time, done: &Done, out: &mut Vec<Effect>) {
        let (Which::Ticket(ticket) | Which::TicketOf(ticket, ..), Some(exit_status)) = (&done.which, done.exit_status)
        else {
            return;
        };
        let has_ended = !self.tickets.contains_key(ticket);
        if has_ended && self.key_of(*ticket).is_some_and(|name| name.uid == done.peer.uid) {
            self.key_learned(now, *ticket, (exit_status, vec![done.connection]), out);
        }
    }

    /// What a `done` means. With a domain alone that is the turn which is the caller's, the oldest if there are several;
    /// takes time for each turn in that domain.
    fn find_done(&self, done: &Done) -> Option<&Entry> {
        let Which::Domain(domain) = &done.which else { return self.find(&done.which) };
        let holders = &self.lines.get(domain)?.holders;
        let mut entries = holders.iter().filter_map(|(_, ticket)| self.tickets.get(ticket));
        let of_caller = entries.find(|entry| refusal_of_done(entry, done).is_none());
        of_caller.or_else(|| self.find(&done.which))
    }

    /// How many turns a `release` may mean. Those that have the same slots are one.
    fn turns_named(&self, which: &Which) -> usize {
        let Which::Domain(domain) = which else { return 1 };
        self.line(domain).map_or(0, Line::taken)
    }

    /// All that a `release` of `entry` ends: with a turn goes whatever has slots by it, or they would not be free. With a
    /// domain alone it means whoever has the slots of `entry` there. Takes time for each of them.
    fn released_with(&self, entry: &Entry, which: &Which) -> BTreeSet<Ticket> {
        let guest = match which {
            Which::Domain(domain) => entry.guests().iter().find(|guest| guest.domain == *domain),
            _ => None,
        };
        let siblings = guest.into_iter().flat_map(|guest| self.guests_of(guest.host, &guest.domain));
        let mut next: Vec<Ticket> = siblings.chain([entry.ticket]).collect();
        let mut all = BTreeSet::new();
        while let Some(ticket) = next.pop() {
            if all.insert(ticket) {
                let lines = self.tickets.get(&ticket).into_iter().flat_map(Entry::lines);
                next.extend(lines.flat_map(|domain| self.guests_of(ticket, domain)));
            }
        }
        all
    }

    /// Who has the slots of `host` in a line as well.
    fn guests_of(&self, host: Ticket, domain: &Domain) -> impl Iterator<Item = Ticket> {
        let hosting = self.lines.get(domain).and_then(|line| line.hosting.get(&host));
        hosting.into_iter().flat_map(|hosting| &hosting.guests).copied()
    }

    /// Ends all of `tickets`, which one `release` is for: the innermost first.
    fn release_all(&mut self, now: Time, tickets: &BTreeSet<Ticket>, reply: Effect, out: &mut Vec<Effect>) {
        let mut lines = VecDeque::new();
        for ticket in tickets.iter().rev().copied() {
            let has_turn = self.holder(ticket).is_some();
            let outcome = if has_turn { Outcome::Released } else { Outcome::Cancelled };
            let Some(entry) = self.end(now, ticket, outcome, None, out) else { continue };
            let refusal = if has_turn { Refusal::Released { ticket } } else { Refusal::Cancelled { ticket } };
            out.extend(entry.connection.map(|owner| refusal.tell(owner, entry.about())));
            lines.extend(entry.names().cloned());
        }
        out.push(reply);
        self.settle_all(lines, out);
    }

    /// The ticket that all of `which` is true of.
    fn find(&self, which: &Which) -> Option<&Entry> {
        let ticket = match which {
            Which::Ticket(ticket) | Which::TicketOf(ticket, ..) => *ticket,
            Which::Request(domain, request_id) => self.tickets.of_request(domain, request_id)?,
            Which::Domain(domain) => self.lines.get(domain)?.oldest_holder()?,
        };
        let entry = self.tickets.get(&ticket)?;
        let Which::TicketOf(_, domain, request_id) = which else { return Some(entry) };
        let is_it = domain.as_ref().is_none_or(|domain| entry.names().any(|line| line == domain))
            && request_id.as_ref().is_none_or(|request_id| *request_id == entry.request_id);
        is_it.then_some(entry)
    }
}

/// Why `done` may not end `entry`. Naming a domain alone ends only a turn that the caller visibly has, so that a late
/// `done` never ends somebody else's. So does a name, where the caller says which processes it is of: by then that may
/// be another request's. A ticket is nobody else's ever.
fn refusal_of_done(entry: &Entry, done: &Done) -> Option<Refusal> {
    let (ticket, uid) = (entry.ticket, entry.uid);
    let is_there = entry.connection == Some(done.connection);
    let must_be_the_callers = match done.which {
        Which::Domain(_) => true,
        _ if !entry.is_of(done.peer) => return Some(Refusal::OfAnotherUser { ticket, uid }),
        Which::Request(..) | Which::TicketOf(.., Some(_)) => !done.processes.is_empty(),
        Which::Ticket(_) | Which::TicketOf(.., None) => false,
    };
    if entry.turn().is_none() && !is_there && !done.processes.is_empty() {
        return Some(Refusal::NotActive { ticket });
    }
    let is_the_callers = is_there
        || match entry.keepers.binding {
            // What runs under it may say by name that it is done.
            Binding::Connection => !matches!(done.which, Which::Domain(_)) && done.processes.contains(&entry.pid),
            Binding::Process => entry.keepers.named_process || done.processes.contains(&entry.pid),
            Binding::Lease => done.processes.is_empty() || done.processes.contains(&entry.pid),
        };
    if !must_be_the_callers || (is_the_callers && entry.is_of(done.peer)) {
        return None;
    }
    let domain = if let Which::Domain(domain) = &done.which { domain } else { &entry.domain };
    Some(Refusal::NotYourTurn { domain: domain.clone(), holder: ticket, pid: entry.pid })
}

fn done_reply(connection: ConnectionId, about: About, released: bool) -> Effect {
    let About { domain, request_id, ticket } = about;
    Effect::Tell { connection, reply: Reply::Done(DoneReply { domain, request_id, ticket, released }) }
}
