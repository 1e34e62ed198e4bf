//! All tickets, by their numbers and by their requests.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use crate::protocol::{Domain, RequestId, Ticket};

use super::FixedHasher;
use super::by_ticket::ByTicket;
use super::ticket::Entry;

/// Every ticket that waits or has a turn.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Box<Entry>>", into = "Vec<Box<Entry>>")]
pub(super) struct Tickets {
    entries: ByTicket<Box<Entry>>,
    /// By the request and the line that it names first. Only the numbers: the names are in the entries.
    by_request: HashTable<Ticket>,
    /// By the request and its further lines, which few have.
    also: BTreeMap<(Domain, RequestId), Ticket>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the maps of the standard library have it")]
impl Tickets {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains_key(&self, ticket: &Ticket) -> bool {
        self.entries.contains_key(ticket)
    }

    pub(super) fn get(&self, ticket: &Ticket) -> Option<&Entry> {
        self.entries.get(ticket).map(|entry| &**entry)
    }

    pub(super) fn get_mut(&mut self, ticket: &Ticket) -> Option<&mut Entry> {
        self.entries.get_mut(ticket).map(|entry| &mut **entry)
    }

    /// In order.
    pub(super) fn keys(&self) -> impl Iterator<Item = Ticket> {
        self.entries.keys()
    }

    /// In the order of their tickets.
    pub(super) fn values(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(|entry| &**entry)
    }

    /// The ticket with this request id in this line, whether it stands there or is a guest.
    pub(super) fn of_request(&self, domain: &Domain, request_id: &RequestId) -> Option<Ticket> {
        let is_it = |ticket: &Ticket| {
            let entry = self.entries.get(ticket);
            entry.is_some_and(|entry| entry.request_id == *request_id && entry.domain == *domain)
        };
        let by_request = || self.by_request.find(hash(domain, request_id), is_it).copied();
        let also = || self.also.get(&(domain.clone(), request_id.clone())).copied();
        by_request().or_else(|| if self.also.is_empty() { None } else { also() })
    }

    /// Adds a ticket whose request is in none of its lines yet.
    pub(super) fn insert(&mut self, entry: Box<Entry>) {
        let (ticket, hash) = (entry.ticket, hash_of(&entry));
        for domain in &entry.wishes().also {
            self.also.insert((domain.clone(), entry.request_id.clone()), ticket);
        }
        self.entries.insert(ticket, entry);
        if self.by_request.len() < self.by_request.capacity() {
            self.by_request.insert_unique(hash, ticket, |_| unreachable!("there is room"));
        } else {
            self.make_room();
        }
    }

    pub(super) fn remove(&mut self, ticket: &Ticket) -> Option<Box<Entry>> {
        let entry = self.entries.remove(ticket)?;
        if let Ok(known) = self.by_request.find_entry(hash_of(&entry), |known| known == ticket) {
            known.remove();
        }
        for domain in &entry.wishes().also {
            self.also.remove(&(domain.clone(), entry.request_id.clone()));
        }
        Some(entry)
    }

    /// Takes a ticket out for a moment in which nobody asks for it, and none is added.
    pub(super) fn lend(&mut self, ticket: &Ticket) -> Option<Box<Entry>> {
        self.entries.remove(ticket)
    }

    /// Takes back what was lent.
    pub(super) fn take_back(&mut self, entry: Box<Entry>) {
        self.entries.insert(entry.ticket, entry);
    }

    /// How many lines all of them have together.
    pub(super) fn names(&self) -> usize {
        self.by_request.len() + self.also.len()
    }

    /// Makes a larger table of all requests. In the order of their tickets, which is that in which they lie in memory:
    /// in the order of the old table it would take several times as long.
    fn make_room(&mut self) {
        let len = self.entries.len();
        self.by_request = HashTable::with_capacity(len + len / 2);
        for entry in self.entries.values() {
            self.by_request.insert_unique(hash_of(entry), entry.ticket, |_| unreachable!("there is room"));
        }
    }
}

impl From<Vec<Box<Entry>>> for Tickets {
    fn from(entries: Vec<Box<Entry>>) -> Tickets {
        let mut tickets = Tickets::default();
        for entry in entries {
            tickets.insert(entry);
        }
        tickets
    }
}

impl From<Tickets> for Vec<Box<Entry>> {
    fn from(tickets: Tickets) -> Vec<Box<Entry>> {
        tickets.entries.values().cloned().collect()
    }
}

fn hash_of(entry: &Entry) -> u64 {
    hash(&entry.domain, &entry.request_id)
}

fn hash(domain: &Domain, request_id: &RequestId) -> u64 {
    FixedHasher::default().hash_one((domain, request_id))
}
