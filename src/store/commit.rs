//! Writing into the database: into the journal first, and from there, many at once, into the file.

use rusqlite::ErrorCode;

use super::change::Change;
use super::checkpoint::is_room_short;
use super::database::{Database, oldest};
use super::fault;
use super::history::{self, PRUNE_ROWS_MAX};
use super::mark::Summary;
use super::output;
use super::problem::{Problem, problem, write_problem};
use super::row::{LIVE, Row};
use super::schema;
use super::setting::{self, SettingKind};
use crate::protocol::Ticket;

/// Turns that the history may have too many while there is no quiet moment to remove some.
const SURPLUS_MAX: u64 = 4_096;

/// Transactions after which the checkpointer is woken.
const CHECKPOINT_TRANSACTIONS: u32 = 512;

impl Database {
    /// Writes `changes`, all of them or none. When it has returned they outlive this process; a power cut may take
    /// them, and all commands with them. Who reads the database finds them there after [`catch_up`](Database::catch_up).
    ///
    /// # Errors
    ///
    /// When they cannot be written: none of them is, and nothing may be told to anybody. Where there was no room the
    /// same tickets may be tried again, in one commit with others; otherwise end this process, and let the next
    /// one read what is on disk.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), Problem> {
        if changes.is_empty() {
            return Ok(());
        }
        fault::point();
        let rows: Vec<Row<'_>> = changes.iter().filter_map(Row::of).collect();
        let has_settings = rows.len() < changes.len();
        if has_settings || !self.journal.has_room(&rows) {
            self.catch_up()?;
        }
        let added = changes.iter().filter(|change| change.adds_to_history()).count() as u64;
        self.ended += added;
        if let Err(problem) = self.write(&rows, changes, has_settings) {
            self.ended = self.ended.saturating_sub(added);
            return Err(problem);
        }
        fault::point();
        self.mark.settle(self.summary, oldest(&self.sums), self.ended);
        self.checkpointer.check().map_err(|error| problem(&self.path, error))
    }

    fn write(&mut self, rows: &[Row<'_>], changes: &[Change], has_settings: bool) -> Result<(), Problem> {
        if has_settings {
            return self.write_settings(rows, changes);
        }
        if !self.journal.has_room(rows) {
            return self.write_past_journal(rows, &[]);
        }
        for row in rows {
            self.account(row);
        }
        // Whichever of the two states the next daemon finds after a crash, the mark knows it.
        self.mark.announce(self.summary, oldest(&self.sums));
        self.journal.append(rows, &self.mark);
        Ok(())
    }

    /// Takes what is in the journal into the database, for those who read there.
    ///
    /// # Errors
    ///
    /// As [`commit`](Database::commit). Nothing that was committed is lost then.
    pub fn catch_up(&mut self) -> Result<(), Problem> {
        if self.journal.length() == 0 {
            return Ok(());
        }
        self.take_in_journal()
    }

    /// As [`catch_up`](Database::catch_up), also when nothing is in the journal: from now on it has a number that none
    /// had before. Nobody waits for the disk then. That matters to a log which begins anew before older records of its
    /// own, and one that was just opened is empty, or goes on.
    pub(super) fn begin_journal(&mut self) -> Result<(), Problem> {
        if self.journal.length() > 0 {
            return self.take_in_journal();
        }
        self.set_synchronous("OFF")?;
        self.take_in_journal()?;
        self.set_synchronous("NORMAL")
    }

    fn take_in_journal(&mut self) -> Result<(), Problem> {
        let rows: Vec<Row<'_>> = self.journal.rows().into_values().collect();
        match self.transact(&rows, &[]) {
            Ok(removed) => self.took_in(removed),
            Err(error) => return Err(self.failed(error)),
        }
        Ok(())
    }

    /// Writes settings, and what changed with them, past the journal: they are few. What was set for good is on the disk
    /// when this has returned, so that even a power cut does not take it.
    fn write_settings(&mut self, rows: &[Row<'_>], changes: &[Change]) -> Result<(), Problem> {
        let is_for_good = |change: &Change| matches!(change, Change::Setting { kind, .. } if kind.is_for_good());
        if !changes.iter().any(is_for_good) {
            return self.write_past_journal(rows, changes);
        }
        self.set_synchronous("FULL")?;
        let written = self.write_past_journal(rows, changes);
        self.set_synchronous("NORMAL")?;
        self.mark.sync();
        written
    }

    fn set_synchronous(&self, level: &str) -> Result<(), Problem> {
        let set = self.connection.pragma_update(None, "synchronous", level);
        set.map_err(|error| problem(&self.path, error))
    }

    /// Writes what the journal, which is empty, would never have room for, and the settings among `changes`.
    fn write_past_journal(&mut self, rows: &[Row<'_>], changes: &[Change]) -> Result<(), Problem> {
        let summary = self.summary;
        let before: Vec<(Ticket, Option<i64>)> = rows.iter().map(|row| (row.ticket, self.account(row))).collect();
        let before_settings: Vec<_> = changes.iter().filter_map(|change| self.account_setting(change)).collect();
        self.mark.announce(self.summary, oldest(&self.sums));
        match self.transact(rows, changes) {
            Ok(removed) => self.took_in(removed),
            Err(error) => {
                for (ticket, sum) in before.into_iter().rev() {
                    self.replace_sum(ticket, sum);
                }
                for (key, sum) in before_settings.into_iter().rev() {
                    match sum {
                        Some(sum) => self.setting_sums.insert(key, sum),
                        None => self.setting_sums.remove(&key),
                    };
                }
                self.summary = summary;
                return Err(self.failed(error));
            }
        }
        Ok(())
    }

    /// Writes `rows`, and the settings among `changes`, in one transaction, as what the journal of the present number
    /// holds; gives how many turns of the history had to make room.
    fn transact(&self, rows: &[Row<'_>], changes: &[Change]) -> rusqlite::Result<u64> {
        let connection = &self.connection;
        let write = || {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            for row in rows {
                fault::write()?;
                row.write(connection)?;
            }
            for change in changes {
                match change {
                    Change::Setting { kind, name, body } => {
                        fault::write()?;
                        setting::write(connection, (*kind, name), body.as_deref())?;
                    }
                    Change::Output { name, body } => {
                        fault::write()?;
                        output::write(connection, name, body.as_deref())?;
                    }
                    _ => {}
                }
            }
            // As many as may have come, so that there are never more of them.
            let surplus = self.surplus().min(PRUNE_ROWS_MAX.max(rows.len() as u64));
            let is_much = self.surplus() >= SURPLUS_MAX || self.retention.turns == 0;
            let removed = if is_much { history::prune_count(connection, surplus)? } else { 0 };
            schema::set_taken_in(connection, self.journal.number())?;
            fault::write()?;
            connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(removed)
        };
        // Even what failed may be in the log, for the next daemon to find.
        self.mark.take_in();
        let written = write();
        if written.is_err() && !connection.is_autocommit() {
            _ = connection.execute_batch("ROLLBACK");
        }
        written
    }

    /// What a transaction failed for. The room that it lacks may be that of the log.
    fn failed(&mut self, error: rusqlite::Error) -> Problem {
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            self.checkpointer.wake();
        }
        write_problem(&self.path, error)
    }

    /// The database has the journal, and let go of `removed` turns.
    fn took_in(&mut self, removed: u64) {
        fault::point();
        self.journal.begin_next(&self.mark);
        self.ended -= removed;
        self.mark.settle(self.summary, oldest(&self.sums), self.ended);
        self.transactions += 1;
        if self.transactions >= CHECKPOINT_TRANSACTIONS || is_room_short(&self.path) {
            self.transactions = 0;
            self.checkpointer.wake();
        }
    }

    /// Reckons with a row that is about to be written; gives the sum that its ticket had while it lived.
    fn account(&mut self, row: &Row<'_>) -> Option<i64> {
        self.replace_sum(row.ticket, (row.state == LIVE).then_some(row.sum))
    }

    fn replace_sum(&mut self, ticket: Ticket, sum: Option<i64>) -> Option<i64> {
        let before = match sum {
            Some(sum) => self.sums.insert(ticket, sum),
            None => self.sums.remove(&ticket),
        };
        if let Some(before) = before {
            self.summary.take(Summary::of(ticket, before));
        }
        if let Some(sum) = sum {
            self.summary.put(Summary::of(ticket, sum));
        }
        before
    }

    /// Reckons with a setting that is about to be written, if it is one; gives which one, and the sum that it had.
    fn account_setting(&mut self, change: &Change) -> Option<((SettingKind, String), Option<i64>)> {
        let Change::Setting { kind, name, body } = change else { return None };
        let key = (*kind, name.clone());
        let sum = body.as_ref().map(|body| setting::checksum(*kind, name, body));
        let before = match sum {
            Some(sum) => self.setting_sums.insert(key.clone(), sum),
            None => self.setting_sums.remove(&key),
        };
        if let Some(before) = before {
            self.summary.take(setting::summary(*kind, before));
        }
        if let Some(sum) = sum {
            self.summary.put(setting::summary(*kind, sum));
        }
        Some((key, before))
    }
}
