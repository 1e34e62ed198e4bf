//! What an earlier daemon left: which tickets live still, told by what keeps them, before anybody is let in.

use std::os::fd::OwnedFd;
use std::path::Path;

use tracing::{info, warn};

use super::descriptors::Budget;
use super::pipes::{PipeLook, Pipes};
use super::process::{self, Look};
use super::sight::Sight;
use super::watch::{Identity, Role};
use crate::error::Error;
use crate::protocol::Ticket;
use crate::store::{Found, Problem, ProcessIdentity, SavedTicket};

/// A ticket of before, and what was found of its keepers.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) saved: SavedTicket,
    pub(super) keepers: Keepers,
}

/// Why what is there is not watched.
const NO_DESCRIPTORS: &str = "there are no descriptors left for it, see 'ulimit -Hn'";

/// What keeps a ticket still.
#[derive(Debug)]
pub(super) struct Keepers {
    /// Whether it is a turn that they keep, and not a place in line.
    is_turn: bool,
    budget: Budget,
    /// To be watched.
    pub(super) watched: Vec<(Role, OwnedFd)>,
    /// Those that cannot be looked for, and so may be there. Only their client, or `release`, ends the wait for them.
    pub(super) unseen: Vec<(Role, Identity)>,
}

/// Reads what was found in the database at `path`.
///
/// # Errors
///
/// When it is not to be understood.
pub(super) fn read(path: &Path, found: &[Found]) -> Result<Vec<SavedTicket>, Error> {
    let read = |Found { ticket, body }: &Found| {
        serde_json::from_slice(body).map_err(|why| Problem::not_understood(path, *ticket, &why))
    };
    found.iter().map(read).collect()
}

/// Looks for what keeps each of them, and watches as much of it as there are descriptors for.
pub(super) fn look(tickets: Vec<SavedTicket>, budget: Budget) -> Vec<Recovered> {
    let wanted: Vec<u64> = tickets.iter().flat_map(|saved| saved.pipes.iter().copied()).collect();
    let (pipes, sight) = (Pipes::look_for(&wanted), Sight::default());
    // What keeps a turn goes first: who waits comes back by itself.
    let (holders, waiters): (Vec<_>, Vec<_>) = tickets.into_iter().partition(|saved| saved.ticket.turn.is_some());
    let all = holders.into_iter().chain(waiters);
    let mut found: Vec<Recovered> = all.map(|saved| look_one(saved, budget, &pipes, &sight)).collect();
    found.sort_by_key(|recovered| recovered.saved.ticket.ticket);
    found
}

fn look_one(mut saved: SavedTicket, budget: Budget, pipes: &Pipes, sight: &Sight) -> Recovered {
    let ticket = saved.ticket.ticket;
    let is_holder = saved.ticket.turn.is_some();
    let mut keepers = Keepers { is_turn: is_holder, budget, watched: Vec::new(), unseen: Vec::new() };
    if is_holder {
        for inode in &saved.pipes {
            let since = saved.ticket.queued_at.as_nanos() / 1_000_000_000;
            let is_in_sight = saved.pipes_namespace.is_none_or(|namespace| sight.covers(namespace));
            let look = pipes.find(*inode, saved.ticket.uid, since);
            keepers.add_pipe(ticket, *inode, if is_in_sight { look } else { look.seen_from_afar() });
        }
        for worker in &saved.workers {
            keepers.add_process(ticket, worker, Role::Worker, (sight, !saved.pipes.is_empty()));
        }
    }
    // A waiter keeps its place for as long as its client may come back, whatever its turn is to be kept by.
    if let Some(asker) = saved.asker.filter(|_| saved.ticket.hangs_on_its_client()) {
        keepers.add_process(ticket, &asker, Role::Asker, (sight, is_holder && !saved.pipes.is_empty()));
    }
    // It needs its client as well as what it is bound to.
    if is_holder && saved.ticket.unconfirmed && keepers.count() <= saved.workers.len() {
        keepers = Keepers { is_turn: is_holder, budget, watched: Vec::new(), unseen: Vec::new() };
    }
    let pipes = keepers.watched.iter().filter(|(role, _)| *role == Role::Pipe).count();
    // What cannot be looked for counts as a process, whatever it is.
    let processes = keepers.watched.len() - pipes + keepers.unseen.len();
    saved.ticket.pipes = u32::try_from(pipes).unwrap_or(u32::MAX);
    saved.ticket.processes = u32::try_from(processes).unwrap_or(u32::MAX);
    if is_holder {
        info!("ticket {ticket} had the turn in {}: kept by {}", saved.ticket.domain, keepers.describe());
    }
    Recovered { saved, keepers }
}

impl Keepers {
    fn add_pipe(&mut self, ticket: Ticket, inode: u64, look: PipeLook) {
        match look {
            PipeLook::Open(pipe) if self.budget.is_used_up(&pipe) => {
                self.add_unseen(ticket, Role::Pipe, Identity::Pipe(inode), NO_DESCRIPTORS);
            }
            PipeLook::Open(pipe) => self.watched.push((Role::Pipe, pipe)),
            PipeLook::Closed => {}
            PipeLook::Unknown(suspects) if suspects.is_empty() => {
                self.add_unseen(ticket, Role::Pipe, Identity::Pipe(inode), "not all processes show");
            }
            PipeLook::Unknown(suspects) if suspects.iter().any(|suspect| self.budget.is_used_up(suspect)) => {
                self.add_unseen(ticket, Role::Pipe, Identity::Pipe(inode), NO_DESCRIPTORS);
            }
            PipeLook::Unknown(suspects) => {
                warn!("ticket {ticket}: {} processes may have its pipe: waiting for all of them", suspects.len());
                self.watched.extend(suspects.into_iter().map(|suspect| (Role::Worker, suspect)));
            }
        }
    }

    /// With a pipe to go by, a process out of sight is no matter: what it started inherited the pipe.
    fn add_process(
        &mut self,
        ticket: Ticket,
        identity: &ProcessIdentity,
        role: Role,
        (sight, has_pipe): (&Sight, bool),
    ) {
        match process::look_for(identity, sight) {
            Look::Alive(pidfd) if self.budget.is_used_up(&pidfd) => {
                self.add_unseen(ticket, role, Identity::Process(*identity), NO_DESCRIPTORS);
            }
            Look::Alive(pidfd) => self.watched.push((role, pidfd)),
            Look::Gone => {}
            Look::OutOfSight if has_pipe => {}
            Look::OutOfSight => {
                let why = "it is in a pid namespace out of sight";
                self.add_unseen(ticket, role, Identity::Process(*identity), why);
            }
            Look::Unknown(why) => self.add_unseen(ticket, role, Identity::Process(*identity), why),
        }
    }

    fn add_unseen(&mut self, ticket: Ticket, role: Role, identity: Identity, why: &str) {
        let what = match identity {
            Identity::Pipe(_) => "its pipe".to_owned(),
            Identity::Process(process) => format!("process {}", process.pid),
        };
        let end = if self.is_turn { "release" } else { "cancel" };
        warn!("ticket {ticket}: {what} cannot be looked for ({why}): taken to be there; seq {end} {ticket} ends that");
        self.unseen.push((role, identity));
    }

    fn count(&self) -> usize {
        self.watched.len() + self.unseen.len()
    }

    fn describe(&self) -> String {
        format!("{} of its processes and pipes", self.count())
    }
}
