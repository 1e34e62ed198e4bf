//! A `done` that no daemon could be told: it waits for the next one in a file.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use jiff::Timestamp;

use crate::daemon::{Place, with_modes_as_given};
use crate::protocol::Ticket;

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
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let (draft, file) = (directory.join(format!(".{ticket}")), directory.join(ticket.to_string()));
    // Of an earlier try. In a shared folder another user's cannot be removed, and is not written to.
    _ = fs::remove_file(&draft);
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = open.write_all(&serde_json::to_vec(word)?).and_then(|()| fs::rename(&draft, file));
    if written.is_err() {
        _ = fs::remove_file(draft);
    }
    written
}
