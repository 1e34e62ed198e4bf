//! Notes of clients about turns whose end they could not tell: there was no daemon to hear it, or no room to write.
//!
//! A note is a symbolic link that leads nowhere: its name is the ticket, and where its target would be stands what there
//! is to say. It is there all at once, and it needs no block of the disk, so that one can be left where all is full.
//! Earlier versions left files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, readlinkat};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::protocol::Ticket;

/// Bytes of a file that is a note, at most.
const NOTE_BYTES_MAX: u64 = 4_096;

/// Notes that one start of a daemon takes, at most. The rest is for the next.
const NOTES_MAX: usize = 10_000;

/// Things that are no notes, of which the log has a line each.
const STRANGE_SAID_MAX: usize = 10;

/// What a client has to say.
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

impl DoneNote {
    /// Leaves it in a folder, in the place of an earlier one about the same ticket.
    ///
    /// # Errors
    ///
    /// When the system does not let it.
    pub fn leave(&self, folder: &Path) -> io::Result<()> {
        let status = self.exit_status.map_or("-".to_owned(), |status| status.to_string());
        let path = folder.join(self.ticket.to_string());
        // In a shared folder another user's cannot be removed.
        _ = fs::remove_file(&path);
        symlink(format!("{status} {} {}", self.ended_at_ms, self.secret), path)
    }

    /// What the link at `path` says; nothing when it is none of these.
    fn of_link(path: &Path, target: &str) -> Option<DoneNote> {
        let ticket = path.file_name()?.to_str()?.parse().ok()?;
        let (status, rest) = target.split_once(' ')?;
        let (ended_at, secret) = rest.split_once(' ')?;
        let exit_status = if status == "-" { None } else { Some(status.parse().ok()?) };
        Some(DoneNote { ticket, secret: secret.to_owned(), exit_status, ended_at_ms: ended_at.parse().ok()? })
    }
}

/// A note, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundNote {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is.
    pub uid: u32,
    /// What it says.
    pub note: DoneNote,
}

/// The notes in a folder; no folder means no notes. What is no note is removed where that can be, for in a shared folder
/// others may put what they like, and what stays there would be looked at again and again.
pub fn read_notes(folder: &Path) -> Vec<FoundNote> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            warn!("cannot read {}: {error}", folder.display());
            return Vec::new();
        }
    };
    let is_mine = is_own_folder(folder);
    let (mut notes, mut strange) = (Vec::new(), 0);
    for path in entries.flatten().map(|entry| entry.path()) {
        match read_note(&path) {
            Ok(note) => notes.push(note),
            Err(why) => {
                strange += 1;
                if strange <= STRANGE_SAID_MAX {
                    warn!("{} is no note ({why}): let go of it", path.display());
                }
                // What the system cannot read now may be a note.
                let is_strange = why.raw_os_error().is_none() || why.kind() == io::ErrorKind::PermissionDenied;
                if is_mine && is_strange {
                    remove_strange(&path);
                }
            }
        }
        if notes.len() >= NOTES_MAX {
            break;
        }
    }
    if strange > STRANGE_SAID_MAX {
        warn!("{} has {strange} entries that are no notes", folder.display());
    }
    notes
}

/// Whether what is in it may be removed: it is a directory of this user, and not what a link leads to.
fn is_own_folder(folder: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir() && found.uid() == me)
}

/// A directory with something in it stays.
fn remove_strange(path: &Path) {
    if fs::remove_file(path).is_err() {
        _ = fs::remove_dir(path);
    }
}

/// The note about one ticket in a folder, if it is there and can be read.
pub fn find_note(folder: &Path, ticket: Ticket) -> Option<FoundNote> {
    read_note(&folder.join(ticket.to_string())).ok()
}

fn read_note(path: &Path) -> io::Result<FoundNote> {
    // What is looked at is one and the same all the time, whoever puts another in its place.
    let entry = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = fstat(&entry)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Symlink {
        return read_file(path);
    }
    let target = readlinkat(&entry, "", Vec::new())?;
    let note = target.to_str().ok().and_then(|target| DoneNote::of_link(path, target));
    let note = note.ok_or_else(|| io::Error::other("it is a link that says nothing"))?;
    Ok(FoundNote { path: path.to_owned(), uid: found.st_uid, note })
}

fn read_file(path: &Path) -> io::Result<FoundNote> {
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
        symlink(at("5"), at("6")).unwrap();
        fs::write(at("7"), vec![b' '; 5_000]).unwrap();
        fs::create_dir(at("8")).unwrap();
        // Whoever opened this to read would wait for a writer.
        rustix::fs::mknodat(rustix::fs::CWD, at("9"), FileType::Fifo, 0o600.into(), 0).unwrap();
        fs::write(at("no number"), "").unwrap();
        fs::create_dir(at("10")).unwrap();
        fs::write(at("10/full"), "").unwrap();
        let found: Vec<_> = read_notes(folder.path()).into_iter().map(|found| found.note).collect();
        assert_eq!(found, [note]);
        assert_eq!(names(folder.path()), ["10", "5"]);
    }

    #[test]
    fn however_much_there_is_that_is_no_note_the_notes_are_found() {
        let folder = tempfile::tempdir().unwrap();
        for junk in 100_000..=100_000 + NOTES_MAX {
            symlink("nothing", folder.path().join(junk.to_string())).unwrap();
        }
        let note = DoneNote { ticket: 5, secret: "s".to_owned(), exit_status: Some(7), ended_at_ms: 1 };
        note.leave(folder.path()).unwrap();
        assert_eq!(read_notes(folder.path()).len(), 1);
        assert_eq!(names(folder.path()), ["5"]);
    }

    #[test]
    fn nothing_is_removed_where_a_link_leads() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(other.path().join("file"), "").unwrap();
        let link = folder.path().join("done");
        symlink(other.path(), &link).unwrap();
        assert!(read_notes(&link).is_empty());
        assert_eq!(names(other.path()), ["file"]);
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_note_is_read_as_it_was_left_and_takes_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let secret = "f".repeat(32);
        for exit_status in [None, Some(0), Some(255)] {
            let earlier = DoneNote { ticket: 5, secret: String::new(), exit_status, ended_at_ms: -1 };
            earlier.leave(folder.path()).unwrap();
            let note = DoneNote { secret: secret.clone(), ended_at_ms: 1_800_000_000_000, ..earlier };
            note.leave(folder.path()).unwrap();
            let me = rustix::process::getuid().as_raw();
            let path = folder.path().join("5");
            // What is longer than this is kept in a block of its own by some file systems (ext4: 60 bytes).
            assert!(fs::read_link(&path).unwrap().as_os_str().len() < 60);
            assert_eq!(fs::symlink_metadata(&path).unwrap().blocks(), 0);
            let found = FoundNote { path, uid: me, note };
            assert_eq!(find_note(folder.path(), Ticket(5)).as_ref(), Some(&found));
            assert_eq!(read_notes(folder.path()), [found]);
        }
    }

    #[test]
    fn a_link_that_says_something_else_is_no_note() {
        let folder = tempfile::tempdir().unwrap();
        for (name, target) in [("6", "7 1"), ("7", "x 1 s"), ("8", "7 x s"), ("99999999999999999999", "7 1 s")] {
            symlink(target, folder.path().join(name)).unwrap();
        }
        assert!(read_notes(folder.path()).is_empty());
    }
}
