//! `seq sequence` that does not report success leaves no turn behind, in whichever moment it ends.

use std::fs::DirBuilder;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::support::{DEADLINE, Home, Running};
use rustix::process::Signal;
use serde_json::{Value, json};

const ACTIVE: &str = r#"{"type":"active","domain":"a","request_id":"t-1","ticket":1,"token":1}"#;

/// A daemon that does what the test says, and nothing else.
struct Puppet {
    listener: UnixListener,
}

impl Puppet {
    fn listen(home: &Home) -> Puppet {
        DirBuilder::new().recursive(true).mode(0o700).create(home.state()).expect("a directory");
        Puppet { listener: UnixListener::bind(home.socket()).expect("a socket") }
    }

    /// Accepts a client, and hears its `hello`.
    fn accept(&self) -> Client {
        let (stream, _) = self.listener.accept().expect("a client");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        let mut client = Client(BufReader::new(stream));
        assert_eq!(client.hears()["op"], "hello");
        client.says(r#"{"type":"hello","protocol":1,"version":"0","pid":1}"#);
        client
    }
}

struct Client(BufReader<UnixStream>);

impl Client {
    /// The next request; `null` when there is none any more.
    fn hears(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line in time");
        if line.is_empty() { Value::Null } else { serde_json::from_str(&line).expect("JSON") }
    }

    fn says(&mut self, line: &str) {
        writeln!(self.0.get_mut(), "{line}").expect("a client that reads");
    }
}

/// `seq sequence` that has just been given its turn, and has said that it knows.
fn granted(home: &Home, puppet: &Puppet) -> (Running, Client) {
    let running = home.start(&["sequence", "-d", "a", "--lease", "1h"]);
    let mut client = puppet.accept();
    assert_eq!(client.hears()["confirm"], true);
    client.says(ACTIVE);
    assert_eq!(client.hears(), json!({"op": "confirm", "ticket": 1}));
    (running, client)
}

#[test]
fn success_is_reported_once_the_turn_is_confirmed() {
    let home = Home::new();
    let puppet = Puppet::listen(&home);
    let (mut running, mut client) = granted(&home, &puppet);
    assert!(!running.has_ended());
    client.says(r#"{"type":"confirmed","domain":"a","request_id":"t-1","ticket":1}"#);
    running.wait().is_silent(0);
    assert_eq!(client.hears(), Value::Null, "nothing is given back");
}

#[test]
fn a_daemon_that_knows_no_confirmation_has_given_the_turn() {
    let home = Home::new();
    let puppet = Puppet::listen(&home);
    let (running, mut client) = granted(&home, &puppet);
    client.says(r#"{"type":"error","code":"unknown_operation","message":"no"}"#);
    running.wait().is_silent(0);
}

#[test]
fn a_signal_after_the_grant_gives_the_turn_back() {
    for (signal, number) in [(Signal::TERM, 15), (Signal::INT, 2)] {
        let home = Home::new();
        let puppet = Puppet::listen(&home);
        let (running, mut client) = granted(&home, &puppet);
        running.signal(signal);
        let done = client.hears();
        assert_eq!((&done["op"], &done["ticket"]), (&"done".into(), &1.into()));
        client.says(r#"{"type":"confirmed","domain":"a","request_id":"t-1","ticket":1}"#);
        client.says(r#"{"type":"done","domain":"a","request_id":"t-1","ticket":1,"released":true}"#);
        running.wait().dies_of(number);
    }
}

#[test]
fn a_signal_while_the_daemon_is_away_gives_the_turn_back_to_the_next() {
    let home = Home::new();
    let puppet = Puppet::listen(&home);
    let (running, client) = granted(&home, &puppet);
    drop(client);
    // It comes back for its turn, and is not answered.
    let mut back = puppet.accept();
    assert_eq!(back.hears()["resume"], 1);
    running.signal(Signal::TERM);
    let mut next = puppet.accept();
    let done = next.hears();
    assert_eq!((&done["op"], &done["ticket"]), (&"done".into(), &1.into()));
    next.says(r#"{"type":"done","domain":"a","request_id":"t-1","ticket":1,"released":true}"#);
    running.wait().dies_of(15);
}

#[test]
fn a_turn_taken_up_at_the_next_daemon_is_confirmed_there() {
    let home = Home::new();
    let puppet = Puppet::listen(&home);
    let (running, client) = granted(&home, &puppet);
    drop(client);
    let mut back = puppet.accept();
    assert_eq!(back.hears()["resume"], 1);
    back.says(r#"{"type":"active","domain":"a","request_id":"t-1","ticket":1,"token":1,"resumed":true}"#);
    assert_eq!(back.hears(), json!({"op": "confirm", "ticket": 1}));
    back.says(r#"{"type":"confirmed","domain":"a","request_id":"t-1","ticket":1}"#);
    running.wait().is_silent(0);
}

/// Lets a stopped daemon go on, and waits until it has heard all that was said to it by those that have gone.
fn let_go_on(home: &Home) {
    home.daemon().signal(Signal::CONT);
    let mut wire = home.wire();
    home.await_fact("the end of all other connections", || {
        (wire.ask(&json!({"op": "info"}))?["counts"]["connections"] == 1).then_some(())
    });
}

#[test]
fn a_daemon_that_did_not_answer_keeps_no_turn_for_it() {
    for binding in [&["--lease", "1h"][..], &[]] {
        let home = Home::new();
        home.warm();
        home.daemon().signal(Signal::STOP);
        let failed = home.seq(&[&["sequence", "-d", "foo.com"], binding].concat());
        let_go_on(&home);
        failed.complains(125, "did not answer for 5 s");
        home.seq(&["run", "-n", "-d", "foo.com", "--", "true"]).is_silent(0);
    }
}

#[test]
fn a_violent_death_before_the_turn_is_known_of_leaves_none() {
    let home = Home::new();
    home.warm();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let waiter = home.start(&["sequence", "-d", "foo.com"]);
    home.await_waiters("foo.com", 1);
    home.daemon().signal(Signal::STOP);
    gate.open();
    waiter.kill();
    let_go_on_after(&home, holder);
    // The process that the turn would have been bound to, this test, lives.
    home.seq(&["run", "-n", "-d", "foo.com", "--", "true"]).is_silent(0);
}

fn let_go_on_after(home: &Home, holder: Running) {
    home.daemon().signal(Signal::CONT);
    holder.wait().is_silent(0);
    let_go_on(home);
}
