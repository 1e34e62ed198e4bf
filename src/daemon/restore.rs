//! Taking up the tickets that an earlier daemon left: each lives on until what keeps it is gone.

use std::os::fd::OwnedFd;

use tracing::info;

use super::history::Past;
use super::owner::Owner;
use super::recover::Recovered;
use super::report::WallClock;
use super::settings::{self, LastFile, PastSettings};
use super::storage::Ended;
use super::watch::Role;
use crate::clock::Time;
use crate::protocol::{Domain, Ticket};
use crate::sequencer::{FilePolicy, Input, PastChange};
use crate::words::counted;

impl Owner {
    /// Restores these tickets, in order, before any client is let in. A turn whose keepers are all gone has ended
    /// meanwhile.
    pub(super) fn restore(
        &mut self,
        tickets: Vec<Recovered>,
        mut past: Past,
        (mut settings, file): (PastSettings, Vec<FilePolicy>),
        (ended, told): (Ended, Vec<(Ticket, i32)>),
    ) {
        if settings.file != LastFile::of(&self.config, &file) {
            self.ledger.set(settings::of_file(&self.config, &file));
        }
        self.input(Input::FilePolicies(file));
        for (pattern, policy) in settings.policies.drain(..) {
            self.input(Input::PastPolicy { pattern, policy });
        }
        let (now, clock) = (self.batch.now, self.wall_clock().clone());
        let (pasts, changes) = self.rests.restore(settings.rests.split_off(0), self.sequencer.policies(), now, &clock);
        self.ledger.set_all(changes);
        for recovered in &tickets {
            past.add_holder(&recovered.saved);
        }
        for written in pasts {
            if let Input::PastStarts { domain, .. } = &written {
                past.moments.remove(domain);
            }
            self.input(written);
        }
        let pauses = settings.pauses(self.wall_clock());
        for (domain, pause) in pauses {
            self.input(Input::PastPause { domain, pause });
        }
        for (domain, runs) in past.runs {
            self.input(Input::PastRuns { domain, runs });
        }
        for (domain, moments) in past.moments {
            self.input(moments.past_starts(domain, &clock));
        }
        for (ticket, uid, had_turn, outcome) in past.ends {
            self.input(Input::PastEnd { ticket, uid, had_turn, outcome });
        }
        let found = tickets.len() as u64;
        let unheard = ended.into_iter().map(|(domain, at_ms, given_at)| (domain, clock.time(at_ms).min(now), given_at));
        let mut unheard: Vec<(Domain, Time, Option<Time>)> = unheard.collect();
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
                if saved.ticket.turn.is_some() {
                    let given_at = saved.ticket.to_begin_since();
                    unheard.extend(saved.ticket.lines_of_its_own().map(|domain| (domain.clone(), now, given_at)));
                }
            }
        }
        self.restore_keys(settings.keys.split_off(0), &told);
        for (domain, at, given_at) in unheard {
            self.rest_after_all(domain, at, given_at, &clock);
        }
        if found > 0 {
            let now = self.sequencer.counts();
            let (turns, waiters) = (counted(now.holders, "turn"), counted(now.waiters, "waiter"));
            info!("took over {turns} and {waiters} of {}", counted(found, "ticket"));
        }
    }

    /// A turn ended while there was no daemon: what its domain does after an end, it does after this one. Where nobody
    /// had said yet that it began, it may have begun as late as that.
    fn rest_after_all(&mut self, domain: Domain, at: Time, given_at: Option<Time>, clock: &WallClock) {
        let policy = self.sequencer.policies().resolve(&domain);
        if policy.rests() {
            let keep = policy.known_starts();
            if let Some(from) = given_at {
                let moved = PastChange::Moved { domain: domain.clone(), from, to: at };
                let noted = self.rests.note(&moved, keep, clock);
                self.ledger.set_all(noted);
            }
            let noted = self.rests.note(&PastChange::Ended { domain: domain.clone(), at }, keep, clock);
            self.ledger.set_all(noted);
            let past = self.rests.past_starts(domain);
            self.input(past);
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
