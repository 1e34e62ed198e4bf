//! Bringing the log back into the database, where no turn waits for it.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, ErrorCode};

/// Pages of the log past which the writer has to wait for the last part of a checkpoint, a few milliseconds: a log
/// starts again from its beginning only when all of it is in the database, and a writer that never rests would make it
/// grow for ever.
const LOG_PAGES_MAX: i64 = 16 * 1_024;

/// A thread with a connection of its own. `fsync` takes milliseconds, and happens there alone.
#[derive(Debug)]
pub(super) struct Checkpointer {
    /// None once it is to end.
    work: Option<SyncSender<()>>,
    failures: Receiver<rusqlite::Error>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(connection: Connection) -> Checkpointer {
        let (work, orders) = sync_channel::<()>(1);
        let (fail, failures) = sync_channel(1);
        let thread = thread::spawn(move || {
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
        });
        Checkpointer { work: Some(work), failures, thread: Some(thread) }
    }

    /// Asks for a checkpoint; one that has been asked for and not begun will do.
    pub(super) fn wake(&self) {
        if let Some(work) = &self.work {
            match work.try_send(()) {
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }

    /// Whether all went well so far.
    pub(super) fn check(&self) -> rusqlite::Result<()> {
        self.failures.try_recv().map_or(Ok(()), Err)
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// Copies what can be copied without making the writer wait; makes it wait for the rest only when the log is too long.
fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    let pages: i64 = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
    if pages > LOG_PAGES_MAX {
        // Nearly all of it has just been copied, so that this is short. Whether it succeeds is no matter: the next may.
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
    }
    Ok(())
}
