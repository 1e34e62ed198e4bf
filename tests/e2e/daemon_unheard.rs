//! A client gives up on a daemon that does not answer. What it asked for is not done behind its user's back later.

use std::net::Shutdown;

use crate::wire::{Client, Daemon, until};
use rustix::process::Signal;

/// A daemon in which this client has a turn in `a` and another waits for it.
fn one_has_the_turn_and_one_waits() -> (Daemon, Client, Client) {
    let daemon = Daemon::start();
    let (mut holder, mut waiter) = (daemon.connect(), daemon.connect());
    holder.takes_turn("a");
    assert!(waiter.ask(r#"{"op":"sequence","domain":"a","request_id":"w"}"#).contains("queued"));
    (daemon, holder, waiter)
}

/// Lets clients say these lines while the daemon does not hear, each on a connection that is then treated like this.
fn say_to_the_deaf(daemon: &Daemon, lines: &[&str], then: impl Fn(Client)) {
    let clients: Vec<Client> = lines.iter().map(|_| daemon.connect()).collect();
    until("all are in", || {
        let mut client = daemon.connect();
        client.send(r#"{"op":"info"}"#);
        (client.reply()["counts"]["connections"] == 3 + lines.len()).then_some(())
    });
    daemon.signal(Signal::STOP);
    for (mut client, line) in clients.into_iter().zip(lines) {
        client.send(line);
        then(client);
    }
    daemon.signal(Signal::CONT);
}

#[test]
fn what_nobody_waits_for_any_more_is_not_done() {
    let (mut daemon, mut holder, mut waiter) = one_has_the_turn_and_one_waits();
    let lines = [
        r#"{"op":"release","ticket":1}"#,
        r#"{"op":"release","domain":"a"}"#,
        r#"{"op":"cancel","domain":"a","request_id":"w"}"#,
        r#"{"op":"sequence","domain":"b","binding":"lease","lease_ms":3600000}"#,
        r#"{"op":"restart"}"#,
        r#"{"op":"stop"}"#,
    ];
    say_to_the_deaf(&daemon, &lines, drop);
    until("all are gone", || {
        let mut client = daemon.connect();
        client.send(r#"{"op":"info"}"#);
        (client.reply()["counts"]["connections"] == 3).then_some(())
    });
    holder.hears_nothing();
    waiter.hears_nothing();
    daemon.connect().takes_turn("b");
    holder.send(r#"{"op":"done","ticket":1}"#);
    assert_eq!(waiter.reply()["type"], "active");
    assert!(!daemon.is_gone());
}

#[test]
fn a_done_counts_whoever_hears_the_answer() {
    let (daemon, holder, mut waiter) = one_has_the_turn_and_one_waits();
    say_to_the_deaf(&daemon, &[r#"{"op":"done","ticket":1,"exit_status":5}"#], drop);
    assert_eq!(waiter.reply()["type"], "active");
    waiter.send(r#"{"op":"log"}"#);
    assert_eq!(waiter.reply()["turns"][0]["exit_status"], 5);
    drop(holder);
}

#[test]
fn who_only_has_nothing_more_to_say_still_hears() {
    let (daemon, _holder, mut waiter) = one_has_the_turn_and_one_waits();
    let lines = [r#"{"op":"release","domain":"a"}"#];
    // As `echo … | nc -NU` does. It is kept open on the reading side.
    let kept = std::cell::RefCell::new(Vec::new());
    say_to_the_deaf(&daemon, &lines, |client| {
        client.stream().shutdown(Shutdown::Write).expect("it is open");
        kept.borrow_mut().push(client);
    });
    assert_eq!(kept.borrow_mut()[0].reply()["type"], "released");
    assert_eq!(waiter.reply()["type"], "active");
}

#[test]
fn a_thousand_questions_of_one_who_is_gone_hold_up_nobody() {
    let (daemon, mut holder, mut waiter) = one_has_the_turn_and_one_waits();
    daemon.signal(Signal::STOP);
    for question in [r#"{"op":"status"}"#, r#"{"op":"info"}"#, r#"{"op":"wait","domain":"a"}"#] {
        holder.send(&vec![question; 1_500].join("\n"));
    }
    drop(holder);
    daemon.signal(Signal::CONT);
    // Each question that is answered takes the daemon at least one round, in which it answers one of these, too.
    for round in 0.. {
        assert!(round < 500, "the turn is kept by questions that nobody hears the answers to");
        if waiter.ask(r#"{"op":"hello","protocol":1}"#).contains("active") {
            break;
        }
    }
}
