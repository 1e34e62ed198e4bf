//! A `done` that the daemon of the turn did not hear: it goes to the next one, or waits for it in a file.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use crate::daemon::Place;
use crate::protocol::{Request, Ticket};

use super::super::connect::Daemon;
use super::super::errand::Errand;
use super::super::pause::Pause;

/// How long a command's end may be held up by a daemon that is not there.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// What is left for the next daemon, which reads it when it starts.
#[derive(Debug, serde::Serialize)]
struct Word<'a> {
    /// The ticket whose turn is over.
    ticket: Ticket,
    /// What the request was made with.
    secret: &'a str,
    /// How the command ended.
    exit_status: u8,
    /// When, in milliseconds since 1970.
    ended_at_ms: i64,
}

/// Tells the next daemon, which is started if it may be, that a turn is over. If none `is_expected` it is not waited
/// for. False when there was none in time.
pub(super) fn deliver(daemon: &Daemon, request: Request, is_expected: bool) -> bool {
    let daemon = daemon.clone();
    let told = Errand::start(move || {
        let mut pause = Pause::new();
        while daemon.ask(&request).is_err() {
            if !is_expected {
                return false;
            }
            thread::sleep(pause.next());
        }
        true
    });
    told.ok().and_then(|errand| errand.result_within(DELIVERY_TIMEOUT)).unwrap_or(false)
}

/// Leaves word for the next daemon. Where that cannot be written, all that is lost is the exit status in the history.
pub(super) fn leave(place: &Place, ticket: Ticket, secret: Option<&str>, (exit_status, ended_at): (u8, Timestamp)) {
    let Some(secret) = secret else { return };
    let word = Word { ticket, secret, exit_status, ended_at_ms: ended_at.as_millisecond() };
    _ = write(&place.done, ticket, &word);
}

/// A file appears with all that is in it, or not at all.
fn write(directory: &Path, ticket: Ticket, word: &Word<'_>) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let (draft, file) = (directory.join(format!(".{ticket}")), directory.join(ticket.to_string()));
    let mut open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    open.write_all(&serde_json::to_vec(word)?)?;
    fs::rename(draft, file)
}
