//! What goes into the database, and what comes out of it.

use super::setting::SettingKind;
use crate::protocol::{Domain, Ticket};

/// What became of one ticket, to be written in one commit with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It lives, and this is what the next daemon must know of it.
    Live {
        /// The ticket.
        ticket: Ticket,
        /// Its line.
        domain: Domain,
        /// What to know, in the caller's own form.
        body: Vec<u8>,
    },
    /// Its turn has ended, and this is its line in the history. It need not have been written as living before.
    Ended {
        /// The ticket.
        ticket: Ticket,
        /// Its line.
        domain: Domain,
        /// When, in milliseconds since 1970, by the wall clock.
        ended_at: i64,
        /// The line, in the caller's own form.
        body: Vec<u8>,
    },
    /// Its turn had ended before, and this is its line in the history from now on.
    Amended {
        /// The ticket.
        ticket: Ticket,
        /// Its line.
        domain: Domain,
        /// When, in milliseconds since 1970, by the wall clock.
        ended_at: i64,
        /// The line, in the caller's own form.
        body: Vec<u8>,
    },
    /// It left without a turn.
    Left {
        /// The ticket.
        ticket: Ticket,
        /// Why, in the caller's own form, if its client may come back to hear that: then it is kept as long as a turn
        /// of the history, but is none. Otherwise nothing of it stays.
        why: Option<(Domain, i64, Vec<u8>)>,
    },
    /// Something that is no ticket was set, or is not any more.
    Setting {
        /// What it is about.
        kind: SettingKind,
        /// Which one of its kind.
        name: String,
        /// What it says, in the caller's own form; nothing removes it.
        body: Option<Vec<u8>>,
    },
    /// What the command of a key wrote was recorded, or is not needed any more.
    Output {
        /// The id of the key's record.
        name: String,
        /// What it wrote, in the caller's own form; nothing removes it.
        body: Option<Vec<u8>>,
    },
}

impl Change {
    /// Whether both set the same.
    pub fn is_of_same(&self, other: &Change) -> bool {
        match (self, other) {
            (Change::Setting { kind, name, .. }, Change::Setting { kind: other_kind, name: other, .. }) => {
                kind == other_kind && name == other
            }
            _ => false,
        }
    }

    /// Whether the history has one row more with it.
    pub(super) fn adds_to_history(&self) -> bool {
        matches!(self, Change::Ended { .. } | Change::Left { why: Some(_), .. })
    }
}

/// What the history keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Turns.
    pub turns: u64,
    /// Milliseconds since a turn ended.
    pub age_ms: i64,
}

/// One ticket that lived when the last daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The ticket.
    pub ticket: Ticket,
    /// What was to be known of it.
    pub body: Vec<u8>,
}
