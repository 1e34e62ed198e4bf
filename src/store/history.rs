//! The turns that have ended: reading them, and letting go of the old ones.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

use super::inspect::{Missing, connect};
use super::problem::{Problem, problem};
use super::row::{ENDED, checksum};
use crate::protocol::{Domain, Ticket};

/// Ended turns removed in one commit at most, so that pruning never stalls a turn for long.
pub(super) const PRUNE_ROWS_MAX: u64 = 64;

/// Of the newest rows, how many are looked at when a database is opened: as many as a daemon goes on with.
const CHECKED_ROWS_MAX: u32 = 2_000;

const PRUNE_OLDEST: &str =
    "DELETE FROM turns WHERE ticket IN (SELECT ticket FROM turns WHERE state > 0 ORDER BY ticket LIMIT ?1)";
/// Old tickets ended long ago, so only the oldest are looked at; one that took very long is met when it is old itself.
const PRUNE_OLD: &str = "DELETE FROM turns WHERE ticket IN (SELECT ticket FROM \
    (SELECT ticket, ended_at FROM turns WHERE state > 0 ORDER BY ticket LIMIT ?2) WHERE ended_at < ?1)";
const BY_END: &str = "SELECT ticket, state, body, sum FROM turns WHERE state = 1 \
    AND (?1 IS NULL OR domain = ?1 OR instr(body, CAST('\"also\":[' AS BLOB)) > 0) AND ended_at >= ?2 AND ticket > ?3 \
    ORDER BY ended_at DESC, ticket DESC";
const ONE: &str = "SELECT ended_at, body, sum FROM turns WHERE state = 1 AND ticket = ?1";
/// The newest of those that are too many.
const SURPLUS: &str = "SELECT ticket FROM turns WHERE state > 0 ORDER BY ticket DESC LIMIT 1 OFFSET ?1";
const NEWEST: &str = "SELECT ticket, state, body, sum FROM turns WHERE state > 0 ORDER BY ticket DESC LIMIT ?1";

/// A second way into the database, for a thread that only reads: a long look at the history holds up no turn.
#[derive(Debug)]
pub struct History {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
}

impl History {
    /// Opens the database at `path`, which this process has open already.
    ///
    /// # Errors
    ///
    /// When the system does not let it be opened, as where there are no descriptors left.
    pub fn open(path: &Path) -> Result<History, Problem> {
        let connection = connect(path, Missing::Refused).map_err(|error| problem(path, error))?;
        Ok(History { connection, path: path.to_owned() })
    }

    /// Gives the lines of the turns that ended since `since_ms`, in one domain or all, the last that ended first, to
    /// `each`, until it says that it is enough. Nothing comes of what is not among the newest `turns_max` that ended,
    /// which is only still there. Those of turns in several domains are given in any case.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or one has a wrong checksum.
    pub fn read(
        &self,
        domain: Option<&Domain>,
        since_ms: i64,
        turns_max: Option<u64>,
        mut each: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Problem> {
        let after = match turns_max {
            Some(turns_max) => self.surplus(turns_max)?,
            None => 0,
        };
        let parameters = params![domain.map(Domain::as_str), since_ms, after];
        read(&self.connection, &self.path, BY_END, parameters, |_, _, body| each(body))
    }

    /// The ticket up to which they are too many, when only so many are to be there.
    fn surplus(&self, turns_max: u64) -> Result<i64, Problem> {
        let offset = i64::try_from(turns_max).unwrap_or(i64::MAX);
        let found = self.connection.query_row(SURPLUS, [offset], |row| row.get(0)).optional();
        found.map(|ticket| ticket.unwrap_or(0)).map_err(|error| problem(&self.path, error))
    }

    /// Gives the newest tickets that have ended, at most `count`, the newest first: whether each had its turn, and its
    /// line. This is quick.
    ///
    /// # Errors
    ///
    /// As [`read`](History::read).
    pub fn newest(&self, count: u32, mut each: impl FnMut(Ticket, bool, &[u8])) -> Result<(), Problem> {
        read(&self.connection, &self.path, NEWEST, params![count], |ticket, had_turn, body| {
            each(ticket, had_turn, body);
            true
        })
    }
}

fn read(
    connection: &Connection,
    path: &Path,
    query: &str,
    parameters: impl rusqlite::Params,
    mut each: impl FnMut(Ticket, bool, &[u8]) -> bool,
) -> Result<(), Problem> {
    let at = |error: rusqlite::Error| problem(path, error);
    let mut statement = connection.prepare_cached(query).map_err(at)?;
    let mut rows = statement.query(parameters).map_err(at)?;
    while let Some(row) = rows.next().map_err(at)? {
        let (ticket, state, body, sum): (i64, u8, Vec<u8>, i64) = row.try_into().map_err(at)?;
        let ticket = Ticket(ticket.cast_unsigned());
        if checksum(ticket, state, &body) != sum {
            return Err(Problem::damaged(path, "a turn of the history"));
        }
        if !each(ticket, state == ENDED, &body) {
            break;
        }
    }
    Ok(())
}

/// Whether the newest of it are what they were when their checksums were made.
pub(super) fn check_newest(connection: &Connection, path: &Path) -> Result<(), Problem> {
    read(connection, path, NEWEST, params![CHECKED_ROWS_MAX], |_, _, _| true)
}

/// When the turn of one ticket ended, and its line.
pub(super) fn one(connection: &Connection, path: &Path, ticket: Ticket) -> Result<Option<(i64, Vec<u8>)>, Problem> {
    let at = |error: rusqlite::Error| problem(path, error);
    let found: Option<(i64, Vec<u8>, i64)> =
        connection.query_row(ONE, [ticket.0.cast_signed()], |row| row.try_into()).optional().map_err(at)?;
    let Some((ended_at, body, sum)) = found else { return Ok(None) };
    if checksum(ticket, ENDED, &body) != sum {
        return Err(Problem::damaged(path, "a turn of the history"));
    }
    Ok(Some((ended_at, body)))
}

pub(super) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = connection.query_row("SELECT count(*) FROM turns WHERE state > 0", [], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// Removes the oldest turns, at most `count`; gives how many.
pub(super) fn prune_count(connection: &Connection, count: u64) -> rusqlite::Result<u64> {
    let removed = connection.prepare_cached(PRUNE_OLDEST)?.execute([count.cast_signed()])?;
    Ok(removed as u64)
}

/// Removes some of the turns that ended before `before_ms`; gives how many.
pub(super) fn prune_age(connection: &Connection, before_ms: i64) -> rusqlite::Result<u64> {
    let removed = connection.prepare_cached(PRUNE_OLD)?.execute([before_ms, PRUNE_ROWS_MAX.cast_signed()])?;
    Ok(removed as u64)
}
