//! What is committed and not in the database yet: a few kilobytes in the file of the mark, behind its words.
//!
//! A commit is one record here, which costs no system call, and outlives the process as the mark does. When there is
//! no room for the next one, or somebody wants to read the database, all that is here goes into it in one transaction,
//! each ticket once, and the journal begins anew: it has a number, and the database keeps that of the last it took in.
//!
//! A record is a header and its rows, all numbers in the order of bytes of the machine:
//!
//! | bytes | a record's header | | bytes | each row |
//! |---|---|---|---|---|
//! | 4 | its length in bytes, a multiple of 8 | | 8, 8, 8 | the ticket, when it ended, the row's checksum |
//! | 4 | how many rows follow | | 4, 2, 1, 1 | the length of the body and of the domain, the state, zero |
//! | 8 | its check | | … | the domain, the body, zeros up to a multiple of 8 |
//!
//! The check is that of the record before (of the first: the journal's number), the domain and all numbers of each row,
//! in one SHA-256; so a record counts only where it was written, after those it was written after. A row's own checksum
//! stands for its body.
//!
//! What is stored first is in the file first, whenever the process is killed:
//!
//! 1. The mark announces what the database and the journal will hold together.
//! 2. The record is stored behind the others. It counts for nothing yet.
//! 3. The length of the journal is stored: now it counts. A kill before this loses what nobody was told.
//! 4. The mark says that this is what they hold.
//!
//! And when the database takes it in:
//!
//! 1. The mark says so.
//! 2. The transaction writes the rows and the journal's number. A kill before its end leaves both as they were.
//! 3. A length of zero is stored, and then the next number, and that nothing is taken in any more. A kill before this
//!    leaves a journal whose number the database has already: it is passed over.
//!
//! Each daemon has it take in the journal that it begins with, even when nothing is in it. So a journal whose number the
//! database has, with a mark that does not say that it was being taken in, is of an earlier time, as one of a smaller
//! number is: what was told since is lost. One that has any other number than the one that is due, or does not reach its
//! length with all its checks right, means that a part of it or of the database is lost. What cannot be told is a mark of
//! an earlier moment of the very same journal: that is what a daemon leaves that was killed then.
//!
//! After a power cut only the database's word is good, for the pages of a file reach the disk in any order: the records
//! of the number that is due count as far as their checks are right.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::digest::first_eight;
use super::fault;
use super::mark::{Mark, Seen};
use super::row::Row;
use crate::protocol::Ticket;

/// Room for records, in words of 8 bytes. The transaction for so much, about 30 turns, takes less than 0.2 ms.
pub(super) const WORDS: usize = 4_096;

const BYTES: usize = WORDS * 8;
const HEADER_BYTES: usize = 16;
const ROW_BYTES: usize = 32;

/// The journal at hand.
#[derive(Debug)]
pub(super) struct Journal {
    /// Its number: one more than that of the last which the database took in.
    number: u64,
    /// What is in the file, byte by byte.
    bytes: Vec<u8>,
    /// How many records that is.
    records: usize,
    /// The check of the last.
    check: u64,
}

impl Journal {
    /// An empty one.
    pub(super) fn new(number: u64) -> Journal {
        Journal { number, bytes: Vec::new(), records: 0, check: number }
    }

    /// The journal that was `seen` beside a database which has `taken_in` the one of that number; nothing when a part of
    /// either is lost.
    pub(super) fn find(seen: &Seen, taken_in: u64) -> Option<Journal> {
        let due = taken_in + 1;
        if !seen.is_current {
            return Some(Journal::read(&seen.journal, due));
        }
        let bytes = seen.journal.get(..seen.journal_length()?)?;
        if seen.journal_number == taken_in {
            return seen.may_be_taken_in.then(|| Journal::new(due));
        }
        let found = Journal::read(bytes, due);
        (seen.journal_number == due && found.bytes.len() == bytes.len()).then_some(found)
    }

    /// The records of the journal `number` at the beginning of `bytes`.
    fn read(bytes: &[u8], number: u64) -> Journal {
        let mut journal = Journal::new(number);
        let mut rest = bytes;
        while let Some((rows, check, after)) = split(rest) {
            if check != check_of(journal.check, &rows) || !rows.iter().all(Row::is_sound) {
                break;
            }
            (journal.check, journal.records) = (check, journal.records + 1);
            rest = after;
        }
        journal.bytes.extend_from_slice(&bytes[..bytes.len() - rest.len()]);
        journal
    }

    /// Its number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Its length in bytes, a multiple of 8.
    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Whether one record more, with these rows, has room.
    pub(super) fn has_room(&self, rows: &[Row<'_>]) -> bool {
        self.bytes.len() + length_of(rows) <= BYTES && self.records < fault::records_max()
    }

    /// Writes one record, which must have room.
    pub(super) fn append(&mut self, rows: &[Row<'_>], mark: &Mark) {
        let start = self.bytes.len();
        self.check = check_of(self.check, rows);
        self.records += 1;
        let (length, count) = (narrow(length_of(rows)), narrow(rows.len()));
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&count.to_ne_bytes());
        self.bytes.extend_from_slice(&self.check.to_ne_bytes());
        for row in rows {
            self.bytes.extend_from_slice(&numbers_of(row));
            self.bytes.extend_from_slice(row.domain.as_bytes());
            self.bytes.extend_from_slice(row.body);
            self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        }
        mark.append(start, &self.bytes[start..]);
    }

    /// What is to become of each ticket that is in it.
    pub(super) fn rows(&self) -> BTreeMap<Ticket, Row<'_>> {
        let mut latest = BTreeMap::new();
        let mut rest = &self.bytes[..];
        while let Some((rows, _, after)) = split(rest) {
            latest.extend(rows.into_iter().map(|row| (row.ticket, row)));
            rest = after;
        }
        latest
    }

    /// The database has it: the next one begins.
    pub(super) fn begin_next(&mut self, mark: &Mark) {
        self.number += 1;
        self.bytes.clear();
        (self.records, self.check) = (0, self.number);
        mark.begin_journal(self.number, 0);
    }
}

fn length_of(rows: &[Row<'_>]) -> usize {
    let of_row = |row: &Row<'_>| (ROW_BYTES + row.domain.len() + row.body.len()).next_multiple_of(8);
    HEADER_BYTES + rows.iter().map(of_row).sum::<usize>()
}

/// Lengths that are asked for after [`Journal::has_room`] said that they are small.
fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or_else(|_| panic!("{length} bytes have no room"))
}

/// All of a row but its domain and its body.
fn numbers_of(row: &Row<'_>) -> [u8; ROW_BYTES] {
    let mut numbers = [0; ROW_BYTES];
    numbers[..8].copy_from_slice(&row.ticket.0.to_ne_bytes());
    numbers[8..16].copy_from_slice(&row.at_ms.to_ne_bytes());
    numbers[16..24].copy_from_slice(&row.sum.to_ne_bytes());
    numbers[24..28].copy_from_slice(&narrow(row.body.len()).to_ne_bytes());
    // A domain has 255 bytes at most.
    numbers[28..30].copy_from_slice(&narrow(row.domain.len()).to_ne_bytes()[..2]);
    numbers[30] = row.state;
    numbers
}

fn check_of(before: u64, rows: &[Row<'_>]) -> u64 {
    let mut digest = Sha256::new().chain_update(before.to_ne_bytes());
    for row in rows {
        digest.update(numbers_of(row));
        digest.update(row.domain);
    }
    u64::from_ne_bytes(first_eight(digest))
}

/// The rows and the check of the first record, and what comes after it; nothing when there is no whole one.
fn split(bytes: &[u8]) -> Option<(Vec<Row<'_>>, u64, &[u8])> {
    let length = u32::from_ne_bytes(field(bytes, 0)?);
    let count = u32::from_ne_bytes(field(bytes, 4)?);
    let check = u64::from_ne_bytes(field(bytes, 8)?);
    let (record, after) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    let mut rest = record.get(HEADER_BYTES..)?;
    let mut rows = Vec::new();
    for _ in 0..count {
        let (row, next) = split_row(rest)?;
        rows.push(row);
        rest = next;
    }
    (rest.is_empty() && !rows.is_empty()).then_some((rows, check, after))
}

fn split_row(bytes: &[u8]) -> Option<(Row<'_>, &[u8])> {
    let body_length = usize::try_from(u32::from_ne_bytes(field(bytes, 24)?)).ok()?;
    let domain_length = usize::from(u16::from_ne_bytes(field(bytes, 28)?));
    let [state, _] = field(bytes, 30)?;
    let domain_end = ROW_BYTES + domain_length;
    let body_end = domain_end.checked_add(body_length)?;
    let row = Row {
        ticket: Ticket(u64::from_ne_bytes(field(bytes, 0)?)),
        at_ms: i64::from_ne_bytes(field(bytes, 8)?),
        sum: i64::from_ne_bytes(field(bytes, 16)?),
        state,
        domain: std::str::from_utf8(bytes.get(ROW_BYTES..domain_end)?).ok()?,
        body: bytes.get(domain_end..body_end)?,
    };
    Some((row, bytes.get(body_end.next_multiple_of(8)..)?))
}

fn field<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<[u8; BYTES]> {
    bytes.get(at..at + BYTES)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mark::Summary;
    use crate::store::numbers::Known;
    use crate::store::row::{ENDED, GONE, LIVE, checksum};

    fn row(ticket: u64, state: u8, body: &[u8]) -> Row<'_> {
        let ticket = Ticket(ticket);
        let sum = if state == GONE { 0 } else { checksum(ticket, state, body) };
        Row { ticket, state, domain: "foo.com", at_ms: -7, body, sum }
    }

    /// Three records, and where each of them ends.
    fn written(number: u64) -> (Journal, [usize; 3]) {
        let directory = tempfile::tempdir().unwrap();
        let mut mark = Mark::open(&directory.path().join("mark"), "boot").unwrap();
        mark.start(Known::default());
        mark.begin_journal(number, 0);
        mark.turn(false);
        mark.settle(Summary::default(), Ticket(1), 0);
        let mut journal = Journal::new(number);
        let records = [
            vec![row(1, LIVE, b"a body"), row(2, LIVE, b"")],
            vec![row(1, ENDED, b"the line of a turn that is over")],
            vec![row(2, GONE, b""), row(3, LIVE, &[7; 300])],
        ];
        let ends = records.map(|rows| {
            journal.append(&rows, &mark);
            journal.length()
        });
        let seen = Mark::look(&directory.path().join("mark"), "boot").unwrap();
        assert!(seen.journal.starts_with(&journal.bytes) && seen.journal_length() == Some(ends[2]));
        (journal, ends)
    }

    #[test]
    fn what_was_written_is_read_and_the_last_word_on_each_ticket_counts() {
        let (journal, _) = written(5);
        let read = Journal::read(&[&journal.bytes[..], &[0; 64]].concat(), 5);
        assert_eq!((read.length(), read.records, read.check), (journal.length(), 3, journal.check));
        let rows = read.rows().into_values();
        let body = [7; 300];
        assert!(rows.eq([row(1, ENDED, b"the line of a turn that is over"), row(2, GONE, b""), row(3, LIVE, &body)]));
    }

    #[test]
    fn cut_anywhere_the_whole_records_before_it_are_read() {
        let (journal, ends) = written(5);
        for cut in 0..=journal.length() {
            let whole = ends.iter().copied().filter(|end| *end <= cut).max().unwrap_or(0);
            assert_eq!(Journal::read(&journal.bytes[..cut], 5).length(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn damaged_anywhere_the_records_before_it_are_read_and_the_rest_is_not() {
        let (journal, ends) = written(5);
        for at in 0..journal.length() {
            let mut bytes = journal.bytes.clone();
            bytes[at] ^= 0x10;
            let before = ends.iter().copied().filter(|end| *end <= at).max().unwrap_or(0);
            let read = Journal::read(&bytes, 5).length();
            // What fills a row up to a multiple of 8 says nothing.
            assert!(read == before || journal.bytes[at] == 0 && read == journal.length(), "damaged at {at}");
        }
    }

    #[test]
    fn a_record_counts_in_its_own_journal_and_place_only() {
        let (journal, ends) = written(5);
        assert_eq!(Journal::read(&journal.bytes, 6).length(), 0);
        assert_eq!(Journal::read(&journal.bytes[ends[0]..], 5).length(), 0);
        let (other, _) = written(6);
        let mixed = [&journal.bytes[..ends[0]], &other.bytes[ends[0]..]].concat();
        assert_eq!(Journal::read(&mixed, 5).length(), ends[0]);
    }
}
