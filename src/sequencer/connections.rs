//! Which tickets and `Wait`s hang on which connection.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::protocol::Ticket;

use super::{ConnectionId, FixedHasher};

/// What can hang on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Attached {
    Wait(u64),
    /// A request that waits for the outcome of a key.
    Follower(u64),
    Ticket(Ticket),
}

/// An index; the tickets and `Wait`s themselves say where they belong.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Connections {
    attached: BTreeSet<(ConnectionId, Attached)>,
    counts: HashMap<ConnectionId, usize, FixedHasher>,
    /// Of these, the tickets.
    tickets: HashMap<ConnectionId, usize, FixedHasher>,
}

impl Connections {
    /// How many things hang on `connection`.
    pub(super) fn count(&self, connection: ConnectionId) -> usize {
        self.counts.get(&connection).copied().unwrap_or(0)
    }

    /// How many connections a ticket hangs on.
    pub(super) fn with_tickets(&self) -> usize {
        self.tickets.len()
    }

    /// Whether a ticket hangs on `connection`.
    pub(super) fn has_ticket(&self, connection: ConnectionId) -> bool {
        self.tickets.contains_key(&connection)
    }

    pub(super) fn attach(&mut self, connection: ConnectionId, attached: Attached) {
        if self.attached.insert((connection, attached)) {
            *self.counts.entry(connection).or_default() += 1;
            if let Attached::Ticket(_) = attached {
                *self.tickets.entry(connection).or_default() += 1;
            }
        }
    }

    pub(super) fn detach(&mut self, connection: ConnectionId, attached: Attached) {
        if !self.attached.remove(&(connection, attached)) {
            return;
        }
        subtract(&mut self.counts, connection);
        if let Attached::Ticket(_) = attached {
            subtract(&mut self.tickets, connection);
        }
    }

    /// What hangs on `connection`: its `Wait`s, then its tickets, each in order.
    pub(super) fn of(&self, connection: ConnectionId) -> Vec<Attached> {
        let all = (connection, Attached::Wait(0))..=(connection, Attached::Ticket(Ticket(u64::MAX)));
        self.attached.range(all).map(|(_, attached)| *attached).collect()
    }

    pub(super) fn has(&self, connection: ConnectionId, attached: Attached) -> bool {
        self.attached.contains(&(connection, attached))
    }

    pub(super) fn len(&self) -> usize {
        self.attached.len()
    }
}

/// One thing less hangs on `connection`.
fn subtract(counts: &mut HashMap<ConnectionId, usize, FixedHasher>, connection: ConnectionId) {
    if let Some(count) = counts.get_mut(&connection) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&connection);
        }
    }
}
