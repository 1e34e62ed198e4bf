//! Keys on the wire, word for word.

use serde_json::{Value, json};

use crate::wire::{Client, Daemon};

const SAME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn ask(client: &mut Client, request_id: &str, key: &Value) -> Value {
    client.send(&json!({"op": "sequence", "domain": "a", "request_id": request_id, "key": key}).to_string());
    client.reply()
}

fn key(more: &Value) -> Value {
    let mut key = json!({"name": "k", "fingerprint": SAME});
    key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    key
}

#[test]
fn from_first_use_to_last() {
    let daemon = Daemon::start();
    let (mut first, mut second, mut third) = (daemon.connect(), daemon.connect(), daemon.connect());
    let active = ask(&mut first, "r1", &key(&json!({})));
    assert_eq!((&active["type"], &active["key"], &active["ticket"]), (&json!("active"), &json!("k"), &json!(1)));
    assert_eq!(
        ask(&mut second, "r2", &key(&json!({}))),
        json!({"type": "following", "domain": "a", "request_id": "r2", "key": "k", "ticket": 1})
    );
    let conflict = ask(&mut third, "r3", &json!({"name": " k ", "fingerprint": OTHER}));
    assert_eq!(
        (&conflict["code"], &conflict["ticket"], &conflict["request_id"]),
        (&json!("key_conflict"), &json!(1), &json!("r3"))
    );
    assert!(third.ask(r#"{"op":"key_forget","key":"k","request_id":"f"}"#).contains(r#""code":"key_in_use""#));
    first.send(r#"{"op":"done","ticket":1,"exit_status":0}"#);
    assert_eq!(first.reply()["type"], "done");
    let mut done = second.reply();
    for field in ["started_at", "ended_at", "ended_ago_ms"] {
        assert!(!done[field].is_null(), "{field}");
        done.as_object_mut().unwrap().remove(field);
    }
    let pid = std::process::id();
    let expected = json!({
        "type": "key_done", "domain": "a", "request_id": "r2", "key": "k", "exit_status": 0, "ticket": 1,
        "token": active["token"], "pid": pid, "followed": true
    });
    assert_eq!(done, expected);
    let again = ask(&mut third, "r4", &key(&json!({})));
    assert_eq!(
        (&again["type"], &again["followed"], &again["output"]),
        (&json!("key_done"), &Value::Null, &Value::Null)
    );
    assert_eq!(
        third.ask(r#"{"op":"key_forget","key":" k","request_id":"f"}"#),
        r#"{"type":"key_forgotten","request_id":"f","domain":"a","key":"k"}"#
    );
    assert_eq!(third.ask(r#"{"op":"key_list","request_id":"l"}"#), r#"{"type":"key_list","request_id":"l","keys":[]}"#);
    assert_eq!(ask(&mut third, "r5", &key(&json!({})))["type"], "active");
}

#[test]
fn who_waits_is_told_when_another_has_the_key_and_takes_its_own_turn_when_it_is_free() {
    let daemon = Daemon::start();
    let mut holder = daemon.connect();
    holder.takes_turn("a");
    let mut clients: Vec<Client> = (0..3).map(|_| daemon.connect()).collect();
    assert_eq!(ask(&mut clients[0], "r0", &key(&json!({})))["type"], "queued");
    for number in [1, 2] {
        assert_eq!(ask(&mut clients[number], &format!("r{number}"), &key(&json!({})))["ticket"], 2);
    }
    assert!(holder.ask(r#"{"op":"cancel","ticket":2}"#).contains("cancelled"));
    assert_eq!(clients[0].reply()["code"], "cancelled");
    let queued = clients[1].reply();
    assert_eq!(
        (&queued["type"], &queued["request_id"], &queued["ticket"]),
        (&json!("queued"), &json!("r1"), &json!(3))
    );
    let following = clients[2].reply();
    assert_eq!((&following["type"], &following["ticket"]), (&json!("following"), &json!(3)));
}

#[test]
fn bad_keys_are_refused_one_by_one() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let bad = [
        json!({"name": ""}),
        json!({"name": " \t"}),
        json!({"name": "x".repeat(256)}),
        json!({"name": "k", "ttl_ms": 0}),
        json!({"name": "k", "ttl_ms": u64::MAX}),
        json!({"name": "k", "fingerprint": "abc"}),
        json!({"name": "k", "fingerprint": "g".repeat(64)}),
        json!({}),
        json!("k"),
    ];
    for key in bad {
        let refusal = ask(&mut client, "r", &key);
        assert_eq!(refusal["type"], "error", "{key}: {refusal}");
        let code = if key["name"].as_str().is_some_and(|name| name != "k") { "bad_name" } else { "bad_request" };
        assert_eq!(refusal["code"], code, "{key}: {refusal}");
    }
    for (request, code) in [
        (r#"{"op":"key_forget","key":""}"#, "bad_name"),
        (r#"{"op":"key_list","domain":""}"#, "bad_name"),
        (r#"{"op":"key_list","key":""}"#, "bad_name"),
        (r#"{"op":"key_forget"}"#, "bad_request"),
    ] {
        let refusal = client.ask(request);
        assert!(refusal.contains(&format!(r#""code":"{code}""#)), "{request}: {refusal}");
    }
    assert_eq!(ask(&mut client, "r", &json!({"name": "k"}))["type"], "active");
}

#[test]
fn output_is_taken_from_nobody_but_who_has_the_turn_and_records_it() {
    let daemon = Daemon::start();
    let (mut owner, mut other) = (daemon.connect(), daemon.connect());
    let output = |ticket: u64| {
        json!({"op": "output", "ticket": ticket, "output": {"parts": [{"stream": "stdout", "data": "b3V0"}]}})
            .to_string()
    };
    ask(&mut owner, "r1", &key(&json!({"replay": true})));
    let words = |ticket| {
        format!(
            r#"{{"type":"error","code":"not_active","message":"this connection has no turn of ticket {ticket} with a key that records what is written","ticket":{ticket}}}"#
        )
    };
    assert_eq!(other.ask(&output(1)), words(1));
    assert_eq!(owner.ask(&output(2)), words(2));
    owner.send(&output(1));
    owner.send(r#"{"op":"done","ticket":1,"exit_status":0}"#);
    assert_eq!(owner.reply()["type"], "done");
    assert_eq!(owner.ask(&output(1)), words(1));
    let done = ask(&mut other, "r2", &key(&json!({"replay": true})));
    assert_eq!(done["output"], json!({"parts": [{"stream": "stdout", "data": "b3V0"}]}));
    assert_eq!(ask(&mut other, "r3", &key(&json!({})))["output"], Value::Null);
    // Too much is cut where it is too much, and what is no base 64 is refused.
    ask(&mut owner, "r4", &json!({"name": "l", "replay": true}));
    let junk = json!({"op": "output", "ticket": 2, "output": {"parts": [{"stream": "stdout", "data": "QQ"}]}});
    let words = r#"{"type":"error","code":"bad_request","message":"the data of a part is not base 64 with padding (RFC 4648)","ticket":2}"#;
    assert_eq!(owner.ask(&junk.to_string()), words);
    let part = json!({"stream": "stderr", "data": "QUFB".repeat(10_000)});
    for _ in 0..9 {
        owner.send(&json!({"op": "output", "ticket": 2, "output": {"parts": [part]}}).to_string());
    }
    owner.send(r#"{"op":"done","ticket":2,"exit_status":0}"#);
    assert_eq!(owner.reply()["type"], "done");
    let done = ask(&mut other, "r5", &json!({"name": "l", "replay": true}));
    let lengths = |part: &Value| part["data"].as_str().unwrap().trim_end_matches('=').len() * 3 / 4;
    let parts: Vec<usize> = done["output"]["parts"].as_array().unwrap().iter().map(lengths).collect();
    assert_eq!((parts.len(), parts.iter().sum(), &done["output"]["truncated"]), (9, 256 * 1024, &json!(true)));
}

#[test]
fn an_outcome_that_freed_its_key_is_told_to_who_waited_and_lost_its_connection() {
    let daemon = Daemon::start();
    let (mut first, mut second) = (daemon.connect(), daemon.connect());
    ask(&mut first, "r1", &key(&json!({})));
    assert_eq!(ask(&mut second, "r2", &key(&json!({})))["type"], "following");
    drop(second);
    first.send(r#"{"op":"done","ticket":1,"exit_status":7}"#);
    assert_eq!(first.reply()["type"], "done");
    let mut second = daemon.connect();
    let done = ask(&mut second, "r2", &key(&json!({"follows": 1})));
    assert_eq!((&done["type"], &done["exit_status"], &done["followed"]), (&json!("key_done"), &json!(7), &json!(true)));
    // For anybody else the key is free.
    assert_eq!(daemon.connect().ask(r#"{"op":"key_list"}"#), r#"{"type":"key_list","keys":[]}"#);
    let mut third = daemon.connect();
    assert_eq!(ask(&mut third, "r3", &key(&json!({"follows": 9})))["type"], "active");
}
