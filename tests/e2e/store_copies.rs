//! Database, mark and numbers that are lost, or copies of an earlier time: no number is given twice, and no turn beside
//! one that was given since.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::path::Path;

use crate::refused::{killed, refusal};
use crate::stored::{NAMES, copy};
use crate::wire::Daemon;

#[test]
fn where_database_and_mark_are_gone_nobody_is_let_in_beside_somebody_who_may_have_a_turn() {
    let (_directory, socket) = killed();
    let beside = |name: &str| socket.with_file_name(name);
    let (db, mark, numbers) = (beside("seq.db"), beside("seq.mark"), beside("numbers"));
    for name in NAMES {
        _ = fs::remove_file(beside(name));
    }
    let words = format!(
        "the database {} and {marked} are missing or empty, and {} says that somebody may have a turn: restore them \
         and seq.db-wal beside them as they were last, or, once no command runs under seq any more, move away what is \
         left of seq.db-wal and make an empty file {marked}",
        db.display(),
        numbers.display(),
        marked = mark.display()
    );
    assert_eq!(refusal(&socket), words);
    fs::write(&db, "").unwrap();
    assert_eq!(refusal(&socket), words);
    fs::write(&mark, "").unwrap();
    let mut daemon = Daemon::start_at(&socket);
    let mut client = daemon.connect();
    let turn = client.ask(r#"{"op":"sequence","domain":"a"}"#);
    assert!(turn.contains("active") && !turn.contains(r#""ticket":1,"#), "the numbers go on: {turn}");
    // Where nobody has a turn any more, or waits, there is nothing to miss.
    client.ask(r#"{"op":"done","domain":"a"}"#);
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.wait().success());
    for name in NAMES {
        _ = fs::remove_file(beside(name));
    }
    drop(Daemon::start_at(&socket));
}

/// The ticket and the token of a turn that is given, and ends.
fn a_turn(daemon: &Daemon) -> (u64, u64) {
    let mut client = daemon.connect();
    client.send(r#"{"op":"sequence","domain":"c"}"#);
    let turn = client.reply();
    assert_eq!(turn["type"], "active", "{turn}");
    client.ask(r#"{"op":"done","domain":"c"}"#);
    (turn["ticket"].as_u64().unwrap(), turn["token"].as_u64().unwrap())
}

#[test]
fn numbers_go_on_rising_when_their_file_is_lost_or_older_also_where_the_history_is_gone() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let (numbers, older) = (daemon.file("numbers"), daemon.file("older"));
    fs::copy(&numbers, &older).unwrap();
    let mut socket = daemon.kill();
    let mut last = (0, 0);
    for damage in ["none", "none", "lost", "lost", "older", "lost"] {
        match damage {
            "lost" => fs::remove_file(&numbers).unwrap(),
            "older" => _ = fs::copy(&older, &numbers).unwrap(),
            _ => {}
        }
        let daemon = Daemon::start_with(&socket, &["--history-turns", "0"]).unwrap();
        for _ in 0..2 {
            let next = a_turn(&daemon);
            assert!(next.0 > last.0 && next.1 > last.1, "{damage}: {next:?} after {last:?}");
            last = next;
        }
        socket = daemon.kill();
    }
}

#[test]
fn an_older_copy_of_database_and_mark_is_refused_beside_turns_that_were_given_since() {
    for kills in [true, false] {
        let mut daemon = Daemon::start();
        let _directory = daemon.take_directory();
        a_turn(&daemon);
        let end = |mut daemon: Daemon| {
            if kills {
                return daemon.kill();
            }
            daemon.signal(rustix::process::Signal::TERM);
            assert!(daemon.wait().success());
            daemon.socket.clone()
        };
        let socket = end(daemon);
        let (place, older) = (socket.parent().unwrap(), tempfile::tempdir().unwrap());
        copy(place, older.path());
        let daemon = Daemon::start_at(&socket);
        daemon.connect().ask(r#"{"op":"sequence","domain":"a","binding":"lease","lease_ms":1000000}"#);
        end(daemon);
        let newest = tempfile::tempdir().unwrap();
        copy(place, newest.path());
        let put = |from: &Path| {
            for name in NAMES {
                _ = fs::remove_file(place.join(name));
            }
            copy(from, place);
        };
        put(older.path());
        let [db, log, mark, numbers] = ["seq.db", "seq.db-wal", "seq.mark", "numbers"].map(|name| place.join(name));
        let (log, mark) = (log.display(), mark.display());
        assert_eq!(
            refusal(&socket),
            format!(
                "the database {} and {mark} are copies of an earlier time than {}, and turns were given since then: \
                 restore them and {log} as they were last, or, once no command runs under seq any more, move the \
                 database and {log} away and empty {mark}",
                db.display(),
                numbers.display()
            )
        );
        put(newest.path());
        let daemon = Daemon::start_at(&socket);
        assert!(daemon.connect().ask(r#"{"op":"sequence","domain":"a"}"#).contains("queued"));
        daemon.kill();
        // What is said to be the way out is one.
        put(older.path());
        fs::remove_file(&db).unwrap();
        _ = fs::remove_file(place.join("seq.db-wal"));
        fs::write(place.join("seq.mark"), "").unwrap();
        drop(Daemon::start_at(&socket));
    }
}

#[test]
fn a_start_that_came_no_further_than_the_mark_is_no_reason_to_refuse() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let (numbers, kept) = (daemon.file("numbers"), daemon.file("kept"));
    let socket = daemon.kill();
    fs::copy(&numbers, &kept).unwrap();
    for _ in 0..3 {
        let daemon = Daemon::start_at(&socket);
        a_turn(&daemon);
        daemon.kill();
        fs::copy(&kept, &numbers).unwrap();
    }
}
