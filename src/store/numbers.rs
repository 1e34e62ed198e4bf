//! How far the ticket and token numbers have risen, so that they go on rising after a restart.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::warn;

use super::digest::first_eight;
use super::file;
use super::machine::Machine;
use super::problem::Problem;
use crate::error::{Cure, Error, way_past_limit};
use crate::protocol::{Ticket, Token};

/// Numbers reserved by one write. After an unclean end the rest of the block is skipped.
const BLOCK: u64 = 10_000;

/// The version of the file's format.
const FORMAT: u32 = 1;

/// What comes between all that the file says and the check sum of that, in hexadecimal digits. Files of earlier versions
/// have none, and no number of starts.
const SUM: &str = r#","sum":""#;

/// The high-water mark: no number at or above it was ever given out.
///
/// Writing takes milliseconds, so the next block is reserved in the background while the last one is being used.
#[derive(Debug)]
pub struct Numbers {
    path: PathBuf,
    /// The run of the machine that the file names as long as it is open.
    in_use: Option<String>,
    /// See [`Known::starts`].
    starts: u64,
    /// What is on disk.
    mark: Mark,
    /// What will be on disk when this thread has ended.
    writing: Option<(Mark, JoinHandle<io::Result<()>>)>,
}

/// What is known of the numbers without the file: from the database and its mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// No ticket at or above this one is in the database, or was given out by the word of its mark.
    pub ticket: u64,
    /// The same of tokens, by the word of the mark alone.
    pub token: u64,
    /// How often a daemon started with this database, or one that was beside these numbers. A smaller number in the mark
    /// than in the file shows a copy of an earlier time.
    pub starts: u64,
}

/// The numbers that come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    ticket: u64,
    token: u64,
}

/// What the file holds, but for its check sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    format: u32,
    ticket: u64,
    token: u64,
    /// The run of the machine in which somebody may have a turn, or wait; nothing when nobody does, and in files of
    /// earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_use: Option<String>,
    /// See [`Known::starts`].
    #[serde(default)]
    starts: u64,
}

/// Why a file is not believed.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Damaged(String),
    /// A later version wrote it, in this format.
    Newer(u32),
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

    /// How often a daemon had started when the file at `path` was written, see [`Known::starts`].
    ///
    /// # Errors
    ///
    /// As [`check`](Numbers::check).
    pub(super) fn starts(path: &Path) -> Result<u64, Error> {
        Ok(look(path)?.starts)
    }

    /// Opens the file at `path`, reserves a first block, and says which ticket and token come next. From now on it says
    /// that the numbers are `in_use` in that run of the machine.
    ///
    /// A file that is missing, or of an earlier time, says less than what is `known` beside it: the numbers go on above
    /// both, a block later, for there may have been others of which nothing is left. No token was ever larger than the
    /// ticket that it was for.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, or does not hold what it should.
    pub fn open(path: &Path, known: Known, in_use: Option<String>) -> Result<(Numbers, Ticket, Token), Error> {
        let Content { ticket, token, starts, .. } = look(path)?;
        let mut next = Mark { ticket, token };
        if ticket < known.ticket || token < known.token {
            let ticket = ticket.max(known.ticket);
            next = Mark { ticket, token: token.max(known.token).max(ticket) }.after(BLOCK);
            let path = path.display();
            warn!(
                "{path} is missing or of an earlier time: tickets go on at {}, tokens at {}",
                next.ticket, next.token
            );
        }
        let mark = next.after(BLOCK);
        let starts = starts.max(known.starts);
        let numbers = Numbers { path: path.to_owned(), in_use, starts, mark, writing: None };
        numbers.write(mark)?;
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
            let (mark, path) = (next.after(BLOCK), self.path.clone());
            let content = self.content(mark);
            // Where there can be no thread at present, there may be one before the block is used up.
            let thread = std::thread::Builder::new().spawn(move || write(&path, &content));
            self.writing = thread.ok().map(|thread| (mark, thread));
        }
        Ok(())
    }

    /// Whether the file is there; somebody may have removed it.
    pub fn is_in_place(&self) -> bool {
        self.path.exists()
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
        write(&self.path, &self.content(mark)).map_err(|error| failed("write", &self.path, &error))
    }

    fn content(&self, Mark { ticket, token }: Mark) -> Content {
        Content { format: FORMAT, ticket, token, in_use: self.in_use.clone(), starts: self.starts }
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
        None => Ok(Content { format: FORMAT, ticket: 1, token: 1, in_use: None, starts: 0 }),
        Some(content) => parse(&content).map_err(|wrong| match wrong {
            Wrong::Damaged(reason) => Problem::damaged_numbers(path, &reason),
            Wrong::Newer(format) => Problem::newer_numbers(path, format, FORMAT),
        }),
    }
}

fn write(path: &Path, content: &Content) -> io::Result<()> {
    let said = serde_json::to_string(content)?;
    let said = said.strip_suffix('}').unwrap_or(&said);
    file::replace(path, format!("{said}{SUM}{}", end_of(said)).as_bytes())
}

/// The check sum of all that comes before it, and what closes the file.
fn end_of(said: &str) -> String {
    format!("{:016x}\"}}\n", u64::from_be_bytes(first_eight(Sha256::new_with_prefix(said))))
}

fn parse(content: &[u8]) -> Result<Content, Wrong> {
    let damaged = |reason: &str| Wrong::Damaged(reason.to_owned());
    let mark: Content = serde_json::from_slice(content).map_err(|error| damaged(&error.to_string()))?;
    if mark.format > FORMAT {
        return Err(Wrong::Newer(mark.format));
    }
    let text = str::from_utf8(content).map_err(|error| damaged(&error.to_string()))?;
    let is_right = match text.split_once(SUM) {
        Some((said, end)) => end == end_of(said),
        None => mark.starts == 0,
    };
    if !is_right {
        return Err(damaged("it has a wrong check sum"));
    }
    if mark.format != FORMAT || mark.ticket == 0 || mark.token == 0 {
        return Err(damaged("formats and numbers start at 1"));
    }
    Ok(mark)
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let directory = path.parent().unwrap_or(path).display();
    let (cure, way_out) = match error.kind() {
        io::ErrorKind::IsADirectory => (
            Cure::Unknown,
            "a directory is in its place: move that away, and restore the file that was there as it was last"
                .to_owned(),
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (Cure::Write, format!("make room in {directory}")),
        _ => {
            let make_writable = || format!("make {directory} and the files in it readable and writable");
            (Cure::Unknown, way_past_limit(error).map_or_else(make_writable, str::to_owned))
        }
    };
    Error::failure(format_args!("cannot {what} the number file {}: {error}: {way_out}", path.display())).with_cure(cure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> (Numbers, u64, u64) {
        let (numbers, ticket, token) = Numbers::open(path, Known::default(), None).unwrap();
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
        let open_above = |last: u64| {
            let (_, ticket, token) =
                Numbers::open(&path, Known { ticket: last + 1, ..Known::default() }, None).unwrap();
            (ticket.0, token.0)
        };
        let put = |content: &str| std::fs::write(&path, content).unwrap();
        assert_eq!(open_above(12), (10_013, 10_013));
        put(r#"{"format":1,"ticket":12,"token":9}"#);
        assert_eq!(open_above(12), (10_013, 10_013));
        put(r#"{"format":1,"ticket":13,"token":9}"#);
        assert_eq!(open_above(12), (13, 9));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(open_above(0), (1, 1));
    }

    #[test]
    fn beside_a_mark_that_knows_larger_numbers_they_go_on_above_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers");
        let known = Known { ticket: 50, token: 40, starts: 3 };
        let open = || Numbers::open(&path, known, None).unwrap();
        let (numbers, ticket, token) = open();
        assert_eq!((ticket, token), (Ticket(10_050), Token(10_050)), "it is missing");
        numbers.close(Ticket(50), Token(40), true).unwrap();
        assert_eq!(Numbers::starts(&path).unwrap(), 3);
        let (numbers, ticket, token) = open();
        assert_eq!((ticket, token), (Ticket(50), Token(40)), "nothing is missing");
        numbers.close(Ticket(50), Token(39), true).unwrap();
        assert_eq!(open().2, Token(10_050), "a token is");
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
        let open = || Numbers::open(&path, Known::default(), Some("boot".to_owned())).unwrap();
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
        let refusal = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            let error = Numbers::open(&path, Known::default(), None).err().map(|error| error.to_string());
            assert!(error.is_none() || std::fs::read(&path).unwrap() == content);
            error
        };
        let is_damaged = |content: &[u8]| {
            let error = refusal(content).unwrap();
            assert!(error.starts_with(&format!("the number file {} is damaged (", path.display())), "{error}");
            let way_out = "or move it away: the numbers go on above those in seq.db and seq.mark beside it";
            assert!(error.ends_with(way_out), "{error}");
        };
        let of_before = br#"{"format":1,"ticket":12,"token":9}"#;
        (0..of_before.len()).for_each(|length| is_damaged(&of_before[..length]));
        is_damaged(br#"{"format":1,"ticket":0,"token":1}"#);
        is_damaged(br#"{"format":1,"ticket":1,"token":1,"starts":1}"#);
        assert_eq!(refusal(of_before), None);
        assert_eq!(
            refusal(br#"{"format":2,"numbers":{},"ticket":1,"token":1}"#),
            Some(format!(
                "the number file {} has format 2, and this seqd knows formats up to 1: use the newer seq, or move it \
                 away: the numbers go on above those in seq.db and seq.mark beside it",
                path.display()
            ))
        );
    }

    #[test]
    fn each_bit_of_the_file_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers");
        let known = Known { starts: 9, ..Known::default() };
        let (numbers, ..) = Numbers::open(&path, known, Some("boot".to_owned())).unwrap();
        numbers.close(Ticket(40_001), Token(40_001), false).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let expected = parse(&whole).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = parse(&damaged);
            assert!(read.as_ref().is_err() || read == Ok(expected.clone()), "bit {bit}: {read:?}");
        }
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "cut at {length}");
        }
    }
}
