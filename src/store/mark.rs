//! A word beside the database about what it and the journal hold: it shows a lost tail, or a lost row.
//!
//! A file that is mapped into memory costs no system call for each commit, and outlives the process as well as a
//! written one does. Across a restart of the machine it says nothing, and nothing lives then.

use std::fs::{File, OpenOptions};
use std::io;
use std::iter::Sum;
use std::ops::Add;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::digest::first_eight;
use super::file;
use super::journal;
use super::numbers::Known;
use crate::protocol::Ticket;
use crate::sys::Words;

/// Where the words are: which run of the machine, what the database held last, what the next commit makes of it, how
/// long the history is, plus one, whether the last to use it closed it, a ticket below which none lives, whether the
/// database was just being turned over to this run of the machine, the journal's number, its length in bytes, the version
/// of all this, which is stored last, whether the database was just taking the journal in, the ticket and the token that
/// come next, and how often a daemon started. Each is sealed but the two summaries, which are checked by what is found.
const BOOT: usize = 0;
const SETTLED: usize = 1;
const ANNOUNCED: usize = 3;
const HISTORY: usize = 5;
const CLOSED: usize = 6;
const OLDEST: usize = 7;
const TURNING: usize = 8;
const NUMBER: usize = 9;
const LENGTH: usize = 10;
const FORMAT: usize = 11;
const TAKING: usize = 12;
const TICKET: usize = 13;
const TOKEN: usize = 14;
const STARTS: usize = 15;
/// Where the journal begins.
const JOURNAL: usize = 16;
const WORDS: usize = JOURNAL + journal::WORDS;

const SEALED: [usize; 12] =
    [BOOT, HISTORY, CLOSED, OLDEST, TURNING, NUMBER, LENGTH, FORMAT, TAKING, TICKET, TOKEN, STARTS];

/// The version of the words; none in a file whose words have no seals.
const SEALED_FORMAT: u64 = 3;

/// The first version that says whether the database was taking the journal in.
const TAKING_FORMAT: u64 = 2;

/// The first version that says which ticket and token come next, and how often a daemon started.
const NUMBERS_FORMAT: u64 = 3;

/// How long the file was before there was a journal in it. Its words have no seals.
const EARLIER_WORDS: usize = 9;

/// The part of a sealed word that says something. The upper 16 bits are its seal.
const VALUE_MAX: u64 = (1 << 48) - 1;

/// A prime, so that no change of one bit, or of a few beside each other, leaves a remainder as it was.
const SEAL_PRIME: u64 = 65_521;

/// All live rows, of the database with the journal, and all settings, in two numbers, in whatever order they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    count: u64,
    sums: u64,
}

impl Summary {
    /// That of one row.
    pub(super) fn of(ticket: Ticket, sum: i64) -> Summary {
        // Multiplied, so that two rows whose sums are the same do not take each other out.
        Summary { count: 1, sums: sum.cast_unsigned().wrapping_mul(ticket.0 | 1) }
    }

    /// That of one setting, whose name is part of its sum. It counts only if it `is_live`.
    pub(super) fn of_setting(is_live: bool, sum: i64) -> Summary {
        Summary { count: u64::from(is_live), sums: sum.cast_unsigned() }
    }

    /// Puts one row in.
    pub(super) fn put(&mut self, row: Summary) {
        *self = *self + row;
    }

    /// Takes one row out.
    pub(super) fn take(&mut self, row: Summary) {
        self.count = self.count.wrapping_sub(row.count);
        self.sums = self.sums.wrapping_sub(row.sums);
    }
}

impl Add for Summary {
    type Output = Summary;

    fn add(self, other: Summary) -> Summary {
        Summary { count: self.count.wrapping_add(other.count), sums: self.sums.wrapping_add(other.sums) }
    }
}

impl Sum for Summary {
    fn sum<I: Iterator<Item = Summary>>(rows: I) -> Summary {
        rows.fold(Summary::default(), Summary::add)
    }
}

/// What a mark says, before anything is changed.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of the file")]
pub(super) struct Seen {
    /// Whether there is a mark.
    pub(super) is_there: bool,
    /// Whether it is one that was cut, or whose words nobody wrote so.
    pub(super) is_damaged: bool,
    /// Whether each of its words is sealed, and whole.
    is_sealed: bool,
    /// Whether it says anything about this run of the machine.
    pub(super) is_current: bool,
    settled: Summary,
    announced: Summary,
    /// How many turns the history had, give or take one commit; nothing in a new file. Counting them anew is slow.
    pub(super) history: Option<u64>,
    /// Whether the last to use the database closed it.
    pub(super) was_closed: bool,
    oldest: u64,
    /// Whether the database was being turned over to this run of the machine, so that it may say another one still.
    pub(super) was_turning: bool,
    /// Whether the database may have the journal already: it was taking it in.
    pub(super) may_be_taken_in: bool,
    pub(super) journal_number: u64,
    length: u64,
    /// The ticket and the token that come next, and the number of starts; none of it in a mark of an earlier version.
    /// What it says of the numbers is true also in another run of the machine.
    pub(super) numbers: Option<Known>,
    /// All that is where the journal is.
    pub(super) journal: Vec<u8>,
}

impl Seen {
    /// Whether a database with these live rows is one that this mark was beside last.
    pub(super) fn knows(&self, found: Summary) -> bool {
        self.is_current && (self.settled == found || self.announced == found)
    }

    /// A ticket below which none lives.
    pub(super) fn oldest(&self) -> Ticket {
        Ticket(if self.is_current { self.oldest } else { 0 })
    }

    /// Bytes of the journal that count.
    pub(super) fn journal_length(&self) -> Option<usize> {
        usize::try_from(self.length).ok()
    }

    /// Whether it says that somebody has a turn or waits, or that a domain is paused, now that there is no daemon; or
    /// nothing that can be believed.
    pub(super) fn outlives_a_daemon(&self) -> bool {
        let has_some = self.settled.count > 0 || self.announced.count > 0;
        self.is_there && (!self.is_sealed || (self.is_current && has_some))
    }

    /// Whether it says that a policy is set, or that a domain rests, now that there is no daemon; or nothing that can be
    /// believed. Those outlive the machine as well. What lived on it when it went down cannot be told from them.
    pub(super) fn has_settings(&self) -> bool {
        let is_empty = self.settled == Summary::default() && self.announced == Summary::default();
        self.is_there && (!self.is_sealed || !is_empty)
    }

    /// Whether a database that is empty cannot be the one.
    pub(super) fn holds_something(&self) -> bool {
        let took_in = self.is_current && self.journal_number > 1;
        let had_turns = self.history.is_some_and(|ended| ended > 0);
        self.is_damaged || had_turns || took_in || (self.is_current && !self.knows(Summary::default()))
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct Mark {
    words: Words,
    path: PathBuf,
    /// This run of the machine, sealed.
    boot: u64,
    /// Device and inode of the file.
    identity: (u64, u64),
}

impl Mark {
    /// Reads the file at `path`, if it is there.
    pub(super) fn look(path: &Path, boot_id: &str) -> io::Result<Seen> {
        let Some(content) = file::read(path)? else { return Ok(Seen::default()) };
        let word = |index: usize| {
            let bytes = content.get(index * 8..(index + 1) * 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_ne_bytes)
        };
        let journal = content.get(JOURNAL * 8..).unwrap_or_default().to_vec();
        let is_blank = (0..JOURNAL).all(|index| word(index) == 0);
        let is_sealed = word(FORMAT) != 0;
        let is_whole = content.len() >= WORDS * 8 || (!is_sealed && content.len() == EARLIER_WORDS * 8);
        let says_taking = word(FORMAT) & VALUE_MAX >= TAKING_FORMAT;
        let says_numbers = word(FORMAT) & VALUE_MAX >= NUMBERS_FORMAT;
        let is_said = |index| match index {
            TAKING => says_taking,
            TICKET | TOKEN | STARTS => says_numbers,
            _ => true,
        };
        let is_right = |index| !is_said(index) || is_right(index, word(index));
        let is_sound = !is_sealed || SEALED.into_iter().all(is_right);
        let is_damaged = !is_whole || !is_sound;
        if !is_blank && is_damaged {
            return Ok(Seen { is_there: true, is_damaged: true, journal, ..Seen::default() });
        }
        let value = |index: usize| if is_sealed { word(index) & VALUE_MAX } else { word(index) };
        let boot = if is_sealed { sealed_boot(boot_id) } else { boot_word(boot_id) };
        let summary = |index: usize| Summary { count: word(index), sums: word(index + 1) };
        Ok(Seen {
            is_there: true,
            is_damaged: false,
            is_sealed,
            is_current: word(BOOT) == boot,
            settled: summary(SETTLED),
            announced: summary(ANNOUNCED),
            // Where nothing shows whether it is right it is not believed: turns would be let go for it.
            history: if is_sealed { value(HISTORY).checked_sub(1) } else { None },
            was_closed: value(CLOSED) == 1,
            oldest: value(OLDEST),
            was_turning: value(TURNING) == 1,
            may_be_taken_in: !says_taking || value(TAKING) == 1,
            journal_number: value(NUMBER),
            length: value(LENGTH),
            numbers: says_numbers.then(|| Known { ticket: value(TICKET), token: value(TOKEN), starts: value(STARTS) }),
            journal,
        })
    }

    /// Opens the file at `path`, or makes it.
    pub(super) fn open(path: &Path, boot_id: &str) -> io::Result<Mark> {
        let file: File =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let words = Words::map(&file, WORDS)?;
        let found = file.metadata()?;
        let identity = (found.dev(), found.ino());
        Ok(Mark { words, path: path.to_owned(), boot: sealed_boot(boot_id), identity })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is still the one at its path. A cleaner may have removed it.
    pub(super) fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    /// Makes the file anew, with what the removed one said.
    pub(super) fn put_back(&mut self) -> io::Result<()> {
        let beside = self.path.with_extension("mark.new");
        // An empty one in its place would say that nothing need be there.
        let made = self.copy_to(&beside).and_then(|copy| std::fs::rename(&beside, &self.path).map(|()| copy));
        let (file, words) = made.inspect_err(|_| _ = std::fs::remove_file(&beside))?;
        let found = file.metadata()?;
        (self.words, self.identity) = (words, (found.dev(), found.ino()));
        Ok(())
    }

    fn copy_to(&self, path: &Path) -> io::Result<(File, Words)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let words = Words::map(&file, WORDS)?;
        for index in (0..WORDS).rev() {
            words.store(index, self.words.load(index));
        }
        Ok((file, words))
    }

    /// A daemon has started, and goes on with these numbers.
    pub(super) fn start(&self, known: Known) {
        self.seal(STARTS, known.starts);
        self.next_numbers(known.ticket, known.token);
    }

    /// No ticket and no token at or above these was ever given out.
    pub(super) fn next_numbers(&self, ticket: u64, token: u64) {
        self.seal(TICKET, ticket);
        self.seal(TOKEN, token);
    }

    /// The next commit will make this of the database, if it succeeds.
    pub(super) fn announce(&mut self, next: Summary, oldest: Ticket) {
        if oldest.0 < self.words.load(OLDEST) & VALUE_MAX {
            self.seal(OLDEST, oldest.0);
        }
        self.store(ANNOUNCED, next);
    }

    /// The database holds this, and a history of that many turns.
    pub(super) fn settle(&mut self, now: Summary, oldest: Ticket, history: u64) {
        self.seal(CLOSED, 0);
        self.seal(OLDEST, oldest.0);
        self.seal(HISTORY, history + 1);
        self.store(SETTLED, now);
        self.store(ANNOUNCED, now);
        self.words.store(BOOT, self.boot);
        self.seal(FORMAT, SEALED_FORMAT);
    }

    /// Has all of it on the disk, as far as that can be: what the database has for good is to be seen here even after a
    /// power cut.
    pub(super) fn sync(&self) {
        _ = File::open(&self.path).and_then(|file| file.sync_all());
    }

    /// The database is being turned over to this run of the machine, or that is done.
    pub(super) fn turn(&mut self, is_turning: bool) {
        self.seal(TURNING, u64::from(is_turning));
    }

    /// The database is about to take the journal in.
    pub(super) fn take_in(&self) {
        self.seal(TAKING, 1);
    }

    /// The journal has this number and length now: those it had, or another number and nothing in it, unless the mark
    /// says nothing about this run of the machine yet.
    pub(super) fn begin_journal(&self, number: u64, length: usize) {
        if length == 0 {
            // First, so that a kill never leaves what was in it under another number.
            self.seal(LENGTH, 0);
        }
        self.seal(NUMBER, number);
        self.seal(LENGTH, length as u64);
        // Last: under its old number it may be in the database already.
        self.seal(TAKING, 0);
    }

    /// Writes a record into the journal, `at` its end.
    pub(super) fn append(&self, at: usize, record: &[u8]) {
        let (words, _) = record.as_chunks();
        for (index, word) in (JOURNAL + at / 8..).zip(words) {
            self.words.store(index, u64::from_ne_bytes(*word));
        }
        self.seal(LENGTH, (at + record.len()) as u64);
    }

    /// The database is closed.
    pub(super) fn close(self) {
        self.seal(CLOSED, 1);
    }

    /// Makes it one of before there was a word about taking in.
    #[cfg(test)]
    pub(super) fn as_first_format(&self) {
        for index in [TAKING, TICKET, TOKEN, STARTS] {
            self.words.store(index, 0);
        }
        self.seal(FORMAT, 1);
    }

    fn seal(&self, index: usize, value: u64) {
        self.words.store(index, sealed(index, value));
    }

    fn store(&self, place: usize, summary: Summary) {
        self.words.store(place, summary.count);
        self.words.store(place + 1, summary.sums);
    }
}

/// The word at `index` that says `value`, and shows when it was damaged. A larger value than it has room for becomes
/// the largest.
fn sealed(index: usize, value: u64) -> u64 {
    let value = value.min(VALUE_MAX);
    // Of its place too, and never zero, as a new file has it.
    let seal = (value + (index as u64 + 1) * 4_099) % SEAL_PRIME + 1;
    (seal << 48) | value
}

fn is_right(index: usize, word: u64) -> bool {
    sealed(index, word & VALUE_MAX) == word
}

fn sealed_boot(boot_id: &str) -> u64 {
    sealed(BOOT, boot_word(boot_id) & VALUE_MAX)
}

/// A word that stands for a run of the machine; never zero, as a new file has it.
fn boot_word(boot_id: &str) -> u64 {
    u64::from_be_bytes(first_eight(Sha256::new_with_prefix(boot_id))) | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Machine;

    fn outlives_a_daemon(path: &Path) -> bool {
        Mark::look(path, &Machine::this().boot_id).map_or(true, |seen| seen.outlives_a_daemon())
    }

    #[test]
    fn only_a_daemon_can_tell_where_something_lives_or_the_mark_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mark");
        assert!(!outlives_a_daemon(&path));
        let mut mark = Mark::open(&path, &Machine::this().boot_id).unwrap();
        mark.start(Known::default());
        mark.begin_journal(1, 0);
        mark.turn(false);
        mark.settle(Summary::default(), Ticket(1), 7);
        assert!(!outlives_a_daemon(&path));
        let content = std::fs::read(&path).unwrap();
        for length in (0..content.len()).step_by(8) {
            std::fs::write(&path, &content[..length]).unwrap();
            assert!(outlives_a_daemon(&path), "cut at {length}");
        }
        for (index, bit) in SEALED.into_iter().flat_map(|index| (0..64).map(move |bit| (index, bit))) {
            let mut damaged = content.clone();
            damaged[index * 8 + bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, damaged).unwrap();
            assert!(outlives_a_daemon(&path), "bit {bit} of word {index}");
        }
        std::fs::remove_file(&path).unwrap();
        let mut mark = Mark::open(&path, "another boot").unwrap();
        mark.start(Known::default());
        mark.begin_journal(1, 0);
        mark.turn(false);
        let live = Summary::of(Ticket(1), 5);
        mark.settle(live, Ticket(1), 0);
        assert!(!outlives_a_daemon(&path));
        mark.boot = sealed_boot(&Machine::this().boot_id);
        mark.settle(live, Ticket(1), 0);
        assert!(outlives_a_daemon(&path));
    }

    #[test]
    fn a_setting_is_seen_in_whatever_run_of_the_machine() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mark");
        let boot_id = Machine::this().boot_id;
        let has_settings = || ["another boot", &boot_id].map(|boot| Mark::look(&path, boot).unwrap().has_settings());
        assert_eq!(has_settings(), [false; 2]);
        let mut mark = Mark::open(&path, &boot_id).unwrap();
        mark.start(Known::default());
        mark.begin_journal(1, 0);
        mark.turn(false);
        let policy = Summary::of_setting(false, 5);
        for (held, is_seen) in [(Summary::default(), false), (policy, true), (Summary::default(), false)] {
            mark.announce(held, Ticket(1));
            mark.settle(held, Ticket(1), 0);
            assert_eq!(has_settings(), [is_seen; 2]);
        }
        mark.announce(policy, Ticket(1));
        assert_eq!(has_settings(), [true; 2], "it may be written already");
    }

    #[test]
    fn a_value_is_kept_up_to_the_largest() {
        for value in [0, 1, SEAL_PRIME, VALUE_MAX - 1, VALUE_MAX] {
            assert_eq!(sealed(HISTORY, value) & VALUE_MAX, value);
        }
        assert_eq!(sealed(OLDEST, u64::MAX) & VALUE_MAX, VALUE_MAX);
        assert!(!is_right(HISTORY, 0) && !is_right(HISTORY, sealed(CLOSED, 1)));
    }
}
