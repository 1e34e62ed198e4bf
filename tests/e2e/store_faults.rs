//! The daemon dies, or its disk fails, at each single write of a story: whatever was told stays true.
//!
//! The faults are enumerated, not random: see `src/store/fault.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use crate::wire::{Client, Daemon};
use serde_json::Value;
use tempfile::TempDir;

/// Who says what, one after the other. The names are request ids.
const STORY: [(&str, &str); 14] = [
    ("h", r#"{"op":"sequence","domain":"a","request_id":"h","secret":"h"}"#),
    ("w1", r#"{"op":"sequence","domain":"a","request_id":"w1","secret":"w1"}"#),
    ("w2", r#"{"op":"sequence","domain":"a","request_id":"w2","secret":"w2"}"#),
    ("w3", r#"{"op":"sequence","domain":"a","request_id":"w3","secret":"w3"}"#),
    ("b", r#"{"op":"sequence","domain":"b","request_id":"b","secret":"b","binding":"lease","lease_ms":1000000}"#),
    ("op", r#"{"op":"cancel","domain":"a","request_id":"w2"}"#),
    ("h", r#"{"op":"done","domain":"a","request_id":"h","exit_status":7}"#),
    ("w1", r#"{"op":"started","ticket":2,"pid":1}"#),
    ("w1", r#"{"op":"hello","protocol":1}"#),
    ("w4", r#"{"op":"sequence","domain":"a","request_id":"w4","secret":"w4"}"#),
    ("op", r#"{"op":"release","domain":"a"}"#),
    ("w3", r#"{"op":"done","domain":"a","request_id":"w3","exit_status":0}"#),
    ("b", r#"{"op":"sequence","domain":"b","request_id":"b2","secret":"b2"}"#),
    ("w4", r#"{"op":"done","domain":"a","request_id":"w4"}"#),
];

/// Those who ask for turns, with their domain, in the order of their tickets.
const ASKERS: [(&str, &str); 6] = [("h", "a"), ("w1", "a"), ("w2", "a"), ("w3", "a"), ("b", "b"), ("w4", "a")];

/// What was asked and heard before the daemon was gone.
struct Heard {
    socket: std::path::PathBuf,
    _directory: TempDir,
    said: usize,
    replies: Vec<(&'static str, Value)>,
    /// Whether the daemon met no fault until the end of the story.
    survived: bool,
}

/// Tells the story to a daemon with this fault; nothing when it did not even start.
fn tell(fault: &str) -> Heard {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("seq/seqd.sock");
    let mut heard = Heard { socket, _directory: directory, said: 0, replies: Vec::new(), survived: false };
    let Ok(daemon) = Daemon::start_with_fault(&heard.socket, fault) else { return heard };
    let mut clients: Vec<(&str, Client)> = Vec::new();
    for (name, line) in STORY {
        let Ok(stream) = std::os::unix::net::UnixStream::connect(&heard.socket) else { break };
        if !clients.iter().any(|(known, _)| *known == name) {
            clients.push((name, Client::from(stream)));
        }
        let client = &mut clients.iter_mut().find(|(known, _)| *known == name).unwrap().1;
        heard.said += 1;
        if line.contains("started") {
            client.tries_to_say(line);
            continue;
        }
        // What was pushed to it meanwhile comes before its answer.
        let is_answer = |reply: &Value| {
            if line.contains(r#""op":"sequence""#) {
                line.contains(&format!(r#""request_id":{},"#, reply["request_id"]))
            } else {
                !["active", "queued", "error"].contains(&reply["type"].as_str().unwrap())
            }
        };
        client.tries_to_say(line);
        while let Some(reply) = client.next_reply() {
            if reply["type"] == "stalled" {
                continue;
            }
            let is_last = is_answer(&reply);
            heard.replies.push((name, reply));
            if is_last {
                break;
            }
        }
    }
    if let Ok(stream) = std::os::unix::net::UnixStream::connect(&heard.socket) {
        let mut last = Client::from(stream);
        last.tries_to_say(r#"{"op":"hello","protocol":1}"#);
        heard.survived = last.next_reply().is_some() && !daemon.log().contains("ERROR");
    }
    drop(daemon);
    for (name, client) in &mut clients {
        while let Some(reply) = client.next_reply() {
            if reply["type"] == "stalled" {
                continue;
            }
            heard.replies.push((name, reply));
        }
    }
    heard
}

impl Heard {
    /// The last that this asker was told of its request.
    fn last_of(&self, name: &str) -> Option<&Value> {
        let is_about = |(who, reply): &&(&str, Value)| *who == name && reply["request_id"] == name;
        self.replies.iter().rev().find(is_about).map(|(_, reply)| reply)
    }

    fn has_said(&self, line: &str) -> bool {
        STORY[..self.said].iter().any(|(_, said)| said.contains(line))
    }

    /// What must be true when the next daemon is there.
    fn check(&self, fault: &str) {
        let daemon = Daemon::start_at(&self.socket);
        let mut clients = Vec::new();
        let mut holders_of_a = 0;
        let mut places: Vec<u64> = Vec::new();
        let mut ended: Vec<u64> = Vec::new();
        for (name, domain) in ASKERS {
            let Some(last) = self.last_of(name) else { continue };
            let ticket = last["ticket"].as_u64().unwrap();
            let told = last["type"].as_str().unwrap().to_owned();
            if told == "done" {
                ended.push(ticket);
            }
            let mut client = daemon.connect();
            client.send(&format!(
                r#"{{"op":"sequence","domain":"{domain}","request_id":"{name}","secret":"{name}","resume":{ticket}}}"#
            ));
            let reply = client.reply();
            let now = reply["code"].as_str().or(reply["type"].as_str()).unwrap().to_owned();
            let about = format!("{fault}: {name} was told {last}, and then {reply}");
            let may_be_done = self.has_said(&format!(r#""op":"done","domain":"{domain}","request_id":"{name}""#));
            let is_told_right = match (told.as_str(), now.as_str()) {
                ("active", "active") => reply["token"] == last["token"] && reply["ticket"] == ticket,
                ("active" | "queued", "not_found") => may_be_done,
                ("queued", "queued" | "active") => reply["ticket"] == ticket,
                ("queued", "cancelled") => name == "w2" && self.has_said(r#""op":"cancel""#),
                // It may have been given its turn, and never been told.
                ("active" | "queued", "released") => name == "w1" && self.has_said(r#""op":"release""#),
                ("done", "not_found") => true,
                ("error", _) => last["code"] == now,
                _ => false,
            };
            assert!(is_told_right, "{about}");
            if now == "queued" {
                let place = reply["position"].as_u64().unwrap();
                assert!(places.last().is_none_or(|before| *before < place), "{about}");
                places.push(place);
            }
            holders_of_a += usize::from(now == "active" && domain == "a");
            clients.push(client);
        }
        assert!(holders_of_a <= 1, "{fault}: {holders_of_a} hold a");
        let mut client = daemon.connect();
        client.send(r#"{"op":"sequence","domain":"fresh"}"#);
        let token = client.reply()["token"].as_u64().unwrap();
        for (_, reply) in &self.replies {
            assert!(reply["token"].as_u64().is_none_or(|told| told < token), "{fault}: {token} after {reply}");
        }
        client.send(r#"{"op":"log"}"#);
        let log = client.reply();
        for ticket in ended {
            let lines = log["turns"].as_array().unwrap().iter().filter(|turn| turn["ticket"] == ticket);
            assert_eq!(lines.count(), 1, "{fault}: ticket {ticket} in {log}");
        }
    }
}

/// Goes through every fault of a kind, until there is none any more, with room for so many records in the journal;
/// gives how many faults there were.
fn each(kind: &str, records: usize) -> u64 {
    for number in 1.. {
        let fault = format!("{kind}:{number}@{records}");
        let heard = tell(&fault);
        heard.check(&fault);
        if heard.survived {
            return number - 1;
        }
    }
    0
}

#[test]
fn killed_before_and_after_each_commit_and_each_send() {
    let count = each("kill", usize::MAX);
    assert!(count >= 40, "only {count} points were met");
}

#[test]
fn killed_before_and_after_the_database_takes_in_a_few_records_or_one_or_what_has_no_room() {
    let counts = [3, 1, 0].map(|records| each("kill", records));
    assert!(counts.iter().all(|count| *count >= 40), "only {counts:?} points were met");
}

#[test]
fn the_disk_is_full_at_each_write() {
    for (records, least) in [(0, 20), (1, 20), (3, 10)] {
        assert!(each("full", records) >= least);
    }
}

#[test]
fn the_disk_fails_at_each_write() {
    for (records, least) in [(0, 20), (1, 20), (3, 10)] {
        assert!(each("io", records) >= least);
    }
}

#[test]
fn nobody_knows_what_is_on_disk_after_each_write() {
    for (records, least) in [(0, 20), (1, 20), (3, 10)] {
        assert!(each("fsync", records) >= least);
    }
}

#[test]
fn a_write_that_fails_ends_the_daemon_and_is_in_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("seq/seqd.sock");
    // The first is that of its beginning.
    let mut daemon = Daemon::start_with_fault(&socket, "fsync:2@0").unwrap();
    let mut client = daemon.connect();
    client.send(r#"{"op":"sequence","domain":"a"}"#);
    let (db, place) = (daemon.file("seq.db"), socket.parent().unwrap());
    let why = format!(
        "the database {} cannot be read or written (Error code 1034: disk I/O error): see what is wrong with the disk of {}, or with \
         what its owner may do there",
        db.display(),
        place.display()
    );
    assert_eq!(client.reply(), serde_json::json!({"type": "stalled", "message": why}));
    client.hears_the_end();
    assert_eq!(daemon.wait().code(), Some(125));
    assert!(daemon.log().ends_with(&format!("ERROR {why}\n")), "{}", daemon.log());
    Daemon::start_at(&socket).connect().takes_turn("a");
}
