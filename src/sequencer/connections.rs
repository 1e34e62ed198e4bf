//! Which tickets and `Wait`s hang on which connection.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::protocol::Ticket;

use super::{ConnectionId, FixedHasher};

/// What can hang on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Attached {
    Wait(u64),
    Ticket(Ticket),
}

/// An index; the tickets and `Wait`s themselves say where they belong.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Connections {
    attached: BTreeSet<(ConnectionId, Attached)>,
    counts: HashMap<ConnectionId, usize, FixedHasher>,
}

impl Connections {
    /// How many things hang on `connection`.
    pub(super) fn count(&self, connection: ConnectionId) -> usize {
        self.counts.get(&connection).copied().unwrap_or(0)
    }

    /// How many connections something hangs on.
    pub(super) fn in_use(&self) -> usize {
        self.counts.len()
    }

    pub(super) fn attach(&mut self, connection: ConnectionId, attached: Attached) {
        if self.attached.insert((connection, attached)) {
            *self.counts.entry(connection).or_default() += 1;
        }
    }

    pub(super) fn detach(&mut self, connection: ConnectionId, attached: Attached) {
        if !self.attached.remove(&(connection, attached)) {
            return;
        }
        if let Some(count) = self.counts.get_mut(&connection) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&connection);
            }
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
