//! A `done` that the daemon of the turn did not hear: it goes to the next one, or waits for it in a file.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use crate::daemon::{Place, with_modes_as_given};
use crate::error::Error;
use crate::protocol::{Reply, Request, Ticket};

use super::super::connect::Daemon;
use super::super::errand::{Errand, reports};
use super::super::link::LinkError;
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
/// for.
///
/// # Errors
///
/// When there was none in time: why.
pub(super) fn deliver(daemon: &Daemon, request: Request, is_expected: bool) -> Result<(), Error> {
    let silent = daemon.explain(LinkError::Silent);
    let (mut reporter, mut reasons) = reports().map_err(Error::failure)?;
    let daemon = daemon.clone();
    let told = Errand::start(move || {
        let mut pause = Pause::new();
        loop {
            let (why, may_try_again) = match daemon.ask(&request) {
                Ok(Reply::Stalled(stalled)) => (Error::failure(stalled.message), false),
                Ok(_) => return true,
                Err(error) => (error, is_expected),
            };
            reporter.say(why);
            if !may_try_again {
                return false;
            }
            thread::sleep(pause.next());
        }
    });
    if told.is_ok_and(|errand| errand.result_within(DELIVERY_TIMEOUT) == Some(true)) {
        return Ok(());
    }
    Err(std::iter::from_fn(|| reasons.next()).last().unwrap_or(silent))
}

/// Leaves word for the next daemon.
///
/// # Errors
///
/// When it cannot be written. All that is lost then is the exit status in the history.
pub(super) fn leave(
    place: &Place,
    ticket: Ticket,
    secret: Option<&str>,
    (exit_status, ended_at): (u8, Timestamp),
) -> io::Result<()> {
    let secret = secret.ok_or_else(|| io::Error::other("the request had no secret"))?;
    let word = Word { ticket, secret, exit_status, ended_at_ms: ended_at.as_millisecond() };
    with_modes_as_given(|| write(&place.done, ticket, &word))
}

/// A file appears with all that is in it, or not at all.
fn write(directory: &Path, ticket: Ticket, word: &Word<'_>) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let (draft, file) = (directory.join(format!(".{ticket}")), directory.join(ticket.to_string()));
    let mut open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let written = open.write_all(&serde_json::to_vec(word)?).and_then(|()| fs::rename(&draft, file));
    if written.is_err() {
        _ = fs::remove_file(draft);
    }
    written
}
