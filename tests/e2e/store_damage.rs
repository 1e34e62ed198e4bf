//! A database that was damaged: what was promised is found, or the daemon says what is wrong; never anything else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::stored::{contents, copy};
use rusqlite::Connection;
use seq::protocol::{Domain, Key, Ticket, key_record_id};
use seq::store::{Change, Database, Files, Found, Machine, Retention, SettingKind};
use tempfile::TempDir;

const RETENTION: Retention = Retention { turns: 1_000, age_ms: i64::MAX };
fn open(directory: &Path) -> Result<(Database, Vec<Found>), seq::error::Error> {
    let here = Machine { boot_id: "boot".to_owned(), host: "here".to_owned(), host_name: "here".to_owned() };
    Database::open(&Files::in_directory(directory), &here, RETENTION, |_| None)
}

fn live(ticket: u64) -> Change {
    let body = format!(r#"{{"ticket":{ticket},"what":"a record of about the usual length"}}"#).into_bytes();
    Change::Live { ticket: Ticket(ticket), domain: Domain::parse("foo.com").unwrap(), body }
}

fn ended(ticket: u64) -> Change {
    let body = b"a line of the history".to_vec();
    Change::Ended { ticket: Ticket(ticket), domain: Domain::parse("foo.com").unwrap(), ended_at: 1, body }
}

/// How the last to use a database left it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Killed, with all that it wrote in the journal.
    Journaled,
    /// Killed, with all that it wrote in the log.
    Logged,
    Closed,
}

/// The files of a database.
struct Template(TempDir);

impl Template {
    fn new(left: Left) -> Template {
        let (work, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut database, _) = open(work.path()).unwrap();
        for ticket in 1..=20 {
            database.commit(&[live(ticket)]).unwrap();
            if ticket % 4 != 0 {
                database.commit(&[ended(ticket)]).unwrap();
            }
        }
        match left {
            Left::Journaled => {}
            Left::Logged => database.catch_up().unwrap(),
            Left::Closed => {
                database.close();
                copy(work.path(), kept.path());
                return Template(kept);
            }
        }
        copy(work.path(), kept.path());
        Template(kept)
    }

    /// The tickets that live in it.
    fn tickets() -> Vec<u64> {
        (1..=20).filter(|ticket| ticket % 4 == 0).collect()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).unwrap_or_default()
    }

    /// Damages a copy, and expects that the whole truth is found in it, or that it is refused by name.
    #[track_caller]
    fn with(&self, what: &str, damage: impl FnOnce(&Path)) -> bool {
        let copied = tempfile::tempdir().unwrap();
        copy(self.0.path(), copied.path());
        damage(copied.path());
        let before = contents(copied.path());
        match open(copied.path()) {
            Ok((_, found)) => {
                let tickets: Vec<u64> = found.iter().map(|found| found.ticket.0).collect();
                assert_eq!(tickets, Template::tickets(), "{what}");
                for found in found {
                    let Change::Live { body, .. } = live(found.ticket.0) else { panic!("it lives") };
                    assert_eq!(found.body, body, "{what}");
                }
                true
            }
            Err(error) => {
                let words = error.to_string();
                assert!(words.contains(&copied.path().display().to_string()), "{what}: {words}");
                assert!(words.contains("under seq any more") || words.contains("writable"), "{what}: {words}");
                assert!(contents(copied.path()) == before, "{what}: something has changed: {words}");
                false
            }
        }
    }
}

#[test]
fn undamaged_everything_is_found() {
    for left in [Left::Journaled, Left::Logged, Left::Closed] {
        assert!(Template::new(left).with("nothing", |_| {}));
    }
}

#[test]
fn each_bit_of_a_record_counts() {
    for (left, name) in [(Left::Journaled, "seq.mark"), (Left::Logged, "seq.db-wal"), (Left::Closed, "seq.db")] {
        let template = Template::new(left);
        let content = template.read(name);
        let record = br#"{"ticket":20,"#;
        // The last copy of it is the one that counts.
        let at = content.windows(record.len()).rposition(|bytes| bytes == record).unwrap();
        let length = br#"{"ticket":20,"what":"a record of about the usual length"}"#.len();
        let mut refused = 0;
        for bit in 0..(length + 8) * 8 {
            let (byte, mask) = (at - 8 + bit / 8, 1_u8 << (bit % 8));
            let is_found = template.with(&format!("bit {bit} of the record in {name}"), |directory| {
                let file = File::options().write(true).open(directory.join(name)).unwrap();
                file.write_all_at(&[content[byte] ^ mask], byte as u64).unwrap();
            });
            refused += usize::from(!is_found);
        }
        assert!(refused >= length * 8, "{refused} of {} in {name}", length * 8);
    }
}

#[test]
fn cut_at_every_page_it_is_whole_or_refused() {
    let files = [
        (Left::Journaled, "seq.mark"),
        (Left::Journaled, "seq.db-wal"),
        (Left::Logged, "seq.db-wal"),
        (Left::Logged, "seq.db"),
        (Left::Closed, "seq.db"),
        (Left::Closed, "seq.mark"),
    ];
    for (left, name) in files {
        let template = Template::new(left);
        let length = template.read(name).iter().rposition(|byte| *byte != 0).unwrap() + 1;
        // The frames of the log have a header each, so that half pages meet their middle. The records of the journal
        // and their parts begin at multiples of 8.
        for cut in (0..length).step_by(if name == "seq.mark" { 4 } else { 512 }) {
            template.with(&format!("{name} cut at {cut}"), |directory| {
                let file = File::options().write(true).open(directory.join(name)).unwrap();
                file.set_len(cut as u64).unwrap();
            });
        }
    }
}

#[test]
fn a_database_that_says_another_run_of_the_machine_than_its_mark_is_refused() {
    let template = Template::new(Left::Closed);
    let found = template.with("another run", |directory| {
        let database = Connection::open(directory.join("seq.db")).unwrap();
        database.execute("UPDATE facts SET value = 'coot' WHERE name = 'boot_id'", []).unwrap();
    });
    assert!(!found);
}

#[test]
fn an_older_copy_of_any_file_is_refused() {
    let (old, new) = (Template::new(Left::Closed), tempfile::tempdir().unwrap());
    copy(old.0.path(), new.path());
    let (mut database, _) = open(new.path()).unwrap();
    database.commit(&[live(24)]).unwrap();
    database.close();
    fs::copy(old.0.path().join("seq.db"), new.path().join("seq.db")).unwrap();
    let refusal = open(new.path()).unwrap_err().to_string();
    assert!(refusal.contains("a part of it, or of seq.db-wal beside it, is lost"), "{refusal}");
}

#[test]
fn who_asks_for_the_history_of_a_database_that_was_removed_makes_no_other_one() {
    let directory = tempfile::tempdir().unwrap();
    let (database, _) = open(directory.path()).unwrap();
    fs::remove_file(database.path()).unwrap();
    assert!(seq::store::History::open(database.path()).is_err());
    assert!(!database.path().exists());
}

/// A database that a daemon with this schema left, in which one turn has ended, and another has not.
fn of_version(version: u32) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/schema-{version}.db"));
    fs::copy(data, directory.path().join("seq.db")).unwrap_or_else(|error| panic!("version {version}: {error}"));
    directory
}

fn version_of(directory: &Path) -> u32 {
    let connection = Connection::open(directory.join("seq.db")).unwrap();
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// The version of a database that is made today.
fn newest_version() -> u32 {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    version_of(directory.path())
}

#[test]
fn a_database_of_each_version_that_there_was_is_opened_with_all_that_is_in_it() {
    for version in 1..=newest_version() {
        let directory = of_version(version);
        assert_eq!(version_of(directory.path()), version);
        // They come from another run of the machine, so that all that lived in them is history.
        let lived = RefCell::new(Vec::new());
        let bury = |found: &Found| {
            lived.borrow_mut().push((found.ticket, str::from_utf8(&found.body).unwrap().contains("bar.com")));
            Some(ended(found.ticket.0))
        };
        let here = Machine { boot_id: "now".to_owned(), host: "here".to_owned(), host_name: "here".to_owned() };
        let files = Files::in_directory(directory.path());
        let (mut database, found) = Database::open(&files, &here, RETENTION, bury).unwrap();
        assert!(found.is_empty());
        assert_eq!(*lived.borrow(), [(Ticket(2), true)], "version {version}");
        let mut past = Vec::new();
        let history = seq::store::History::open(database.path()).unwrap();
        history.newest(10, |ticket, had_turn, body| past.push((ticket.0, had_turn, body.to_owned()))).unwrap();
        assert_eq!(past.iter().map(|(ticket, ..)| *ticket).collect::<Vec<_>>(), [2, 1], "version {version}");
        let (_, had_turn, body) = &past[1];
        assert!(*had_turn && str::from_utf8(body).unwrap().contains("make deploy"), "version {version}");
        let settings: Vec<_> =
            database.take_settings().into_iter().map(|setting| (setting.kind, setting.name)).collect();
        let nightly = key_record_id(0, &Domain::parse("foo.com").unwrap(), &Key::parse("nightly").unwrap());
        let expected = [
            (SettingKind::Policy, "deploy/*".to_owned()),
            (SettingKind::Pause, "bar.com".to_owned()),
            (SettingKind::Key, nightly.clone()),
        ];
        let count = [0, 0, 2, 3][version as usize];
        assert_eq!(settings, expected[..count], "version {version}");
        let output = history.output(&nightly).unwrap().map(|body| String::from_utf8(body).unwrap());
        assert_eq!(output.is_some_and(|output| output.contains("stdout")), version >= 3, "version {version}");
        drop(database);
        assert_eq!(version_of(directory.path()), newest_version());
    }
}

#[test]
fn a_damaged_database_of_an_earlier_version_is_left_as_it_was() {
    for (version, ticket) in (1..=newest_version()).flat_map(|version| [(version, 1), (version, 2)]) {
        let directory = of_version(version);
        let path = directory.path().join("seq.db");
        // Without a log, so that all of it is in the one file.
        let connection = Connection::open(&path).unwrap();
        connection.execute("UPDATE turns SET sum = sum + 1 WHERE ticket = ?1", [ticket]).unwrap();
        connection.close().unwrap();
        let before = fs::read(&path).unwrap();
        let refused = open(directory.path()).err().unwrap().to_string();
        assert!(refused.contains("has a wrong checksum"), "{refused}");
        assert!(fs::read(&path).unwrap() == before, "version {version}");
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["seq.db"]);
    }
}
