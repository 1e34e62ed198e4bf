//! A `done` that no daemon could be told, or write down: it is left for the next one.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;

use jiff::Timestamp;

use crate::daemon::{Place, with_modes_as_given};
use crate::protocol::Ticket;
use crate::store::DoneNote;

/// Leaves word for the next daemon, which reads it when it starts.
///
/// # Errors
///
/// When it cannot be left. All that is lost then is the exit status in the history.
pub(super) fn leave(
    place: &Place,
    ticket: Ticket,
    secret: Option<&str>,
    (exit_status, ended_at): (u8, Timestamp),
) -> io::Result<()> {
    let secret = secret.ok_or_else(|| io::Error::other("the request had no secret"))?.to_owned();
    let note = DoneNote {
        ticket: ticket.0,
        secret,
        exit_status: Some(exit_status.into()),
        ended_at_ms: ended_at.as_millisecond(),
    };
    // The daemon has made it, unless that was one of an earlier version.
    match with_modes_as_given(|| DirBuilder::new().mode(0o700).create(&place.done)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => note.leave(&place.done),
    }
}

/// Takes the word back, which is needed no more: a daemon that writes a history has done so already.
pub(super) fn take_back(place: &Place, ticket: Ticket) {
    _ = std::fs::remove_file(place.done.join(ticket.to_string()));
}
