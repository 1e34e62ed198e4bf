//! Handing over to the `seq` of coreutils: the next one on `PATH`.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Access, access};

use crate::error::{Error, status};
use crate::sys::hand_sigpipe_on;

use super::streams::keep_closed;

/// Says which entry of `PATH` was handed over to last, counted from 1. Should that be a copy of this program, or a
/// script that calls it, it goes on behind that entry, so that a chain of them comes to its end.
const TRIED_VARIABLE: &str = "SEQ_HANDOVER";

/// The name looked for, and the one to be called by.
const NAME: &str = "seq";

/// Where to look when `PATH` is not set, as the shells do.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// Becomes the next `seq` on `PATH`, with the same arguments; returns only when there is none.
pub fn hand_over(arguments: &[OsString]) -> Error {
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into());
    let tried = std::env::var(TRIED_VARIABLE).ok().and_then(|tried| tried.parse().ok()).unwrap_or(0);
    let ourselves = std::fs::metadata("/proc/self/exe").ok();
    let mut refused = None;
    for (number, directory) in std::env::split_paths(&path).enumerate().skip(tried) {
        // An empty entry is the current directory (POSIX.1-2017, 8.3).
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
        let candidate = directory.join(NAME);
        if is_another_program(&candidate, ourselves.as_ref()) {
            let error = match access(&candidate, Access::EXEC_OK) {
                Ok(()) => become_program(&candidate, number + 1, arguments),
                Err(errno) => errno.into(),
            };
            refused = Some((candidate, error));
        }
    }
    match refused {
        Some((candidate, error)) => Error::new(
            status::CANNOT_EXECUTE,
            format_args!("cannot execute {}, which prints numbers: {error}", candidate.display()),
        ),
        None => Error::new(
            status::NOT_FOUND,
            "these arguments are for the seq that prints numbers, and PATH has no such seq: \
             install coreutils, or see 'seq --help' for this one",
        ),
    }
}

/// Whether a file is there, and not this very program by another name or link.
fn is_another_program(candidate: &Path, ourselves: Option<&Metadata>) -> bool {
    let Ok(found) = std::fs::metadata(candidate) else { return false };
    let same = |ourselves: &Metadata| (ourselves.dev(), ourselves.ino()) == (found.dev(), found.ino());
    found.is_file() && !ourselves.is_some_and(same)
}

fn become_program(candidate: &PathBuf, number: usize, arguments: &[OsString]) -> io::Error {
    keep_closed();
    let mut command = Command::new(candidate);
    hand_sigpipe_on(&mut command);
    command.arg0(called_by(arguments)).args(arguments.iter().skip(1));
    command.env(TRIED_VARIABLE, number.to_string()).exec()
}

/// The name to be called by: the one that this program was called by, for messages must be the same; but the plain one
/// if it was called by another, for programs that are many in one go by it.
fn called_by(arguments: &[OsString]) -> &OsStr {
    let typed = arguments.first().map_or(OsStr::new(NAME), OsString::as_os_str);
    let name = typed.as_bytes().rsplit(|byte| *byte == b'/').next();
    if name == Some(NAME.as_bytes()) { typed } else { OsStr::new(NAME) }
}
