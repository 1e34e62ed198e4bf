//! What a batch changes, written down in one piece before anybody is told of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tracing::warn;

use super::history::{Shown, amended};
use super::kept::Kept;
use super::report::{self, WallClock};
use crate::clock::Time;
use crate::error::{Cure, Error};
use crate::protocol::{EndedTurn, Outcome, Ticket, Token};
use crate::sequencer::{Change, Record, Sequencer};
use crate::store::{self, Database, LeftTicket, Retention};

/// Between two looks for turns that have become too old for the history, at most; those that are too many go soon.
const PRUNE_INTERVAL_MAX: Duration = Duration::from_hours(1);

/// The same, at least.
const PRUNE_INTERVAL_MIN: Duration = Duration::from_secs(1);

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
    /// What was set in this batch, in order.
    settings: Vec<store::Change>,
    /// Here only to be used again.
    changes: Vec<store::Change>,
    /// Where clients leave word of turns whose end they could not tell.
    done: PathBuf,
    /// The words that this batch goes by.
    notes: Vec<PathBuf>,
    /// When to let go of old turns next.
    prune_at: Option<Time>,
}

/// A ticket, and how it ended if it did.
struct Touched {
    ticket: Ticket,
    end: Option<Box<Record>>,
}

impl Ledger {
    /// `done` is the folder of words about turns that have ended.
    pub(super) fn new(database: Option<Database>, done: PathBuf, now: Time) -> Ledger {
        let prune_at = database.is_some().then_some(now);
        Ledger {
            database,
            touched: Vec::new(),
            settings: Vec::new(),
            changes: Vec::new(),
            done,
            notes: Vec::new(),
            prune_at,
        }
    }

    /// Where the database is; nothing when there is none.
    pub(super) fn path(&self) -> Option<&Path> {
        self.database.as_ref().map(Database::path)
    }

    /// What is to be seen of the history: all of it that has not become too old, and so many turns if there are more.
    pub(super) fn shown(&self) -> Option<Shown> {
        let database = self.database.as_ref()?;
        let Retention { turns, age_ms } = database.retention();
        Some(Shown { age_ms, turns_max: (database.surplus() > 0).then_some(turns) })
    }

    /// Whether the database is where it was opened.
    pub(super) fn is_in_place(&self) -> bool {
        self.database.as_ref().is_none_or(Database::is_in_place)
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

    /// The status with which the turn of a ticket ended, if the history has it and it is known.
    pub(super) fn exit_status(&mut self, ticket: Ticket) -> Option<i32> {
        let (_, body) = self.database.as_mut()?.ended(ticket).ok()??;
        let turn: EndedTurn = serde_json::from_slice(&body).ok()?;
        turn.exit_status.filter(|_| turn.outcome == Outcome::Done)
    }

    /// This is set now, or not any more.
    pub(super) fn set(&mut self, setting: store::Change) {
        if self.database.is_some() {
            // Of what is set twice in a row the last is all that matters.
            if self.settings.last().is_some_and(|last| last.is_of_same(&setting)) {
                self.settings.pop();
            }
            self.settings.push(setting);
        }
    }

    /// These are set now, or not any more.
    pub(super) fn set_all(&mut self, settings: impl IntoIterator<Item = store::Change>) {
        if self.database.is_some() {
            self.settings.extend(settings);
        }
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.settings.is_empty()
    }

    /// Writes the batch: one row for each ticket, however often it changed.
    ///
    /// # Errors
    ///
    /// When it cannot be written. Nobody may be told anything of this batch then; it is still there for another try,
    /// together with what comes until then.
    pub(super) fn commit(
        &mut self,
        sequencer: &Sequencer,
        kept: &Kept,
        now: Time,
        clock: &WallClock,
    ) -> Result<(), Error> {
        let Some(database) = &mut self.database else { return Ok(()) };
        self.changes.extend(self.settings.iter().cloned());
        // Stable, so that an end is the last of its ticket.
        self.touched.sort_by_key(|touched| touched.ticket);
        for of_one in self.touched.chunk_by(|one, next| one.ticket == next.ticket) {
            let Some(last) = of_one.last() else { continue };
            self.changes.extend(match &last.end {
                Some(record) => Some(ended(record, clock, &self.done, &mut self.notes)),
                None => live(last.ticket, sequencer, kept, clock),
            });
        }
        let written = database.commit(&self.changes);
        self.changes.clear();
        if database.surplus() > 0 {
            let soon = now + PRUNE_PAUSE;
            self.prune_at = self.prune_at.map(|at| at.min(soon));
        }
        if written.is_ok() {
            self.forget_batch();
        } else {
            self.keep_batch();
        }
        written
    }

    /// The ticket and the token that come next, as the file of numbers has them already.
    pub(super) fn next_numbers(&mut self, ticket: Ticket, token: Token) {
        if let Some(database) = &mut self.database {
            database.next_numbers(ticket, token);
        }
    }

    /// Makes all that was written readable, for those who ask for the history.
    ///
    /// # Errors
    ///
    /// As [`commit`](Ledger::commit).
    pub(super) fn catch_up(&mut self) -> Result<(), Error> {
        self.database.as_mut().map_or(Ok(()), Database::catch_up)
    }

    fn forget_batch(&mut self) {
        self.touched.clear();
        self.settings.clear();
        for note in self.notes.drain(..) {
            if let Err(error) = std::fs::remove_file(&note) {
                warn!("cannot remove {}: {error}", note.display());
            }
        }
    }

    /// For the next try: of each ticket the last is all that matters.
    fn keep_batch(&mut self) {
        self.notes.clear();
        self.touched.dedup_by(|next, kept| {
            let is_same = next.ticket == kept.ticket;
            if is_same {
                std::mem::swap(next, kept);
            }
            is_same
        });
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
            let has_more = match database.prune(WallClock::at(now).milliseconds(now)) {
                // Removing needs room too, and is in no hurry.
                Err(problem) if problem.cure() == Cure::Write => false,
                pruned => pruned?,
            };
            let age = Duration::from_millis(database.retention().age_ms.try_into().unwrap_or(0));
            let interval = age.clamp(PRUNE_INTERVAL_MIN, PRUNE_INTERVAL_MAX);
            self.prune_at = Some(now + if has_more { PRUNE_PAUSE } else { interval });
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

fn ended(record: &Record, clock: &WallClock, done: &Path, notes: &mut Vec<PathBuf>) -> store::Change {
    let (ticket, mut at_ms) = (record.ticket, clock.milliseconds(record.at));
    if let Change::Left { outcome, .. } = record.change {
        // The others have nobody who could come back.
        let is_told = match outcome {
            Outcome::Cancelled
            | Outcome::Superseded
            | Outcome::TimedOut
            | Outcome::Deadlock
            | Outcome::Done
            | Outcome::Stopped => true,
            Outcome::Released | Outcome::Expired | Outcome::Gone | Outcome::Unknown => false,
        };
        let body = || form(&LeftTicket { uid: record.uid, outcome });
        return store::Change::Left { ticket, why: is_told.then(|| (record.domain.clone(), at_ms, body())) };
    }
    let mut turn = report::ended_turn(record, clock);
    // Its client may have left word while there was no daemon, or none that heard it, and be gone only now.
    if matches!(
        record.change,
        Change::Ended { outcome: Outcome::Gone | Outcome::Superseded, exit_status: None, .. }
            | Change::Ended { outcome: Outcome::Done | Outcome::Superseded, exit_status: Some(_), .. }
    ) && let Some(found) = store::find_note(done, ticket)
        && let Some((by_note, ended_at)) = turn.clone().and_then(|turn| amended(turn, at_ms, found.uid, &found.note))
    {
        (turn, at_ms) = (Some(by_note), ended_at);
        notes.push(found.path);
    }
    let body = turn.as_ref().map(form).unwrap_or_default();
    store::Change::Ended { ticket, domain: record.domain.clone(), ended_at: at_ms, body }
}

pub(super) fn form(value: &impl Serialize) -> Vec<u8> {
    let mut form = Vec::with_capacity(FORM_BYTES);
    serde_json::to_writer(&mut form, value).unwrap_or_else(|error| panic!("it has no form: {error}"));
    form
}
