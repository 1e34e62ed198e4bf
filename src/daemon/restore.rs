//! Taking up the tickets that an earlier daemon left: each lives on until what keeps it is gone.

use std::os::fd::OwnedFd;

use tracing::info;

use super::history::Past;
use super::owner::Owner;
use super::recover::Recovered;
use super::watch::Role;
use crate::protocol::Ticket;
use crate::sequencer::Input;
use crate::words::counted;

impl Owner {
    /// Restores these tickets, in order, before any client is let in. A turn whose keepers are all gone has ended
    /// meanwhile.
    pub(super) fn restore(&mut self, tickets: Vec<Recovered>, past: Past) {
        for (domain, runs) in past.runs {
            self.input(Input::PastRuns { domain, runs });
        }
        for (ticket, uid, had_turn, outcome) in past.ends {
            self.input(Input::PastEnd { ticket, uid, had_turn, outcome });
        }
        let found = tickets.len() as u64;
        for Recovered { saved, keepers } in tickets {
            let ticket = saved.ticket.ticket;
            self.kept.restore(&saved, keepers.unseen);
            // The sequencer is told in any case, so that the numbers of this ticket are never used again.
            self.input(Input::Restore(saved.ticket.clone()));
            if self.sequencer.saved(ticket).is_some() {
                self.keep(ticket, keepers.watched);
                self.look_for_heir(ticket);
            } else {
                info!("ticket {ticket} has ended meanwhile: nothing keeps it");
            }
        }
        if found > 0 {
            let now = self.sequencer.counts();
            let (turns, waiters) = (counted(now.holders, "turn"), counted(now.waiters, "waiter"));
            info!("took over {turns} and {waiters} of {}", counted(found, "ticket"));
        }
    }

    fn keep(&mut self, ticket: Ticket, watched: Vec<(Role, OwnedFd)>) {
        for (role, descriptor) in watched {
            if let Some(lost) = self.watch(ticket, role, Some(descriptor)) {
                self.input(lost);
            }
        }
    }
}
