//! Keys of different users have nothing to do with each other. Only root can play several users; for anybody else there
//! is nothing to see here.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{Gid, Uid};
use rustix::process::geteuid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::wire::{Client, Daemon};

const ALICE: u32 = 12_345;
const BOB: u32 = 12_346;
const GROUP: u32 = 54_321;

/// A daemon of a group, in a directory that others may enter.
fn shared_daemon() -> (TempDir, PathBuf, Daemon) {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let socket = home.path().join("seq/seqd.sock");
    let daemon = Daemon::start_with(&socket, &["--group", &GROUP.to_string()]).unwrap();
    (home, socket, daemon)
}

/// Connects as another user: on Linux a thread can be one by itself, and it is the thread that connects.
fn connect_as(uid: u32, socket: &Path) -> Client {
    let stream = thread::scope(|scope| {
        let connecting = scope.spawn(move || {
            rustix::thread::set_thread_groups(&[Gid::from_raw(GROUP)])?;
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            UnixStream::connect(socket)
        });
        connecting.join().unwrap()
    });
    Client::from(stream.unwrap())
}

fn run(client: &mut Client, request_id: &str, name: &str) -> Value {
    client.send(&json!({"op": "sequence", "domain": "a", "request_id": request_id, "key": {"name": name}}).to_string());
    let reply = client.reply();
    if reply["type"] == "active" {
        client.send(&json!({"op": "done", "ticket": reply["ticket"], "exit_status": 0}).to_string());
        assert_eq!(client.reply()["type"], "done");
    }
    reply
}

fn keys(client: &mut Client) -> Vec<(u64, String)> {
    client.send(r#"{"op":"key_list"}"#);
    let reply = client.reply();
    let found = reply["keys"].as_array().unwrap().iter();
    found.map(|key| (key["uid"].as_u64().unwrap(), key["key"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn the_same_key_is_another_one_for_another_user() {
    if !geteuid().is_root() {
        return;
    }
    let (_home, socket, daemon) = shared_daemon();
    let (mut alice, mut bob, mut root) = (connect_as(ALICE, &socket), connect_as(BOB, &socket), daemon.connect());
    assert_eq!(run(&mut alice, "1", "k")["type"], "active");
    assert_eq!(run(&mut bob, "2", "k")["type"], "active", "hers is not his");
    assert_eq!(run(&mut alice, "3", "k")["type"], "key_done");
    assert_eq!(run(&mut bob, "4", "k")["type"], "key_done");
    assert_eq!(run(&mut root, "5", "k")["type"], "active");
    run(&mut alice, "6", "hers");
    let (alices, bobs) = (u64::from(ALICE), u64::from(BOB));
    assert_eq!(keys(&mut alice), [(alices, "hers".to_owned()), (alices, "k".to_owned())]);
    assert_eq!(keys(&mut bob), [(bobs, "k".to_owned())]);
    assert_eq!(keys(&mut root).len(), 4, "an operator sees all");
}

#[test]
fn nobody_but_an_operator_forgets_the_key_of_another_user() {
    if !geteuid().is_root() {
        return;
    }
    let (_home, socket, daemon) = shared_daemon();
    let (mut alice, mut bob, mut root) = (connect_as(ALICE, &socket), connect_as(BOB, &socket), daemon.connect());
    run(&mut alice, "1", "k");
    assert!(bob.ask(r#"{"op":"key_forget","key":"k"}"#).contains(r#""code":"not_found""#));
    assert_eq!(keys(&mut alice).len(), 1);
    run(&mut bob, "2", "k");
    // Bob's own goes, and not hers.
    assert!(bob.ask(r#"{"op":"key_forget","key":"k"}"#).contains("key_forgotten"));
    assert_eq!((keys(&mut alice).len(), keys(&mut bob).len()), (1, 0));
    assert!(root.ask(r#"{"op":"key_forget","key":"k"}"#).contains("key_forgotten"));
    assert_eq!(keys(&mut root).len(), 0);
    run(&mut alice, "3", "k");
    run(&mut bob, "4", "k");
    let refusal = root.ask(r#"{"op":"key_forget","key":"k"}"#);
    assert!(refusal.contains(r#""code":"several_keys""#), "{refusal}");
}

#[test]
fn nobody_gives_back_or_writes_for_the_key_of_another_user() {
    if !geteuid().is_root() {
        return;
    }
    let (_home, socket, _daemon) = shared_daemon();
    let (mut alice, mut bob) = (connect_as(ALICE, &socket), connect_as(BOB, &socket));
    alice.send(r#"{"op":"sequence","domain":"a","key":{"name":"k","replay":true}}"#);
    assert_eq!(alice.reply()["type"], "active");
    assert!(bob.ask(r#"{"op":"done","ticket":1,"exit_status":0}"#).contains("forbidden"));
    assert!(bob.ask(r#"{"op":"output","ticket":1,"output":{"parts":[]}}"#).contains("not_active"));
    // Bob's request of the same name follows nothing of hers.
    bob.send(r#"{"op":"sequence","domain":"b","key":{"name":"k","follows":1}}"#);
    assert_eq!(bob.reply()["type"], "active");
    drop(alice);
    let mut alice = connect_as(ALICE, &socket);
    crate::wire::until("her key is unknown", || {
        alice.send(r#"{"op":"key_list","domain":"a"}"#);
        (alice.reply()["keys"][0]["state"] == "unknown").then_some(())
    });
    // A late end by somebody else says nothing.
    bob.ask(r#"{"op":"done","ticket":1,"exit_status":0}"#);
    alice.send(r#"{"op":"key_list","domain":"a"}"#);
    assert_eq!(alice.reply()["keys"][0]["state"], "unknown");
}
