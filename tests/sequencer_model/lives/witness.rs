//! Who believes only what was recorded and what was told.

use std::collections::{BTreeMap, BTreeSet};

use seq::protocol::{Domain, Outcome, Ticket, Token};
use seq::sequencer::{Change, Record};

use super::job::Job;
use crate::disk::Disk;

#[derive(Clone, Default)]
pub(crate) struct Witness {
    /// Who waits or holds by the records.
    live: BTreeMap<Ticket, Seen>,
    /// Who lost a place by being away.
    given_up: BTreeSet<Ticket>,
    /// Whose cancelling was confirmed.
    cancelled: BTreeSet<Ticket>,
    /// The largest token that any client was told, in each domain.
    tokens: BTreeMap<Domain, Token>,
}

#[derive(Clone)]
struct Seen {
    domain: Domain,
    has_turn: bool,
}

impl Witness {
    pub(crate) fn lives(&self, ticket: Ticket) -> bool {
        self.live.contains_key(&ticket)
    }

    pub(crate) fn has_turn(&self, ticket: Ticket) -> bool {
        self.live.get(&ticket).is_some_and(|seen| seen.has_turn)
    }

    pub(crate) fn was_given_up(&self, ticket: Ticket) -> bool {
        self.given_up.contains(&ticket)
    }

    pub(crate) fn record(&mut self, record: &Record) {
        let Record { ticket, domain, .. } = record;
        match record.change {
            Change::Queued => {
                let seen = Seen { domain: domain.clone(), has_turn: false };
                assert!(self.live.insert(*ticket, seen).is_none(), "ticket {ticket} is given out again");
                let last = self.live.last_key_value().map(|(last, _)| last);
                assert_eq!(last, Some(ticket), "ticket {ticket} is not above all others");
            }
            Change::Active { .. } => {
                let mut others = self.live.iter().filter(|(_, seen)| seen.domain == *domain);
                assert_eq!(others.next().map(|(first, _)| first), Some(ticket), "ticket {ticket} passes another one");
                self.live.get_mut(ticket).unwrap().has_turn = true;
            }
            Change::Orphaned { .. } => assert!(self.has_turn(*ticket)),
            Change::Ended { .. } => assert!(self.live.remove(ticket).is_some_and(|seen| seen.has_turn)),
            Change::Left { outcome, .. } => {
                assert!(self.live.remove(ticket).is_some_and(|seen| !seen.has_turn));
                if outcome == Outcome::Gone {
                    self.given_up.insert(*ticket);
                }
            }
        }
    }

    pub(crate) fn cancelled(&mut self, ticket: Ticket) {
        self.cancelled.insert(ticket);
    }

    /// A command starts.
    pub(crate) fn enters(&mut self, job: &Job) {
        let (Some(ticket), Some(token)) = (job.ticket, job.token) else { panic!("a turn has numbers") };
        assert!(!self.cancelled.contains(&ticket), "ticket {ticket} runs though it was cancelled");
        let before = self.tokens.insert(job.domain.clone(), token);
        assert!(before < Some(token), "token {token} does not rise");
    }

    /// Only what was written down goes on.
    pub(crate) fn crash(&mut self, disk: &Disk) {
        let written = disk.live.values().map(|saved| {
            let seen = Seen { domain: saved.domain.clone(), has_turn: saved.turn.is_some() };
            (saved.ticket, seen)
        });
        self.live = written.collect();
        // A ticket that nobody was told of may be given out again.
        self.given_up.retain(|ticket| *ticket < disk.next.0);
        self.cancelled.retain(|ticket| *ticket < disk.next.0);
    }
}
