//! From a client's line to a request.

use serde_json::{Map, Value};

use crate::protocol::limits::PRIORITY_MAX;
use crate::protocol::{ErrorCode, ErrorReply, NameError, Request};
use crate::sequencer::PolicyError;

/// The operations that this version knows.
const OPERATIONS: &str = "hello, sequence, started, confirm, done, cancel, release, status, watch, wait, log, info, \
    stop, restart, policy_set, policy_unset, policy_show, pause, resume, output, key_list, key_forget";

/// Bytes of a wrong value that are shown.
const SHOWN_BYTES_MAX: usize = 60;

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
    if let Some(request) = read_common(line) {
        return Ok(request);
    }
    match serde_json::from_str(line) {
        Ok(Request::Unknown) => Err(unknown_operation(line)),
        Ok(request) => Ok(request),
        Err(error) => Err(wrong_shape(line, &error)),
    }
}

/// The requests that come most often, if they begin with their operation: to find that wherever it is, all other fields
/// would be kept until then. What is wrong with one is found out by reading it once more.
fn read_common(line: &str) -> Option<Request> {
    let rest = line.strip_prefix(r#"{"op":""#)?;
    if rest.contains(r#""op""#) {
        return None;
    }
    match rest.split_once('"')?.0 {
        "sequence" => serde_json::from_str(line).ok().map(Request::Sequence),
        "done" => serde_json::from_str(line).ok().map(Request::Done),
        _ => None,
    }
}

/// The fields of a request that say which it is.
fn outline(line: &str) -> (Value, Option<String>) {
    let mut outline: Value = serde_json::from_str(line).unwrap_or_default();
    let request_id = outline["request_id"].as_str().map(str::to_owned);
    (outline["op"].take(), request_id)
}

fn unknown_operation(line: &str) -> Refusal {
    let (operation, request_id) = outline(line);
    let operation = operation.as_str().unwrap_or_default();
    let message = format!("the operation {operation:?} is not known: use one of {OPERATIONS}");
    Refusal::new(ErrorCode::UnknownOperation, message).of(request_id.as_deref())
}

fn wrong_shape(line: &str, error: &serde_json::Error) -> Refusal {
    let Ok(Value::Object(mut request)) = serde_json::from_str(line) else {
        return Refusal::bad(format!("the line is not one JSON object: {error}"));
    };
    let (operation, request_id) = outline(line);
    let message = match operation {
        Value::String(_) => wrong_field(&mut request, &error.to_string()),
        Value::Null => "op is missing: see seq-protocol(7)".to_owned(),
        other => format!("op: {} is not a text: see seq-protocol(7)", shown(&other)),
    };
    Refusal::bad(message).of(request_id.as_deref())
}

/// Names the field that is at fault: without it there is no error, or another one.
fn wrong_field(request: &mut Map<String, Value>, error: &str) -> String {
    let said = without_place(error);
    if let Some(field) = said.strip_prefix("missing field `") {
        return format!("{} is missing: see seq-protocol(7)", field.trim_end_matches('`'));
    }
    if let Some(field) = said.strip_prefix("duplicate field `") {
        return format!("{} is there more than once: see seq-protocol(7)", field.trim_end_matches('`'));
    }
    let names: Vec<String> = request.keys().filter(|name| *name != "op").cloned().collect();
    for name in names {
        let Some(value) = request.remove(&name) else { continue };
        let rest = Value::Object(request.clone());
        let without = serde_json::from_value::<Request>(rest).err().map(|error| error.to_string());
        if without.is_none_or(|other| without_place(&other) != said) {
            return format!("{name}: {}: see seq-protocol(7)", wrong_value(&name, &value, said));
        }
        request.insert(name, value);
    }
    format!("the request is malformed: {said}: see seq-protocol(7)")
}

/// An error of serde without where in the line it was found.
fn without_place(error: &str) -> &str {
    error.rsplit_once(" at line ").map_or(error, |(said, _)| said)
}

/// What is wrong with the value, in words that are not of one programming language.
fn wrong_value(name: &str, value: &Value, said: &str) -> String {
    let shown = shown(value);
    if let Some((_, known)) = said.split_once("unknown variant ").and_then(|(_, said)| said.split_once(", expected ")) {
        return format!("{shown} is not {}", known.replace('`', "\""));
    }
    let expected = match said.rsplit_once(", expected ").map_or("", |(_, expected)| expected) {
        "a string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "u8" => "a whole number from 0 to 255",
        "u32" if name == "take" => "a whole number from 1 to 4294967295",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0",
        // The only one is a priority.
        "i8" => return format!("{shown} is not a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX}"),
        "i32" | "i64" => "a whole number",
        other if other.starts_with("struct ") || other == "a map" => "an object",
        _ => return said.to_owned(),
    };
    let is_within = value.is_array() && expected != "a list" || value.is_object() && expected != "an object";
    if is_within { format!("something in {shown} is not {expected}") } else { format!("{shown} is not {expected}") }
}

/// A value, cut where it is long.
fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > SHOWN_BYTES_MAX {
        text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> String {
        read(line.as_bytes()).unwrap_err().0.message
    }

    #[test]
    fn what_is_wrong_is_named_in_words_of_no_programming_language() {
        let cases = [
            (r#"{"op":5}"#, "op: 5 is not a text"),
            (r#"{"op":"sequence","domain":5}"#, "domain: 5 is not a text"),
            (r#"{"op":"sequence","domain":"x","max_wait_ms":-1}"#, "max_wait_ms: -1 is not a whole number from 0"),
            (r#"{"op":"sequence","domain":"x","max_wait_ms":1.5}"#, "max_wait_ms: 1.5 is not a whole number from 0"),
            (r#"{"op":"sequence","domain":"x","positions":"yes"}"#, "positions: \"yes\" is not true or false"),
            (r#"{"op":"sequence","domain":"x","also":"y"}"#, "also: \"y\" is not a list"),
            (r#"{"op":"sequence","domain":"x","also":["y",7]}"#, "also: something in [\"y\",7] is not a text"),
            (
                r#"{"op":"sequence","domain":"x","binding":"rope"}"#,
                "binding: \"rope\" is not one of \"connection\", \"process\", \"lease\"",
            ),
            (r#"{"op":"sequence"}"#, "domain is missing"),
            (r#"{"op":"sequence","domain":"x","domain":"y"}"#, "domain is there more than once"),
            (r#"{"op":"sequence","domain":"x","within":7}"#, "within: 7 is not an object"),
            (
                r#"{"op":"sequence","domain":"x","priority":"1"}"#,
                "priority: \"1\" is not a whole number from -100 to 100",
            ),
            (r#"{"op":"sequence","domain":"x","take":"x"}"#, "take: \"x\" is not a whole number from 1 to 4294967295"),
        ];
        for (line, words) in cases {
            assert_eq!(said(line), format!("{words}: see seq-protocol(7)"), "{line}");
        }
        assert!(said(r#"{"op":"status""#).starts_with("the line is not one JSON object: EOF"));
    }

    #[test]
    fn a_request_is_the_same_wherever_its_operation_stands() {
        let fields = r#""domain":"x","request_id":"r","exit_status":0,"priority":1,"unknown":{"op":[1]}"#;
        for operation in ["sequence", "done"] {
            let [first, last] =
                [format!(r#"{{"op":"{operation}",{fields}}}"#), format!(r#"{{{fields},"op":"{operation}"}}"#)];
            assert_eq!(read(first.as_bytes()).unwrap(), read(last.as_bytes()).unwrap());
        }
        assert!(said(r#"{"op":"done","domain":"x","op":"done"}"#).starts_with("op is there more than once"));
    }

    #[test]
    fn a_long_value_is_cut() {
        let line = format!(r#"{{"op":"started","ticket":"{}","pid":1}}"#, "é".repeat(99));
        let words = said(&line);
        assert!(words.starts_with("ticket: \"éé") && words.contains("… is not a whole number from 0: "), "{words}");
        assert!(words.len() < 150, "{words}");
    }
}
