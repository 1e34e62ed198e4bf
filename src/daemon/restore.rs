//! Taking up the tickets that an earlier daemon left: each lives on until what keeps it is gone.

use std::os::fd::OwnedFd;

use tracing::info;

use super::history::Past;
use super::owner::Owner;
use super::recover::Recovered;
use super::settings::{self, PastSettings};
use super::watch::Role;
use crate::protocol::Ticket;
use crate::sequencer::{FilePolicy, Input};
use crate::words::counted;

impl Owner {
    /// Restores these tickets, in order, before any client is let in. A turn whose keepers are all gone has ended
    /// meanwhile.
    pub(super) fn restore(
        &mut self,
        tickets: Vec<Recovered>,
        past: Past,
        (mut settings, file): (PastSettings, Vec<FilePolicy>),
    ) {
        let is_known = settings.file.as_ref().map_or(&[][..], |last| &last.policies) == file;
        if !is_known {
            self.ledger.set(settings::of_file(self.config.path(), &file));
        }
        self.input(Input::FilePolicies(file));
        for (pattern, policy) in settings.policies.drain(..) {
            self.input(Input::PastPolicy { pattern, policy });
        }
        let (now, clock) = (self.batch.now, self.wall_clock().clone());
        let (pasts, changes) = self.rests.restore(settings.rests.split_off(0), self.sequencer.policies(), now, &clock);
        self.ledger.set_all(changes);
        for past in pasts {
            self.input(past);
        }
        let pauses = settings.pauses(self.wall_clock());
        for (domain, pause) in pauses {
            self.input(Input::PastPause { domain, pause });
        }
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
