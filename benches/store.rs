//! How long a commit takes: `cargo bench --bench store`.

use std::time::Instant;

use seq::protocol::{Domain, Ticket};
use seq::store::{Change, Database, Files, Machine, Retention};

/// Turns of one round.
const TURNS: u32 = 20_000;

#[expect(clippy::print_stdout, reason = "figures are what this is for")]
fn main() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name| directory.path().join(name);
    let retention = Retention { turns: 1_000_000, age_ms: i64::MAX };
    let (mut database, _) =
        Database::open(&Files::in_directory(directory.path()), &Machine::this(), retention, |_| None)
            .expect("a database");
    let domain = Domain::parse("foo.com").expect("a domain");
    let body = vec![b'x'; 300];
    let mut next = 0;
    for round in 1..=5 {
        let start = Instant::now();
        for _ in 0..TURNS {
            next += 1;
            let (ticket, domain) = (Ticket(next), domain.clone());
            database.commit(&[Change::Live { ticket, domain: domain.clone(), body: body.clone() }]).expect("room");
            database.commit(&[Change::Ended { ticket, domain, ended_at: 0, body: body.clone() }]).expect("room");
        }
        let each = start.elapsed().as_secs_f64() * 1e6 / f64::from(TURNS * 2);
        println!("round {round}: {each:.2} µs for each commit of one row");
    }
    let length = |name| std::fs::metadata(at(name)).map_or(0, |found| found.len()) / 1024;
    println!("the database has {} KiB, its log {} KiB", length("seq.db"), length("seq.db-wal"));
}
