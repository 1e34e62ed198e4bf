//! Notes of clients about turns whose end they could not tell: there was no daemon to hear it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::protocol::Ticket;

/// Bytes of a note, at most.
const NOTE_BYTES_MAX: u64 = 4_096;

/// Notes that one start of a daemon takes, at most. The rest is for the next.
const NOTES_MAX: usize = 10_000;

/// One file, named by its ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneNote {
    /// The ticket.
    pub ticket: u64,
    /// What proves that it is the client's own.
    pub secret: String,
    /// The command's exit status, as in `done`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// When its command ended, in milliseconds since 1970.
    pub ended_at_ms: i64,
}

/// A note, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundNote {
    /// Its file.
    pub path: PathBuf,
    /// Whose file it is.
    pub uid: u32,
    /// What it says.
    pub note: DoneNote,
}

/// The notes in a folder. One that cannot be read is left where it is, and logged; no folder means no notes.
pub fn read_notes(folder: &Path) -> Vec<FoundNote> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            warn!("cannot read {}: {error}", folder.display());
            return Vec::new();
        }
    };
    // A name with a dot is a file that is being written.
    let is_note =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
    let paths = entries.flatten().map(|entry| entry.path()).filter(is_note).take(NOTES_MAX);
    paths
        .filter_map(|path| read_note(&path).inspect_err(|why| warn!("cannot use {}: {why}", path.display())).ok())
        .collect()
}

/// The note about one ticket in a folder, if it is there and can be read.
pub fn find_note(folder: &Path, ticket: Ticket) -> Option<FoundNote> {
    read_note(&folder.join(ticket.to_string())).ok()
}

fn read_note(path: &Path) -> io::Result<FoundNote> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_file() || found.len() > NOTE_BYTES_MAX {
        return Err(io::Error::other("it is not a small file"));
    }
    let note = serde_json::from_slice(&fs::read(path)?)?;
    Ok(FoundNote { path: path.to_owned(), uid: found.uid(), note })
}
