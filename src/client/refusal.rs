//! What the daemon refused, as an error with its exit status.

use crate::error::{Cure, Error, status};
use crate::protocol::{ErrorCode, ErrorReply, Reply};

use super::link::LinkError;

/// Why who wants to wait is not even in line yet; the daemon may have said `why` it has no room. To try again later is
/// what this client does.
pub(super) fn no_room(why: &str) -> String {
    match why.strip_suffix(": try again later").unwrap_or(why) {
        "" => "the daemon has no room for one more".to_owned(),
        why => format!("the daemon has no room for one more ({why})"),
    }
}

/// The error for a reply that is not the one asked for.
pub(super) fn refused(reply: Reply) -> Error {
    match reply {
        Reply::Error(error) => Error::new(exit_status(error.code), error.message),
        Reply::Stalled(stalled) => Error::failure(stalled.message),
        _ => {
            Error::failure("the daemon gave an answer that this seq does not understand: use the same version of both")
        }
    }
}

/// The error of who waited for a daemon that was told to leave for good.
pub(super) fn told_to_leave() -> Error {
    Error::failure("the daemon was told to leave while this request waited: run it again").with_cure(Cure::Person)
}

/// Whether the daemon is leaving for good, as `seq stop` has it.
pub(super) fn is_leaving(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(ErrorReply { code: ErrorCode::Leaving, .. }))
}

/// Whether the daemon makes room for the next one, which has all that this one had.
pub(super) fn is_restarting(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(ErrorReply { code: ErrorCode::Restarting, .. }))
}

/// Whether the daemon has no room for what was asked.
pub(super) fn is_full(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(error) if means_full(error.code))
}

/// It has as many connections as it may have, or as many descriptors: a client never has too many requests of its own.
fn means_full(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::TooManyConnections | ErrorCode::TooManyRequests)
}

/// A first answer, unless it says that the daemon leaves, or has no room: then nothing was promised, and the next one, or
/// the same one later, can be asked.
pub(super) fn unless_sent_away(reply: Reply) -> Result<Reply, LinkError> {
    match reply {
        Reply::Error(error) if means_full(error.code) => Err(LinkError::Full(error.message)),
        reply if is_leaving(&reply) || is_restarting(&reply) => Err(LinkError::Closed),
        reply => Ok(reply),
    }
}

fn exit_status(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::NotFound
        | ErrorCode::NotWaiting
        | ErrorCode::NotActive
        | ErrorCode::Forbidden
        | ErrorCode::SeveralHolders
        | ErrorCode::KeyInUse
        | ErrorCode::SeveralKeys => status::NO,
        _ => status::FAILURE,
    }
}
