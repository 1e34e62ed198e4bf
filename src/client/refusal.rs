//! What the daemon refused, as an error with its exit status.

use crate::error::{Error, status};
use crate::protocol::{ErrorCode, ErrorReply, Reply};

/// The error for a reply that is not the one asked for.
pub(super) fn refused(reply: Reply) -> Error {
    match reply {
        Reply::Error(error) => Error::new(exit_status(error.code), error.message),
        _ => {
            Error::failure("the daemon gave an answer that this seq does not understand: use the same version of both")
        }
    }
}

/// Whether the daemon is leaving: what was asked can be asked again, of the next one.
pub(super) fn is_leaving(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(ErrorReply { code: ErrorCode::Leaving, .. }))
}

fn exit_status(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::NotFound | ErrorCode::NotWaiting | ErrorCode::NotActive | ErrorCode::Forbidden => status::NO,
        _ => status::FAILURE,
    }
}
