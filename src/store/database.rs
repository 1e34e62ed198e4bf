//! The database: every ticket that lives, and how each turn ended.

use std::collections::HashMap;
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
    /// The checksums of the rows that live.
    sums: HashMap<Ticket, i64>,
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
        let before = schema::prepare(&connection, path)?;
        let live = read_live(&connection, path)?;
        let summary: Summary = live.iter().map(|(found, sum)| Summary::of(found.ticket, *sum)).sum();
        let mut mark = Mark::open(mark, boot_id).map_err(|error| Problem::file("use", mark, &error))?;
        if before == boot_id && !mark.knows(summary) {
            return Err(Problem::lost(path, mark.path()));
        }
        let ended = match mark.history() {
            Some(ended) => ended,
            None => count_history(&connection).map_err(at)?,
        };
        mark.settle(summary, ended);
        let sums = live.iter().map(|(found, sum)| (found.ticket, *sum)).collect();
        let checkpointer = Checkpointer::start(connect(path).map_err(at)?);
        let path = path.to_owned();
        let mut database =
            Database { connection, mark, checkpointer, path, sums, summary, commits: 0, retention, ended };
        let mut found: Vec<Found> = live.into_iter().map(|(found, _)| found).collect();
        if before != boot_id {
            let bury = |found: &Found| buried(found).unwrap_or(Change::Left { ticket: found.ticket });
            database.commit(&found.iter().map(bury).collect::<Vec<_>>())?;
            schema::set_boot_id(&database.connection, boot_id).map_err(|error| problem(&database.path, error))?;
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
        self.write(changes).map_err(|error| problem(&self.path, error))?;
        self.mark.settle(self.summary, self.ended);
        self.commits += 1;
        if self.commits >= CHECKPOINT_COMMITS {
            self.commits = 0;
            self.checkpointer.wake();
        }
        self.checkpointer.check().map_err(|error| problem(&self.path, error))
    }

    fn write(&mut self, changes: &[Change]) -> rusqlite::Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for change in changes {
            self.write_one(change)?;
        }
        if self.ended > self.retention.turns {
            self.prune_count()?;
        }
        // Whichever of the two states the database turns out to hold after a crash, the mark knows it.
        self.mark.announce(self.summary);
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    fn write_one(&mut self, change: &Change) -> rusqlite::Result<()> {
        match change {
            Change::Live { ticket, domain, body } => {
                let sum = checksum(*ticket, LIVE, body);
                self.connection
                    .prepare_cached(
                        "INSERT INTO turns (ticket, domain, state, body, sum) VALUES (?1, ?2, 0, ?3, ?4) \
                         ON CONFLICT (ticket) DO UPDATE SET body = excluded.body, sum = excluded.sum",
                    )?
                    .execute(params![number(*ticket), domain.as_str(), body, sum])?;
                self.replace_sum(*ticket, Some(sum));
            }
            Change::Ended { ticket, ended_at, body } => {
                self.connection
                    .prepare_cached("UPDATE turns SET state = 1, body = ?2, ended_at = ?3, sum = ?4 WHERE ticket = ?1")?
                    .execute(params![number(*ticket), body, ended_at, checksum(*ticket, ENDED, body)])?;
                self.replace_sum(*ticket, None);
                self.ended += 1;
            }
            Change::Left { ticket } => {
                self.connection.prepare_cached("DELETE FROM turns WHERE ticket = ?1")?.execute([number(*ticket)])?;
                self.replace_sum(*ticket, None);
            }
        }
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

    fn prune_count(&mut self) -> rusqlite::Result<()> {
        let surplus = i64::try_from(self.ended - self.retention.turns).unwrap_or(i64::MAX).min(PRUNE_ROWS_MAX);
        let removed = self.connection.prepare_cached(PRUNE_OLDEST)?.execute([surplus])?;
        self.ended -= removed as u64;
        Ok(())
    }

    /// Removes a few of the turns that ended too long ago. True when there are more: call it again, when nothing waits.
    ///
    /// # Errors
    ///
    /// As [`commit`](Database::commit).
    pub fn prune_age(&mut self, now_ms: i64) -> Result<bool, Problem> {
        let before = now_ms.saturating_sub(self.retention.age_ms);
        let removed = self
            .connection
            .prepare_cached(PRUNE_OLD)
            .and_then(|mut statement| statement.execute([before, PRUNE_ROWS_MAX]))
            .map_err(|error| problem(&self.path, error))?;
        self.ended -= removed as u64;
        Ok(removed as i64 == PRUNE_ROWS_MAX)
    }

    /// The lines of the history that match, newest first, at most `limit`, those with a wrong checksum refused.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or are damaged.
    pub fn history(
        &self,
        domain: Option<&Domain>,
        since_ms: Option<i64>,
        mut each: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Problem> {
        let at = |error: rusqlite::Error| problem(&self.path, error);
        let mut statement = self.connection.prepare_cached(HISTORY).map_err(at)?;
        let mut rows = statement.query(params![domain.map(Domain::as_str), since_ms]).map_err(at)?;
        while let Some(row) = rows.next().map_err(at)? {
            let (ticket, body, sum): (i64, Vec<u8>, i64) = row.try_into().map_err(at)?;
            if checksum(Ticket(ticket.cast_unsigned()), ENDED, &body) != sum {
                return Err(Problem::damaged(&self.path, "a turn of the history"));
            }
            if !each(&body) {
                break;
            }
        }
        Ok(())
    }
}

/// States of a row.
const LIVE: u8 = 0;
const ENDED: u8 = 1;

const PRUNE_OLDEST: &str =
    "DELETE FROM turns WHERE ticket IN (SELECT ticket FROM turns WHERE state = 1 ORDER BY ticket LIMIT ?1)";
const PRUNE_OLD: &str = "DELETE FROM turns WHERE ticket IN \
    (SELECT ticket FROM turns WHERE state = 1 AND ended_at < ?1 ORDER BY ticket LIMIT ?2)";
const HISTORY: &str = "SELECT ticket, body, sum FROM turns WHERE state = 1 \
    AND (?1 IS NULL OR domain = ?1) AND (?2 IS NULL OR ended_at >= ?2) ORDER BY ended_at DESC, ticket DESC";

fn count_history(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = connection.query_row("SELECT count(*) FROM turns WHERE state = 1", [], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, VFS)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// The live rows with their sums, each checked.
fn read_live(connection: &Connection, path: &Path) -> Result<Vec<(Found, i64)>, Problem> {
    let at = |error: rusqlite::Error| problem(path, error);
    let mut statement =
        connection.prepare("SELECT ticket, body, sum FROM turns WHERE state = 0 ORDER BY ticket").map_err(at)?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, i64>(2)?)))
        .map_err(at)?;
    let mut found = Vec::new();
    for row in rows {
        let (ticket, body, sum) = row.map_err(at)?;
        let ticket = Ticket(ticket.cast_unsigned());
        if checksum(ticket, LIVE, &body) != sum {
            return Err(Problem::damaged(path, "a ticket that may still live"));
        }
        found.push((Found { ticket, body }, sum));
    }
    Ok(found)
}

/// SQLite's integers are signed; tickets stay far below the sign.
fn number(ticket: Ticket) -> i64 {
    ticket.0.cast_signed()
}

/// The first eight bytes of a SHA-256 over all that a row says.
fn checksum(ticket: Ticket, state: u8, body: &[u8]) -> i64 {
    let digest = Sha256::new().chain_update(ticket.0.to_be_bytes()).chain_update([state]).chain_update(body).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Retention = Retention { turns: 3, age_ms: 1_000 };

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Place {
            Place(tempfile::tempdir().unwrap())
        }

        fn open(&self, boot_id: &str) -> Result<(Database, Vec<u64>), Problem> {
            let (path, mark) = (self.0.path().join("seq.db"), self.0.path().join("seq.mark"));
            let (database, found) =
                Database::open(&path, &mark, boot_id, KEEP, |found| Some(ended(found.ticket.0, 77)))?;
            Ok((database, found.into_iter().map(|found| found.ticket.0).collect()))
        }
    }

    fn live(ticket: u64) -> Change {
        let domain = Domain::parse("foo.com").unwrap();
        Change::Live { ticket: Ticket(ticket), domain, body: format!("live {ticket}").into_bytes() }
    }

    fn ended(ticket: u64, ended_at: i64) -> Change {
        Change::Ended { ticket: Ticket(ticket), ended_at, body: format!("ended {ticket}").into_bytes() }
    }

    fn history(database: &Database) -> Vec<String> {
        let mut lines = Vec::new();
        database
            .history(None, None, |line| {
                lines.push(String::from_utf8_lossy(line).into_owned());
                true
            })
            .unwrap();
        lines
    }

    #[test]
    fn what_was_committed_is_found_by_the_next_daemon() {
        let place = Place::new();
        let (mut database, found) = place.open("boot").unwrap();
        assert!(found.is_empty());
        database.commit(&[live(1), live(2)]).unwrap();
        database.commit(&[ended(1, 5), live(3), live(4)]).unwrap();
        database.commit(&[Change::Left { ticket: Ticket(3) }, live(2)]).unwrap();
        drop(database);
        let (database, found) = place.open("boot").unwrap();
        assert_eq!(found, [2, 4]);
        assert_eq!(history(&database), ["ended 1"]);
    }

    #[test]
    fn after_a_restart_of_the_machine_nothing_lives_and_all_is_history() {
        let place = Place::new();
        place.open("boot").unwrap().0.commit(&[live(1), live(2)]).unwrap();
        let (database, found) = place.open("another").unwrap();
        assert!(found.is_empty());
        assert_eq!(history(&database), ["ended 2", "ended 1"]);
        drop(database);
        assert!(place.open("another").unwrap().1.is_empty());
    }

    #[test]
    fn the_history_keeps_the_newest_and_no_older_than_it_should() {
        let place = Place::new();
        let (mut database, _) = place.open("boot").unwrap();
        for ticket in 1..=6 {
            database.commit(&[live(ticket), ended(ticket, i64::try_from(ticket).unwrap() * 100)]).unwrap();
        }
        assert_eq!(history(&database), ["ended 6", "ended 5", "ended 4"]);
        assert!(!database.prune_age(1_550).unwrap());
        assert_eq!(history(&database), ["ended 6"]);
    }

    #[test]
    fn a_log_that_was_cut_is_refused_and_nothing_is_changed() {
        let place = Place::new();
        let (mut database, _) = place.open("boot").unwrap();
        database.commit(&[live(1)]).unwrap();
        let log = place.0.path().join("seq.db-wal");
        let before = std::fs::read(&log).unwrap();
        database.commit(&[live(2)]).unwrap();
        // As a kill -9 leaves it, but with the last commit missing.
        let files = ["seq.db", "seq.mark"].map(|name| (name, std::fs::read(place.0.path().join(name)).unwrap()));
        drop(database);
        for (name, content) in &files {
            std::fs::write(place.0.path().join(name), content).unwrap();
        }
        std::fs::write(&log, &before).unwrap();
        let refusal = place.open("boot").unwrap_err().to_string();
        assert!(refusal.contains("seq.db is not what"), "{refusal}");
        assert!(
            refusal.ends_with("restore it, or, once no command runs under seq any more, move it away"),
            "{refusal}"
        );
    }
}
