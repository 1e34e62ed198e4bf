//! How far the ticket and token numbers have risen, so that they go on rising after a restart.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::file;
use super::machine::Machine;
use crate::error::{Cure, Error, way_past_limit};
use crate::protocol::{Ticket, Token};

/// Numbers reserved by one write. After an unclean end the rest of the block is skipped.
const BLOCK: u64 = 10_000;

/// The version of the file's format.
const FORMAT: u32 = 1;

/// The high-water mark: no number at or above it was ever given out.
///
/// Writing takes milliseconds, so the next block is reserved in the background while the last one is being used.
#[derive(Debug)]
pub struct Numbers {
    path: PathBuf,
    /// The run of the machine that the file names as long as it is open.
    in_use: Option<String>,
    /// What is on disk.
    mark: Mark,
    /// What will be on disk when this thread has ended.
    writing: Option<(Mark, JoinHandle<io::Result<()>>)>,
}

/// The numbers that come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    ticket: u64,
    token: u64,
}

/// What the file holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    format: u32,
    ticket: u64,
    token: u64,
    /// The run of the machine in which somebody may have a turn, or wait; nothing when nobody does, and in files of
    /// earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_use: Option<String>,
}

impl Numbers {
    /// Whether the file at `path` can be used; nothing is changed.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or does not hold what it should.
    pub fn check(path: &Path) -> Result<(), Error> {
        look(path).map(drop)
    }

    /// Whether somebody may have a turn or wait in this run of the `machine`, by what the file at `path` says, now that
    /// no daemon uses it.
    ///
    /// # Errors
    ///
    /// As [`check`](Numbers::check).
    pub(super) fn may_be_in_use(path: &Path, machine: &Machine) -> Result<bool, Error> {
        Ok(look(path)?.in_use.as_ref() == Some(&machine.boot_id))
    }

    /// Opens the file at `path`, reserves a first block, and says which ticket and token come next. From now on it says
    /// that the numbers are `in_use` in that run of the machine.
    ///
    /// The largest ticket in the database beside it is `last`. A file that is missing, or of an earlier time, says too
    /// little then: the numbers go on above that ticket, a block later, for there may have been others of which nothing
    /// is left. No token was ever larger than the ticket that it was for.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, or does not hold what it should.
    pub fn open(path: &Path, last: Ticket, in_use: Option<String>) -> Result<(Numbers, Ticket, Token), Error> {
        let Content { ticket, token, .. } = look(path)?;
        let mut next = Mark { ticket, token };
        if next.ticket <= last.0 {
            next = Mark { ticket: last.0 + 1, token: next.token.max(last.0 + 1) }.after(BLOCK);
            let path = path.display();
            warn!(
                "{path} is missing or of an earlier time: tickets go on at {}, tokens at {}",
                next.ticket, next.token
            );
        }
        let mark = next.after(BLOCK);
        write(path, mark, in_use.as_deref()).map_err(|error| failed("write", path, &error))?;
        let numbers = Numbers { path: path.to_owned(), in_use, mark, writing: None };
        Ok((numbers, Ticket(next.ticket), Token(next.token)))
    }

    /// Makes sure that all numbers below `ticket` and `token` are reserved; to be called before anybody is told one.
    ///
    /// # Errors
    ///
    /// When the file cannot be written: nothing of this batch may be told. Where there was no room it may be called
    /// again, for then all of the file is written anew.
    pub fn cover(&mut self, ticket: Ticket, token: Token) -> Result<(), Error> {
        let next = Mark { ticket: ticket.0, token: token.0 };
        if next.after(BLOCK / 2).is_covered_by(self.mark) {
            return Ok(());
        }
        if let Some((mark, thread)) =
            self.writing.take_if(|(_, thread)| thread.is_finished() || !next.is_covered_by(self.mark))
        {
            self.finish(mark, thread)?;
        }
        if !next.is_covered_by(self.mark) {
            let mark = next.after(BLOCK);
            self.write(mark)?;
            self.mark = mark;
        }
        if self.writing.is_none() && !next.after(BLOCK / 2).is_covered_by(self.mark) {
            let (mark, path, in_use) = (next.after(BLOCK), self.path.clone(), self.in_use.clone());
            self.writing = Some((mark, std::thread::spawn(move || write(&path, mark, in_use.as_deref()))));
        }
        Ok(())
    }

    /// Writes the file again, after somebody removed it.
    ///
    /// # Errors
    ///
    /// As [`cover`](Numbers::cover).
    pub fn put_back(&mut self) -> Result<(), Error> {
        if let Some((mark, thread)) = self.writing.take() {
            self.finish(mark, thread)?;
        }
        self.write(self.mark)
    }

    /// Gives the unused numbers back: the next daemon starts with `ticket` and `token`. If the daemon `is_idle` nobody
    /// has a turn or waits.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the rest of the block is skipped then.
    pub fn close(mut self, ticket: Ticket, token: Token, is_idle: bool) -> Result<(), Error> {
        if let Some((mark, thread)) = self.writing.take() {
            self.finish(mark, thread)?;
        }
        if is_idle {
            self.in_use = None;
        }
        self.write(Mark { ticket: ticket.0, token: token.0 })
    }

    fn write(&self, mark: Mark) -> Result<(), Error> {
        write(&self.path, mark, self.in_use.as_deref()).map_err(|error| failed("write", &self.path, &error))
    }

    fn finish(&mut self, mark: Mark, thread: JoinHandle<io::Result<()>>) -> Result<(), Error> {
        let written = thread.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")));
        written.map_err(|error| failed("write", &self.path, &error))?;
        self.mark = mark;
        Ok(())
    }
}

impl Mark {
    fn after(self, count: u64) -> Mark {
        Mark { ticket: self.ticket.saturating_add(count), token: self.token.saturating_add(count) }
    }

    fn is_covered_by(self, mark: Mark) -> bool {
        self.ticket <= mark.ticket && self.token <= mark.token
    }
}

/// What comes next by the file at `path`.
fn look(path: &Path) -> Result<Content, Error> {
    match file::read(path).map_err(|error| failed("read", path, &error))? {
        None => Ok(Content { format: FORMAT, ticket: 1, token: 1, in_use: None }),
        Some(content) => parse(&content).map_err(|reason| damaged(path, &reason)),
    }
}

fn write(path: &Path, mark: Mark, in_use: Option<&str>) -> io::Result<()> {
    let Mark { ticket, token } = mark;
    let mut content =
        serde_json::to_vec(&Content { format: FORMAT, ticket, token, in_use: in_use.map(str::to_owned) })?;
    content.push(b'\n');
    file::replace(path, &content)
}

fn parse(content: &[u8]) -> Result<Content, String> {
    let mark: Content = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    if mark.format != FORMAT {
        return Err(format!("format {} is not {FORMAT}, the one that this version knows", mark.format));
    }
    if mark.ticket == 0 || mark.token == 0 {
        return Err("numbers start at 1".to_owned());
    }
    Ok(mark)
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let directory = path.parent().unwrap_or(path).display();
    let (cure, way_out) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (Cure::Write, format!("make room in {directory}")),
        _ => {
            let make_writable = || format!("make {directory} and the files in it readable and writable");
            (Cure::Unknown, way_past_limit(error).map_or_else(make_writable, str::to_owned))
        }
    };
    Error::failure(format_args!("cannot {what} the number file {}: {error}: {way_out}", path.display())).with_cure(cure)
}

fn damaged(path: &Path, reason: &str) -> Error {
    let path = path.display();
    Error::failure(format_args!(
        "the number file {path} is damaged ({reason}): restore it, or move it away: the numbers go on above those in the database"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> (Numbers, u64, u64) {
        let (numbers, ticket, token) = Numbers::open(path, Ticket(0), None).unwrap();
        (numbers, ticket.0, token.0)
    }

    #[test]
    fn numbers_go_on_exactly_after_a_clean_end_and_skip_a_block_after_an_unclean_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers");
        let (numbers, ticket, token) = open(&path);
        assert_eq!((ticket, token), (1, 1));
        numbers.close(Ticket(7), Token(5), true).unwrap();

        let (numbers, ticket, token) = open(&path);
        assert_eq!((ticket, token), (7, 5));
        drop(numbers);

        let (_, ticket, token) = open(&path);
        assert_eq!((ticket, token), (10_007, 10_005));
    }

    #[test]
    fn beside_a_database_that_has_larger_tickets_the_numbers_go_on_above_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers");
        let open_above = |last| {
            let (_, ticket, token) = Numbers::open(&path, Ticket(last), None).unwrap();
            (ticket.0, token.0)
        };
        assert_eq!(open_above(12), (10_013, 10_013));
        write(&path, Mark { ticket: 12, token: 9 }, None).unwrap();
        assert_eq!(open_above(12), (10_013, 10_013));
        write(&path, Mark { ticket: 13, token: 9 }, None).unwrap();
        assert_eq!(open_above(12), (13, 9));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(open_above(0), (1, 1));
    }

    #[test]
    fn a_number_is_on_disk_as_used_before_anybody_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers");
        let (mut numbers, ..) = open(&path);
        for next in (1..200_000).step_by(997).chain([10_000_000]) {
            numbers.cover(Ticket(next), Token(next / 2 + 1)).unwrap();
            let on_disk = parse(&std::fs::read(&path).unwrap()).unwrap();
            assert!(on_disk.ticket >= next, "{next}: {on_disk:?}");
        }
    }

    #[test]
    fn it_is_in_use_until_it_is_closed_with_nothing_to_keep_or_the_machine_starts_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers");
        let in_use = |boot_id: &str| {
            let machine = Machine { boot_id: boot_id.to_owned(), host: String::new(), host_name: String::new() };
            Numbers::may_be_in_use(&path, &machine).unwrap()
        };
        let open = || Numbers::open(&path, Ticket(0), Some("boot".to_owned())).unwrap();
        assert!(!in_use("boot"));
        let (mut numbers, ..) = open();
        assert!(in_use("boot") && !in_use("another"));
        numbers.cover(Ticket(1_000_000), Token(1)).unwrap();
        assert!(in_use("boot"));
        numbers.close(Ticket(7), Token(7), false).unwrap();
        assert!(in_use("boot"));
        let (numbers, ticket, token) = open();
        assert_eq!((ticket, token), (Ticket(7), Token(7)));
        numbers.close(ticket, token, true).unwrap();
        assert!(!in_use("boot"));
    }

    #[test]
    fn a_damaged_file_is_refused_with_its_name_and_the_way_out_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers");
        let whole = br#"{"format":1,"ticket":12,"token":9}"#;
        let cut_short = (0..whole.len()).map(|length| &whole[..length]);
        for content in
            cut_short.chain([&br#"{"format":2,"ticket":1,"token":1}"#[..], br#"{"format":1,"ticket":0,"token":1}"#])
        {
            std::fs::write(&path, content).unwrap();
            let error = Numbers::open(&path, Ticket(0), None).unwrap_err().to_string();
            assert!(error.starts_with(&format!("the number file {} is damaged (", path.display())), "{error}");
            assert!(
                error.ends_with("restore it, or move it away: the numbers go on above those in the database"),
                "{error}"
            );
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
    }
}
