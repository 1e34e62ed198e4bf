//! The database by itself, as it is left and found again.

use super::*;
use crate::protocol::{Domain, Ticket};

const KEEP: Retention = Retention { turns: 3, age_ms: 1_000 };

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn open(&self, boot_id: &str) -> Result<(Database, Vec<u64>), Problem> {
        self.open_on("here", boot_id)
    }

    fn open_on(&self, host: &str, boot_id: &str) -> Result<(Database, Vec<u64>), Problem> {
        let (path, mark) = (self.0.path().join("seq.db"), self.0.path().join("seq.mark"));
        let machine = Machine { boot_id: boot_id.to_owned(), host: host.to_owned(), host_name: format!("host {host}") };
        let (database, found) = Database::open(&path, &mark, &machine, KEEP, |found| Some(ended(found.ticket.0, 77)))?;
        Ok((database, found.into_iter().map(|found| found.ticket.0).collect()))
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

fn history(database: &Database) -> Vec<String> {
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
    let (database, found) = place.open("boot").unwrap();
    assert_eq!(found, [2, 4]);
    assert_eq!(history(&database), ["ended 1"]);
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
    let (database, found) = place.open("another").unwrap();
    assert!(found.is_empty());
    assert_eq!(history(&database), ["ended 2", "ended 1"]);
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
    assert_eq!(history(&database), ["ended 6", "ended 5", "ended 4"]);
    while database.prune(1_550).unwrap() {}
    assert_eq!(history(&database), ["ended 6"]);
}

#[test]
fn a_log_that_was_cut_is_refused_and_nothing_is_changed() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[live(1)]).unwrap();
    let log = place.0.path().join("seq.db-wal");
    let before = std::fs::read(&log).unwrap();
    database.commit(&[live(2)]).unwrap();
    // As a kill -9 leaves it, but with the last commit missing.
    let files = ["seq.db", "seq.mark"].map(|name| (name, std::fs::read(place.0.path().join(name)).unwrap()));
    drop(database);
    for (name, content) in &files {
        std::fs::write(place.0.path().join(name), content).unwrap();
    }
    std::fs::write(&log, &before).unwrap();
    let refusal = place.open("boot").unwrap_err().to_string();
    assert!(refusal.contains("seq.db is not what"), "{refusal}");
    assert!(
        refusal.ends_with("once no command runs under seq any more, move it and the seq.mark beside it away"),
        "{refusal}"
    );
}
