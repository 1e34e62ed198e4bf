//! A table by ticket that makes use of how tickets come: in a row.

use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;

use crate::protocol::Ticket;

use super::stretch::Stretch;

/// Past this room for values a block gives back what it does not need.
const ROOM_KEPT: usize = 16;

/// A value for each of some tickets, in their order. Looking one up costs O(log n).
///
/// A stretch of numbers shares a block, which has values for just those that are there. Where most are there, one takes
/// little more than its value; a tree or a hash table takes twice to five times as much for a small one.
#[derive(Clone, Debug)]
pub(crate) struct ByTicket<T> {
    /// By number; none is empty but the last, which the next ticket falls into.
    blocks: BTreeMap<u64, Block<T>>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Block<T> {
    present: Stretch,
    /// Their values, in order.
    values: Vec<T>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as the maps of the standard library have it")]
impl<T> ByTicket<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn contains_key(&self, ticket: &Ticket) -> bool {
        self.get(ticket).is_some()
    }

    pub(crate) fn get(&self, ticket: &Ticket) -> Option<&T> {
        let block = self.blocks.get(&Stretch::of(ticket.0))?;
        Some(&block.values[block.index(*ticket)?])
    }

    pub(crate) fn get_mut(&mut self, ticket: &Ticket) -> Option<&mut T> {
        let block = self.blocks.get_mut(&Stretch::of(ticket.0))?;
        let index = block.index(*ticket)?;
        Some(&mut block.values[index])
    }

    /// Gives the value that the ticket had before.
    pub(crate) fn insert(&mut self, ticket: Ticket, value: T) -> Option<T> {
        let block = self.block(Stretch::of(ticket.0));
        if let Some(index) = block.index(ticket) {
            return Some(std::mem::replace(&mut block.values[index], value));
        }
        block.values.insert(block.present.before(ticket.0), value);
        block.present.insert(ticket.0);
        self.len += 1;
        None
    }

    /// The value of the ticket, which has the default if it had none.
    pub(crate) fn or_default(&mut self, ticket: Ticket) -> &mut T
    where
        T: Default,
    {
        if !self.contains_key(&ticket) {
            self.insert(ticket, T::default());
        }
        self.get_mut(&ticket).unwrap_or_else(|| unreachable!("it was just inserted"))
    }

    pub(crate) fn remove(&mut self, ticket: &Ticket) -> Option<T> {
        let number = Stretch::of(ticket.0);
        let block = self.blocks.get_mut(&number)?;
        let value = block.values.remove(block.index(*ticket)?);
        block.present.remove(ticket.0);
        self.len -= 1;
        if block.values.is_empty() {
            if self.blocks.last_key_value().is_some_and(|(last, _)| *last != number) {
                self.blocks.remove(&number);
            }
        } else if block.values.capacity() > ROOM_KEPT && block.values.len() * 4 <= block.values.capacity() {
            block.values.shrink_to(block.values.len() * 2);
        }
        Some(value)
    }

    /// The first of all.
    pub(crate) fn first(&self) -> Option<Ticket> {
        self.blocks.iter().find_map(|(number, block)| block.present.first(*number)).map(Ticket)
    }

    /// The tickets, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Ticket> {
        self.blocks.iter().flat_map(|(number, block)| block.present.numbers(*number)).map(Ticket)
    }

    /// The values, in the order of their tickets.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.blocks.values().flat_map(|block| &block.values)
    }

    /// The block of this number. A new one has the room of the last, if nothing is left in that.
    fn block(&mut self, number: u64) -> &mut Block<T> {
        let is_known = self.blocks.contains_key(&number);
        let empty = self.blocks.last_entry().filter(|last| !is_known && last.get().values.is_empty());
        let room = empty.map_or_else(Block::default, OccupiedEntry::remove);
        self.blocks.entry(number).or_insert(room)
    }
}

impl<T> Block<T> {
    /// Where the value of `ticket` is, if that is there.
    fn index(&self, ticket: Ticket) -> Option<usize> {
        self.present.has(ticket.0).then(|| self.present.before(ticket.0))
    }
}

impl<T> Default for ByTicket<T> {
    fn default() -> ByTicket<T> {
        ByTicket { blocks: BTreeMap::new(), len: 0 }
    }
}

impl<T> Default for Block<T> {
    fn default() -> Block<T> {
        Block { present: Stretch::default(), values: Vec::new() }
    }
}

impl<T> FromIterator<(Ticket, T)> for ByTicket<T> {
    fn from_iter<I: IntoIterator<Item = (Ticket, T)>>(values: I) -> ByTicket<T> {
        let mut table = ByTicket::default();
        for (ticket, value) in values {
            table.insert(ticket, value);
        }
        table
    }
}
