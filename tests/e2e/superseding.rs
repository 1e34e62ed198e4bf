//! A newer request takes the place of those that wait, and of the one that runs if it says so.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use crate::support::{Gate, Home, Running};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Starts a worker with more options, which passes `gate`.
fn worker(home: &Home, options: &[&str], name: &str) -> Running {
    home.start(&[&["run", "-d", "foo.com"], options, &["--", "./worker", name, "gate"]].concat())
}

/// As [`worker`], and waits until it is the `place`th of those who wait.
#[track_caller]
fn waiter(home: &Home, options: &[&str], name: &str, place: usize) -> Running {
    let running = worker(home, options, name);
    home.await_waiters("foo.com", place);
    running
}

/// As [`worker`], and waits until it has its turn.
#[track_caller]
fn holder(home: &Home, options: &[&str], name: &str) -> Running {
    let running = worker(home, options, name);
    home.await_line(&format!("start {name}"));
    running
}

#[test]
fn of_ten_deploys_the_first_and_the_last_run() {
    let home = Home::new();
    let gate = home.gate("gate");
    let options = ["--supersede"];
    let first = holder(&home, &options, "1");
    let mut waiting: Option<Running> = None;
    for number in 2..=10 {
        let running = worker(&home, &options, &number.to_string());
        home.await_status("foo.com", "the newest waits", |line| {
            line["waiting"] == 1 && line["waiters"][0]["pid"].as_u64() == Some(running.pid().into())
        });
        if let Some(replaced) = waiting.replace(running) {
            let pid = waiting.as_ref().expect("just put there").pid();
            let ended = replaced.wait();
            ended.complains(76, &format!("was replaced by ticket {number} (pid {pid}"));
        }
    }
    gate.open();
    first.wait().is_silent(0);
    waiting.expect("the last one").wait().is_silent(0);
    assert_eq!(home.log(), ["start 1", "end 1", "start 10", "end 10"]);
}

#[test]
fn the_newest_deploy_can_stop_the_one_that_runs() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let first = holder(&home, &["--supersede"], "1");
    let second = home.start(&["run", "-d", "foo.com", "--supersede", "--cancel-running", "--", "echo", "2"]);
    let ended = first.wait();
    ended.complains(76, &format!("make way for ticket 2 (pid {}", second.pid()));
    second.wait().says(0, "2\n", "");
    assert_eq!(home.log(), ["start 1"]);
    assert_eq!(logged(&home), [json!([1, "superseded", 76, 2]), json!([2, "done", 0, null])]);
    let shown = home.seq(&["log"]).stdout();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].contains("  replaced by ticket 2  ") && lines[2].contains("  status 0  "), "{shown}");
    assert_eq!(home.seq(&["log", "--failed"]).stdout().lines().count(), 2, "it did not end well");
}

#[test]
fn a_turn_that_was_to_make_way_when_its_daemon_died_is_known_for_that() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.script("deaf", "#!/bin/sh\ntrap '' TERM\necho deaf >>log\nread -r line <gate\n");
    let first = home.start(&["run", "-d", "foo.com", "--supersede", "--kill-grace", "1h", "--", "./deaf"]);
    home.await_line("deaf");
    let second = home.start(&["run", "-d", "foo.com", "--supersede", "--cancel-running", "--", "echo", "2"]);
    home.await_status("foo.com", "the first is told", |line| line["holders"][0]["superseded_by"] == 2);
    home.kill_daemon();
    gate.open();
    assert_eq!(first.wait().status.code(), Some(76));
    second.wait().says(0, "2\n", "");
    assert_eq!(logged(&home)[0], json!([1, "superseded", 76, 2]));
}

/// Of each turn that has ended its ticket, how, its status, and for whom it made way.
fn logged(home: &Home) -> Vec<Value> {
    let text = home.seq(&["log", "--json"]).stdout();
    let turns = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    turns.map(|turn| json!([turn["ticket"], turn["outcome"], turn["exit_status"], turn["superseded_by"]])).collect()
}

#[test]
fn a_deploy_that_ignores_term_is_killed_after_its_grace_and_all_it_started() {
    let home = Home::new();
    let _gate = home.gate("gate");
    home.script(
        "deaf",
        "#!/bin/sh\ntrap '' TERM\necho $$ >deaf.pid\n(read -r line <gate) &\nwait\nread -r line <gate\n",
    );
    let options = ["run", "-d", "foo.com", "--supersede=web", "--kill-grace", "100ms", "--", "./deaf"];
    let first = home.start(&options);
    let deaf = home.await_process("deaf.pid");
    let second = home.start(&["run", "-d", "foo.com", "--supersede=web", "--cancel-running", "--", "echo", "2"]);
    assert_eq!(first.wait().status.code(), Some(76));
    assert!(!deaf.is_alive());
    second.wait().says(0, "2\n", "");
}

#[test]
fn workflows_of_one_domain_are_kept_apart_by_their_groups() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = holder(&home, &[], "first");
    let plain = waiter(&home, &[], "plain", 1);
    let api = waiter(&home, &["--supersede=api"], "api", 2);
    let web = waiter(&home, &["--supersede=web"], "web", 3);
    let newer = worker(&home, &["--supersede=web"], "newer");
    web.wait().complains(76, "was replaced by");
    gate.open();
    for running in [first, plain, api, newer] {
        running.wait().is_silent(0);
    }
    let starts: Vec<String> = home.log().into_iter().filter(|line| line.starts_with("start")).collect();
    assert_eq!(starts, ["start first", "start plain", "start api", "start newer"]);
}

/// Starts what replaces the one that has the turn, and waits until that one is to make way.
fn replace_holder(home: &Home) -> Running {
    let second = home.start(&["run", "-d", "foo.com", "--supersede", "--cancel-running", "--", "true"]);
    home.await_status("foo.com", "the first is told", |line| line["holders"][0]["superseded_by"] == 2);
    second
}

/// Stops a seq, so that it is late to see that its command has ended.
fn end_unseen(home: &Home, seq: &Running, gate: &Gate) {
    let command = home.await_status("foo.com", "seq has named its command", |line| {
        line["holders"][0]["pid"].as_u64() != Some(seq.pid().into())
    });
    let command = command["holders"][0]["pid"].to_string();
    suspend(home, seq);
    gate.open();
    home.await_fact("the command has ended", || state(&command).contains(") Z ").then_some(()));
}

fn suspend(home: &Home, seq: &Running) {
    seq.signal(Signal::STOP);
    home.await_fact("seq is stopped", || state(&seq.pid().to_string()).contains(") T ").then_some(()));
}

fn state(pid: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()
}

#[test]
fn a_command_that_ended_before_a_seq_that_was_late_heard_of_its_successor_keeps_its_status() {
    for options in [&["--supersede"][..], &["--supersede", "--max-run", "1h"]] {
        let home = Home::new();
        let gate = home.gate("gate");
        let first = holder(&home, options, "1");
        end_unseen(&home, &first, &gate);
        let second = replace_holder(&home);
        first.signal(Signal::CONT);
        first.wait().is_silent(0);
        second.wait().is_silent(0);
        assert_eq!(logged(&home), [json!([1, "done", 0, 2]), json!([2, "done", 0, null])]);
    }
}

#[test]
fn so_it_does_where_the_daemon_is_dead_by_then() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = holder(&home, &["--supersede"], "1");
    end_unseen(&home, &first, &gate);
    let second = replace_holder(&home);
    suspend(&home, &second);
    home.kill_daemon();
    first.signal(Signal::CONT);
    first.wait().is_silent(0);
    second.signal(Signal::CONT);
    second.wait().is_silent(0);
    assert_eq!(logged(&home)[0], json!([1, "done", 0, 2]));
}

#[test]
fn a_turn_of_a_shell_that_is_given_back_ended_well_though_it_was_to_make_way() {
    let home = Home::new();
    let gate = home.gate("gate");
    let script =
        "\"$SEQ\" sequence -d foo.com --supersede; echo has it >>log; read -r line <gate; \"$SEQ\" done -d foo.com";
    let shell = home.launch(home.command("sh").args(["-c", script]));
    home.await_line("has it");
    let second = replace_holder(&home);
    gate.open();
    shell.wait().is_silent(0);
    second.wait().is_silent(0);
    assert_eq!(logged(&home), [json!([1, "done", null, 2]), json!([2, "done", 0, null])]);
    let shown = home.seq(&["log"]).stdout();
    assert!(shown.lines().nth(1).is_some_and(|line| line.contains("  given back  ")), "{shown}");
    home.seq(&["log", "--failed"]).says(0, "no turn has ended\n", "");
}

#[test]
fn a_turn_that_is_to_make_way_as_soon_as_it_comes_does() {
    let home = Home::new();
    let socket = home.out().with_extension("sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let daemon = thread::spawn(move || {
        let (client, _) = listener.accept().expect("a client");
        for line in BufReader::new(&client).lines().map_while(Result::ok) {
            let request: Value = serde_json::from_str(&line).expect("JSON");
            let request_id = &request["request_id"];
            let replies = match request["op"].as_str().expect("an operation") {
                "hello" => vec![json!({"type": "hello", "protocol": 1, "version": "1", "pid": 1})],
                // Both at once, so that they are read together.
                "sequence" => vec![
                    json!({"type": "active", "domain": "foo.com", "request_id": "r", "ticket": 1, "token": 1}),
                    json!({"type": "error", "code": "superseded", "message": "ticket 1 is to make way", "ticket": 1}),
                ],
                "done" => {
                    let done = json!({"type": "done", "domain": "foo.com", "request_id": request_id, "released": true});
                    _ = (&client).write_all(format!("{done}\n").as_bytes());
                    return request["exit_status"].clone();
                }
                _ => Vec::new(),
            };
            let lines: Vec<String> = replies.iter().map(|reply| format!("{reply}\n")).collect();
            (&client).write_all(lines.concat().as_bytes()).expect("a client that reads");
        }
        Value::Null
    });
    let arguments = ["run", "--close", "-d", "foo.com", "--supersede", "--", "sleep", "60"];
    let ended = home.finish(home.seq_command(&arguments).env("SEQ_SOCKET", &socket));
    ended.says(76, "", "seq: ticket 1 is to make way: stopping the command\n");
    assert_eq!(daemon.join().expect("the thread"), 76);
}
