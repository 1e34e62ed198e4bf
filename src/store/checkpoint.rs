//! Bringing the log back into the database, where no turn waits for it.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use rustix::fs::statvfs;
use tracing::warn;

use super::inspect::log_of;
use crate::error::with_limit;

/// Pages of the log past which the writer has to wait for the last part of a checkpoint. A log starts again from its
/// beginning when all of it is in the database, which any checkpoint comes to in a moment without a commit; but a
/// writer that never rests would make it grow for ever. Reading so long a log again after a kill takes 0.1 s.
const LOG_PAGES_MAX: i64 = 16 * 1_024;

/// Bytes of a log that an earlier daemon left past which all of it is brought back at the start: one that is killed again
/// and again would never come to it otherwise.
const LOG_LEFT_BYTES_MAX: u64 = 4 << 20;

/// Between two tries to shorten the log, while somebody writes or reads.
const SHORTEN_PAUSE: Duration = Duration::from_millis(500);

/// What a checkpoint is to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// What can be copied is, and the log starts again from its beginning when it must.
    Copied,
    /// The log is empty, also as a file.
    Shortened,
}

/// A thread with a connection of its own. `fsync` takes milliseconds, and happens there; only when the log starts again
/// the writer waits for its first few bytes to be on the disk, for SQLite leaves that to nobody else.
#[derive(Debug)]
pub(super) enum Checkpointer {
    /// There was nothing to do yet, or no thread to do it: the log goes on to grow until there is one.
    Idle(Connection),
    Started(Worker),
    /// It uses no connection any more.
    Ended,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Worker {
    /// None once it is to end.
    work: Option<SyncSender<Extent>>,
    failures: Receiver<rusqlite::Error>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn new(connection: Connection) -> Checkpointer {
        Checkpointer::Idle(connection)
    }

    /// Asks for a checkpoint; one that has been asked for and not begun will do.
    pub(super) fn wake(&mut self) {
        self.order(Extent::Copied);
    }

    /// Asks for one that leaves nothing of the log of `path`, if an earlier daemon left a long one.
    pub(super) fn shorten(&mut self, path: &Path) {
        if length_of_log(path) > LOG_LEFT_BYTES_MAX {
            self.order(Extent::Shortened);
        }
    }

    fn order(&mut self, extent: Extent) {
        self.start();
        if let Checkpointer::Started(Worker { work: Some(work), .. }) = self {
            match work.try_send(extent) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// Whether all went well so far.
    pub(super) fn check(&self) -> rusqlite::Result<()> {
        match self {
            Checkpointer::Started(worker) => worker.failures.try_recv().map_or(Ok(()), Err),
            Checkpointer::Idle(_) | Checkpointer::Ended => Ok(()),
        }
    }

    fn start(&mut self) {
        *self = match std::mem::replace(self, Checkpointer::Ended) {
            Checkpointer::Idle(connection) => match Worker::start() {
                Ok((worker, hand_over)) => {
                    _ = hand_over.send(connection);
                    Checkpointer::Started(worker)
                }
                Err(error) => {
                    warn!("cannot start a thread to shorten the database's log: {}", with_limit(&error));
                    Checkpointer::Idle(connection)
                }
            },
            other => other,
        };
    }
}

impl Worker {
    /// One that waits for its connection, which is still there where it cannot be started.
    fn start() -> io::Result<(Worker, SyncSender<Connection>)> {
        let (hand_over, handed) = sync_channel::<Connection>(1);
        let (work, orders) = sync_channel::<Extent>(1);
        let (fail, failures) = sync_channel(1);
        let thread = thread::Builder::new().spawn(move || {
            let Ok(connection) = handed.recv() else { return };
            let mut is_too_long = false;
            while let Some(extent) = next(&orders, is_too_long) {
                match checkpoint(&connection, extent) {
                    Ok(is_done) => is_too_long = extent == Extent::Shortened && !is_done,
                    // Where there was no room it had no `fsync` yet, and the next may succeed.
                    Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => is_too_long = false,
                    Err(error) => {
                        // After a failed fsync nobody knows what is on disk: it is never tried again.
                        _ = fail.send(error);
                        return;
                    }
                }
            }
        })?;
        Ok((Worker { work: Some(work), failures, thread: Some(thread) }, hand_over))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// What is to be done next; nothing any more at the end. A log that is too long still is shortened after a while.
fn next(orders: &Receiver<Extent>, is_too_long: bool) -> Option<Extent> {
    if !is_too_long {
        return orders.recv().ok();
    }
    match orders.recv_timeout(SHORTEN_PAUSE) {
        Ok(_) | Err(RecvTimeoutError::Timeout) => Some(Extent::Shortened),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// Copies what can be copied without making the writer wait; makes it wait for the rest only when the log is too long,
/// or for its room. Gives whether the log starts again.
fn checkpoint(connection: &Connection, extent: Extent) -> rusqlite::Result<bool> {
    let is_too_long = copy(connection)? > LOG_PAGES_MAX;
    let is_in_the_way =
        extent == Extent::Shortened || connection.path().is_some_and(|path| is_room_short(path.as_ref()));
    if !is_too_long && !is_in_the_way {
        return Ok(false);
    }
    // Once more, so that only what is written meanwhile is left to be copied, and to be brought to the disk, while
    // the writer waits.
    copy(connection)?;
    // It does not happen when somebody writes, or reads, right now: waiting for a reader would hold the writer up as
    // long. The next may.
    connection.busy_timeout(Duration::ZERO)?;
    restart_log(connection, is_in_the_way)
}

/// Brings all of the log back, so that it starts again from its beginning, and `gives_back` its room. Gives whether it
/// did: somebody else may use it.
fn restart_log(connection: &Connection, gives_back: bool) -> rusqlite::Result<bool> {
    let how = if gives_back { "PRAGMA wal_checkpoint(TRUNCATE)" } else { "PRAGMA wal_checkpoint(RESTART)" };
    connection.query_row(how, [], |row| row.get(0)).map(|is_busy: bool| !is_busy)
}

/// Gives the room of the log back before anything is written, where there is so little that the log itself may be what
/// takes it: nothing could be written otherwise, by any daemon.
pub(super) fn make_room(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    if !is_room_short(path) {
        return Ok(());
    }
    match restart_log(connection, true) {
        // What is written next says so.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => Ok(()),
        made => made.map(drop),
    }
}

/// Whether the disk has less room than the log of the database at `path` takes. The database may need as much to take the
/// log in; so it does that while there is as much, and what fills a disk is never the log.
pub(super) fn is_room_short(path: &Path) -> bool {
    let length = length_of_log(path);
    length > 0 && statvfs(path).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < length)
}

fn length_of_log(path: &Path) -> u64 {
    std::fs::metadata(log_of(path)).map_or(0, |found| found.len())
}

/// Copies all that nobody who reads still needs elsewhere; gives the pages of the log.
fn copy(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
}
