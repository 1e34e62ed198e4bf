//! Watching, and clients that do not read.

use crate::wire::{Client, Daemon};
use serde_json::{Value, json};

#[test]
fn a_watcher_hears_what_happens_in_its_domain() {
    let daemon = Daemon::start();
    let (mut watcher, mut client) = (daemon.connect(), daemon.connect());
    watcher.send(r#"{"op":"watch","domain":"A.","request_id":"w"}"#);
    watcher.hears(&[r#"{"type":"watching","request_id":"w","domain":"a"}"#, r#"{"type":"status","domains":[]}"#]);
    client.takes_turn("b");
    client.send(r#"{"op":"sequence","domain":"a","request_id":"r","pid":5,"command":"make"}"#);
    client.line();
    client.send(r#"{"op":"done","domain":"a","request_id":"r","exit_status":2}"#);
    client.line();
    let uid = rustix::process::geteuid().as_raw();
    let common = json!({"type":"event","domain":"a","request_id":"r","ticket":2,"uid":uid,"pid":5,"command":"make"});
    let expected = [
        json!({"event":"queued"}),
        json!({"event":"active","token":2,"waited_ms":0}),
        json!({"event":"ended","token":2,"waited_ms":0,"outcome":"done","exit_status":2}),
    ];
    for mut expected in expected {
        let mut event = watcher.reply();
        let at = event.as_object_mut().unwrap().remove("at").unwrap();
        assert!(at.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{at}");
        event.as_object_mut().unwrap().remove("held_ms");
        expected.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
        assert_eq!(event, expected);
    }
    watcher.hears_nothing();
}

#[test]
fn a_watcher_hears_who_replaced_whom() {
    let daemon = Daemon::start();
    let (mut watcher, mut client) = (daemon.connect(), daemon.connect());
    for id in ["runs", "waits", "newest"] {
        if id == "newest" {
            watcher.send(r#"{"op":"watch"}"#);
            assert_eq!([watcher.reply()["type"].take(), watcher.reply()["type"].take()], ["watching", "status"]);
        }
        let wishes = r#""supersede":"","cancel_running":true"#;
        client.send(&format!(r#"{{"op":"sequence","domain":"a","request_id":"{id}",{wishes}}}"#));
        client.line();
    }
    assert_ne!(client.ask(r#"{"op":"done","domain":"a","request_id":"runs","exit_status":76}"#), "");
    let mut events = (0..4).map(|_| watcher.reply());
    let mut told = |event: &str| {
        let found = events.find(|found| found["event"] == event).unwrap();
        json!([found["ticket"], found["outcome"], found["superseded_by"], found["exit_status"]])
    };
    assert_eq!(told("left"), json!([2, "superseded", 3, null]));
    assert_eq!(told("ended"), json!([1, "superseded", 2, 76]));
}

#[test]
fn a_watcher_hears_of_the_policies_and_pauses_of_its_domain() {
    let daemon = Daemon::start();
    let (mut watcher, mut client) = (daemon.connect(), daemon.connect());
    watcher.send(r#"{"op":"watch","domain":"app/a"}"#);
    assert_eq!([watcher.reply()["type"].take(), watcher.reply()["type"].take()], ["watching", "status"]);
    let requests = [
        r#"{"op":"policy_set","pattern":"other/*","policy":{"concurrency":9}}"#,
        r#"{"op":"policy_set","pattern":"app/*","policy":{"concurrency":3}}"#,
        r#"{"op":"pause","domain":"app/b"}"#,
        r#"{"op":"pause","domain":"app/a","reason":"dinner"}"#,
        r#"{"op":"resume","domain":"app/a"}"#,
        r#"{"op":"policy_unset","pattern":"app/*"}"#,
    ];
    for request in requests {
        assert_ne!(client.ask(request), "");
    }
    daemon.signal(rustix::process::Signal::HUP);
    let uid = rustix::process::geteuid().as_raw();
    let expected = [
        json!({"event":"policy_set","uid":uid,"pattern":"app/*","policy":{"concurrency":3}}),
        json!({"event":"paused","uid":uid,"domain":"app/a","reason":"dinner"}),
        json!({"event":"resumed","uid":uid,"domain":"app/a"}),
        json!({"event":"policy_unset","uid":uid,"pattern":"app/*"}),
        json!({"event":"reloaded"}),
    ];
    for mut expected in expected {
        let mut event = watcher.reply();
        let at = event.as_object_mut().unwrap().remove("at").unwrap();
        assert!(at.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{at}");
        event.as_object_mut().unwrap().remove("config");
        expected["type"] = "policy_event".into();
        assert_eq!(event, expected);
    }
    watcher.hears_nothing();
}

#[test]
fn a_watcher_of_all_domains_is_told_how_things_stand_first() {
    let daemon = Daemon::start();
    let (mut watcher, mut client) = (daemon.connect(), daemon.connect());
    client.takes_turn("b");
    client.takes_turn("a");
    watcher.send(r#"{"op":"watch"}"#);
    watcher.hears(&[r#"{"type":"watching"}"#]);
    let status = watcher.reply();
    assert_eq!((&status["domains"][0]["domain"], &status["domains"][1]["domain"]), (&json!("a"), &json!("b")));
    drop(client);
    let ended = [watcher.reply(), watcher.reply()];
    assert!(ended.iter().all(|event| event["event"] == "ended" && event["outcome"] == "gone"), "{ended:?}");
}

#[test]
fn a_watcher_that_does_not_read_is_told_how_much_it_missed_and_how_things_stand() {
    let daemon = Daemon::start();
    let (mut watcher, mut client) = (daemon.connect(), daemon.connect());
    watcher.send(r#"{"op":"watch"}"#);
    assert_eq!(watcher.reply()["type"], "watching");
    assert_eq!(watcher.reply()["type"], "status");
    let turns = 8_000;
    take_many_turns(&mut client, turns);
    client.takes_turn("at the end");

    let mut heard = 0;
    let missed = loop {
        let reply = watcher.reply();
        match reply["type"].as_str().unwrap() {
            "event" => heard += 1,
            "lagged" => break reply["missed"].as_u64().unwrap(),
            other => panic!("{other}"),
        }
    };
    // Each turn was queued, active and ended; the last one only queued and active.
    assert_eq!(heard + missed, turns * 3 + 2);
    let status = watcher.reply();
    assert_eq!(status["domains"][0]["domain"], "at the end");
    client.ask(r#"{"op":"done","domain":"at the end"}"#);
    assert_eq!(watcher.reply()["event"], "ended");
}

#[test]
fn a_holder_that_does_not_read_never_blocks_another_turn() {
    let daemon = Daemon::start();
    let (mut slow, mut client) = (daemon.connect(), daemon.connect());
    slow.takes_turn("slow");
    slow.stream().set_nonblocking(true).unwrap();
    // As much as the daemon takes from somebody who does not read its answers.
    let line = b"{\"op\":\"status\"}\n".repeat(1_000);
    while std::io::Write::write(&mut slow.stream(), &line).is_ok() {}
    for _ in 0..1_000 {
        client.takes_turn("a");
        client.ask(r#"{"op":"done","domain":"a"}"#);
    }
    let memory = daemon.memory();
    assert!(memory < 64 * 1024 * 1024, "{memory} bytes");
    drop(slow);
    crate::wire::until("the slow one is gone", || (!client.ask(r#"{"op":"status"}"#).contains("slow")).then_some(()));
}

/// Takes and gives back that many turns, a few in one write.
fn take_many_turns(client: &mut Client, turns: u64) {
    const AT_ONCE: u64 = 100;
    let pair = "{\"op\":\"sequence\",\"domain\":\"busy\"}\n{\"op\":\"done\",\"domain\":\"busy\"}\n";
    for _ in 0..turns / AT_ONCE {
        client.send_bytes(pair.repeat(100).as_bytes());
        for _ in 0..AT_ONCE {
            let (active, done): (Value, Value) = (client.reply(), client.reply());
            assert_eq!((&active["type"], &done["released"]), (&json!("active"), &json!(true)));
        }
    }
}
