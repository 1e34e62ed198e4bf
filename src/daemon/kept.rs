//! Which connection asked for a ticket, and what else keeps its turn.

use std::collections::HashMap;

use super::process;
use super::wake::WatchEnd;
use super::watch::Watch;
use crate::protocol::{Binding, Ticket};
use crate::sequencer::{ConnectionId, Restored};
use crate::store::{HeldTurn, ProcessIdentity};

/// All live tickets.
#[derive(Debug, Default)]
pub(super) struct Kept {
    tickets: HashMap<Ticket, Keeper>,
}

/// One ticket.
#[derive(Debug)]
struct Keeper {
    /// Who asked last; it may be gone.
    connection: Option<ConnectionId>,
    /// What is watched for it.
    watches: Vec<Watch>,
}

impl Kept {
    /// A connection has got this ticket, or taken it up again.
    pub(super) fn admit(&mut self, ticket: Ticket, connection: Option<ConnectionId>) {
        let keeper = self.tickets.entry(ticket).or_insert(Keeper { connection, watches: Vec::new() });
        keeper.connection = connection;
    }

    /// Something is watched for this ticket. A new pipe takes the place of an earlier one: its client handed the
    /// same pipe over again.
    pub(super) fn watch(&mut self, ticket: Ticket, watch: Watch) {
        if let Some(keeper) = self.tickets.get_mut(&ticket) {
            if watch.is_pipe {
                keeper.watches.retain(|earlier| !earlier.is_pipe);
            }
            keeper.watches.push(watch);
        }
    }

    /// Whether the end of a watch still matters: not when the watch was replaced or its ticket has ended. It is
    /// forgotten either way.
    pub(super) fn take_end(&mut self, end: WatchEnd) -> bool {
        let Some(keeper) = self.tickets.get_mut(&end.ticket) else { return false };
        let before = keeper.watches.len();
        keeper.watches.retain(|watch| watch.number != end.watch);
        keeper.watches.len() < before
    }

    /// This ticket has ended: nothing is watched for it any more.
    pub(super) fn end(&mut self, ticket: Ticket) {
        self.tickets.remove(&ticket);
    }

    /// What the next daemon must know of a turn. `peer_pid` gives the process of a connection that is still there.
    pub(super) fn held_turn(&self, turn: Restored, peer_pid: impl Fn(ConnectionId) -> Option<u32>) -> HeldTurn {
        let Some(keeper) = self.tickets.get(&turn.ticket) else {
            return HeldTurn { turn, processes: Vec::new(), pipe: None };
        };
        let mut processes: Vec<ProcessIdentity> =
            keeper.watches.iter().filter(|watch| !watch.is_pipe).filter_map(process::identify).collect();
        if turn.binding == Binding::Connection {
            // The wrapper reports the end of its command, so the turn is its own for as long as it lives.
            let wrapper = keeper.connection.and_then(peer_pid);
            processes.extend(wrapper.and_then(|pid| process::identify(process::open(pid).ok()?)));
        }
        let pipe = keeper.watches.iter().find(|watch| watch.is_pipe);
        let pipe = pipe.and_then(|watch| rustix::fs::fstat(watch).ok()).map(|found| found.st_ino);
        HeldTurn { turn, processes, pipe }
    }
}
