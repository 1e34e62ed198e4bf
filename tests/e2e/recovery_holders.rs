//! The daemon is killed with -9 while somebody has the turn: the next daemon goes on as if nothing had happened.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::wire::{Client, Daemon, Sleeper, until};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};
use seq::store::{Database, Files, Machine, Retention};

const ASK: &str = r#"{"op":"sequence","domain":"a"}"#;

/// The next daemon, after this one was killed.
fn killed(daemon: Daemon) -> Daemon {
    Daemon::start_at(&daemon.kill())
}

fn state(daemon: &Daemon) -> String {
    let mut client = daemon.connect();
    client.send(r#"{"op":"status"}"#);
    client.reply()["domains"][0]["holders"][0]["state"].as_str().unwrap_or_default().to_owned()
}

fn token_of(reply: &str) -> u64 {
    let reply: serde_json::Value = serde_json::from_str(reply).unwrap();
    reply["token"].as_u64().unwrap_or_else(|| panic!("{reply}"))
}

#[test]
fn a_holder_whose_client_lives_keeps_its_turn_before_it_is_back_and_after() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut holder = daemon.connect();
    let active = holder.ask(r#"{"op":"sequence","domain":"a","request_id":"mine","secret":"s"}"#);
    assert_eq!(active, r#"{"type":"active","domain":"a","request_id":"mine","ticket":1,"token":1}"#);
    let daemon = killed(daemon);
    let mut next = daemon.connect();
    let queued = next.ask(ASK);
    assert!(queued.contains(r#""position":1,"total_ahead":1"#), "{queued}");

    let mut holder = daemon.connect();
    let resume = r#"{"op":"sequence","domain":"a","request_id":"mine","secret":"s","resume":1}"#;
    let again = r#"{"type":"active","domain":"a","request_id":"mine","ticket":1,"token":1,"resumed":true}"#;
    assert_eq!(holder.ask(resume), again);
    assert_eq!(state(&daemon), "attached");
    next.hears_nothing();
    holder.send(r#"{"op":"done","ticket":1,"exit_status":0}"#);
    assert!(token_of(&next.line()) > 1);
}

#[test]
fn a_holder_that_is_back_hangs_on_its_connection_again() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    daemon.connect().ask(ASK);
    // That connection is closed: what follows is another turn.
    let mut holder = daemon.connect();
    holder.ask(r#"{"op":"sequence","domain":"b","request_id":"mine","secret":"s"}"#);
    let daemon = killed(daemon);
    let mut back = daemon.connect();
    back.send(r#"{"op":"sequence","domain":"b","request_id":"mine","secret":"s","resume":2}"#);
    assert_eq!(back.reply()["resumed"], true);
    let mut next = daemon.connect();
    assert!(next.ask(r#"{"op":"sequence","domain":"b"}"#).contains("queued"));
    drop(back);
    assert!(token_of(&next.line()) > 2, "the process of this test lives, but its connection kept the turn");
}

#[test]
fn an_orphan_keeps_its_turn_until_its_process_ends() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let (mut wrapper, mut command) = (daemon.connect(), Sleeper::start());
    let ticket = wrapper.takes_turn("a");
    let pidfd = command.pidfd();
    wrapper.send_with(&format!(r#"{{"op":"started","ticket":{ticket},"pid":7,"descriptors":1}}"#), &[pidfd.as_fd()]);
    wrapper.hears_nothing();
    drop(wrapper);
    until("it is orphaned", || (state(&daemon) == "orphaned").then_some(()));
    let daemon = killed(killed(daemon));
    assert_eq!(state(&daemon), "orphaned");
    let mut next = daemon.connect();
    assert!(next.ask(ASK).contains("queued"));
    command.end();
    assert!(token_of(&next.line()) > 1);
}

#[test]
fn an_orphan_keeps_its_turn_until_its_pipe_is_closed() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut wrapper = daemon.connect();
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    wrapper.send_with(r#"{"op":"sequence","domain":"a","descriptors":1}"#, &[reading.as_fd()]);
    drop(reading);
    wrapper.line();
    let mut command = Sleeper(Command::new("sleep").arg("1000").stdout(writing).spawn().unwrap());
    drop(wrapper);
    until("it is orphaned", || (state(&daemon) == "orphaned").then_some(()));
    let daemon = killed(killed(daemon));
    let mut next = daemon.connect();
    assert!(next.ask(ASK).contains("queued"));
    command.end();
    assert!(token_of(&next.line()) > 1);
}

#[test]
fn an_orphan_is_shown_by_its_own_process_though_nobody_has_named_it() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut wrapper = daemon.connect();
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    wrapper.send_with(r#"{"op":"sequence","domain":"a","descriptors":1}"#, &[reading.as_fd()]);
    wrapper.line();
    let script = "sleep 1000 & wait";
    let mut command =
        Sleeper(Command::new("sh").args(["-c", script]).stdout(writing).process_group(0).spawn().unwrap());
    let shown = |daemon: &Daemon| {
        let mut client = daemon.connect();
        client.send(r#"{"op":"status"}"#);
        client.reply()["domains"][0]["holders"][0]["pid"].as_u64()
    };
    let pid = Some(u64::from(command.0.id()));
    assert_ne!(shown(&daemon), pid, "its client is there still");
    drop((reading, wrapper));
    until("the command is found", || (shown(&daemon) == pid).then_some(()));
    let daemon = killed(daemon);
    until("the command is found again", || (shown(&daemon) == pid).then_some(()));
    rustix::process::kill_process_group(Pid::from_child(&command.0), Signal::KILL).unwrap();
    command.0.wait().unwrap();
    let mut client = daemon.connect();
    let turn = until("the end is in the history", || {
        client.send(r#"{"op":"log"}"#);
        client.reply()["turns"].get(0).cloned()
    });
    // What the shell had started may have been found after its death.
    assert_ne!(turn["pid"].as_u64(), Some(u64::from(std::process::id())), "not its client: {turn}");
}

#[test]
fn a_pipe_that_was_closed_while_there_was_no_daemon_ends_the_turn() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut wrapper = daemon.connect();
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    wrapper.send_with(r#"{"op":"sequence","domain":"a","command":"make","descriptors":1}"#, &[reading.as_fd()]);
    drop(reading);
    wrapper.line();
    drop(wrapper);
    until("it is orphaned", || (state(&daemon) == "orphaned").then_some(()));
    let socket = daemon.kill();
    drop(writing);
    let daemon = Daemon::start_at(&socket);
    let mut next = daemon.connect();
    next.takes_turn("a");
    next.send(r#"{"op":"log"}"#);
    let log = next.reply();
    assert_eq!((&log["turns"][0]["ticket"], &log["turns"][0]["outcome"]), (&1.into(), &"gone".into()), "{log}");
    assert_eq!(log["turns"][0]["command"], "make");
}

#[test]
fn a_turn_bound_to_a_process_ends_with_it() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut shell = Sleeper::start();
    let pidfd = shell.pidfd();
    let mut asker = daemon.connect();
    asker.send_with(r#"{"op":"sequence","domain":"a","binding":"process","descriptors":1}"#, &[pidfd.as_fd()]);
    asker.line();
    let daemon = killed(killed(daemon));
    assert_eq!(state(&daemon), "process");
    let mut next = daemon.connect();
    assert!(next.ask(ASK).contains("queued"));
    shell.end();
    assert!(token_of(&next.line()) > 1);
}

#[test]
fn a_lease_goes_on_and_ends_when_it_would_have() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    daemon.connect().ask(r#"{"op":"sequence","domain":"a","binding":"lease","lease_ms":2000}"#);
    daemon.connect().ask(r#"{"op":"sequence","domain":"b","binding":"lease","lease_ms":1}"#);
    let daemon = killed(daemon);
    assert_eq!(state(&daemon), "lease");
    let mut next = daemon.connect();
    next.takes_turn("b");
    assert!(next.ask(ASK).contains("queued"));
    assert!(token_of(&next.line()) > 2);
}

#[test]
fn nobody_without_the_secret_takes_a_turn_up() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut holder = daemon.connect();
    holder.ask(r#"{"op":"sequence","domain":"a","request_id":"mine","secret":"s"}"#);
    let daemon = killed(daemon);
    let mut thief = daemon.connect();
    thief.send(r#"{"op":"sequence","domain":"a","request_id":"mine","secret":"guess","resume":1}"#);
    assert_eq!(thief.reply()["code"], "forbidden");
    thief.send(r#"{"op":"sequence","domain":"a","request_id":"mine","resume":1}"#);
    assert_eq!(thief.reply()["message"], "resume needs the secret that the ticket was asked for with");
    let body: Vec<u8> = {
        let path = daemon.kill().with_file_name("seq.db");
        let database = rusqlite::Connection::open(path).unwrap();
        database.query_row("SELECT body FROM turns WHERE state = 0", [], |row| row.get(0)).unwrap()
    };
    assert!(!String::from_utf8(body).unwrap().contains(r#""secret":"s""#), "only its hash is kept");
}

#[test]
fn a_turn_that_was_given_back_while_there_was_no_daemon_is_in_the_history_with_its_status() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let (mut one, mut two) = (daemon.connect(), daemon.connect());
    one.ask(r#"{"op":"sequence","domain":"a","request_id":"one","secret":"s1"}"#);
    two.ask(r#"{"op":"sequence","domain":"b","request_id":"two","secret":"s2"}"#);
    let socket = daemon.kill();
    let done = socket.with_file_name("done");
    std::fs::create_dir_all(&done).unwrap();
    let note = |ticket: u64, secret: &str, status: u32| {
        let note = format!(r#"{{"ticket":{ticket},"secret":"{secret}","exit_status":{status},"ended_at_ms":0}}"#);
        std::fs::write(done.join(ticket.to_string()), note).unwrap();
    };
    note(1, "s1", 3);
    note(2, "wrong", 0);
    note(77, "s", 0);
    std::fs::write(done.join("5"), "{").unwrap();
    let daemon = Daemon::start_at(&socket);
    let mut client = daemon.connect();
    client.send(r#"{"op":"log"}"#);
    let log = client.reply();
    assert_eq!(log["turns"].as_array().unwrap().len(), 1, "{log}");
    assert_eq!((&log["turns"][0]["request_id"], &log["turns"][0]["exit_status"]), (&"one".into(), &3.into()));
    assert_eq!(log["turns"][0]["outcome"], "done");
    client.takes_turn("a");
    assert!(client.ask(r#"{"op":"sequence","domain":"b"}"#).contains("queued"), "a wrong secret ends nothing");
    assert_eq!(std::fs::read_dir(&done).unwrap().count(), 0, "what is not understood is let go of, too");
    assert!(daemon.log().contains("done/5 is no note ("), "{}", daemon.log());
}

#[test]
fn a_done_that_comes_late_corrects_what_the_history_says() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let (mut wrapper, mut command) = (daemon.connect(), Sleeper::start());
    let ticket = wrapper.takes_turn("a");
    let pidfd = command.pidfd();
    wrapper.send_with(&format!(r#"{{"op":"started","ticket":{ticket},"pid":7,"descriptors":1}}"#), &[pidfd.as_fd()]);
    wrapper.hears_nothing();
    drop(wrapper);
    until("it is orphaned", || (state(&daemon) == "orphaned").then_some(()));
    command.end();
    until("the turn is over", || state(&daemon).is_empty().then_some(()));
    let socket = daemon.kill();
    let done = socket.with_file_name("done");
    std::fs::create_dir_all(&done).unwrap();
    std::fs::write(done.join("1"), r#"{"ticket":1,"secret":"","exit_status":9,"ended_at_ms":0}"#).unwrap();
    let daemon = Daemon::start_at(&socket);
    let mut client = daemon.connect();
    client.send(r#"{"op":"log"}"#);
    let log = client.reply();
    assert_eq!((&log["turns"][0]["outcome"], &log["turns"][0]["exit_status"]), (&"done".into(), &9.into()), "{log}");
}

#[test]
fn tokens_rise_over_every_kill() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut last = 0;
    for _ in 0..5 {
        let mut client: Client = daemon.connect();
        let token = token_of(&client.ask(ASK));
        assert!(token > last, "{token} after {last}");
        last = token;
        client.ask(r#"{"op":"done","domain":"a"}"#);
        daemon = killed(daemon);
    }
}

#[test]
fn a_done_that_was_left_while_the_next_daemon_runs_is_in_the_history_with_its_status_and_time() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut wrapper = daemon.connect();
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    wrapper.send_with(r#"{"op":"sequence","domain":"a","secret":"s","descriptors":1}"#, &[reading.as_fd()]);
    drop(reading);
    wrapper.line();
    drop(wrapper);
    until("it is orphaned", || (state(&daemon) == "orphaned").then_some(()));
    let daemon = killed(daemon);
    let done = daemon.file("done");
    std::fs::create_dir_all(&done).unwrap();
    let began = jiff::Timestamp::now().as_millisecond() - 100_000;
    let note = format!(r#"{{"ticket":1,"secret":"s","exit_status":9,"ended_at_ms":{began}}}"#);
    std::fs::write(done.join("1"), note).unwrap();
    drop(writing);
    let mut next = daemon.connect();
    next.ask(ASK);
    until("the turn is over", || (state(&daemon) == "attached").then_some(()));
    let mut client = daemon.connect();
    client.send(r#"{"op":"log"}"#);
    let turn = client.reply()["turns"][0].clone();
    assert_eq!((&turn["outcome"], &turn["exit_status"]), (&"done".into(), &9.into()), "{turn}");
    assert_eq!((&turn["run_ms"], &turn["ended_at"]), (&0.into(), &turn["started_at"]), "not before it began: {turn}");
    assert_eq!(std::fs::read_dir(&done).unwrap().count(), 0);
}

/// How many descriptors of what kind the daemon has open.
fn open_descriptors(daemon: &Daemon, kind: &str) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let target = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.unwrap().path());
    open.filter_map(|entry| target(entry).ok()).filter(|target| target.to_string_lossy().contains(kind)).count()
}

#[test]
fn what_keeps_a_turn_is_watched_once_however_often_the_daemon_dies() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut command = Sleeper::start();
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let ask = r#"{"op":"sequence","domain":"a","request_id":"r","secret":"s","descriptors":1"#;
    let mut wrapper = daemon.connect();
    wrapper.send_with(&format!("{ask}}}"), &[reading.as_fd()]);
    wrapper.line();
    let started = r#"{"op":"started","ticket":1,"pid":7,"descriptors":1}"#;
    wrapper.send_with(started, &[command.pidfd().as_fd()]);
    wrapper.hears_nothing();
    let before = (open_descriptors(&daemon, "pidfd"), open_descriptors(&daemon, "pipe:"));
    for _ in 0..4 {
        daemon = killed(daemon);
        wrapper = daemon.connect();
        wrapper.send_with(&format!("{ask},\"resume\":1}}"), &[reading.as_fd()]);
        wrapper.line();
        // Also when one client says it twice.
        wrapper.send_with(started, &[command.pidfd().as_fd()]);
        wrapper.send_with(started, &[command.pidfd().as_fd()]);
        wrapper.hears_nothing();
    }
    // What is one too many is let go of by and by.
    until("there are as many as at first", || {
        let now = (open_descriptors(&daemon, "pidfd"), open_descriptors(&daemon, "pipe:"));
        (now == before).then_some(())
    });
    drop(reading);
    // Each of them keeps it, and the last of them ends it.
    drop(wrapper);
    until("it is orphaned", || (state(&daemon) == "orphaned").then_some(()));
    let mut next = daemon.connect();
    assert!(next.ask(ASK).contains("queued"));
    drop(writing);
    next.hears_nothing();
    command.end();
    assert!(token_of(&next.line()) > 1);
}

#[test]
fn what_keeps_a_turn_is_written_down_once_however_often_the_daemon_dies() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let command = Sleeper::start();
    let (reading, _writing) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut wrapper = daemon.connect();
    let ask = r#"{"op":"sequence","domain":"a","request_id":"r","secret":"s","descriptors":1"#;
    wrapper.send_with(&format!("{ask}}}"), &[reading.as_fd()]);
    wrapper.line();
    let mut lengths = Vec::new();
    for _ in 0..4 {
        let pidfd = command.pidfd();
        wrapper.send_with(r#"{"op":"started","ticket":1,"pid":7,"descriptors":1}"#, &[pidfd.as_fd()]);
        wrapper.hears_nothing();
        let socket = daemon.kill();
        let retention = Retention { turns: 1_000, age_ms: i64::MAX };
        let (database, found) =
            Database::open(&Files::in_directory(socket.parent().unwrap()), &Machine::this(), retention, |_| None)
                .unwrap();
        let row: serde_json::Value = serde_json::from_slice(&found[0].body).unwrap();
        lengths.push((row["workers"].as_array().unwrap().len(), row["pipes"].as_array().unwrap().len()));
        drop(database);
        daemon = Daemon::start_at(&socket);
        wrapper = daemon.connect();
        wrapper.send_with(&format!("{ask},\"resume\":1}}"), &[reading.as_fd()]);
        wrapper.line();
    }
    assert_eq!(lengths, [(1, 1); 4]);
}
