//! The turns that outlive a daemon that left: what the next one must wait for.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file;
use crate::error::Error;
use crate::sequencer::Restored;

/// The version of the file's format.
const FORMAT: u32 = 1;

/// One turn that was still taken when its daemon left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldTurn {
    /// The turn, as the sequencer knew it.
    pub turn: Restored,
    /// The processes that keep it: its wrapper, its command, or the one it is bound to.
    pub processes: Vec<ProcessIdentity>,
    /// The inode of the pipe that keeps it.
    pub pipe: Option<u64>,
}

/// Who a process is, for as long as the machine is up. A pid alone proves nothing: it may be another's by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its number.
    pub pid: u32,
    /// The inode of its pidfd, never used twice (Linux 6.9 and later).
    pub inode: Option<u64>,
    /// When it started, in ticks since boot (field 22 of `/proc/PID/stat`, `proc(5)`): what there is before 6.9.
    pub started: Option<u64>,
}

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    format: u32,
    boot_id: String,
    turns: Vec<HeldTurn>,
}

/// Writes down the turns that outlive this daemon; no file means that there are none.
///
/// # Errors
///
/// When the file cannot be written.
pub fn save_turns(path: &Path, boot_id: &str, turns: Vec<HeldTurn>) -> Result<(), Error> {
    if turns.is_empty() {
        return forget_turns(path);
    }
    let content = Content { format: FORMAT, boot_id: boot_id.to_owned(), turns };
    let written = serde_json::to_vec_pretty(&content).map_err(io::Error::from);
    written.and_then(|bytes| file::replace(path, &bytes)).map_err(|error| failed("write", path, &error))
}

/// The turns that an earlier daemon left, none if the machine has been restarted since: a restart ends every command.
///
/// # Errors
///
/// When the file is there and cannot be read, or does not hold what it should.
pub fn load_turns(path: &Path, boot_id: &str) -> Result<Vec<HeldTurn>, Error> {
    let Some(bytes) = file::read(path).map_err(|error| failed("read", path, &error))? else {
        return Ok(Vec::new());
    };
    let content: Content = serde_json::from_slice(&bytes).map_err(|error| damaged(path, &error.to_string()))?;
    if content.format != FORMAT {
        let reason = format!("format {} is not {FORMAT}, the one that this version knows", content.format);
        return Err(damaged(path, &reason));
    }
    Ok(if content.boot_id == boot_id { content.turns } else { Vec::new() })
}

/// Forgets what was written down, once this daemon keeps it.
///
/// # Errors
///
/// When the file is there and cannot be removed.
pub fn forget_turns(path: &Path) -> Result<(), Error> {
    match file::remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, &error)),
        _ => Ok(()),
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::failure(format_args!("cannot {what} the file of held turns {}: {error}", path.display()))
}

fn damaged(path: &Path, reason: &str) -> Error {
    let path = path.display();
    Error::failure(format_args!(
        "the file of held turns {path} is damaged ({reason}): move it away once no command runs under seq"
    ))
}
