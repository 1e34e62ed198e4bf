//! The protocol, word for word, over the bare socket.

use crate::wire::{Client, Daemon, until};
use serde_json::{Value, json};

#[test]
fn a_turn_is_asked_for_had_and_given_back() {
    let daemon = Daemon::start();
    let (mut first, mut second) = (daemon.connect(), daemon.connect());
    first.send(r#"{"op":"sequence","domain":"Foo.COM.","request_id":"one"}"#);
    first.hears(&[r#"{"type":"active","domain":"foo.com","request_id":"one","ticket":1,"token":1}"#]);

    second.send(r#"{"op":"sequence","domain":"foo.com","positions":true,"an unknown field":[1,{"deep":2}]}"#);
    second
        .hears(&[r#"{"type":"queued","domain":"foo.com","request_id":"t-2","ticket":2,"position":1,"total_ahead":1}"#]);
    first.send(r#"{"op":"done","domain":"foo.com","request_id":"one","exit_status":0}"#);
    first.hears(&[r#"{"type":"done","domain":"foo.com","request_id":"one","ticket":1,"released":true}"#]);
    second.hears(&[r#"{"type":"active","domain":"foo.com","request_id":"t-2","ticket":2,"token":2}"#]);
}

#[test]
fn done_on_an_idle_domain_changes_nothing_however_often() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    for _ in 0..3 {
        client.send(r#"{"op":"done","domain":"foo.com","request_id":"one"}"#);
        client.hears(&[r#"{"type":"done","domain":"foo.com","request_id":"one","released":false}"#]);
    }
}

#[test]
fn who_names_too_many_domains_is_refused_at_the_first_of_them() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let mut ask = |also: Vec<String>| client.ask(&json!({"op": "sequence", "domain": "a", "also": also}).to_string());
    let names = |last: usize| (1..=last).map(|number| number.to_string());
    assert!(ask(names(15).chain(names(15)).collect()).contains("active"));
    // Nobody looks at the last, which is no name.
    let refusal = r#"{"type":"error","code":"bad_request","message":"a request names at most 16 domains"}"#;
    assert_eq!(ask(names(16).chain([String::new()]).collect()), refusal);
}

#[test]
fn many_requests_on_one_connection_are_told_apart() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.send(
        "{\"op\":\"sequence\",\"domain\":\"a\",\"request_id\":\"1\"}\n\
         {\"op\":\"sequence\",\"domain\":\"a\",\"request_id\":\"2\"}\n\
         {\"op\":\"sequence\",\"domain\":\"b\",\"request_id\":\"3\"}\n\
         {\"op\":\"done\",\"domain\":\"a\",\"request_id\":\"1\"}",
    );
    client.hears(&[
        r#"{"type":"active","domain":"a","request_id":"1","ticket":1,"token":1}"#,
        r#"{"type":"queued","domain":"a","request_id":"2","ticket":2,"position":1,"total_ahead":1}"#,
        r#"{"type":"active","domain":"b","request_id":"3","ticket":3,"token":2}"#,
        r#"{"type":"done","domain":"a","request_id":"1","ticket":1,"released":true}"#,
        r#"{"type":"active","domain":"a","request_id":"2","ticket":2,"token":3}"#,
    ]);
}

#[test]
fn the_same_request_again_takes_its_own_place_up_again() {
    let daemon = Daemon::start();
    let (mut holder, mut before, mut after) = (daemon.connect(), daemon.connect(), daemon.connect());
    holder.takes_turn("a");
    let ask = r#"{"op":"sequence","domain":"a","request_id":"mine"}"#;
    let queued = r#"{"type":"queued","domain":"a","request_id":"mine","ticket":2,"position":1,"total_ahead":1}"#;
    assert_eq!(before.ask(ask), queued);
    assert_eq!(after.ask(ask), queued);
    assert_eq!(before.reply()["code"], "taken_over");
    drop(before);
    after.hears_nothing();
    drop(holder);
    after.hears(&[r#"{"type":"active","domain":"a","request_id":"mine","ticket":2,"token":2}"#]);
}

#[test]
fn a_connection_that_ends_leaves_the_line_and_gives_its_turn_back() {
    let daemon = Daemon::start();
    let (mut holder, mut waiter, mut last) = (daemon.connect(), daemon.connect(), daemon.connect());
    holder.takes_turn("a");
    assert!(waiter.ask(r#"{"op":"sequence","domain":"a"}"#).contains(r#""position":1"#));
    assert!(last.ask(r#"{"op":"sequence","domain":"a"}"#).contains(r#""position":2"#));
    drop(waiter);
    let mut looker = daemon.connect();
    until("the waiter is gone", || looker.ask(r#"{"op":"status"}"#).contains(r#""waiting":1"#).then_some(()));
    drop(holder);
    last.hears(&[r#"{"type":"active","domain":"a","request_id":"t-3","ticket":3,"token":2}"#]);
}

#[test]
fn cancel_and_release_end_what_others_asked_for() {
    let daemon = Daemon::start();
    let (mut holder, mut waiter, mut other) = (daemon.connect(), daemon.connect(), daemon.connect());
    holder.takes_turn("a");
    waiter.ask(r#"{"op":"sequence","domain":"a","request_id":"w"}"#);
    assert_eq!(
        other.ask(r#"{"op":"cancel","domain":"a","request_id":"w"}"#),
        r#"{"type":"cancelled","domain":"a","request_id":"w","ticket":2}"#
    );
    assert_eq!(waiter.reply()["code"], "cancelled");
    assert_eq!(
        other.ask(r#"{"op":"release","domain":"a","request_id":"mine"}"#),
        r#"{"type":"released","domain":"a","holder":"t-1","ticket":1,"request_id":"mine"}"#
    );
    assert_eq!(holder.reply()["code"], "released");
    assert_eq!(code(&mut other, r#"{"op":"release","domain":"a"}"#), "not_found");
    assert_eq!(code(&mut other, r#"{"op":"cancel","ticket":1}"#), "not_found");
}

#[test]
fn status_says_who_holds_and_who_waits() {
    let daemon = Daemon::start();
    let (mut holder, mut waiter) = (daemon.connect(), daemon.connect());
    holder.send(r#"{"op":"sequence","domain":"a","request_id":"h","pid":77,"command":"make all"}"#);
    holder.line();
    waiter.ask(r#"{"op":"sequence","domain":"a","request_id":"w","pid":78}"#);
    waiter.send(r#"{"op":"status","domain":"A","request_id":"s"}"#);
    let status = waiter.reply();
    assert_eq!((&status["type"], &status["request_id"]), (&json!("status"), &json!("s")));
    let line = &status["domains"][0];
    assert_eq!((&line["domain"], &line["waiting"]), (&json!("a"), &json!(1)));
    let holder = &line["holders"][0];
    assert_eq!((&holder["pid"], &holder["command"]), (&json!(77), &json!("make all")));
    assert_eq!((&holder["state"], &holder["token"]), (&json!("attached"), &json!(1)));
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!((&line["waiters"][0]["uid"], &line["waiters"][0]["position"]), (&json!(uid), &json!(1)));
    let since = holder["since"].as_str().unwrap();
    assert!(since.parse::<jiff::Timestamp>().is_ok(), "{since}");
    assert_eq!(waiter.ask(r#"{"op":"status","domain":"other"}"#), r#"{"type":"status","domains":[]}"#);
}

#[test]
fn status_estimates_by_past_runs() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.takes_turn("a");
    client.ask(r#"{"op":"done","domain":"a"}"#);
    client.takes_turn("a");
    client.ask(r#"{"op":"sequence","domain":"a"}"#);
    client.send(r#"{"op":"status"}"#);
    let line = &client.reply()["domains"][0];
    assert!(line["usual_run_ms"].as_u64().unwrap() < 1_000, "{line}");
    assert!(line["holders"][0]["left_ms"].is_u64() && line["waiters"][0]["left_ms"].is_u64(), "{line}");
}

#[test]
fn wait_is_answered_when_the_domain_is_idle() {
    let daemon = Daemon::start();
    let (mut holder, mut waiting) = (daemon.connect(), daemon.connect());
    assert_eq!(waiting.ask(r#"{"op":"wait","domain":"A"}"#), r#"{"type":"idle","domain":"a"}"#);
    holder.takes_turn("a");
    waiting.send(r#"{"op":"wait","domain":"a","request_id":"w"}"#);
    waiting.hears_nothing();
    drop(holder);
    waiting.hears(&[r#"{"type":"idle","domain":"a","request_id":"w"}"#]);
}

#[test]
fn waiting_has_an_end_when_it_is_given_one() {
    let daemon = Daemon::start();
    let (mut holder, mut client) = (daemon.connect(), daemon.connect());
    holder.takes_turn("a");
    assert_eq!(code(&mut client, r#"{"op":"sequence","domain":"a","no_wait":true}"#), "busy");
    assert_eq!(code(&mut client, r#"{"op":"wait","domain":"a","max_wait_ms":1}"#), "timed_out");
    client.send(r#"{"op":"sequence","domain":"a","max_wait_ms":1}"#);
    assert_eq!(client.reply()["type"], "queued");
    assert_eq!(client.reply()["code"], "timed_out");
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let daemon = Daemon::start();
    let (mut holder, mut client) = (daemon.connect(), daemon.connect());
    let max = u64::MAX;
    holder.send(&format!(r#"{{"op":"sequence","domain":"a","binding":"lease","lease_ms":{max}}}"#));
    assert_eq!(holder.reply()["type"], "active");
    client.send(&format!(r#"{{"op":"sequence","domain":"a","max_wait_ms":{max}}}"#));
    assert_eq!(client.reply()["type"], "queued");
    client.send(&format!(r#"{{"op":"wait","domain":"a","max_wait_ms":{max}}}"#));
    assert_eq!(code(&mut client, &format!(r#"{{"op":"cancel","ticket":{max}}}"#)), "not_found");
    client.send(&format!(r#"{{"op":"status","waiters_max":{max}}}"#));
    assert_eq!(client.reply()["domains"][0]["waiting"], 1);
}

#[test]
fn a_lease_ends_by_itself() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.send(r#"{"op":"sequence","domain":"a","binding":"lease","lease_ms":20}"#);
    assert_eq!(client.reply()["type"], "active");
    assert_eq!(client.reply()["code"], "expired");
    client.takes_turn("a");
}

#[test]
fn positions_come_when_they_change() {
    let daemon = Daemon::start();
    let (mut holder, mut first, mut second) = (daemon.connect(), daemon.connect(), daemon.connect());
    holder.takes_turn("a");
    first.ask(r#"{"op":"sequence","domain":"a"}"#);
    second.ask(r#"{"op":"sequence","domain":"a","request_id":"s","positions":true}"#);
    drop(first);
    second
        .hears(&[r#"{"type":"queue_position","domain":"a","request_id":"s","ticket":3,"position":1,"total_ahead":1}"#]);
}

#[test]
fn both_sides_say_which_protocol_they_speak() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let hello = client.ask(r#"{"op":"hello","protocol":1,"version":"9.9","request_id":"h"}"#);
    let (version, pid) = (env!("CARGO_PKG_VERSION"), daemon.pid());
    assert_eq!(hello, format!(r#"{{"type":"hello","protocol":1,"version":"{version}","pid":{pid},"request_id":"h"}}"#));
    client.send(r#"{"op":"hello","protocol":2}"#);
    client.hears(&[
        r#"{"type":"error","code":"unsupported_protocol","message":"this daemon speaks protocol 1, the client speaks 2: use the same version of both"}"#,
    ]);
}

#[test]
fn info_tells_about_the_daemon() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.takes_turn("a");
    client.send(r#"{"op":"info","request_id":"i"}"#);
    let info = client.reply();
    assert_eq!(info["type"], "info");
    assert_eq!(info["socket"], daemon.socket.to_str().unwrap());
    assert_eq!(info["log"], daemon.file("seqd.log").to_str().unwrap());
    assert_eq!(info["counts"], json!({"connections":1,"domains":1,"holders":1,"waiters":0,"turns":1}));
    assert_eq!(info["limits"]["line_bytes"], 65_536);
    assert_eq!(info["pid"], daemon.pid());
}

#[test]
fn what_cannot_be_understood_is_refused_and_the_connection_goes_on() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let bad_request = |message: &str| format!(r#"{{"type":"error","code":"bad_request","message":"{message}"}}"#);
    let object = r#"a request is one JSON object on one line, such as {\"op\":\"status\"}"#;
    for (request, message) in [
        ("hello", object),
        (r#"["status"]"#, object),
        ("7", object),
        ("{", "the line is not one JSON object: EOF while parsing an object at line 1 column 1"),
        ("{}", "op is missing: see seq-protocol(7)"),
        (r#"{"op":"done"}"#, "done needs a ticket or a domain"),
        (r#"{"op":"cancel","domain":"a"}"#, "cancel needs a ticket, or a domain and a request_id"),
        (r#"{"op":"release"}"#, "release needs a ticket or a domain"),
        (r#"{"op":"sequence","domain":"a","binding":"lease"}"#, "a turn of binding lease needs lease_ms"),
        (r#"{"op":"sequence","domain":"a","lease_ms":1}"#, "lease_ms is only for a turn of binding lease"),
        (r#"{"op":"sequence","domain":"a","binding":"lease","lease_ms":0}"#, "lease_ms must be at least 1"),
        (
            r#"{"op":"sequence","domain":"a","no_wait":true,"max_wait_ms":5}"#,
            "no_wait and max_wait_ms exclude each other: send one of them",
        ),
        (
            r#"{"op":"sequence","domain":"a","binding":"process"}"#,
            "a turn of binding process needs one descriptor: the pidfd of that process",
        ),
    ] {
        assert_eq!(client.ask(request), bad_request(message), "{request}");
    }
    client.send_bytes(b"{\"op\":\"\xff\"}\n");
    assert_eq!(client.line(), bad_request("the line is not UTF-8: invalid utf-8 sequence of 1 bytes from index 7"));
    client.takes_turn("a");
}

#[test]
fn a_last_line_without_its_newline_is_refused_and_not_read() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.ask(r#"{"op":"info"}"#);
    client.send_bytes(br#"{"op":"stop"}"#);
    client.stream().shutdown(std::net::Shutdown::Write).unwrap();
    let refused = client.reply();
    let message = "the last line has no newline: it was not read as a request";
    assert_eq!((&refused["code"], &refused["message"]), (&"bad_request".into(), &message.into()));
    client.hears_the_end();
    daemon.connect().ask(r#"{"op":"info"}"#);
}

#[test]
fn a_refusal_names_the_request() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.send(r#"{"op":"sequence","request_id":"r","domain":5}"#);
    assert_eq!(client.reply()["request_id"], "r");
    client.send(r#"{"op":"frobnicate","request_id":"r"}"#);
    client.hears(&[
        r#"{"type":"error","code":"unknown_operation","message":"the operation \"frobnicate\" is not known: use one of hello, sequence, started, confirm, done, cancel, release, status, watch, wait, log, info, stop, restart, policy_set, policy_unset, policy_show, pause, resume, output, key_list, key_forget","request_id":"r"}"#,
    ]);
    client.send(r#"{"op":"sequence","domain":" ","request_id":"r"}"#);
    client.hears(&[
        r#"{"type":"error","code":"bad_name","message":"the domain is empty: give it a name, such as foo.com","request_id":"r"}"#,
    ]);
    for request in [
        r#"{"op":"sequence","domain":"a\u0007","request_id":"r"}"#,
        r#"{"op":"sequence","domain":"a","request_id":"r\u0000"}"#,
        r#"{"op":"status","domain":"..","request_id":"r"}"#,
        r#"{"op":"watch","domain":"","request_id":"r"}"#,
        r#"{"op":"wait","domain":"","request_id":"r"}"#,
        r#"{"op":"done","domain":"","request_id":"r"}"#,
        r#"{"op":"cancel","domain":"","request_id":"r"}"#,
        r#"{"op":"release","domain":"","request_id":"r"}"#,
    ] {
        client.send(request);
        let reply = client.reply();
        assert_eq!(reply["code"], "bad_name", "{request}");
        assert!(reply["request_id"].as_str().unwrap().starts_with('r'), "{reply}");
    }
}

#[test]
fn a_client_that_stops_sending_still_gets_its_answers() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.send_bytes(b"{\"op\":\"status\"}\n{\"op\":\"info\"}\n{\"op\":\"done\",\"dom");
    client.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.reply()["type"], "status");
    assert_eq!(client.reply()["type"], "info");
    // Half a line is no request, but gets a word.
    assert_eq!(client.reply()["code"], "bad_request");
    client.hears_the_end();
}

fn code(client: &mut Client, request: &str) -> Value {
    client.send(request);
    client.reply()["code"].clone()
}

#[test]
fn a_policy_names_in_none_only_what_there_is_and_what_it_does_not_set() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let mut refused = |policy: &str, words: &str| {
        let answer = client.ask(&format!(r#"{{"op":"policy_set","pattern":"x","policy":{policy}}}"#));
        assert_eq!(answer, format!(r#"{{"type":"error","code":"bad_request","message":"{words}"}}"#));
    };
    let words = "none names what is no value of a policy: use some of concurrency, max-queue, min-interval, cooldown, \
                 rate, max-run, default-max-wait";
    refused(r#"{"none":["bogus"]}"#, words);
    refused(r#"{"cooldown_ms":2,"none":["bogus"]}"#, words);
    refused(r#"{"max_queue":2,"none":["max-queue"]}"#, "max-queue is set and named in none: leave out one of the two");
}
