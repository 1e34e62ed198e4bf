//! Which tickets and `Wait`s hang on which connection.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::protocol::Ticket;

use super::stretch::Stretch;
use super::{ConnectionId, NumberHasher};

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
#[serde(from = "Vec<(ConnectionId, Attached)>", into = "Vec<(ConnectionId, Attached)>")]
pub(super) struct Connections {
    /// By the numbers of their stretches. None is empty.
    attached: BTreeMap<(ConnectionId, Attached), Stretch>,
    /// Of those on which something hangs.
    counts: HashMap<ConnectionId, Counts, NumberHasher>,
    /// Those on which a ticket hangs.
    with_tickets: usize,
}

/// How much hangs on a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    all: usize,
    /// Of these, the tickets.
    tickets: usize,
}

impl Connections {
    /// How many things hang on `connection`.
    pub(super) fn count(&self, connection: ConnectionId) -> usize {
        self.counts(connection).all
    }

    /// How many connections a ticket hangs on.
    pub(super) fn with_tickets(&self) -> usize {
        self.with_tickets
    }

    /// Whether a ticket hangs on `connection`.
    pub(super) fn has_ticket(&self, connection: ConnectionId) -> bool {
        self.counts(connection).tickets > 0
    }

    pub(super) fn attach(&mut self, connection: ConnectionId, attached: Attached) {
        let (stretch, number) = attached.split();
        if !self.attached.entry((connection, stretch)).or_default().insert(number) {
            return;
        }
        let counts = self.counts.entry(connection).or_default();
        counts.all += 1;
        if let Attached::Ticket(_) = attached {
            counts.tickets += 1;
            self.with_tickets += usize::from(counts.tickets == 1);
        }
    }

    pub(super) fn detach(&mut self, connection: ConnectionId, attached: Attached) {
        let (stretch, number) = attached.split();
        let Some(others) = self.attached.get_mut(&(connection, stretch)) else { return };
        if !others.remove(number) {
            return;
        }
        if others.is_empty() {
            self.attached.remove(&(connection, stretch));
        }
        let Some(counts) = self.counts.get_mut(&connection) else { return };
        counts.all -= 1;
        if let Attached::Ticket(_) = attached {
            counts.tickets -= 1;
            self.with_tickets -= usize::from(counts.tickets == 0);
        }
        if counts.all == 0 {
            self.counts.remove(&connection);
        }
    }

    /// What hangs on `connection`: its `Wait`s, then its tickets, each in order.
    pub(super) fn of(&self, connection: ConnectionId) -> Vec<Attached> {
        let all = (connection, Attached::Wait(0))..=(connection, Attached::Ticket(Ticket(u64::MAX)));
        self.attached.range(all).flat_map(|((_, first), stretch)| first.members(*stretch)).collect()
    }

    pub(super) fn has(&self, connection: ConnectionId, attached: Attached) -> bool {
        let (stretch, number) = attached.split();
        self.attached.get(&(connection, stretch)).is_some_and(|stretch| stretch.has(number))
    }

    pub(super) fn len(&self) -> usize {
        self.attached.values().map(|stretch| stretch.len() as usize).sum()
    }

    fn counts(&self, connection: ConnectionId) -> Counts {
        self.counts.get(&connection).copied().unwrap_or_default()
    }
}

impl Attached {
    /// The number of its stretch, among those of its kind, and its own.
    fn split(self) -> (Attached, u64) {
        let (Attached::Wait(number) | Attached::Follower(number) | Attached::Ticket(Ticket(number))) = self;
        (self.numbered(Stretch::of(number)), number)
    }

    /// Those of its kind that are there, if this is the number of their stretch.
    fn members(self, stretch: Stretch) -> impl Iterator<Item = Attached> {
        let (Attached::Wait(number) | Attached::Follower(number) | Attached::Ticket(Ticket(number))) = self;
        stretch.numbers(number).map(move |number| self.numbered(number))
    }

    /// One of its kind with this number.
    fn numbered(self, number: u64) -> Attached {
        match self {
            Attached::Wait(_) => Attached::Wait(number),
            Attached::Follower(_) => Attached::Follower(number),
            Attached::Ticket(_) => Attached::Ticket(Ticket(number)),
        }
    }
}

impl From<Vec<(ConnectionId, Attached)>> for Connections {
    fn from(all: Vec<(ConnectionId, Attached)>) -> Connections {
        let mut connections = Connections::default();
        for (connection, attached) in all {
            connections.attach(connection, attached);
        }
        connections
    }
}

impl From<Connections> for Vec<(ConnectionId, Attached)> {
    fn from(connections: Connections) -> Vec<(ConnectionId, Attached)> {
        let all = connections.attached.iter();
        all.flat_map(|((connection, first), stretch)| first.members(*stretch).map(|it| (*connection, it))).collect()
    }
}
