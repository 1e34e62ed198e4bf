//! Clients that talk nonsense, cut off what they say, or never end it: nobody else is harmed.

#![expect(clippy::print_stdout, reason = "a seed is what a failure is looked into with")]

#[path = "support/wire.rs"]
mod wire;

use std::io::Write;
use std::os::unix::net::UnixStream;

use serde_json::Value;
use wire::{DEADLINE, Daemon, raise_descriptor_limit};

#[test]
fn a_line_of_100_mib_is_refused_while_another_client_works() {
    let daemon = Daemon::start();
    let before = daemon.memory();
    let mut long = daemon.connect();
    let mut stream = long.stream().try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let piece = vec![b'x'; 1024 * 1024];
        for _ in 0..100 {
            stream.write_all(&piece).unwrap();
        }
        stream.write_all(b"\n{\"op\":\"hello\",\"protocol\":1}\n").unwrap();
    });
    let mut client = daemon.connect();
    while !writer.is_finished() {
        client.takes_turn("a");
        client.ask(r#"{"op":"done","domain":"a"}"#);
    }
    writer.join().unwrap();
    long.hears(&[
        r#"{"type":"error","code":"line_too_long","message":"the line has more than 65536 bytes: it was skipped"}"#,
    ]);
    assert_eq!(long.reply()["type"], "hello");
    let after = daemon.memory();
    assert!(after < before + 4 * 1024 * 1024, "{before} bytes before, {after} after");
}

#[test]
fn a_request_may_be_cut_at_every_byte() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let lines = "{\"op\":\"sequence\",\"domain\":\"ä\",\"request_id\":\"r\"}\n{\"op\":\"done\",\"domain\":\"ä\"}\n";
    for cut in 0..=lines.len() {
        client.send_bytes(&lines.as_bytes()[..cut]);
        // What came so far has been read when somebody else has been answered.
        daemon.connect().ask(r#"{"op":"hello","protocol":1}"#);
        client.send_bytes(&lines.as_bytes()[cut..]);
        assert_eq!(client.reply()["type"], "active", "cut at {cut}");
        assert_eq!(client.reply()["released"], true, "cut at {cut}");
    }
}

#[test]
fn a_thousand_connections_of_garbage_disturb_nobody() {
    raise_descriptor_limit();
    let mut daemon = Daemon::start();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut client = daemon.connect();
    let mut open = Vec::new();
    for _ in 0..1_000 {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        for _ in 0..random.usize(0..4) {
            // The daemon does not hang up on it, but it may be full of answers that nobody reads.
            stream.write_all(&garbage(&mut random)).unwrap();
        }
        if random.bool() {
            open.push(stream);
        }
        client.takes_turn("a");
        client.ask(r#"{"op":"done","domain":"a"}"#);
    }
    assert!(!daemon.is_gone());
    assert!(!daemon.log().contains("panic"), "{}", daemon.log());
}

#[test]
fn every_line_of_garbage_is_answered_by_an_error_or_heard() {
    let daemon = Daemon::start();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut client = daemon.connect();
    for _ in 0..3_000 {
        let mut line = mutated(&mut random);
        line.retain(|byte| *byte != b'\n');
        client.send_bytes(&line);
        client.send_bytes(b"\n{\"op\":\"hello\",\"protocol\":1,\"request_id\":\"!\"}\n");
        loop {
            let reply: Value = client.reply();
            if reply["type"] == "hello" && reply["request_id"] == "!" {
                break;
            }
            // Those that happen to be requests may leave the line with turns and watches; that is all.
            assert!(reply["type"].is_string(), "{reply}");
        }
    }
}

/// Bytes of every kind.
fn garbage(random: &mut fastrand::Rng) -> Vec<u8> {
    match random.u8(0..4) {
        0 => (0..random.usize(0..300)).map(|_| random.u8(..)).collect(),
        1 => b"\n\n{}\n[]\n\0\n".to_vec(),
        2 => b"{".repeat(random.usize(0..2_000)),
        _ => mutated(random),
    }
}

/// A request with a few bytes changed, dropped or doubled.
fn mutated(random: &mut fastrand::Rng) -> Vec<u8> {
    const REQUESTS: [&str; 8] = [
        r#"{"op":"sequence","domain":"x","request_id":"r","positions":true,"max_wait_ms":1}"#,
        r#"{"op":"sequence","domain":"x","binding":"lease","lease_ms":1}"#,
        r#"{"op":"done","domain":"x","ticket":18446744073709551615,"processes":[1,2,3]}"#,
        r#"{"op":"status","waiters_max":0,"idle":true}"#,
        r#"{"op":"started","ticket":1,"pid":1,"descriptors":2}"#,
        r#"{"op":"wait","domain":"x","max_wait_ms":0}"#,
        r#"{"op":"cancel","ticket":3}"#,
        r#"{"op":"hello","protocol":4294967296,"request_id":null}"#,
    ];
    let mut line = REQUESTS[random.usize(..REQUESTS.len())].as_bytes().to_vec();
    for _ in 0..random.usize(0..4) {
        let at = random.usize(..line.len());
        match random.u8(0..3) {
            0 => line[at] = random.u8(..),
            1 => _ = line.remove(at),
            _ => line.insert(at, line[at]),
        }
    }
    line
}
