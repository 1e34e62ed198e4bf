//! Bringing the log back into the database, where no turn waits for it.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tracing::warn;

use crate::error::with_limit;

/// Pages of the log past which the writer has to wait for the last part of a checkpoint. A log starts again from its
/// beginning when all of it is in the database, which any checkpoint comes to in a moment without a commit; but a
/// writer that never rests would make it grow for ever. Reading so long a log again after a kill takes 0.1 s.
const LOG_PAGES_MAX: i64 = 16 * 1_024;

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
    work: Option<SyncSender<()>>,
    failures: Receiver<rusqlite::Error>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn new(connection: Connection) -> Checkpointer {
        Checkpointer::Idle(connection)
    }

    /// Asks for a checkpoint; one that has been asked for and not begun will do.
    pub(super) fn wake(&mut self) {
        self.start();
        if let Checkpointer::Started(Worker { work: Some(work), .. }) = self {
            match work.try_send(()) {
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
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
        let (work, orders) = sync_channel::<()>(1);
        let (fail, failures) = sync_channel(1);
        let thread = thread::Builder::new().spawn(move || {
            let Ok(connection) = handed.recv() else { return };
            while orders.recv().is_ok() {
                // Where there was no room it had no `fsync` yet, and the next may succeed.
                if let Err(error) = checkpoint(&connection)
                    && error.sqlite_error_code() != Some(ErrorCode::DiskFull)
                {
                    // After a failed fsync nobody knows what is on disk: it is never tried again.
                    _ = fail.send(error);
                    return;
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

/// Copies what can be copied without making the writer wait; makes it wait for the rest only when the log is too long.
fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    if copy(connection)? > LOG_PAGES_MAX {
        // Once more, so that only what is written meanwhile is left to be copied, and to be brought to the disk, while
        // the writer waits.
        copy(connection)?;
        // It does not happen when somebody writes, or reads, right now: waiting for a reader would hold the writer up as
        // long. The next may.
        connection.busy_timeout(Duration::ZERO)?;
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
    }
    Ok(())
}

/// Copies all that nobody who reads still needs elsewhere; gives the pages of the log.
fn copy(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
}
