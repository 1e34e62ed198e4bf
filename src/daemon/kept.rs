//! Which connection asked for a ticket, and what else keeps its turn.

use std::collections::{BTreeSet, HashMap};

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
#[derive(Debug, Default)]
struct Keeper {
    /// Who asked last; it may be gone.
    connection: Option<ConnectionId>,
    /// Whether it has its turn.
    is_active: bool,
    /// What is watched for it.
    watches: Vec<Watch>,
}

impl Kept {
    /// A connection has got this ticket, or taken it up again. What was watched for a waiter is watched no more, what
    /// keeps a turn goes on keeping it.
    pub(super) fn admit(&mut self, ticket: Ticket, connection: ConnectionId) {
        let keeper = self.tickets.entry(ticket).or_default();
        keeper.connection = Some(connection);
        if !keeper.is_active {
            keeper.watches.clear();
        }
    }

    /// This ticket has its turn now.
    pub(super) fn activate(&mut self, ticket: Ticket) {
        self.tickets.entry(ticket).or_default().is_active = true;
    }

    /// Whether this ticket has its turn, and hangs on this connection.
    pub(super) fn is_working(&self, ticket: Ticket, connection: ConnectionId) -> bool {
        let keeper = self.tickets.get(&ticket);
        keeper.is_some_and(|keeper| keeper.is_active && keeper.connection == Some(connection))
    }

    /// Something is watched for this ticket, until it ends.
    pub(super) fn watch(&mut self, ticket: Ticket, watch: Watch) {
        if let Some(keeper) = self.tickets.get_mut(&ticket) {
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

    /// Every ticket, in order.
    pub(super) fn tickets(&self) -> Vec<Ticket> {
        let mut tickets: Vec<Ticket> = self.tickets.keys().copied().collect();
        tickets.sort_unstable();
        tickets
    }

    /// What the next daemon must know of a turn. `peer_pid` gives the process of a connection that is still there.
    pub(super) fn held_turn(&self, turn: Restored, peer_pid: impl Fn(ConnectionId) -> Option<u32>) -> HeldTurn {
        let Some(keeper) = self.tickets.get(&turn.ticket) else {
            return HeldTurn { turn, processes: Vec::new(), pipes: Vec::new() };
        };
        let (pipes, pidfds): (Vec<_>, Vec<_>) = keeper.watches.iter().partition(|watch| watch.is_pipe);
        let mut processes: Vec<ProcessIdentity> = pidfds.into_iter().filter_map(process::identify).collect();
        if turn.binding == Binding::Connection {
            // The wrapper reports the end of its command, so the turn is its own for as long as it lives.
            let wrapper = keeper.connection.and_then(peer_pid);
            processes.extend(wrapper.and_then(|pid| process::identify(process::open(pid).ok()?)));
        }
        let inode = |pipe| rustix::fs::fstat(pipe).ok().map(|found| found.st_ino);
        let pipes: BTreeSet<u64> = pipes.into_iter().filter_map(inode).collect();
        HeldTurn { turn, processes, pipes: pipes.into_iter().collect() }
    }
}
