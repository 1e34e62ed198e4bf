//! The database: every ticket that lives, and how each turn ended.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::checkpoint::Checkpointer;
use super::fault;
use super::history::{self, PRUNE_ROWS_MAX};
use super::journal::Journal;
use super::machine::Machine;
use super::mark::{Mark, Summary};
use super::opening::{
    check_all, check_file, check_owner, check_writable, connect, identity_of, log_of, read_live, remove_new_log,
};
use super::problem::{Problem, problem};
use super::row::{ENDED, LEFT, LIVE, Row};
use super::schema::{self, Before};
use super::setting::{self, Setting, SettingKind, SettingSums};
use crate::protocol::{Domain, Ticket};

/// Turns that the history may have too many while there is no quiet moment to remove some.
const SURPLUS_MAX: u64 = 4_096;

/// Transactions after which the checkpointer is woken.
const CHECKPOINT_TRANSACTIONS: u32 = 512;

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
    pub(super) mark: Mark,
    /// What is committed and not in the file yet.
    journal: Journal,
    checkpointer: Checkpointer,
    path: PathBuf,
    /// Device and inode of the file.
    identity: (u64, u64),
    /// The checksums of the rows that live, those in the journal too.
    sums: BTreeMap<Ticket, i64>,
    /// The checksums of the settings.
    setting_sums: SettingSums,
    /// All of them in one.
    summary: Summary,
    /// What was set when it was opened.
    settings: Vec<Setting>,
    /// Since the checkpointer was woken.
    transactions: u32,
    retention: Retention,
    /// Rows of the history, those in the journal too.
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
        let Before { is_new, machine: before, taken_in } = schema::prepare(&connection, path, must_hold)?;
        if !is_new && !seen.was_closed {
            check_all(&connection, path)?;
        }
        // Beside an empty database that may be empty there is no journal.
        let journal = if is_new { Some(Journal::new(taken_in + 1)) } else { Journal::find(&seen, taken_in) };
        let journal = journal.ok_or_else(|| Problem::lost(path, mark, true))?;
        let live = live_with(read_live(&connection, path, seen.oldest())?, &journal);
        let settings = setting::read(&connection, path)?;
        let of_tickets = live.iter().map(|(ticket, (_, sum))| Summary::of(*ticket, *sum));
        let of_settings = settings.iter().map(|(setting, sum)| setting::summary(setting.kind, *sum));
        let summary: Summary = of_tickets.chain(of_settings).sum();
        check_owner(&seen, &before, machine, (summary, !live.is_empty()), (path, mark))?;
        let setting_sums = settings.iter().map(|(setting, sum)| ((setting.kind, setting.name.clone()), *sum)).collect();
        let settings = settings.into_iter().map(|(setting, _)| setting).collect();
        let sums: BTreeMap<Ticket, i64> = live.iter().map(|(ticket, (_, sum))| (*ticket, *sum)).collect();
        let mut found: Vec<Found> = live.into_iter().map(|(ticket, (body, _))| Found { ticket, body }).collect();
        if before.boot_id == machine.boot_id {
            is_understood(&found)?;
        }
        history::check_newest(&connection, path)?;
        let ended = match seen.history {
            Some(ended) => ended,
            None => history::count(&connection).map_err(at)?,
        };
        let mut mark = Mark::open(mark, &machine.boot_id).map_err(|error| Problem::file("write", mark, &error))?;
        mark.begin_journal(journal.number(), journal.length());
        mark.turn(before.boot_id != machine.boot_id);
        mark.settle(summary, oldest(&sums), ended);
        let checkpointer = Checkpointer::start(connect(path).map_err(at)?);
        let identity = identity_of(path).map_err(|error| Problem::file("read", path, &error))?;
        let path = path.to_owned();
        let mut database = Database {
            connection,
            mark,
            journal,
            checkpointer,
            path,
            identity,
            sums,
            setting_sums,
            summary,
            settings,
            transactions: 0,
            retention,
            ended,
        };
        database.begin()?;
        if before.boot_id != machine.boot_id {
            let bury = |found: &Found| buried(found).unwrap_or(Change::Left { ticket: found.ticket, why: None });
            database.commit(&found.iter().map(bury).collect::<Vec<_>>())?;
            database.catch_up()?;
            schema::set_machine(&database.connection, machine).map_err(|error| problem(&database.path, error))?;
            database.mark.turn(false);
            found.clear();
        }
        Ok((database, found))
    }

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
        if has_settings {
            self.write_settings(&rows, changes)?;
        } else if self.journal.has_room(&rows) {
            for row in &rows {
                self.account(row);
            }
            // Whichever of the two states the next daemon finds after a crash, the mark knows it.
            self.mark.announce(self.summary, oldest(&self.sums));
            self.journal.append(&rows, &self.mark);
        } else {
            self.write_past_journal(&rows, &[])?;
        }
        fault::point();
        self.mark.settle(self.summary, oldest(&self.sums), self.ended);
        self.checkpointer.check().map_err(|error| problem(&self.path, error))
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
    fn begin(&mut self) -> Result<(), Problem> {
        if self.journal.length() > 0 {
            return self.take_in_journal();
        }
        self.set_synchronous("OFF")?;
        self.take_in_journal()?;
        self.set_synchronous("NORMAL")
    }

    fn take_in_journal(&mut self) -> Result<(), Problem> {
        let rows: Vec<Row<'_>> = self.journal.rows().into_values().collect();
        self.transact(&rows, &[]).map_err(|error| problem(&self.path, error)).map(|removed| self.took_in(removed))
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
        written
    }

    fn set_synchronous(&self, level: &str) -> Result<(), Problem> {
        let set = self.connection.pragma_update(None, "synchronous", level);
        set.map_err(|error| problem(&self.path, error))
    }

    /// Writes what the journal, which is empty, would never have room for, and the settings among `changes`.
    fn write_past_journal(&mut self, rows: &[Row<'_>], changes: &[Change]) -> Result<(), Problem> {
        let (ended, summary) = (self.ended, self.summary);
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
                (self.ended, self.summary) = (ended, summary);
                return Err(problem(&self.path, error));
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
                if let Change::Setting { kind, name, body } = change {
                    fault::write()?;
                    setting::write(connection, (*kind, name), body.as_deref())?;
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
        self.mark.take_in(true);
        let written = write();
        if written.is_err() {
            if !connection.is_autocommit() {
                _ = connection.execute_batch("ROLLBACK");
            }
            self.mark.take_in(false);
        }
        written
    }

    /// The database has the journal, and let go of `removed` turns.
    fn took_in(&mut self, removed: u64) {
        fault::point();
        self.journal.begin_next(&self.mark);
        self.ended -= removed;
        self.mark.settle(self.summary, oldest(&self.sums), self.ended);
        self.transactions += 1;
        if self.transactions >= CHECKPOINT_TRANSACTIONS {
            self.transactions = 0;
            self.checkpointer.wake();
        }
    }

    /// Reckons with a row that is about to be written; gives the sum that its ticket had while it lived.
    fn account(&mut self, row: &Row<'_>) -> Option<i64> {
        self.ended += u64::from([ENDED, LEFT].contains(&row.state));
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
        let before = now_ms.saturating_sub(self.retention.age_ms);
        let removed = match self.surplus() {
            0 => history::prune_age(&self.connection, before),
            surplus => history::prune_count(&self.connection, surplus.min(PRUNE_ROWS_MAX)),
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
    pub fn ended(&mut self, ticket: Ticket) -> Result<Option<(i64, Vec<u8>)>, Problem> {
        self.catch_up()?;
        history::one(&self.connection, &self.path, ticket)
    }

    /// The largest ticket that is in it; zero when none is.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn last_ticket(&mut self) -> Result<Ticket, Problem> {
        self.catch_up()?;
        let last = "SELECT coalesce(max(ticket), 0) FROM turns";
        let last = self.connection.query_row(last, [], |row| row.get(0));
        last.map(|last: i64| Ticket(last.cast_unsigned())).map_err(|error| problem(&self.path, error))
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
        // What SQLite has not read yet it looks for by its name, also when that is another file's by then.
        self.connection.query_row("SELECT count(*) FROM facts", [], |_| Ok(())).map_err(at)?;
        self.checkpointer = Checkpointer::start(connect(&self.path).map_err(at)?);
        self.identity = identity_of(&self.path).map_err(|error| Problem::file("read", &self.path, &error))?;
        Ok(())
    }
}

/// What lives in the database together with the journal, each with its sum.
fn live_with(in_database: Vec<(Found, i64)>, journal: &Journal) -> BTreeMap<Ticket, (Vec<u8>, i64)> {
    let mut live: BTreeMap<_, _> =
        in_database.into_iter().map(|(found, sum)| (found.ticket, (found.body, sum))).collect();
    for (ticket, row) in journal.rows() {
        if row.state == LIVE {
            live.insert(ticket, (row.body.to_vec(), row.sum));
        } else {
            live.remove(&ticket);
        }
    }
    live
}

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
