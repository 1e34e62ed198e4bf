//! The database by itself, as it is left and found again.

mod refused;
mod once;

use std::os::unix::ffi::OsStrExt;

use super::*;
use crate::protocol::{Domain, Ticket, Token};

const KEEP: Retention = Retention { turns: 3, age_ms: 1_000 };

/// The files that change with every turn.
const DATABASE: [&str; 2] = ["seq.db", "seq.db-wal"];

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn open(&self, boot_id: &str) -> Result<(Database, Vec<u64>), Problem> {
        self.open_on("here", boot_id)
    }

    fn open_on(&self, host: &str, boot_id: &str) -> Result<(Database, Vec<u64>), Problem> {
        self.open_keeping(KEEP, host, boot_id)
    }

    fn open_keeping(&self, keep: Retention, host: &str, boot_id: &str) -> Result<(Database, Vec<u64>), Problem> {
        let machine = Machine { boot_id: boot_id.to_owned(), host: host.to_owned(), host_name: format!("host {host}") };
        let (database, found) = Database::open(&Files::in_directory(self.0.path()), &machine, keep, |found| {
            Some(ended(found.ticket.0, 77))
        })?;
        Ok((database, found.into_iter().map(|found| found.ticket.0).collect()))
    }

    /// The files of these names, with what is in them.
    fn files(&self, names: &[&'static str]) -> Vec<(&'static str, Vec<u8>)> {
        names.iter().map(|name| (*name, std::fs::read(self.0.path().join(name)).unwrap())).collect()
    }

    fn restore(&self, files: Vec<(&'static str, Vec<u8>)>) {
        for (name, content) in files {
            std::fs::write(self.0.path().join(name), content).unwrap();
        }
    }
}

fn live(ticket: u64) -> Change {
    let domain = Domain::parse("foo.com").unwrap();
    Change::Live { ticket: Ticket(ticket), domain, body: format!("live {ticket}").into_bytes() }
}

fn ended(ticket: u64, ended_at: i64) -> Change {
    let domain = Domain::parse("foo.com").unwrap();
    Change::Ended { ticket: Ticket(ticket), domain, ended_at, body: format!("ended {ticket}").into_bytes() }
}

fn history(database: &mut Database) -> Vec<String> {
    database.catch_up().unwrap();
    let mut lines = Vec::new();
    History::open(database.path())
        .unwrap()
        .read(None, i64::MIN, None, |line| {
            lines.push(String::from_utf8_lossy(line).into_owned());
            true
        })
        .unwrap();
    lines
}

#[test]
fn what_was_committed_is_found_by_the_next_daemon() {
    let place = Place::new();
    let (mut database, found) = place.open("boot").unwrap();
    assert!(found.is_empty());
    database.commit(&[live(1), live(2)]).unwrap();
    database.commit(&[ended(1, 5), live(3), live(4)]).unwrap();
    database.commit(&[Change::Left { ticket: Ticket(3), why: None }, live(2)]).unwrap();
    drop(database);
    let (mut database, found) = place.open("boot").unwrap();
    assert_eq!(found, [2, 4]);
    assert_eq!(history(&mut database), ["ended 1"]);
}

#[test]
fn a_transaction_that_is_larger_than_the_cache_is_all_in_the_log() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[live(1)]).unwrap();
    let domain = Domain::parse("foo.com").unwrap();
    let with_body = |fill: u8| {
        let domain = domain.clone();
        move |ticket| Change::Live { ticket: Ticket(ticket), domain: domain.clone(), body: vec![fill; 1_500] }
    };
    // Pages that SQLite had to put into the log before their transaction ended, and then changed again.
    let twice: Vec<Change> = (1..=4_000).map(with_body(b'a')).chain((1..=4_000).map(with_body(b'b'))).collect();
    database.commit(&twice).unwrap();
    let log = std::fs::read(place.0.path().join("seq.db-wal")).unwrap();
    drop(database);
    // As a kill -9 leaves it.
    std::fs::write(place.0.path().join("seq.db-wal"), log).unwrap();
    assert!(place.open("boot").unwrap().1.into_iter().eq(1..=4_000));
}

#[test]
fn after_a_restart_of_the_machine_nothing_lives_and_all_is_history() {
    let place = Place::new();
    place.open("boot").unwrap().0.commit(&[live(1), live(2)]).unwrap();
    let (mut database, found) = place.open("another").unwrap();
    assert!(found.is_empty());
    assert_eq!(history(&mut database), ["ended 2", "ended 1"]);
    drop(database);
    assert!(place.open("another").unwrap().1.is_empty());
}

#[test]
fn the_history_keeps_the_newest_and_no_older_than_it_should() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    for ticket in 1..=6 {
        database.commit(&[live(ticket), ended(ticket, i64::try_from(ticket).unwrap() * 100)]).unwrap();
    }
    assert!(database.prune(0).unwrap());
    assert_eq!(history(&mut database), ["ended 6", "ended 5", "ended 4"]);
    while database.prune(1_550).unwrap() {}
    assert_eq!(history(&mut database), ["ended 6"]);
}

#[test]
fn after_a_power_cut_the_journal_counts_as_far_as_it_is_whole() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    for ticket in 1..=4 {
        database.commit(&[live(ticket), ended(ticket, 5)]).unwrap();
    }
    let mut files = place.files(&DATABASE);
    let (_, mark) = place.files(&["seq.mark"]).remove(0);
    drop(database);
    let end = mark.iter().rposition(|byte| *byte != 0).unwrap();
    let mut kept = std::collections::BTreeSet::new();
    for cut in (100..=end).step_by(16) {
        // The words at its beginning may be of any age.
        let mut torn = vec![0; 128];
        torn.extend_from_slice(mark.get(128..cut).unwrap_or_default());
        files.push(("seq.mark", torn));
        place.restore(files.clone());
        let (mut database, found) = place.open("another").unwrap();
        assert!(found.is_empty());
        let lines = history(&mut database);
        let expected: Vec<String> = (1..=lines.len()).rev().map(|ticket| format!("ended {ticket}")).collect();
        assert_eq!(lines, expected, "cut at {cut}");
        kept.insert(lines.len());
        database.close();
        files.pop();
    }
    assert!(kept.into_iter().eq(0..4), "the last record is never whole");
}

#[test]
fn what_lives_in_the_journal_of_another_machine_is_left_to_it() {
    let place = Place::new();
    place.open_on("there", "its boot").unwrap().0.commit(&[live(1)]).unwrap();
    let refusal = place.open_on("here", "boot").unwrap_err().to_string();
    assert!(refusal.contains("was last used on the host host there"), "{refusal}");
}

#[test]
fn a_journal_that_is_full_goes_into_the_database_again_and_again() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    let left = |ticket| Change::Left { ticket: Ticket(ticket), why: None };
    for ticket in 1..=2_000 {
        database.commit(&[live(ticket)]).unwrap();
        database.commit(&[if ticket % 500 == 0 { live(ticket) } else { left(ticket) }]).unwrap();
    }
    drop(database);
    assert_eq!(place.open("boot").unwrap().1, [500, 1_000, 1_500, 2_000]);
}

#[test]
fn the_history_never_has_many_more_turns_than_it_should() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    for round in 0..12_u64 {
        // Some that the journal has room for, and some that it has not.
        for size in [30, 1_000] {
            let first = round * 2_000 + size;
            let turns: Vec<Change> = (first..first + size).map(|ticket| ended(ticket, 5)).collect();
            database.commit(&turns).unwrap();
        }
    }
    database.catch_up().unwrap();
    assert!((3_000..5_200).contains(&database.surplus()), "{} too many", database.surplus());
    assert_eq!(history(&mut database).len() as u64, database.surplus() + KEEP.turns);
}

#[test]
fn the_next_ticket_is_above_all_that_live_or_have_ended_and_above_what_the_mark_says() {
    let place = Place::new();
    let next = |database: &mut Database| {
        let Known { ticket, token, .. } = database.known_numbers().unwrap();
        (ticket, token)
    };
    let (mut database, _) = place.open("boot").unwrap();
    assert_eq!(next(&mut database), (1, 0));
    database.commit(&[live(7)]).unwrap();
    assert_eq!(next(&mut database), (8, 0));
    database.commit(&[ended(9, 5)]).unwrap();
    assert_eq!(next(&mut database), (10, 0));
    database.next_numbers(Ticket(30), Token(20));
    drop(database);
    for boot in ["boot", "another"] {
        assert_eq!(next(&mut place.open(boot).unwrap().0), (30, 20));
    }
}

#[test]
fn a_history_that_is_to_keep_no_turn_never_shows_one() {
    let place = Place::new();
    let keep = Retention { turns: 0, ..KEEP };
    let (mut database, _) = place.open_keeping(keep, "here", "boot").unwrap();
    for ticket in 1..=3 {
        database.commit(&[live(ticket), live(ticket + 10), ended(ticket, 5)]).unwrap();
        assert!(history(&mut database).is_empty());
    }
    drop(database);
    let (_, found) = place.open_keeping(keep, "here", "boot").unwrap();
    assert_eq!(found, [11, 12, 13]);
}

#[test]
fn a_database_in_a_directory_with_any_name_is_put_back() {
    let place = Place::new();
    let directory = place.0.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
    std::fs::create_dir(&directory).unwrap();
    let machine = Machine { boot_id: "boot".to_owned(), host: String::new(), host_name: String::new() };
    let open = || Database::open(&Files::in_directory(&directory), &machine, KEEP, |_| None).unwrap();
    let (mut database, _) = open();
    database.commit(&[live(1)]).unwrap();
    std::fs::remove_file(database.path()).unwrap();
    database.put_back().unwrap();
    drop(database);
    assert_eq!(open().1.len(), 1);
}

#[test]
fn a_database_that_cannot_be_put_back_at_once_is_put_back_later_with_all_that_came_meanwhile() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[live(1)]).unwrap();
    let (path, log) = (place.0.path().join("seq.db"), place.0.path().join("seq.db-wal"));
    for removed in [&path, &log] {
        std::fs::remove_file(removed).unwrap();
    }
    std::fs::create_dir(&log).unwrap();
    for ticket in [2, 3] {
        assert!(!database.is_in_place());
        database.put_back().unwrap_err();
        database.commit(&[live(ticket)]).unwrap();
    }
    std::fs::remove_dir(&log).unwrap();
    database.put_back().unwrap();
    assert!(database.is_in_place());
    database.commit(&[live(4)]).unwrap();
    drop(database);
    assert_eq!(place.open("boot").unwrap().1, [1, 2, 3, 4]);
}

#[test]
fn what_is_being_brought_to_a_slow_disk_is_waited_for() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[ended(1, 5)]).unwrap();
    database.connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    let checkpoint = inspect::connect(database.path(), inspect::Missing::Refused).unwrap();
    checkpoint.execute_batch("BEGIN IMMEDIATE").unwrap();
    for busy in [database.catch_up().unwrap_err(), database.prune(0).unwrap_err()] {
        assert_eq!(busy.cure(), crate::error::Cure::Write);
        assert!(busy.to_string().starts_with("the disk takes very long over the database "), "{busy}");
    }
    checkpoint.execute_batch("ROLLBACK").unwrap();
    assert_eq!(history(&mut database), ["ended 1"]);
}

#[test]
fn a_turn_whose_end_is_told_later_counts_once() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[ended(1, 5), ended(2, 5), ended(3, 5)]).unwrap();
    let domain = Domain::parse("foo.com").unwrap();
    let amended = Change::Amended { ticket: Ticket(1), domain, ended_at: 4, body: b"amended 1".to_vec() };
    for _ in 0..5 {
        database.commit(std::slice::from_ref(&amended)).unwrap();
        // Also past the journal.
        database
            .commit(&[amended.clone(), Change::Setting { kind: SettingKind::Rest, name: "a".to_owned(), body: None }])
            .unwrap();
    }
    assert_eq!(database.surplus(), 0);
    drop(database);
    let (mut database, _) = place.open("boot").unwrap();
    assert_eq!(database.surplus(), 0);
    assert!(!database.prune(0).unwrap());
    assert_eq!(history(&mut database).len(), 3);
    database.commit(&[ended(4, 5)]).unwrap();
    assert_eq!(database.surplus(), 1);
}

#[test]
fn a_long_log_that_was_left_is_brought_back_at_the_start() {
    let place = Place::new();
    let log = place.0.path().join("seq.db-wal");
    let length = || std::fs::metadata(&log).map_or(0, |found| found.len());
    let domain = Domain::parse("foo.com").unwrap();
    let big = |ticket| Change::Live { ticket: Ticket(ticket), domain: domain.clone(), body: vec![b'x'; 1_500] };
    let (mut database, _) = place.open("boot").unwrap();
    for round in 0..40 {
        database.commit(&(1..=100).map(|ticket| big(round * 100 + ticket)).collect::<Vec<_>>()).unwrap();
    }
    drop(database);
    assert!(length() > 4 << 20, "{} bytes", length());
    let (mut database, found) = place.open("boot").unwrap();
    assert_eq!(found.len(), 4_000);
    _ = database.prune(0).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while length() > 0 {
        assert!(std::time::Instant::now() < deadline, "{} bytes are left", length());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    database.commit(&[ended(1, 5)]).unwrap();
    drop(database);
    assert_eq!(place.open("boot").unwrap().1.len(), 3_999);
}
