//! Domains that rest between turns, by their policy: each by a user's story.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Home, Running};
use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::Value;

/// What may start in how long by the domain's policy: half of what the upstream allows, for how late a call may be on a
/// busy machine nobody knows.
const RATE: &str = "10/2s";

/// From a start to the one that takes its place: a little longer than the rate says, so that no call need be late.
const WINDOW: Duration = Duration::from_millis(2_050);

/// Calls that the upstream serves in any second.
const UPSTREAM_MAX: usize = 10;

/// Calls in the burst.
const CALLS: usize = 60;

#[track_caller]
fn quietly(home: &Home, words: &str) {
    home.seq(&words.split(' ').collect::<Vec<_>>()).is_silent(0);
}

/// An upstream that counts for itself, by when calls arrive: it serves so many in any second, and refuses the others.
fn upstream() -> (u16, thread::JoinHandle<(usize, usize)>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a socket");
    let port = listener.local_addr().expect("it is bound").port();
    let serving = thread::spawn(move || {
        let (mut served, mut refused) = (Vec::<Instant>::new(), 0);
        while served.len() + refused < CALLS {
            let (mut caller, _) = listener.accept().expect("a caller");
            let now = Instant::now();
            let recent = served.iter().filter(|at| now.duration_since(**at) < Duration::from_secs(1)).count();
            let answer = if recent < UPSTREAM_MAX { "served" } else { "refused" };
            if answer == "served" {
                served.push(now);
            } else {
                refused += 1;
            }
            let mut line = String::new();
            _ = BufReader::new(caller.try_clone().expect("a descriptor")).read_line(&mut line);
            _ = writeln!(caller, "{answer}");
        }
        (served.len(), refused)
    });
    (port, serving)
}

#[test]
fn a_burst_of_sixty_calls_is_served_by_an_upstream_that_allows_ten_in_a_while() {
    let home = Home::new();
    let (port, upstream) = upstream();
    quietly(&home, &format!("policy set foo.com --rate {RATE}"));
    let call = format!("exec 3<>/dev/tcp/127.0.0.1/{port}\necho call >&3\nread -r answer <&3\necho $answer\n");
    home.script("call", &format!("#!/bin/bash\n{call}"));
    let calls: Vec<Running> = (0..CALLS).map(|_| home.start(&["run", "-d", "foo.com", "--", "./call"])).collect();
    for (number, call) in calls.into_iter().enumerate() {
        call.wait().says(0, "served\n", "");
        if number == CALLS / 2 {
            // What began already counts also for the next daemon.
            home.kill_daemon();
        }
    }
    assert_eq!(upstream.join().expect("it ends"), (CALLS, 0));
    let text = home.seq(&["log", "--json", "-n", "100"]).stdout();
    let turns = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let start =
        |turn: Value| turn["started_at"].as_str().and_then(|at| at.parse::<Timestamp>().ok()).expect("a moment");
    let mut starts: Vec<Timestamp> = turns.map(start).collect();
    starts.sort();
    assert_eq!(starts.len(), CALLS);
    for window in starts.windows(UPSTREAM_MAX + 1) {
        let apart = window[UPSTREAM_MAX].duration_since(window[0]).unsigned_abs();
        // They are told in milliseconds.
        assert!(apart + Duration::from_millis(1) >= WINDOW, "{apart:?} in {window:?}");
    }
}

#[test]
fn a_domain_rests_between_two_turns_and_says_until_when() {
    let home = Home::new();
    quietly(&home, "policy set foo.com --cooldown 1h");
    quietly(&home, "run -d foo.com -- true");
    let refused = home.seq(&["run", "-d", "foo.com", "-n", "--", "true"]);
    refused.complains(75, "foo.com is busy: its cooldown lets no turn begin for another ");
    home.kill_daemon();
    let refused = home.seq(&["run", "-d", "foo.com", "-n", "--", "true"]);
    refused.complains(75, "foo.com is busy: its cooldown lets no turn begin for another ");
    let waiter = home.queue("foo.com", "a", 1);
    let status = home.seq(&["status", "-d", "foo.com"]).stdout();
    assert!(status.contains("  its cooldown lets nobody begin for another 59m 5"), "{status}");
    quietly(&home, "policy set foo.com --cooldown 0");
    home.await_line("start a");
    waiter.wait().is_silent(0);
}

#[test]
fn what_was_before_a_policy_was_set_counts() {
    for value in ["--rate 1/1h", "--min-interval 1h", "--cooldown 1h"] {
        for dies in [false, true] {
            let home = Home::new();
            let set = format!("policy set foo.com {value}");
            let refuses = || {
                if dies {
                    home.kill_daemon();
                }
                quietly(&home, &set);
                let refused = home.seq(&["run", "-d", "foo.com", "-n", "--", "true"]);
                refused.complains(75, "lets no turn begin for another ");
                if dies {
                    home.kill_daemon();
                }
                quietly(&home, "policy unset foo.com");
            };
            quietly(&home, "run -d foo.com -- true");
            refuses();
            refuses();
        }
    }
}

#[test]
fn starts_are_as_far_apart_as_the_domain_says() {
    let home = Home::new();
    quietly(&home, "policy set foo.com --min-interval 300ms");
    let before = Instant::now();
    for _ in 0..3 {
        quietly(&home, "run -d foo.com -- true");
    }
    assert!(before.elapsed() >= Duration::from_millis(600), "{:?}", before.elapsed());
}

#[test]
fn starts_are_apart_also_where_one_begins_late() {
    let home = Home::new();
    quietly(&home, "policy set foo.com --concurrency 2 --min-interval 1s");
    quietly(&home, "pause foo.com");
    let begin = |name| home.start(&["run", "-d", "foo.com", "--", "sh", "-c", &format!("date +%s%N > {name}")]);
    let late = begin("late");
    home.await_waiters("foo.com", 1);
    let other = begin("other");
    home.await_waiters("foo.com", 2);
    late.signal(Signal::STOP);
    quietly(&home, "resume foo.com");
    home.await_status("foo.com", "the stopped one has its turn", |line| {
        line["holders"].as_array().is_some_and(|holders| holders.len() == 1)
    });
    let waits = |line: &Value| line["head"]["waits_for"] == "start" && line["head"]["left_ms"].is_null();
    let status = home.await_status("foo.com", "the other waits for it to begin", waits);
    assert_eq!(status["holders"][0]["pid"], late.pid(), "{status}");
    let page = home.seq(&["status", "-d", "foo.com"]).stdout();
    assert!(page.contains("the 1st waits until the turn given before it begins"), "{page}");
    let refused = home.seq(&["run", "-d", "foo.com", "-w", "10ms", "--", "true"]);
    let sentence = format!("(pid {}) was given its turn and has to begin first", late.pid());
    refused.complains(75, &sentence);
    // As it must be also for the next daemon.
    home.kill_daemon();
    home.await_status("foo.com", "the other waits for it to begin", waits);
    assert!(!home.file("late").exists() && !home.file("other").exists());
    late.signal(Signal::CONT);
    late.wait().is_silent(0);
    other.wait().is_silent(0);
    let at = |name| home.read(name).trim().parse::<u64>().expect("nanoseconds");
    let apart = Duration::from_nanos(at("other") - at("late"));
    // What each shell takes to look at its clock differs.
    assert!(apart > Duration::from_millis(900), "{apart:?}");
}

#[test]
fn a_start_counts_from_when_it_was_also_where_no_daemon_saw_it() {
    let home = Home::new();
    quietly(&home, "policy set foo.com --concurrency 2 --min-interval 5s");
    quietly(&home, "pause foo.com");
    let late = home.start(&["run", "-d", "foo.com", "--", "./worker", "late"]);
    home.await_waiters("foo.com", 1);
    late.signal(Signal::STOP);
    quietly(&home, "resume foo.com");
    home.await_status("foo.com", "the stopped one has its turn", |line| {
        line["holders"].as_array().is_some_and(|holders| holders.len() == 1)
    });
    // So long that it would not matter any more when the turn was given.
    thread::sleep(Duration::from_secs(6));
    home.kill_daemon();
    late.signal(Signal::CONT);
    assert_eq!(late.wait().status.code(), Some(0));
    let refused = home.seq(&["run", "-d", "foo.com", "-n", "--", "true"]);
    refused.complains(75, "its min-interval lets no turn begin for another ");
}

#[test]
fn a_turn_that_ended_while_there_was_no_daemon_is_rested_after() {
    let home = Home::new();
    let gate = home.gate("gate");
    quietly(&home, "policy set foo.com --cooldown 1h");
    let holder = home.hold("foo.com", "a", "gate");
    quietly(&home, "stop");
    gate.open();
    holder.wait();
    let refused = home.seq(&["run", "-d", "foo.com", "-n", "--", "true"]);
    refused.complains(75, "its cooldown lets no turn begin for another ");
}
