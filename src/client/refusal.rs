//! What the daemon refused, as an error with its exit status.

use crate::error::{Error, status};
use crate::protocol::{ErrorCode, ErrorReply, Reply};

use super::link::LinkError;

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

/// Whether the daemon is leaving for good, as `seq stop` has it.
pub(super) fn is_leaving(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(ErrorReply { code: ErrorCode::Leaving, .. }))
}

/// Whether the daemon makes room for the next one, which has all that this one had.
pub(super) fn is_restarting(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(ErrorReply { code: ErrorCode::Restarting, .. }))
}

/// A first answer, unless it says that the daemon leaves: then nothing was promised, and the next one can be asked.
pub(super) fn unless_leaving(reply: Reply) -> Result<Reply, LinkError> {
    if is_leaving(&reply) || is_restarting(&reply) { Err(LinkError::Closed) } else { Ok(reply) }
}

fn exit_status(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::NotFound | ErrorCode::NotWaiting | ErrorCode::NotActive | ErrorCode::Forbidden => status::NO,
        _ => status::FAILURE,
    }
}
