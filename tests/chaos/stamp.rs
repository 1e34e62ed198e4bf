//! The log of a storm: one line for each thing that happened, by whoever made it happen, in the order in which it did.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use seq::clock::Time;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A command has begun.
    Start,
    /// It found the witness's lock taken.
    Blocked,
    /// It is about to end.
    End,
    /// It is about to be killed.
    Kill,
    /// Something that is no command's: a daemon, a wrapper.
    Note,
}

const WORDS: [(What, &str); 5] = [
    (What::Start, "start"),
    (What::Blocked, "blocked"),
    (What::End, "end"),
    (What::Kill, "kill"),
    (What::Note, "note"),
];

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) what: What,
    /// Which of the storm's turns; 0 in a note.
    pub(crate) turn: usize,
    /// Empty in a note.
    pub(crate) domain: String,
    pub(crate) ticket: u64,
    pub(crate) token: u64,
    /// The command's process.
    pub(crate) pid: u32,
    /// As it was written.
    pub(crate) line: String,
}

impl Stamp {
    fn parse(line: &str) -> Stamp {
        let mut words = line.split(' ').skip(1);
        let word = words.next().unwrap_or_default();
        let what = WORDS.iter().find(|(_, known)| *known == word).unwrap_or_else(|| panic!("not a stamp: {line:?}")).0;
        let mut stamp =
            Stamp { what, turn: 0, domain: String::new(), ticket: 0, token: 0, pid: 0, line: line.to_owned() };
        if what != What::Note {
            let mut next = || words.next().unwrap_or_else(|| panic!("too short: {line:?}"));
            next().clone_into(&mut stamp.domain);
            let mut number = || next().parse::<u64>().unwrap_or_else(|error| panic!("{line:?}: {error}"));
            stamp.turn = usize::try_from(number()).expect("a turn");
            (stamp.ticket, stamp.token) = (number(), number());
            stamp.pid = u32::try_from(number()).expect("a pid");
        }
        stamp
    }
}

/// Writes lines: each whole, in one call, behind all others.
#[derive(Debug)]
pub(crate) struct Pen(File);

impl Pen {
    pub(crate) fn open(path: &Path) -> Pen {
        Pen(OpenOptions::new().append(true).create(true).open(path).expect("the log"))
    }

    /// What a command did.
    pub(crate) fn stamp(&self, what: What, domain: &str, turn: usize, ticket: u64, token: u64, pid: u32) {
        let word = WORDS.iter().find(|(known, _)| *known == what).expect("a word for it").1;
        self.line(&format!("{word} {domain} {turn} {ticket} {token} {pid}"));
    }

    /// What became of something else.
    pub(crate) fn note(&self, text: &str) {
        self.line(&format!("note {text}"));
    }

    fn line(&self, text: &str) {
        let line = format!("{} {text}\n", Time::now().as_nanos() / 1_000);
        let written = (&self.0).write(line.as_bytes()).expect("the log takes it");
        assert_eq!(written, line.len(), "a line cut short would be no witness");
    }
}

/// Reads what is new.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    /// The start of a line whose end was not there yet.
    rest: String,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Reader {
        Reader { file: File::open(path).expect("the log"), rest: String::new() }
    }

    pub(crate) fn read(&mut self) -> Vec<Stamp> {
        self.file.read_to_string(&mut self.rest).expect("the log is text");
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let rest = self.rest.split_off(whole);
        std::mem::replace(&mut self.rest, rest).lines().map(Stamp::parse).collect()
    }
}
