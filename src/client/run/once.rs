//! A command that is to run once: what is asked for, and what is said and given back where it has run already.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::cli::{Once, Run};
use crate::clock::{milliseconds_at_least, show_duration};
use crate::error::{Error, status};
use crate::protocol::limits::KEY_OUTPUT_BYTES_MAX;
use crate::protocol::{Fingerprint, KeyDone, KeyWish, Stream};
use crate::words;

/// What is to be done once, if that is wanted.
///
/// # Errors
///
/// When the file that tells the command from others cannot be read.
pub(super) fn key_wish(args: &Run) -> Result<Option<KeyWish>, Error> {
    let Once { key, key_ttl, keep_failures, fingerprint: _, fingerprint_file: _, replay, retry_unknown } = &args.once;
    let Some(name) = key.clone() else { return Ok(None) };
    Ok(Some(KeyWish {
        name,
        fingerprint: Some(fingerprint(args)?),
        ttl_ms: key_ttl.map(milliseconds_at_least),
        keep_failures: *keep_failures,
        retry_unknown: *retry_unknown,
        replay: *replay,
        follows: None,
    }))
}

fn fingerprint(args: &Run) -> Result<Fingerprint, Error> {
    if let Some(text) = &args.once.fingerprint {
        return Ok(Fingerprint::of([text.as_bytes()]));
    }
    let Some(path) = &args.once.fingerprint_file else {
        return Ok(Fingerprint::of(args.command.iter().map(|argument| argument.as_bytes())));
    };
    let content = std::fs::read(path).map_err(|error| {
        Error::failure(format_args!("cannot read {}: {error}: name a file that tells what is run", path.display()))
    })?;
    Ok(Fingerprint::of([&content[..]]))
}

/// The command has run already: says so if that `is_told`, writes what it wrote if that is there and wanted, and gives its
/// status.
///
/// # Errors
///
/// When standard output cannot be written.
pub(super) fn give_back(args: &Run, done: &KeyDone, is_told: bool) -> Result<u8, Error> {
    if args.once.replay
        && let Some(output) = &done.output
    {
        for part in &output.parts {
            let bytes = part.bytes().unwrap_or_default();
            match part.stream {
                Stream::Stdout => io::stdout().write_all(&bytes).map_err(|error| Error::output(&error))?,
                // A standard error that is gone is no reason not to go on.
                Stream::Stderr => _ = io::stderr().write_all(&bytes),
            }
        }
        io::stdout().flush().map_err(|error| Error::output(&error))?;
    }
    if is_told {
        words::say("seq", format_args!("{}: {}{}", done.domain, what(done), about_output(args, done)));
    }
    Ok(u8::try_from(done.exit_status).unwrap_or(status::FAILURE))
}

fn what(done: &KeyDone) -> String {
    let KeyDone { exit_status, ticket, .. } = done;
    if done.followed {
        return format!("done by ticket {ticket}, status {exit_status}");
    }
    let ago = show_duration(Duration::from_millis(done.ended_ago_ms));
    format!("already done {ago} ago, status {exit_status}")
}

/// Whether something is missing of what is to be written again.
pub(super) fn is_output_missing(args: &Run, done: &KeyDone) -> bool {
    !about_output(args, done).is_empty()
}

/// What is missing of what is to be written again.
fn about_output(args: &Run, done: &KeyDone) -> String {
    match &done.output {
        None if args.once.replay => "; what it wrote was not recorded".to_owned(),
        Some(output) if output.truncated && args.once.replay => {
            format!("; of what it wrote only the first {} KiB were recorded", KEY_OUTPUT_BYTES_MAX / 1024)
        }
        _ => String::new(),
    }
}
