//! The daemon is killed with -9 while a line is long: everybody keeps the place, whoever comes back first.

use std::time::{Duration, Instant};

use crate::puppet::Puppet;
use crate::wire::{Client, Daemon};
use rustix::process::Signal;
use seq::protocol::limits::AWAY_GRACE;

fn ask(name: &str) -> String {
    format!(r#"{{"op":"sequence","domain":"a","request_id":"{name}","secret":"{name}"}}"#)
}

fn resume(name: &str, ticket: u64) -> String {
    format!(r#"{{"op":"sequence","domain":"a","request_id":"{name}","secret":"{name}","resume":{ticket}}}"#)
}

/// A daemon on whose line a holder and these waiters stand, all of them this process.
fn line_of(waiters: &[&str]) -> (Daemon, Vec<Client>) {
    let daemon = Daemon::start();
    let mut clients = vec![daemon.connect()];
    clients[0].ask(&ask("holder"));
    for name in waiters {
        let mut client = daemon.connect();
        client.send(&ask(name));
        assert_eq!(client.reply()["type"], "queued");
        clients.push(client);
    }
    (daemon, clients)
}

fn killed(daemon: Daemon) -> Daemon {
    Daemon::start_at(&daemon.kill())
}

/// Gives the turn back, and expects that it goes to this one next.
#[track_caller]
fn pass_on(holder: &mut Client, next: &mut Client, name: &str) {
    holder.send(r#"{"op":"done","domain":"a"}"#);
    assert_eq!(holder.reply()["released"], true);
    let active = next.reply();
    assert_eq!((&active["type"], &active["request_id"]), (&"active".into(), &name.into()), "{active}");
}

#[test]
fn those_who_come_back_in_another_order_stand_as_before_and_new_ones_behind_them() {
    let (mut daemon, clients) = line_of(&["w1", "w2", "w3"]);
    let _directory = daemon.take_directory();
    let daemon = killed(daemon);
    drop(clients);
    let mut fresh = daemon.connect();
    assert_eq!((fresh.send(&ask("fresh")), fresh.reply()["position"].clone()).1, 4);
    let back = |name: &str, ticket: u64| {
        let mut client = daemon.connect();
        client.send(&resume(name, ticket));
        (client.reply(), client)
    };
    let (place, mut w3) = back("w3", 4);
    assert_eq!((&place["type"], &place["position"], &place["ticket"]), (&"queued".into(), &3.into(), &4.into()));
    let (place, mut w1) = back("w1", 2);
    assert_eq!((&place["position"], &place["total_ahead"]), (&1.into(), &1.into()), "{place}");
    let (active, mut holder) = back("holder", 1);
    assert_eq!(active["resumed"], true);
    let (place, mut w2) = back("w2", 3);
    assert_eq!(place["position"], 2);
    pass_on(&mut holder, &mut w1, "w1");
    pass_on(&mut w1, &mut w2, "w2");
    pass_on(&mut w2, &mut w3, "w3");
    pass_on(&mut w3, &mut fresh, "fresh");
}

/// The daemon died before it could tell the tickets, and to a client in another pid namespace its own number, which
/// `status` shows as the daemon sees it, says nothing.
#[test]
fn who_was_never_told_a_ticket_has_it_by_the_secret_alone() {
    let (mut daemon, clients) = line_of(&["w1"]);
    let _directory = daemon.take_directory();
    let daemon = killed(daemon);
    drop(clients);
    let again = |name: &str| {
        let mut client = daemon.connect();
        client.send(&format!(r#"{{"op":"sequence","domain":"a","secret":"{name}","pid":4194305}}"#));
        (client.reply(), client)
    };
    let (place, mut w1) = again("w1");
    assert_eq!((&place["type"], &place["ticket"]), (&"queued".into(), &2.into()), "{place}");
    let (active, mut holder) = again("holder");
    assert_eq!((&active["ticket"], &active["resumed"]), (&1.into(), &true.into()), "{active}");
    pass_on(&mut holder, &mut w1, "w1");
}

#[test]
fn the_turn_waits_for_the_head_of_the_line_while_its_client_is_slow() {
    let (mut daemon, clients) = line_of(&["w1", "w2"]);
    let _directory = daemon.take_directory();
    let daemon = killed(daemon);
    drop(clients);
    let (mut holder, mut w2) = (daemon.connect(), daemon.connect());
    assert!(w2.ask(&resume("w2", 3)).contains("queued"));
    holder.ask(&resume("holder", 1));
    holder.ask(r#"{"op":"done","domain":"a"}"#);
    w2.hears_nothing();
    let mut other = daemon.connect();
    other.takes_turn("b");
    other.send(r#"{"op":"sequence","domain":"a","no_wait":true}"#);
    assert_eq!(other.reply()["code"], "busy");
    let mut w1 = daemon.connect();
    let answers = [w1.ask(&resume("w1", 2))];
    let active = if answers[0].contains("queued") { w1.line() } else { answers[0].clone() };
    assert!(active.contains(r#""type":"active","domain":"a","request_id":"w1","ticket":2"#), "{active}");
    w2.hears_nothing();
    pass_on(&mut w1, &mut w2, "w2");
}

#[test]
fn a_waiter_whose_client_died_with_the_daemon_is_waited_for_by_nobody() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut holder = daemon.connect();
    holder.ask(&ask("holder"));
    let mut dead = Puppet::connect(&daemon.socket);
    assert!(dead.ask(&ask("dead")).contains("queued"));
    let mut w2 = daemon.connect();
    w2.send(&ask("w2"));
    assert_eq!(w2.reply()["position"], 2);
    let socket = daemon.kill();
    dead.kill();
    let daemon = Daemon::start_at(&socket);
    let mut w2 = daemon.connect();
    w2.send(&resume("w2", 3));
    assert_eq!(w2.reply()["position"], 1);
    let mut holder = daemon.connect();
    holder.ask(&resume("holder", 1));
    pass_on(&mut holder, &mut w2, "w2");
}

#[test]
fn a_holder_whose_client_died_with_the_daemon_has_no_turn_any_more() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut dead = Puppet::connect(&daemon.socket);
    assert!(dead.ask(&ask("dead")).contains("active"));
    let socket = daemon.kill();
    dead.kill();
    let daemon = Daemon::start_at(&socket);
    daemon.connect().takes_turn("a");
}

#[test]
fn a_client_that_dies_after_the_restart_and_before_it_is_back_lets_go() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut holder = Puppet::connect(&daemon.socket);
    assert!(holder.ask(&ask("holder")).contains("active"));
    let daemon = killed(daemon);
    let mut next = daemon.connect();
    assert!(next.ask(&ask("next")).contains("queued"));
    next.hears_nothing();
    holder.kill();
    assert_eq!(next.reply()["type"], "active");
}

#[test]
fn a_place_is_given_up_when_nobody_comes_back_for_it_in_time() {
    let (mut daemon, clients) = line_of(&["never"]);
    let _directory = daemon.take_directory();
    let daemon = killed(daemon);
    drop(clients);
    let start = Instant::now();
    let (mut holder, mut next) = (daemon.connect(), daemon.connect());
    holder.ask(&resume("holder", 1));
    holder.ask(r#"{"op":"done","domain":"a"}"#);
    assert!(next.ask(&ask("next")).contains("queued"));
    assert_eq!(next.reply()["type"], "active");
    assert!(start.elapsed() > Duration::from_secs(8), "the grace is 10 s: {:?}", start.elapsed());
    next.send(&resume("never", 2));
    assert_eq!(next.reply()["code"], "not_found");
}

#[test]
fn a_waiter_that_was_cancelled_in_the_last_moment_is_told_so_by_the_next_daemon() {
    let (mut daemon, _clients) = line_of(&["w1"]);
    let _directory = daemon.take_directory();
    let mut operator = daemon.connect();
    operator.ask(r#"{"op":"cancel","ticket":2}"#);
    let daemon = killed(daemon);
    let mut w1 = daemon.connect();
    w1.send(&resume("w1", 2));
    assert_eq!(w1.reply()["code"], "cancelled");
    w1.send(r#"{"op":"log"}"#);
    assert_eq!(w1.reply()["turns"].as_array().unwrap().len(), 0, "it never had its turn");
}

#[test]
fn waiting_does_not_begin_again_with_the_next_daemon() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let (mut holder, mut waiter) = (daemon.connect(), daemon.connect());
    holder.ask(&ask("holder"));
    waiter.ask(r#"{"op":"sequence","domain":"a","request_id":"w","secret":"w","max_wait_ms":1500}"#);
    let daemon = killed(daemon);
    let mut waiter = daemon.connect();
    waiter.send(r#"{"op":"sequence","domain":"a","request_id":"w","secret":"w","resume":2,"max_wait_ms":1000000}"#);
    assert_eq!(waiter.reply()["type"], "queued");
    assert_eq!(waiter.reply()["code"], "timed_out");
}

#[test]
fn a_restart_on_purpose_keeps_everybody_and_numbers_go_on_without_a_gap() {
    let (mut daemon, mut clients) = line_of(&["w1"]);
    let _directory = daemon.take_directory();
    let pid = daemon.pid();
    let mut operator = daemon.connect();
    assert_eq!(
        operator.ask(r#"{"op":"restart","request_id":"r"}"#),
        format!(r#"{{"type":"restarting","pid":{pid},"request_id":"r"}}"#)
    );
    for client in &mut clients {
        assert_eq!(client.reply()["code"], "restarting");
    }
    assert!(daemon.wait().success());
    assert!(daemon.log().ends_with(" outlive this daemon\n"), "{}", daemon.log());
    let daemon = Daemon::start_at(&daemon.socket);
    let (mut holder, mut w1) = (daemon.connect(), daemon.connect());
    assert!(w1.ask(&resume("w1", 2)).contains(r#""position":1"#));
    assert!(holder.ask(&resume("holder", 1)).contains(r#""resumed":true"#));
    holder.ask(r#"{"op":"done","domain":"a"}"#);
    w1.hears(&[r#"{"type":"active","domain":"a","request_id":"w1","ticket":2,"token":2}"#]);
    assert_eq!(daemon.connect().takes_turn("b"), 3);
}

#[test]
fn whoever_waits_when_the_daemon_is_stopped_for_good_is_not_there_any_more() {
    let (mut daemon, mut clients) = line_of(&["w1"]);
    let _directory = daemon.take_directory();
    daemon.connect().ask(r#"{"op":"stop"}"#);
    assert_eq!(clients[1].reply()["code"], "leaving");
    assert!(daemon.wait().success());
    let daemon = Daemon::start_at(&daemon.socket);
    daemon.connect().takes_turn("a");
}

#[test]
fn a_daemon_that_is_stopped_as_it_starts_keeps_the_places_of_those_who_come_back_meanwhile() {
    let (mut daemon, clients) = line_of(&["w1"]);
    let _directory = daemon.take_directory();
    let daemon = killed(daemon);
    drop(clients);
    daemon.signal(Signal::STOP);
    let mut w1 = daemon.connect();
    w1.send(&resume("w1", 2));
    // Longer than places are kept for clients that are away.
    std::thread::sleep(AWAY_GRACE + Duration::from_secs(1));
    let mut fresh = daemon.connect();
    fresh.send(&ask("fresh"));
    daemon.signal(Signal::CONT);
    let place = w1.reply();
    assert_eq!((&place["type"], &place["position"]), (&"queued".into(), &1.into()), "{place}");
    assert_eq!(fresh.reply()["position"], 2);
}
