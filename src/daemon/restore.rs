//! Taking up the tickets that an earlier daemon left: each lives on until what keeps it is gone.

use std::os::fd::OwnedFd;

use tracing::info;

use super::history::Past;
use super::owner::Owner;
use super::recover::Recovered;
use super::watch::Role;
use crate::protocol::Ticket;
use crate::sequencer::Input;

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
        let count = tickets.len();
        for Recovered { saved, keepers } in tickets {
            let ticket = saved.ticket.ticket;
            self.kept.restore(&saved, keepers.unseen);
            // The sequencer is told in any case, so that the numbers of this ticket are never used again.
            self.input(Input::Restore(saved.ticket.clone()));
            if self.sequencer.saved(ticket).is_some() {
                self.keep(ticket, keepers.watched);
            } else {
                info!("ticket {ticket} has ended meanwhile: nothing keeps it");
            }
        }
        if count > 0 {
            let now = self.sequencer.counts();
            info!("took over {} turns and {} waiters of {count} tickets", now.holders, now.waiters);
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
