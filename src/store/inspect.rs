//! The database file: how it is opened, and what must be true of it before it is believed.

use std::ffi::CStr;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags};
use rustix::io::Errno;

use super::change::Found;
use super::machine::Machine;
use super::mark::{Seen, Summary};
use super::open::Files;
use super::problem::{Problem, problem};
use super::row::{LIVE, checksum};
use super::schema::{APPLICATION_ID, known_version};
use crate::protocol::Ticket;

/// Bytes of a page of a new database. A transaction writes the pages that it touched, whole.
const PAGE_BYTES: u32 = 4_096;

/// How the files are opened, read and locked: by this process alone, but with several connections of its own, and
/// without a file for shared memory (<https://sqlite.org/vfs.html>).
const VFS: &CStr = c"unix-excl";

/// How long the writer waits for the last part of a checkpoint.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What every SQLite database begins with (<https://sqlite.org/fileformat.html>).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Bytes of the header that every SQLite database begins with.
const HEADER_BYTES: u64 = 100;

/// What can be said of the file before SQLite has touched it, and the log beside it.
pub(super) fn check_file(path: &Path, must_hold: impl Fn() -> Option<Problem>) -> Result<(), Problem> {
    if path.is_symlink() {
        return Err(Problem::link(path));
    }
    let start = beginning(path)?;
    if start.is_empty() {
        // SQLite would remove what belongs to no database.
        let log = log_of(path);
        let has_log = std::fs::metadata(&log).is_ok_and(|found| found.len() > 0);
        let without = || has_log.then(|| Problem::without_database(path, &log));
        if let Some(problem) = must_hold().or_else(without) {
            return Err(problem);
        }
        // Made here, for SQLite would let others read it.
        let made = File::options().append(true).create(true).mode(0o600).open(path);
        return made.map(drop).map_err(|error| Problem::file("write", path, &error));
    }
    check_start(path, &start)
}

/// What can be said of a database that a daemon has open; nothing of one that is not there, or is just being made.
pub(super) fn check_beginning(path: &Path) -> Result<(), Problem> {
    let start = beginning(path)?;
    if start.is_empty() {
        return Ok(());
    }
    check_start(path, &start)?;
    let version = number_at(&start, 60).unwrap_or(0);
    let known = known_version();
    if version > known && number_at(&start, 68) == Some(APPLICATION_ID) {
        return Err(Problem::newer(path, version, known));
    }
    Ok(())
}

/// The header of the database, or nothing when there is none.
fn beginning(path: &Path) -> Result<Vec<u8>, Problem> {
    let failed = |error: std::io::Error| Problem::file("read", path, &error);
    let mut start = Vec::new();
    match File::open(path) {
        Ok(file) => _ = file.take(HEADER_BYTES).read_to_end(&mut start).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    Ok(start)
}

/// Whether what begins so is a database of ours that may be written.
fn check_start(path: &Path, start: &[u8]) -> Result<(), Problem> {
    if !start.starts_with(MAGIC) {
        return Err(Problem::broken(path, "it is not a database"));
    }
    if is_foreign(start) {
        return Err(Problem::foreign(path));
    }
    // SQLite opens what it must not write as well, with a file of its own beside it, and says so only later.
    check_openable(path)?;
    let log = log_of(path);
    if log.exists() { check_openable(&log) } else { Ok(()) }
}

/// A file that may be read and written.
pub(super) fn check_openable(path: &Path) -> Result<(), Problem> {
    let opened = File::options().read(true).write(true).open(path);
    opened.map(drop).map_err(|error| Problem::file("write", path, &error))
}

/// Whether the header says that the database is another program's. Opening it would make one with a log of it. A new
/// one of ours has a log before it has a name.
fn is_foreign(header: &[u8]) -> bool {
    let has_log = header.get(18) == Some(&2);
    number_at(header, 68).is_some_and(|application| application != APPLICATION_ID && (application != 0 || !has_log))
}

/// A number of the header (<https://sqlite.org/fileformat.html>).
fn number_at(header: &[u8], offset: usize) -> Option<i32> {
    header.get(offset..offset + 4)?.try_into().ok().map(i32::from_be_bytes)
}

/// The log beside the database.
pub(super) fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    PathBuf::from(log)
}

/// Removes the log that looking into the database has made, if there was none before.
pub(super) fn remove_new_log(path: &Path, had_log: bool) {
    let log = log_of(path);
    if !had_log && std::fs::metadata(&log).is_ok_and(|found| found.len() == 0) {
        _ = std::fs::remove_file(log);
    }
}

/// Whether what lives in it lives here, and is all there.
pub(super) fn check_owner(
    seen: &Seen,
    before: &Machine,
    machine: &Machine,
    (found, has_live): (Summary, bool),
    files: &Files,
) -> Result<(), Problem> {
    let (path, mark) = (&files.database, &files.mark);
    if (seen.is_current || before.boot_id == machine.boot_id) && !seen.knows(found) {
        let lost = || Problem::lost(path, mark, seen.is_there);
        return Err(if seen.is_damaged { Problem::damaged_mark(path, mark) } else { lost() });
    }
    if before.boot_id == machine.boot_id {
        return Ok(());
    }
    if seen.is_current && !seen.was_turning {
        return Err(Problem::broken(path, "it does not say what run of the machine it is of"));
    }
    let is_elsewhere = !before.boot_id.is_empty() && before.host != machine.host;
    if is_elsewhere && has_live {
        return Err(Problem::elsewhere(path, &before.host_name));
    }
    Ok(())
}

/// Reads every page, after an end that was not in good order: what is damaged is found now and not in the middle of
/// somebody's turn.
pub(super) fn check_all(connection: &Connection, path: &Path) -> Result<(), Problem> {
    let found: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| problem(path, error))?;
    if found == "ok" { Ok(()) } else { Err(Problem::broken(path, &found)) }
}

/// What a database and its log are, by device and inode: somebody may remove them, or put others in their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identities([(u64, u64); 2]);

impl Identities {
    /// Those at `path`. Whoever reads it has made the log, if it was not there.
    pub(super) fn at(path: &Path) -> Result<Identities, Problem> {
        let identity = |path: &Path| -> Result<(u64, u64), Problem> {
            let found = std::fs::metadata(path).map_err(|error| Problem::file("read", path, &error))?;
            Ok((found.dev(), found.ino()))
        };
        Ok(Identities([identity(path)?, identity(&log_of(path))?]))
    }
}

/// SQLite opens a file that must not be written, and says so only when something is written.
pub(super) fn check_writable(connection: &Connection, path: &Path) -> Result<(), Problem> {
    match connection.is_readonly(MAIN_DB) {
        Ok(true) => Err(Problem::file("write", path, &Errno::ACCESS.into())),
        _ => Ok(()),
    }
}

/// What becomes of a database that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Made,
    Refused,
}

pub(super) fn connect(path: &Path, missing: Missing) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, missing == Missing::Made);
    let connection = Connection::open_with_flags_and_vfs(path, flags, VFS)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // What turns out to be damaged is left as it is, the log too.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// The live rows with their sums, each checked; none is below `oldest`.
pub(super) fn read_live(connection: &Connection, path: &Path, oldest: Ticket) -> Result<Vec<(Found, i64)>, Problem> {
    let at = |error: rusqlite::Error| problem(path, error);
    let mut statement = connection
        .prepare("SELECT ticket, body, sum FROM turns WHERE state = 0 AND ticket >= ?1 ORDER BY ticket")
        .map_err(at)?;
    let rows = statement
        .query_map([oldest.0.cast_signed()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, i64>(2)?))
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Database, Retention};

    #[test]
    fn a_database_in_use_is_seen_not_to_be_usable_and_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::in_directory(directory.path());
        assert!(files.check_usable().is_ok());
        assert!(!files.database.exists());
        let keep = Retention { turns: 1, age_ms: 1 };
        let (database, _) = Database::open(&files, &Machine::this(), keep, |_| None).unwrap();
        assert!(files.check_usable().is_ok());
        database.close();
        let mut bytes = std::fs::read(&files.database).unwrap();
        let mut refusal_with = |offset: usize, byte: u8| {
            bytes[offset] = byte;
            std::fs::write(&files.database, &bytes).unwrap();
            files.check_usable().unwrap_err().to_string()
        };
        let newer = refusal_with(63, 99);
        assert!(newer.contains("has version 99, and this seqd knows versions up to "), "{newer}");
        let foreign = refusal_with(68, 1);
        assert!(foreign.contains("is a database, but not one of seqd"), "{foreign}");
        let broken = refusal_with(0, 0);
        assert!(broken.contains("it is not a database"), "{broken}");
    }
}
