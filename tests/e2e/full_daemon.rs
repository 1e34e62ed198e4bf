//! A daemon with as many connections as it may have: who waits goes on waiting, and nobody loses a place or a turn.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use crate::support::{Home, Terminal, Wire, seq_program, seqd_program};
use rustix::process::Signal;
use serde_json::json;

/// A limit on open files with which a daemon has 20 connections, and the 8 for errands.
const OPEN_FILES: &str = "124";

/// What a full daemon says.
const REFUSAL: &str = "20 connections are open already: try again later";

/// What who waits is told.
const WAITS: &str = "the daemon has no room for one more (20 connections are open already); waiting until it has\n";

/// A command of `home` that may have so few open files, and so may the daemon that it starts.
fn limited(home: &Home, program: &str, arguments: &[&str]) -> Command {
    let mut command = home.command("sh");
    command.args(["-c", r#"ulimit -n "$0"; exec "$@""#, OPEN_FILES, program]).args(arguments);
    command
}

/// A daemon that is full, and those who have all of its connections, and a turn each.
fn full(home: &Home) -> Vec<Wire> {
    let (seqd, socket) = (seqd_program(), home.socket());
    let arguments = ["--detach", "--socket", socket.to_str().unwrap()];
    assert!(home.finish(&mut limited(home, seqd.to_str().unwrap(), &arguments)).status.success());
    let take_turn = |number: usize| {
        let mut wire = home.wire();
        let turn = wire.ask(&json!({"op": "sequence", "domain": format!("turn {number}")})).unwrap();
        assert_eq!(turn["type"], "active", "{turn}");
        wire
    };
    (0..20).map(take_turn).collect()
}

#[test]
fn who_finds_no_room_in_the_next_daemon_keeps_place_and_turn_and_says_nothing() {
    let home = Home::new();
    home.warm();
    let gate = home.gate("gate");
    let seq = seq_program();
    let run = |domain: &str, words: &[&str]| {
        let start = ["run", "-d", domain, "--", "./worker"];
        home.launch(&mut limited(&home, seq.to_str().unwrap(), &[&start[..], words].concat()))
    };
    let mut running = Vec::new();
    let domains: Vec<String> = (0..12).map(|number| format!("d{number}")).collect();
    for domain in &domains {
        running.push(run(domain, &[&format!("{domain} 0"), "gate"]));
        home.await_line(&format!("start {domain} 0"));
        for place in 1..=2 {
            running.push(run(domain, &[&format!("{domain} {place}")]));
            home.await_waiters(domain, place);
        }
    }
    home.kill_daemon();
    let log = ".local/state/seq/seqd.log";
    home.await_fact("somebody is turned away", || home.read(log).contains("20 connections are open").then_some(()));
    gate.open();
    for running in running {
        running.wait().is_silent(0);
    }
    for domain in &domains {
        let lines: Vec<String> = home.log().into_iter().filter(|line| line.contains(&format!(" {domain} "))).collect();
        let order = (0..=2).flat_map(|place| [format!("start {domain} {place}"), format!("end {domain} {place}")]);
        assert_eq!(lines, order.collect::<Vec<_>>());
    }
}

#[test]
fn a_new_request_waits_for_room() {
    let home = Home::new();
    let mut clients = full(&home);
    let run = |options: &[&str]| home.start(&[&["run", "-d", "new"], options, &["--", "true"]].concat());
    let told = run(&["-v"]);
    let untold = run(&[]);
    let stopped = run(&["-v"]);
    let is_told = |said: &str| said.contains(WAITS);
    home.await_fact("who waits is told", || is_told(&told.stderr_so_far()).then_some(()));
    home.await_fact("who waits is told", || is_told(&stopped.stderr_so_far()).then_some(()));
    stopped.signal(Signal::INT);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&stopped.wait().status), Some(2));
    run(&["--no-wait"]).wait().says(125, "", &format!("seq: {REFUSAL}\n"));
    let late = run(&["-w", "300ms"]).wait();
    late.complains(75, "seq: no turn in new after ");
    late.complains(75, "ms: the daemon has no room for one more");
    clients.pop();
    let told = told.wait();
    assert_eq!(told.status.code(), Some(0), "{}", told.stderr());
    assert_eq!(told.stderr().matches("waiting until").count(), 1, "once: {}", told.stderr());
    untold.wait().is_silent(0);
}

#[test]
fn on_a_terminal_a_request_says_that_it_waits_for_room() {
    let home = Home::new();
    let mut clients = full(&home);
    let mut terminal = Terminal::start(&home, &home.seq_command(&["run", "-d", "new", "--", "echo", "done"]), 80);
    terminal.await_text(&format!("seq: new: {}", WAITS.trim_end()));
    clients.pop();
    terminal.await_text("done");
    assert_eq!(terminal.wait().status.code(), Some(0));
}

#[test]
fn a_turn_for_a_shell_waits_for_room() {
    let home = Home::new();
    let mut clients = full(&home);
    let running = home.start(&["sequence", "-v", "-d", "new", "--lease", "1h"]);
    home.await_fact("who waits is told", || running.stderr_so_far().contains(WAITS).then_some(()));
    clients.pop();
    let ended = running.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr());
    home.await_holder("new", "lease");
}

#[test]
fn who_waits_for_an_idle_domain_waits_for_room() {
    let home = Home::new();
    let mut clients = full(&home);
    home.seq(&["wait", "-d", "turn 0", "-w", "300ms"]).says(75, "", &format!("seq: {REFUSAL}\n"));
    let mut terminal = Terminal::start(&home, &home.seq_command(&["wait", "-d", "turn 0"]), 80);
    terminal.await_text(WAITS.trim_end());
    clients.truncate(1);
    home.await_fact("it is let in", || {
        let info = home.wire().ask(&json!({"op": "info"}))?;
        (info["counts"]["connections"].as_u64()? == 3).then_some(())
    });
    clients.pop();
    assert_eq!(terminal.wait().status.code(), Some(0));
}

/// With a daemon that is played, so that it can be seen how often it is asked.
#[test]
fn a_turn_is_taken_up_again_without_haste_while_there_is_no_room() {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    let home = Home::new();
    let _gate = home.gate("gate");
    let socket = home.file("played.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    rustix::fs::chmod(&socket, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let running =
        home.start(&["run", "--socket", "played.sock", "--no-start", "-d", "a", "--", "./worker", "one", "gate"]);
    let active = r#"{"type":"active","domain":"a","request_id":"t-5","ticket":5,"token":5}"#;
    let answer = |reply: &str| {
        let mut caller = BufReader::new(listener.accept().unwrap().0);
        let mut asked = String::new();
        // A greeting and a request.
        caller.read_line(&mut asked).unwrap();
        caller.read_line(&mut asked).unwrap();
        writeln!(caller.get_mut(), "{reply}").unwrap();
        (caller, asked)
    };
    let (caller, _) = answer(active);
    home.await_line("start one");
    drop(caller);
    let begin = Instant::now();
    for _ in 0..5 {
        let mut refusal = String::new();
        writeln!(refusal, r#"{{"type":"error","code":"too_many_connections","message":"{REFUSAL}"}}"#).unwrap();
        // At the door, before a word is heard.
        listener.accept().unwrap().0.write_all(refusal.as_bytes()).unwrap();
    }
    let (mut caller, asked) = answer(active);
    // The pauses are 20, 40, 80, 160 and 320 ms.
    assert!(begin.elapsed() >= Duration::from_millis(600), "{:?}", begin.elapsed());
    assert!(asked.contains(r#""resume":5"#), "{asked}");
    let mut started = String::new();
    caller.read_line(&mut started).unwrap();
    assert!(started.contains(r#""op":"started","ticket":5"#), "{started}");
    assert_eq!(running.stderr_so_far(), "");
}
