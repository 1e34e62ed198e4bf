//! What the history says, and where the storage is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use crate::wire::{Client, Daemon};
use serde_json::Value;

fn take_and_give(client: &mut Client, domain: &str, name: &str, status: i32) {
    client.send(&format!(r#"{{"op":"sequence","domain":"{domain}","request_id":"{name}","command":"make {name}"}}"#));
    assert_eq!(client.reply()["type"], "active");
    client.send(&format!(r#"{{"op":"done","domain":"{domain}","request_id":"{name}","exit_status":{status}}}"#));
    assert_eq!(client.reply()["released"], true);
}

/// The request ids of what `log` answers.
fn log(client: &mut Client, options: &str) -> Vec<String> {
    client.send(&format!(r#"{{"op":"log","request_id":"l"{options}}}"#));
    let reply = client.reply();
    assert_eq!((&reply["type"], &reply["request_id"]), (&"log".into(), &"l".into()), "{reply}");
    let turns = reply["turns"].as_array().unwrap().iter();
    turns.map(|turn| turn["request_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_turn_is_a_line_with_all_that_is_known_of_it() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    take_and_give(&mut client, "Foo.COM.", "r-1", 3);
    client.send(r#"{"op":"log"}"#);
    let reply = client.reply();
    let turn = &reply["turns"][0];
    let uid = rustix::process::getuid().as_raw();
    let pid = std::process::id();
    for (field, expected) in [
        ("domain", Value::from("foo.com")),
        ("request_id", "r-1".into()),
        ("ticket", 1.into()),
        ("token", 1.into()),
        ("uid", uid.into()),
        ("pid", pid.into()),
        ("command", "make r-1".into()),
        ("outcome", "done".into()),
        ("exit_status", 3.into()),
        ("wait_ms", 0.into()),
    ] {
        assert_eq!(turn[field], expected, "{field} of {turn}");
    }
    let times: Vec<jiff::Timestamp> =
        ["queued_at", "started_at", "ended_at"].iter().map(|at| turn[at].as_str().unwrap().parse().unwrap()).collect();
    assert!(times.is_sorted(), "{turn}");
}

#[test]
fn the_newest_come_last_and_what_is_asked_for_is_what_comes() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    for (domain, name, status) in [("a", "1", 0), ("b", "2", 1), ("a", "3", 0), ("a", "4", 2)] {
        take_and_give(&mut client, domain, name, status);
    }
    client.takes_turn("b");
    client.ask(r#"{"op":"release","domain":"b"}"#);
    client.line();
    assert_eq!(log(&mut client, ""), ["1", "2", "3", "4", "t-5"]);
    assert_eq!(log(&mut client, r#","domain":"A""#), ["1", "3", "4"]);
    assert_eq!(log(&mut client, r#","failed":true"#), ["2", "4", "t-5"]);
    assert_eq!(log(&mut client, r#","turns_max":2"#), ["4", "t-5"]);
    assert_eq!(log(&mut client, r#","turns_max":0"#), [""; 0]);
    assert_eq!(log(&mut client, r#","since_ms":100000"#).len(), 5);
    assert_eq!(log(&mut client, r#","since_ms":0"#), [""; 0]);
}

#[test]
fn what_is_asked_for_in_one_breath_with_a_turn_has_it_in() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.send(concat!(
        r#"{"op":"sequence","domain":"a","request_id":"r"}"#,
        "\n",
        r#"{"op":"done","domain":"a","request_id":"r"}"#,
        "\n",
        r#"{"op":"log"}"#
    ));
    assert_eq!((client.reply()["type"].clone(), client.reply()["type"].clone()), ("active".into(), "done".into()));
    assert_eq!(client.reply()["turns"][0]["request_id"], "r");
}

#[test]
fn the_history_is_cut_by_count_and_by_age() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut client = daemon.connect();
    for number in 1..=40 {
        take_and_give(&mut client, "a", &number.to_string(), 0);
    }
    let socket = daemon.kill();
    let daemon = Daemon::start_with(&socket, &["--history-turns", "5"]).unwrap();
    let mut client = daemon.connect();
    for number in 41..=50 {
        take_and_give(&mut client, "a", &number.to_string(), 0);
    }
    let newest = ["46", "47", "48", "49", "50"];
    crate::wire::until("only the newest are there", || (log(&mut client, "") == newest).then_some(()));
    let socket = daemon.kill();
    let daemon = Daemon::start_with(&socket, &["--history-age", "0"]).unwrap();
    let mut client = daemon.connect();
    crate::wire::until("the old turns are gone", || log(&mut client, "").is_empty().then_some(()));
}

#[test]
fn what_is_too_old_or_too_many_is_not_shown_though_it_is_there_still() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("seq/seqd.sock");
    for (turns, shown) in [(0, vec![]), (2, vec!["2", "3"])] {
        let daemon = Daemon::start_with(&socket, &["--history-turns", &turns.to_string()]).unwrap();
        let mut client = daemon.connect();
        for number in 1..=3 {
            take_and_give(&mut client, "a", &number.to_string(), 0);
        }
        assert_eq!(log(&mut client, ""), shown);
        daemon.kill();
    }
    let daemon = Daemon::start_with(&socket, &["--history-age", "2s"]).unwrap();
    let mut client = daemon.connect();
    let start = std::time::Instant::now();
    take_and_give(&mut client, "b", "old", 0);
    let shown = log(&mut client, "");
    assert!(shown.contains(&"old".to_owned()) || start.elapsed().as_secs() >= 2, "{shown:?}");
    crate::wire::until("it is too old", || log(&mut client, "").is_empty().then_some(()));
}

#[test]
fn estimates_live_on() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    take_and_give(&mut daemon.connect(), "a", "1", 0);
    let daemon = Daemon::start_at(&daemon.kill());
    let mut client = daemon.connect();
    client.takes_turn("a");
    client.send(r#"{"op":"status"}"#);
    let status = client.reply();
    assert!(status["domains"][0]["usual_run_ms"].is_u64(), "{status}");
}

#[test]
fn info_says_where_everything_is_kept() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.send(r#"{"op":"info"}"#);
    assert_eq!(client.reply()["storage"], daemon.file("seq.db").display().to_string());
}

#[test]
fn in_memory_nothing_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("seq/seqd.sock");
    let daemon = Daemon::start_with(&socket, &["--in-memory"]).unwrap();
    let mut client = daemon.connect();
    client.send(r#"{"op":"info"}"#);
    assert_eq!(client.reply()["storage"], "in memory");
    take_and_give(&mut client, "a", "1", 0);
    assert_eq!(log(&mut client, ""), [""; 0]);
    client.takes_turn("a");
    let socket = daemon.kill();
    assert!(!socket.with_file_name("seq.db").exists() && !socket.with_file_name("seq.mark").exists());
    Daemon::start_with(&socket, &["--in-memory"]).unwrap().connect().takes_turn("a");
}

#[test]
fn the_files_are_for_their_owner_alone() {
    let daemon = Daemon::start();
    daemon.connect().takes_turn("a");
    for name in ["seq.db", "seq.db-wal", "seq.mark"] {
        let found = std::fs::metadata(daemon.file(name)).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777, 0o600, "{name}");
    }
}
