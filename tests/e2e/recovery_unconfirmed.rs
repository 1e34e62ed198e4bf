//! The daemon is killed with -9 while a turn is not confirmed: the next one keeps it for its client, and for nobody else.

use std::os::fd::AsFd;

use crate::puppet::Puppet;
use crate::wire::{Daemon, Sleeper, until};

const ASK: &str = r#"{"op":"sequence","domain":"a","request_id":"x","secret":"s","binding":"lease","lease_ms":3600000,"confirm":true}"#;
const RESUME: &str = r#"{"op":"sequence","domain":"a","request_id":"x","secret":"s","binding":"lease","lease_ms":3600000,"confirm":true,"resume":1}"#;

fn killed(daemon: Daemon) -> Daemon {
    Daemon::start_at(&daemon.kill())
}

fn holders(daemon: &Daemon) -> usize {
    let mut client = daemon.connect();
    client.send(r#"{"op":"status","domain":"a"}"#);
    client.reply()["domains"][0]["holders"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_turn_that_no_client_comes_back_for_ends_with_that_client() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut client = Puppet::connect(&daemon.socket);
    assert!(client.ask(ASK).contains("active"));
    let daemon = killed(daemon);
    assert_eq!(holders(&daemon), 1, "its client lives");
    client.kill();
    until("nobody has the turn", || (holders(&daemon) == 0).then_some(()));
}

#[test]
fn a_turn_whose_client_is_gone_is_not_taken_up() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut client = Puppet::connect(&daemon.socket);
    assert!(client.ask(ASK).contains("active"));
    let socket = daemon.kill();
    client.kill();
    assert_eq!(holders(&Daemon::start_at(&socket)), 0);
}

#[test]
fn a_turn_that_is_confirmed_at_the_next_daemon_stands() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut client = Puppet::connect(&daemon.socket);
    assert!(client.ask(ASK).contains("active"));
    let daemon = killed(daemon);
    let mut back = daemon.connect();
    assert!(back.ask(RESUME).contains(r#""resumed":true"#));
    back.send(r#"{"op":"confirm","ticket":1}"#);
    back.hears(&[r#"{"type":"confirmed","domain":"a","request_id":"x","ticket":1}"#]);
    drop(back);
    client.kill();
    let daemon = killed(daemon);
    assert_eq!(holders(&daemon), 1);
}

#[test]
fn a_turn_that_was_confirmed_stands_through_a_death() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut client = Puppet::connect(&daemon.socket);
    assert!(client.ask(ASK).contains("active"));
    assert!(client.ask(r#"{"op":"confirm","ticket":1}"#).contains("confirmed"));
    let socket = daemon.kill();
    client.kill();
    assert_eq!(holders(&Daemon::start_at(&socket)), 1);
}

#[test]
fn a_turn_bound_to_a_process_needs_that_and_its_client() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut owner = Sleeper::start();
    let mut client = daemon.connect();
    let ask = r#"{"op":"sequence","domain":"a","binding":"process","descriptors":1,"confirm":true}"#;
    client.send_with(ask, &[owner.pidfd().as_fd()]);
    assert!(client.line().contains("active"));
    let daemon = killed(daemon);
    assert_eq!(holders(&daemon), 1, "this test is the client, and lives");
    let socket = daemon.kill();
    owner.end();
    assert_eq!(holders(&Daemon::start_at(&socket)), 0);
}
