//! What a batch changes, written down in one piece before anybody is told of it.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::kept::Kept;
use super::report::{self, WallClock};
use crate::clock::Time;
use crate::error::Error;
use crate::protocol::{Outcome, Ticket};
use crate::sequencer::{Change, Record, Sequencer};
use crate::store::{self, Database, LeftTicket};

/// Between two looks for turns that have become too old for the history; those that are too many go soon.
const PRUNE_INTERVAL: Duration = Duration::from_hours(1);

/// Between two small steps of letting go of them.
const PRUNE_PAUSE: Duration = Duration::from_millis(20);

/// Bytes that the form of a ticket seldom exceeds.
const FORM_BYTES: usize = 512;

/// The database, and what is to go into it.
pub(super) struct Ledger {
    /// None in a daemon that keeps everything in memory.
    database: Option<Database>,
    /// What this batch has to do with. A ticket may be in it more than once.
    touched: Vec<Touched>,
    /// Here only to be used again.
    changes: Vec<store::Change>,
    /// When to let go of old turns next.
    prune_at: Option<Time>,
}

/// A ticket, and how it ended if it did.
struct Touched {
    ticket: Ticket,
    end: Option<Box<Record>>,
}

impl Ledger {
    pub(super) fn new(database: Option<Database>, now: Time) -> Ledger {
        let prune_at = database.is_some().then_some(now);
        Ledger { database, touched: Vec::new(), changes: Vec::new(), prune_at }
    }

    /// Where the database is; nothing when there is none.
    pub(super) fn path(&self) -> Option<&Path> {
        self.database.as_ref().map(Database::path)
    }

    /// Puts the database back if somebody removed it.
    ///
    /// # Errors
    ///
    /// As [`commit`](Ledger::commit).
    pub(super) fn put_back(&mut self) -> Result<(), Error> {
        self.database.as_mut().map_or(Ok(()), Database::put_back)
    }

    /// Something of this ticket has changed.
    pub(super) fn touch(&mut self, ticket: Ticket) {
        if self.database.is_some() {
            self.touched.push(Touched { ticket, end: None });
        }
    }

    /// This has happened.
    pub(super) fn note(&mut self, record: Record) {
        if self.database.is_some() {
            let is_end = matches!(record.change, Change::Ended { .. } | Change::Left { .. });
            self.touched.push(Touched { ticket: record.ticket, end: is_end.then(|| Box::new(record)) });
        }
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// Writes the batch: one row for each ticket, however often it changed.
    ///
    /// # Errors
    ///
    /// When it cannot be written. Nobody may be told anything of this batch then.
    pub(super) fn commit(
        &mut self,
        sequencer: &Sequencer,
        kept: &Kept,
        now: Time,
        clock: &WallClock,
    ) -> Result<(), Error> {
        let Some(database) = &mut self.database else { return Ok(()) };
        // Stable, so that an end is the last of its ticket.
        self.touched.sort_by_key(|touched| touched.ticket);
        for of_one in self.touched.chunk_by(|one, next| one.ticket == next.ticket) {
            let Some(last) = of_one.last() else { continue };
            self.changes.extend(match &last.end {
                Some(record) => Some(ended(record, clock)),
                None => live(last.ticket, sequencer, kept, clock),
            });
        }
        self.touched.clear();
        let written = database.commit(&self.changes);
        self.changes.clear();
        if database.surplus() > 0 {
            let soon = now + PRUNE_PAUSE;
            self.prune_at = self.prune_at.map(|at| at.min(soon));
        }
        written
    }

    /// When to call [`prune`](Ledger::prune).
    pub(super) fn prune_at(&self) -> Option<Time> {
        self.prune_at
    }

    /// Lets go of a few turns that ended too long ago, if it is time for that.
    ///
    /// # Errors
    ///
    /// As [`commit`](Ledger::commit).
    pub(super) fn prune(&mut self, now: Time) -> Result<(), Error> {
        let (Some(database), Some(due)) = (&mut self.database, self.prune_at) else { return Ok(()) };
        if due <= now {
            let has_more = database.prune(WallClock::at(now).milliseconds(now))?;
            self.prune_at = Some(now + if has_more { PRUNE_PAUSE } else { PRUNE_INTERVAL });
        }
        Ok(())
    }

    /// Closes the database, in good order.
    pub(super) fn close(self) {
        if let Some(database) = self.database {
            database.close();
        }
    }
}

fn live(ticket: Ticket, sequencer: &Sequencer, kept: &Kept, clock: &WallClock) -> Option<store::Change> {
    let saved = kept.saved(sequencer.saved(ticket)?, clock);
    Some(store::Change::Live { ticket, body: form(&saved), domain: saved.ticket.domain })
}

fn ended(record: &Record, clock: &WallClock) -> store::Change {
    let (ticket, at_ms) = (record.ticket, clock.milliseconds(record.at));
    if let Change::Left { outcome, .. } = record.change {
        // The others have nobody who could come back.
        let is_told = matches!(outcome, Outcome::Cancelled | Outcome::TimedOut | Outcome::Done);
        let body = || form(&LeftTicket { uid: record.uid, outcome });
        return store::Change::Left { ticket, why: is_told.then(|| (record.domain.clone(), at_ms, body())) };
    }
    let turn = report::ended_turn(record, clock);
    let body = turn.as_ref().map(form).unwrap_or_default();
    store::Change::Ended { ticket, domain: record.domain.clone(), ended_at: at_ms, body }
}

fn form(value: &impl Serialize) -> Vec<u8> {
    let mut form = Vec::with_capacity(FORM_BYTES);
    serde_json::to_writer(&mut form, value).unwrap_or_else(|error| panic!("it has no form: {error}"));
    form
}
