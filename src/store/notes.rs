//! Notes of clients about turns whose end they could not tell: there was no daemon to hear it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
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
    // Other users may put into the folder what they like.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = Vec::new();
    file.take(NOTE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > NOTE_BYTES_MAX {
        return Err(io::Error::other("it is too large"));
    }
    let note = serde_json::from_slice(&text)?;
    Ok(FoundNote { path: path.to_owned(), uid: found.uid(), note })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_its_own_is_no_note() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let note = DoneNote { ticket: 5, secret: "s".to_owned(), exit_status: Some(7), ended_at_ms: 1 };
        fs::write(at("5"), serde_json::to_vec(&note).unwrap()).unwrap();
        std::os::unix::fs::symlink(at("5"), at("6")).unwrap();
        fs::write(at("7"), vec![b' '; 5_000]).unwrap();
        fs::create_dir(at("8")).unwrap();
        // Whoever opened this to read would wait for a writer.
        rustix::fs::mknodat(rustix::fs::CWD, at("9"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let found: Vec<_> = read_notes(folder.path()).into_iter().map(|found| found.note).collect();
        assert_eq!(found, [note]);
    }
}
