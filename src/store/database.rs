//! The database: every ticket that lives, and how each turn ended.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};
use sha2::{Digest, Sha256};

use super::checkpoint::Checkpointer;
use super::mark::{Mark, Summary};
use super::problem::{Problem, problem};
use super::schema;
use crate::protocol::{Domain, Ticket};

/// Bytes of a page. A commit writes the pages that it touched, and a ticket's row is a few hundred bytes.
const PAGE_BYTES: u32 = 1_024;

/// Commits after which the checkpointer is woken.
const CHECKPOINT_COMMITS: u32 = 256;

/// Ended turns removed in one commit at most, so that pruning never stalls a turn.
const PRUNE_ROWS_MAX: i64 = 16;

/// How SQLite locks: this process alone, but with several connections of its own, and without a file for shared
/// memory (<https://sqlite.org/vfs.html>).
const VFS: &str = "unix-excl";

/// What became of one ticket, to be written in one transaction with others.
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
    /// Its turn has ended, and this is its line in the history.
    Ended {
        /// The ticket.
        ticket: Ticket,
        /// When, in milliseconds since 1970, by the wall clock.
        ended_at: i64,
        /// The line, in the caller's own form.
        body: Vec<u8>,
    },
    /// It left without a turn: nothing of it stays.
    Left {
        /// The ticket.
        ticket: Ticket,
    },
}

/// What the history keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Turns.
    pub turns: u64,
    /// Milliseconds since a turn ended.
    pub age_ms: i64,
}

/// The open database. There is one for a daemon, and it is the only writer.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    mark: Mark,
    checkpointer: Checkpointer,
    path: PathBuf,
    /// Sums of the tickets that live, as they are on disk.
    summary: Summary,
    commits: u32,
    retention: Retention,
    ended: u64,
}

/// One ticket that lived when the last daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The ticket.
    pub ticket: Ticket,
    /// What was to be known of it.
    pub body: Vec<u8>,
}

impl Database {
    /// Opens the database at `path`, or makes it, and gives what lived in it if that was under this `boot_id`. After
    /// a restart of the machine nothing of before lives: `buried` makes the history's line of each ticket that did.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written, is damaged, is of a later version, or is not what the mark beside it says.
    /// Nothing is changed then.
    pub fn open(
        path: &Path,
        mark: &Path,
        boot_id: &str,
        retention: Retention,
        buried: impl Fn(&Found) -> Option<Change>,
    ) -> Result<(Database, Vec<Found>), Problem> {
        let at = |error: rusqlite::Error| problem(path, error);
        let connection = connect(path).map_err(at)?;
        let before = schema::prepare(&connection, path, boot_id)?;
        let found = read_live(&connection, path)?;
        let summary = found.iter().map(|(found, sum)| Summary::of(found.ticket, *sum)).sum();
        let mark = Mark::open(mark, boot_id)?;
        if before == boot_id {
            mark.check(summary, path)?;
        }
        let ended = connection.query_row("SELECT count(*) FROM turns WHERE state = 1", [], |row| row.get(0)).map_err(at)?;
        let checkpointer = Checkpointer::start(connect(path).map_err(at)?);
        let mut database = Database {
            connection,
            mark,
            checkpointer,
            path: path.to_owned(),
            summary,
            commits: 0,
            retention,
            ended,
        };
        let mut found: Vec<Found> = found.into_iter().map(|(found, _)| found).collect();
        database.mark.agree(summary);
        if before != boot_id {
            let changes: Vec<Change> = found
                .iter()
                .map(|found| buried(found).unwrap_or(Change::Left { ticket: found.ticket }))
                .collect();
            database.commit(&changes)?;
            schema::set_boot_id(&database.connection, boot_id).map_err(at)?;
            found.clear();
        }
        Ok((database, found))
    }

    /// Writes `changes` in one transaction. When it has returned they outlive this process; a power cut may take
    /// them, and all commands with them.
    ///
    /// # Errors
    ///
    /// When they cannot be written: none of them is. Nothing may be told to anybody after that; end this process, and
    /// let the next one read what is on disk.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), Problem> {
        if changes.is_empty() {
            return Ok(());
        }
        let next = self.write(changes);
        let next = next.map_err(|error| problem(&self.path, error))?;
        self.summary = next;
        self.mark.agree(next);
        self.commits += 1;
        if self.commits >= CHECKPOINT_COMMITS {
            self.commits = 0;
            self.checkpointer.wake();
        }
        self.checkpointer.check().map_err(|error| problem(&self.path, error))
    }

    fn write(&mut self, changes: &[Change]) -> rusqlite::Result<Summary> {
        let mut summary = self.summary;
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for change in changes {
            match change {
                Change::Live { ticket, domain, body } => {
                    let sum = checksum(*ticket, 0, body);
                    summary = summary.without(*ticket, self.live_sum(*ticket)?).with(*ticket, sum);
                    self.connection
                        .prepare_cached(
                            "INSERT INTO turns (ticket, domain, state, body, sum) VALUES (?1, ?2, 0, ?3, ?4) \
                             ON CONFLICT (ticket) DO UPDATE SET body = excluded.body, sum = excluded.sum",
                        )?
                        .execute(params![number(*ticket), domain.as_str(), body, sum])?;
                }
                Change::Ended { ticket, ended_at, body } => {
                    summary = summary.without(*ticket, self.live_sum(*ticket)?);
                    self.connection
                        .prepare_cached(
                            "UPDATE turns SET state = 1, body = ?2, ended_at = ?3, sum = ?4 WHERE ticket = ?1",
                        )?
                        .execute(params![number(*ticket), body, ended_at, checksum(*ticket, 1, body)])?;
                    self.ended += 1;
                }
                Change::Left { ticket } => {
                    summary = summary.without(*ticket, self.live_sum(*ticket)?);
                    self.connection.prepare_cached("DELETE FROM turns WHERE ticket = ?1")?.execute([number(*ticket)])?;
                }
            }
        }
        if self.ended > self.retention.turns {
            self.prune_count()?;
        }
        // Whichever of the two the database turns out to hold after a crash, the mark knows it.
        self.mark.announce(summary);
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(summary)
    }

    /// The sum of a live row as it is, none if there is no such row.
    fn live_sum(&self, ticket: Ticket) -> rusqlite::Result<Option<i64>> {
        use rusqlite::OptionalExtension;
        self.connection
            .prepare_cached("SELECT sum FROM turns WHERE ticket = ?1 AND state = 0")?
            .query_row([number(ticket)], |row| row.get(0))
            .optional()
    }
}
