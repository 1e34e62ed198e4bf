//! The database: every ticket that lives, and how each turn ended.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::checkpoint::Checkpointer;
use super::fault;
use super::history;
use super::machine::Machine;
use super::mark::{Mark, Summary};
use super::opening::{
    check_all, check_file, check_owner, check_writable, connect, identity_of, log_of, read_live, remove_new_log,
};
use super::problem::{Problem, problem};
use super::schema::{self, Before};
use crate::protocol::{Domain, Ticket};

/// Turns that the history may have too many while there is no quiet moment to remove some.
const SURPLUS_MAX: u64 = 4_096;

/// Commits after which the checkpointer is woken.
const CHECKPOINT_COMMITS: u32 = 4_096;

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
    /// It left without a turn.
    Left {
        /// The ticket.
        ticket: Ticket,
        /// Why, in the caller's own form, if its client may come back to hear that: then it is kept as long as a turn
        /// of the history, but is none. Otherwise nothing of it stays.
        why: Option<(Domain, i64, Vec<u8>)>,
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
    /// Device and inode of the file.
    identity: (u64, u64),
    /// The checksums of the rows that live.
    sums: BTreeMap<Ticket, i64>,
    /// All of them in one.
    summary: Summary,
    /// Since the checkpointer was woken.
    commits: u32,
    retention: Retention,
    /// Rows of the history.
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
    /// Opens the database at `path`, or makes it, and gives what lived in it if that was in this run of this `machine`.
    /// After a restart nothing of before lives: `buried` makes the history's line of each ticket that did.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written, is damaged, is of a later version, is missing or not what the mark beside it
    /// says, or when what lives in it may live on another machine. Nothing is changed then.
    pub fn open(
        path: &Path,
        mark: &Path,
        machine: &Machine,
        retention: Retention,
        buried: impl Fn(&Found) -> Option<Change>,
    ) -> Result<(Database, Vec<Found>), Problem> {
        Database::open_if(path, mark, machine, retention, buried, |_| Ok(()))
    }

    /// As [`open`](Database::open), if what lives in it `is_understood`.
    ///
    /// # Errors
    ///
    /// As [`open`](Database::open), and what `is_understood` says.
    pub fn open_if(
        path: &Path,
        mark: &Path,
        machine: &Machine,
        retention: Retention,
        buried: impl Fn(&Found) -> Option<Change>,
        is_understood: impl Fn(&[Found]) -> Result<(), Problem>,
    ) -> Result<(Database, Vec<Found>), Problem> {
        let had_log = log_of(path).exists();
        let opened = Database::open_as_is(path, mark, machine, retention, buried, is_understood);
        if opened.is_err() {
            remove_new_log(path, had_log);
        }
        opened
    }

    fn open_as_is(
        path: &Path,
        mark: &Path,
        machine: &Machine,
        retention: Retention,
        buried: impl Fn(&Found) -> Option<Change>,
        is_understood: impl Fn(&[Found]) -> Result<(), Problem>,
    ) -> Result<(Database, Vec<Found>), Problem> {
        let at = |error: rusqlite::Error| problem(path, error);
        let seen = Mark::look(mark, &machine.boot_id).map_err(|error| Problem::file("read", mark, &error))?;
        check_file(path, &seen, mark)?;
        let connection = connect(path).map_err(at)?;
        check_writable(&connection, path)?;
        let must_hold = || seen.holds_something().then(|| Problem::missing(path, mark));
        let Before { is_new, machine: before } = schema::prepare(&connection, path, must_hold)?;
        if !is_new && !seen.was_closed {
            check_all(&connection, path)?;
        }
        let live = read_live(&connection, path, seen.oldest())?;
        let summary: Summary = live.iter().map(|(found, sum)| Summary::of(found.ticket, *sum)).sum();
        check_owner(&seen, &before, machine, summary, (path, mark))?;
        let sums: BTreeMap<Ticket, i64> = live.iter().map(|(found, sum)| (found.ticket, *sum)).collect();
        let mut found: Vec<Found> = live.into_iter().map(|(found, _)| found).collect();
        if before.boot_id == machine.boot_id {
            is_understood(&found)?;
        }
        let ended = match seen.history {
            Some(ended) => ended,
            None => history::count(&connection).map_err(at)?,
        };
        let mut mark = Mark::open(mark, &machine.boot_id).map_err(|error| Problem::file("write", mark, &error))?;
        mark.turn(before.boot_id != machine.boot_id);
        mark.settle(summary, oldest(&sums), ended);
        let checkpointer = Checkpointer::start(connect(path).map_err(at)?);
        let identity = identity_of(path).map_err(|error| Problem::file("read", path, &error))?;
        let path = path.to_owned();
        let mut database =
            Database { connection, mark, checkpointer, path, identity, sums, summary, commits: 0, retention, ended };
        if before.boot_id != machine.boot_id {
            let bury = |found: &Found| buried(found).unwrap_or(Change::Left { ticket: found.ticket, why: None });
            database.commit(&found.iter().map(bury).collect::<Vec<_>>())?;
            schema::set_machine(&database.connection, machine).map_err(|error| problem(&database.path, error))?;
            database.mark.turn(false);
            found.clear();
        }
        Ok((database, found))
    }

    /// Ends the use of it in good order: the next to open it need not look at all of it.
    pub fn close(self) {
        let Database { connection, mark, checkpointer, .. } = self;
        drop(checkpointer);
        _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        // The last to close it brings the log back into the database. If that fails the log stays.
        if connection.close().is_ok() {
            mark.close();
        }
    }

    /// Writes `changes` in one transaction. When it has returned they outlive this process; a power cut may take
    /// them, and all commands with them.
    ///
    /// # Errors
    ///
    /// When they cannot be written: none of them is, and nothing may be told to anybody. Where there was no room the
    /// same tickets may be tried again, in one transaction with others; otherwise end this process, and let the next
    /// one read what is on disk.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), Problem> {
        if changes.is_empty() {
            return Ok(());
        }
        fault::point();
        let ended = self.ended;
        if let Err(error) = self.write(changes) {
            self.ended = ended;
            if !self.connection.is_autocommit() {
                _ = self.connection.execute_batch("ROLLBACK");
            }
            return Err(problem(&self.path, error));
        }
        fault::point();
        self.mark.settle(self.summary, oldest(&self.sums), self.ended);
        self.commits += 1;
        if self.commits >= CHECKPOINT_COMMITS {
            self.commits = 0;
            self.checkpointer.wake();
        }
        self.checkpointer.check().map_err(|error| problem(&self.path, error))
    }

    fn write(&mut self, changes: &[Change]) -> rusqlite::Result<()> {
        if let [change] = changes
            && self.surplus() < SURPLUS_MAX
        {
            // One statement is a transaction by itself, and quicker than three.
            fault::write()?;
            let sum = self.account(change);
            self.mark.announce(self.summary, oldest(&self.sums));
            self.write_one(change, sum)?;
            return fault::write();
        }
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for change in changes {
            fault::write()?;
            let sum = self.account(change);
            self.write_one(change, sum)?;
        }
        if self.surplus() >= SURPLUS_MAX {
            self.ended -= history::prune_count(&self.connection, self.surplus())?;
        }
        fault::write()?;
        // Whichever of the two states the database turns out to hold after a crash, the mark knows it.
        self.mark.announce(self.summary, oldest(&self.sums));
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Reckons with a change that is about to be written; gives the checksum of its row.
    fn account(&mut self, change: &Change) -> i64 {
        let (ticket, state, body) = match change {
            Change::Live { ticket, body, .. } => (*ticket, LIVE, body),
            Change::Ended { ticket, body, .. } => (*ticket, ENDED, body),
            Change::Left { ticket, why: Some((_, _, body)) } => (*ticket, LEFT, body),
            Change::Left { ticket, why: None } => {
                self.replace_sum(*ticket, None);
                return 0;
            }
        };
        let sum = checksum(ticket, state, body);
        self.replace_sum(ticket, (state == LIVE).then_some(sum));
        self.ended += u64::from(state != LIVE);
        sum
    }

    fn write_one(&self, change: &Change, sum: i64) -> rusqlite::Result<()> {
        let (ticket, state, (domain, at_ms, body)) = match change {
            Change::Live { ticket, domain, body } => (ticket, LIVE, (domain, None, body)),
            Change::Ended { ticket, domain, ended_at, body } => (ticket, ENDED, (domain, Some(ended_at), body)),
            Change::Left { ticket, why: Some((domain, left_at, body)) } => {
                (ticket, LEFT, (domain, Some(left_at), body))
            }
            Change::Left { ticket, why: None } => {
                self.connection.prepare_cached("DELETE FROM turns WHERE ticket = ?1")?.execute([number(*ticket)])?;
                return Ok(());
            }
        };
        let row = params![number(*ticket), domain.as_str(), state, body, at_ms, sum];
        self.connection.prepare_cached(WRITE)?.execute(row)?;
        Ok(())
    }

    fn replace_sum(&mut self, ticket: Ticket, sum: Option<i64>) {
        let before = match sum {
            Some(sum) => self.sums.insert(ticket, sum),
            None => self.sums.remove(&ticket),
        };
        if let Some(before) = before {
            self.summary.toggle(ticket, before, false);
        }
        if let Some(sum) = sum {
            self.summary.toggle(ticket, sum, true);
        }
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
        let before = now_ms.saturating_sub(self.retention.age_ms);
        let removed = match self.surplus() {
            0 => history::prune_age(&self.connection, before),
            surplus => history::prune_count(&self.connection, surplus),
        };
        let removed = removed.map_err(|error| problem(&self.path, error))?;
        self.ended = self.ended.saturating_sub(removed);
        self.mark.settle(self.summary, oldest(&self.sums), self.ended);
        Ok(removed > 0)
    }

    /// When the turn with this ticket ended, and its line in the history, if it has.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is damaged.
    pub fn ended(&self, ticket: Ticket) -> Result<Option<(i64, Vec<u8>)>, Problem> {
        history::one(&self.connection, &self.path, ticket)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the files back if somebody removed them.
    ///
    /// # Errors
    ///
    /// As [`commit`](Database::commit).
    pub fn put_back(&mut self) -> Result<(), Problem> {
        let at = |error: rusqlite::Error| problem(&self.path, error);
        if !self.mark.is_in_place() {
            self.mark.put_back().map_err(|error| Problem::file("write", self.mark.path(), &error))?;
        }
        if identity_of(&self.path).ok() == Some(self.identity) {
            return Ok(());
        }
        let next_to = |suffix: &str| {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            PathBuf::from(path)
        };
        let (beside, log) = (next_to(".new"), next_to("-wal"));
        let failed = |error: std::io::Error| Problem::file("write", &self.path, &error);
        remove(&beside).map_err(failed)?;
        self.connection.execute("VACUUM INTO ?1", [beside.to_string_lossy()]).map_err(at)?;
        // Both connections of the file that is gone are closed before another has its name, and its log is never
        // taken for the new one's.
        self.checkpointer = Checkpointer::start(Connection::open_in_memory().map_err(at)?);
        self.connection = Connection::open_in_memory().map_err(at)?;
        remove(&log).map_err(failed)?;
        std::fs::set_permissions(&beside, Permissions::from_mode(0o600)).map_err(failed)?;
        std::fs::rename(&beside, &self.path).map_err(failed)?;
        self.connection = connect(&self.path).map_err(at)?;
        self.checkpointer = Checkpointer::start(connect(&self.path).map_err(at)?);
        self.identity = identity_of(&self.path).map_err(|error| Problem::file("read", &self.path, &error))?;
        Ok(())
    }
}

const WRITE: &str = "INSERT INTO turns (ticket, domain, state, body, ended_at, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
    ON CONFLICT (ticket) DO UPDATE \
    SET state = excluded.state, body = excluded.body, ended_at = excluded.ended_at, sum = excluded.sum";

/// States of a row.
pub(super) const LIVE: u8 = 0;
pub(super) const ENDED: u8 = 1;
pub(super) const LEFT: u8 = 2;

/// The first ticket that lives; beyond all of them when none does.
fn oldest(sums: &BTreeMap<Ticket, i64>) -> Ticket {
    sums.first_key_value().map_or(Ticket(i64::MAX.cast_unsigned()), |(ticket, _)| *ticket)
}

/// Removes a file that may be there.
fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// SQLite's integers are signed; tickets stay far below the sign.
fn number(ticket: Ticket) -> i64 {
    ticket.0.cast_signed()
}

/// The first eight bytes of a SHA-256 over all that a row says.
pub(super) fn checksum(ticket: Ticket, state: u8, body: &[u8]) -> i64 {
    let digest = Sha256::new().chain_update(ticket.0.to_be_bytes()).chain_update([state]).chain_update(body).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first)
}
