//! From a client's line to a request.

use serde::Deserialize;
use serde_json::Value;

use crate::protocol::{ErrorCode, ErrorReply, NameError, Request};
use crate::sequencer::PolicyError;

/// The operations that this version knows.
const OPERATIONS: &str = "hello, sequence, started, confirm, done, cancel, release, status, watch, wait, log, info, \
    stop, restart, policy_set, policy_unset, policy_show, pause, resume";

/// Why a request is not one.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) ErrorReply);

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal(ErrorReply { code, message: message.into(), domain: None, request_id: None, ticket: None })
    }

    pub(super) fn bad(message: impl Into<String>) -> Refusal {
        Refusal::new(ErrorCode::BadRequest, message)
    }

    /// The same, for the request that the client calls so.
    pub(super) fn of(mut self, request_id: Option<&str>) -> Refusal {
        self.0.request_id = request_id.map(str::to_owned);
        self
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Refusal {
        Refusal::new(ErrorCode::BadName, error.to_string())
    }
}

impl From<PolicyError> for Refusal {
    fn from(error: PolicyError) -> Refusal {
        Refusal::bad(error.to_string())
    }
}

/// Reads a line as a request, of an operation that is known.
pub(super) fn read(line: &[u8]) -> Result<Request, Refusal> {
    let line = std::str::from_utf8(line).map_err(|error| Refusal::bad(format!("the line is not UTF-8: {error}")))?;
    if !line.starts_with('{') {
        return Err(Refusal::bad("a request is one JSON object on one line, such as {\"op\":\"status\"}"));
    }
    match serde_json::from_str(line) {
        Ok(Request::Unknown) => Err(unknown_operation(line)),
        Ok(request) => Ok(request),
        Err(error) => Err(wrong_shape(line, &error)),
    }
}

/// What can be said of a request that has the wrong shape. Only the fields that help to find it again are read.
#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    op: Value,
    #[serde(default)]
    request_id: Value,
}

fn unknown_operation(line: &str) -> Refusal {
    let outline = outline(line);
    let operation = outline.as_ref().and_then(|outline| outline.op.as_str()).unwrap_or_default();
    let message = format!("the operation {operation:?} is not known: use one of {OPERATIONS}");
    Refusal::new(ErrorCode::UnknownOperation, message).of(outline.as_ref().and_then(|it| it.request_id.as_str()))
}

fn wrong_shape(line: &str, error: &serde_json::Error) -> Refusal {
    let outline = outline(line);
    Refusal::bad(format!("the request is malformed: {error}"))
        .of(outline.as_ref().and_then(|it| it.request_id.as_str()))
}

fn outline(line: &str) -> Option<Outline> {
    serde_json::from_str(line).ok()
}
