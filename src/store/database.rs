//! The database: every ticket that lives, and how each turn ended.

use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::change::Retention;
use super::checkpoint::Checkpointer;
use super::fault;
use super::history::{self, PRUNE_ROWS_MAX};
use super::inspect::{Identities, Missing, connect, log_of};
use super::journal::Journal;
use super::mark::{Mark, Summary};
use super::numbers::Known;
use super::problem::{Problem, problem, write_problem};
use super::setting::{Setting, SettingSums};
use crate::protocol::{Ticket, Token};
use crate::sequencer::ByTicket;

/// The open database. There is one for a daemon, and it is the only writer.
#[derive(Debug)]
pub struct Database {
    pub(super) connection: Connection,
    pub(super) mark: Mark,
    /// What the mark said of the numbers when it was opened, and how many starts that makes.
    pub(super) known: Known,
    /// What is committed and not in the file yet.
    pub(super) journal: Journal,
    pub(super) checkpointer: Checkpointer,
    pub(super) path: PathBuf,
    /// What the file and its log are, wherever they are by now.
    pub(super) identities: Identities,
    /// The checksums of the rows that live, those in the journal too.
    pub(super) sums: ByTicket<i64>,
    /// The checksums of the settings.
    pub(super) setting_sums: SettingSums,
    /// All of them in one.
    pub(super) summary: Summary,
    /// What was set when it was opened.
    pub(super) settings: Vec<Setting>,
    /// Since the checkpointer was woken.
    pub(super) transactions: u32,
    /// Until the first quiet moment.
    pub(super) is_just_opened: bool,
    pub(super) retention: Retention,
    /// Rows of the history, those in the journal too.
    pub(super) ended: u64,
}

impl Database {
    /// Ends the use of it in good order: the next to open it need not look at all of it.
    pub fn close(mut self) {
        let is_caught_up = self.catch_up().is_ok();
        let Database { connection, mark, checkpointer, .. } = self;
        drop(checkpointer);
        _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        // The last to close it brings the log back into the database. If that fails the log stays.
        if connection.close().is_ok() && is_caught_up {
            mark.close();
        }
    }

    /// What was set when it was opened; once.
    pub fn take_settings(&mut self) -> Vec<Setting> {
        std::mem::take(&mut self.settings)
    }

    /// How many turns the history has too many.
    pub fn surplus(&self) -> u64 {
        self.ended.saturating_sub(self.retention.turns)
    }

    /// What the history is to keep.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// Removes a few of the turns that are too many, or ended too long ago. True when there may be more: call it again,
    /// when nothing waits.
    ///
    /// # Errors
    ///
    /// As [`commit`](Database::commit).
    pub fn prune(&mut self, now_ms: i64) -> Result<bool, Problem> {
        self.catch_up()?;
        if std::mem::take(&mut self.is_just_opened) {
            self.checkpointer.shorten(&self.path);
        }
        let before = now_ms.saturating_sub(self.retention.age_ms);
        let removed = match self.surplus() {
            0 => history::prune_age(&self.connection, before),
            surplus => history::prune_count(&self.connection, surplus.min(PRUNE_ROWS_MAX)),
        };
        let removed = removed.map_err(|error| write_problem(&self.path, error))?;
        self.ended = self.ended.saturating_sub(removed);
        self.mark.settle(self.summary, oldest(&self.sums), self.ended);
        Ok(removed > 0)
    }

    /// When the turn with this ticket ended, and its line in the history, if it has.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is damaged.
    pub fn ended(&mut self, ticket: Ticket) -> Result<Option<(i64, Vec<u8>)>, Problem> {
        self.catch_up()?;
        history::one(&self.connection, &self.path, ticket)
    }

    /// What it and its mark say of the ticket and token that come next.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn known_numbers(&mut self) -> Result<Known, Problem> {
        self.catch_up()?;
        let last = "SELECT coalesce(max(ticket), 0) FROM turns";
        let last = self.connection.query_row(last, [], |row| row.get::<_, i64>(0));
        let last = last.map_err(|error| problem(&self.path, error))?.cast_unsigned();
        Ok(Known { ticket: self.known.ticket.max(last + 1), ..self.known })
    }

    /// From now on the mark says that these come next; to be called before anybody is told of the numbers before them.
    pub fn next_numbers(&mut self, ticket: Ticket, token: Token) {
        self.mark.next_numbers(ticket.0, token.0);
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its files are where they were opened.
    pub fn is_in_place(&self) -> bool {
        self.mark.is_in_place() && Identities::at(&self.path).is_ok_and(|there| there == self.identities)
    }

    /// Puts the files back if somebody removed them.
    ///
    /// # Errors
    ///
    /// When they cannot be read or written. It goes on in the files that were removed then, and this may be tried again.
    pub fn put_back(&mut self) -> Result<(), Problem> {
        if !self.mark.is_in_place() {
            self.mark.put_back().map_err(|error| Problem::file("write", self.mark.path(), &error))?;
        }
        if self.is_in_place() {
            return Ok(());
        }
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        remove(&beside).map_err(|error| Problem::file("write", &self.path, &error))?;
        if let Err(error) = fault::write().and_then(|()| self.copy_to(&beside)) {
            // It may have taken what room there was.
            _ = remove(&beside);
            return Err(problem(&self.path, error));
        }
        self.go_on_in(&beside)
    }

    fn copy_to(&self, path: &Path) -> rusqlite::Result<()> {
        // Its bytes are what the system calls it by, whatever they say.
        let path = ToSqlOutput::Borrowed(ValueRef::Text(path.as_os_str().as_bytes()));
        self.connection.execute("VACUUM INTO ?1", [path]).map(drop)
    }

    /// Uses the copy `beside` in the place of the file that is gone, or is without its log. The connection to that one is
    /// of use until all is there, for somebody may remove the copy as well.
    fn go_on_in(&mut self, beside: &Path) -> Result<(), Problem> {
        let at = |error: rusqlite::Error| problem(&self.path, error);
        let failed = |error: std::io::Error| Problem::file("write", &self.path, &error);
        std::fs::set_permissions(beside, Permissions::from_mode(0o600)).map_err(failed)?;
        // It would look for the log by its name.
        self.checkpointer = Checkpointer::Ended;
        // It is never taken for the log of the copy.
        remove(&log_of(&self.path)).map_err(failed)?;
        std::fs::rename(beside, &self.path).map_err(failed)?;
        let connection = connect(&self.path, Missing::Refused).map_err(at)?;
        // What SQLite has not read yet it looks for by its name, also when that is another file's by then.
        connection.query_row("SELECT count(*) FROM facts", [], |_| Ok(())).map_err(at)?;
        let checkpointer = Checkpointer::new(connect(&self.path, Missing::Refused).map_err(at)?);
        self.identities = Identities::at(&self.path)?;
        (self.connection, self.checkpointer) = (connection, checkpointer);
        Ok(())
    }
}

/// The first ticket that lives; beyond all of them when none does.
pub(super) fn oldest(sums: &ByTicket<i64>) -> Ticket {
    sums.first().unwrap_or(Ticket(i64::MAX.cast_unsigned()))
}

/// Removes a file that may be there.
fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
