//! Who is served, by uid. Only root can play several users; for anybody else there is nothing to see here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::wire::{Client, Daemon};
use rustix::fs::{Gid, Uid};
use serde_json::Value;
use tempfile::TempDir;

const ALICE: u32 = 12_345;
const BOB: u32 = 12_346;
const STRANGER: u32 = 12_347;
const GROUP: u32 = 54_321;

#[test]
fn a_group_may_use_the_socket_that_is_opened_to_it() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_home, socket) = open_home();
    let daemon = Daemon::start_with(&socket, &["--group", &GROUP.to_string()]).unwrap();
    let directory = fs::metadata(socket.parent().unwrap()).unwrap();
    assert_eq!((directory.mode() & 0o7777, directory.gid()), (0o750, GROUP));
    let found = fs::symlink_metadata(&socket).unwrap();
    assert_eq!((found.mode() & 0o7777, found.gid()), (0o660, GROUP));

    let mut alice = Client::from(connect_as(ALICE, &[GROUP], &socket).unwrap());
    let mut bob = Client::from(connect_as(BOB, &[GROUP], &socket).unwrap());
    assert_eq!(alice.takes_turn("a"), 1);
    bob.ask(r#"{"op":"sequence","domain":"a","request_id":"bob's"}"#);
    assert_eq!(code(&mut bob, r#"{"op":"release","domain":"a"}"#), "forbidden");
    assert_eq!(code(&mut alice, r#"{"op":"cancel","domain":"a","request_id":"bob's"}"#), "forbidden");
    assert_eq!(code(&mut alice, r#"{"op":"sequence","domain":"a","request_id":"bob's"}"#), "request_id_taken");
    assert_eq!(
        alice.ask(r#"{"op":"stop","request_id":"s"}"#),
        r#"{"type":"error","code":"forbidden","message":"only root and the daemon's own user may stop or restart it","request_id":"s"}"#
    );
    let mut root = daemon.connect();
    assert!(root.ask(r#"{"op":"release","domain":"a"}"#).contains("released"));
    assert_eq!(alice.reply()["code"], "released");
    assert_eq!(bob.reply()["type"], "active");

    assert!(connect_as(STRANGER, &[STRANGER], &socket).is_err(), "the directory is closed to others");
}

#[test]
fn a_users_own_daemon_serves_nobody_else_but_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_home, socket) = open_home();
    let daemon = Daemon::start_at(&socket);
    // Somebody has opened what was closed, after the daemon had looked.
    fs::set_permissions(socket.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let mut alice = Client::from(connect_as(ALICE, &[], &socket).unwrap());
    alice.hears(&[
        r#"{"type":"error","code":"forbidden","message":"this daemon serves uid 0 only: run one of your own"}"#,
    ]);
    alice.hears_the_end();
    assert!(daemon.log().contains("turned away uid 12345: this daemon serves uid 0"), "{}", daemon.log());
    daemon.connect().takes_turn("a");
}

#[test]
fn who_has_the_most_connections_gives_way_to_others_and_operators_always_get_in() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_home, socket) = open_home();
    // 20 connections.
    let mut daemon = start_shared(&socket, 124);
    let connect = |uid| Client::from(connect_as(uid, &[GROUP], &socket).unwrap());
    let mut alices: Vec<Client> = (0..20).map(|_| connect(ALICE)).collect();
    alices[0].takes_turn("a");
    assert!(alices[1].ask(r#"{"op":"sequence","domain":"a"}"#).contains("queued"));
    for alice in &mut alices[2..] {
        assert!(alice.ask(r#"{"op":"watch"}"#).contains("watching"));
    }
    let mut bobs: Vec<Client> = (0..9).map(|_| connect(BOB)).collect();
    for (number, bob) in bobs.iter_mut().enumerate() {
        bob.takes_turn(&format!("bob's {number}"));
    }
    // The newest went first.
    let last = std::iter::from_fn(|| alices[19].next_reply()).last().unwrap();
    assert_eq!(
        (&last["code"], &last["message"]),
        (
            &"too_many_connections".into(),
            &"this connection made room for another user: this user has the most of them".into()
        )
    );
    // Now she has 11, and he has 9 and this one.
    assert_eq!(code(&mut connect(BOB), r#"{"op":"sequence","domain":"more"}"#), "too_many_connections");
    let mut kept = alices.drain(..11).collect::<Vec<_>>();
    drop(alices);

    // Her own do not wait for each other once the extra places are taken, so that nobody waits behind them.
    let extra: Vec<Client> = (0..8).map(|_| connect(ALICE)).collect();
    assert_eq!(connect(ALICE).reply()["code"], "too_many_connections");
    let mut root = daemon.connect();
    assert!(root.ask(r#"{"op":"status"}"#).contains("status"));
    assert!(root.ask(r#"{"op":"release","domain":"a"}"#).contains("released"));
    assert_eq!(kept[0].reply()["code"], "released");
    assert_eq!(kept[1].reply()["type"], "active");
    assert!(root.ask(r#"{"op":"stop"}"#).contains("stopping"));
    assert!(daemon.wait().success());
    drop(extra);
}

#[test]
fn turns_of_one_user_leave_connections_for_others() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_home, socket) = open_home();
    let _daemon = start_shared(&socket, 124);
    let mut turns: Vec<Client> = Vec::new();
    // Of 20, one is for root: half of the rest, then half of what is left, and so on.
    let mut take = |uid: u32| {
        (0..if uid == 0 { 3 } else { 20 }).find_map(|number| {
            let mut client = Client::from(connect_as(uid, &[GROUP], &socket).unwrap());
            client.send(&format!(r#"{{"op":"sequence","domain":"{uid} {number}"}}"#));
            let reply = client.reply();
            turns.push(client);
            if reply["type"] == "active" { None } else { Some((number, reply["message"].as_str().unwrap().to_owned())) }
        })
    };
    let beyond = |own: u32, uid: u32| {
        format!(
            "{own} of the 20 connections of this shared daemon are in use by you (uid {uid}), as many as are left for \
             all others: end some"
        )
    };
    assert_eq!(take(ALICE), Some((10, beyond(10, ALICE))));
    assert_eq!(take(BOB), Some((5, beyond(5, BOB))));
    assert_eq!(take(STRANGER), Some((2, beyond(2, STRANGER))));
    assert_eq!(take(0), None);
}

#[test]
fn waits_of_one_user_keep_nobody_from_a_turn() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_home, socket) = open_home();
    let _daemon = start_shared(&socket, 124);
    let connect = |uid| Client::from(connect_as(uid, &[GROUP], &socket).unwrap());
    let mut holder = connect(ALICE);
    holder.takes_turn("busy");
    let mut waits: Vec<Client> = Vec::new();
    for number in 0..18 {
        let mut client = connect(ALICE);
        client.send(&format!(r#"{{"op":"wait","domain":"busy","request_id":"{number}"}}{}"#, "\n"));
        client.ask(r#"{"op":"info"}"#);
        waits.push(client);
    }
    connect(BOB).takes_turn("free");
}

#[test]
fn pipes_of_one_user_leave_descriptors_for_others() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_home, socket) = open_home();
    let _daemon = start_shared(&socket, 200);
    let connect = |uid| Client::from(connect_as(uid, &[GROUP], &socket).unwrap());
    let take = |client: &mut Client, domain: &str| {
        let (reading, writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        client.send_with(&format!(r#"{{"op":"sequence","domain":"{domain}","descriptors":1}}"#), &[reading.as_fd()]);
        (client.reply(), writing)
    };
    let (mut alice, mut bob, mut root) = (connect(ALICE), connect(BOB), connect(0));
    let mut given = Vec::new();
    let refusal = loop {
        let (reply, writing) = take(&mut alice, &format!("alice's {}", given.len()));
        if reply["type"] == "error" {
            break reply;
        }
        given.push(writing);
    };
    assert_eq!(refusal["code"], "too_many_requests");
    let words = format!(
        "{} of the files that this shared daemon may have open keep turns of yours (uid {ALICE}), as many as are left \
         for all others: end some",
        given.len()
    );
    assert_eq!(refusal["message"], words.as_str());
    assert!((50..70).contains(&given.len()), "{}", given.len());
    for (client, domain) in [(&mut bob, "bob's"), (&mut root, "root's")] {
        let (reply, writing) = take(client, domain);
        assert_eq!(reply["type"], "active", "{reply}");
        given.push(writing);
    }
    // She has what she had, and one that she gives back is there for another.
    assert!(alice.ask(r#"{"op":"done","domain":"alice's 0"}"#).contains("done"));
    assert!(alice.ask(r#"{"op":"done","domain":"alice's 1"}"#).contains("done"));
    assert_eq!(take(&mut alice, "alice's last").0["type"], "active");
}

/// A daemon of a group that may have so many open files: 64 for itself, and 3 for each connection.
fn start_shared(socket: &Path, open_files: u32) -> Daemon {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {open_files}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_seqd")]);
    Daemon::start_as(command, socket, &["--group", &GROUP.to_string()]).unwrap()
}

/// A directory that others may enter, and a socket in one that is not there yet.
fn open_home() -> (TempDir, std::path::PathBuf) {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let socket = home.path().join("seq/seqd.sock");
    (home, socket)
}

/// Connects as another user: on Linux a thread can be one by itself, and it is the thread that connects.
fn connect_as(uid: u32, groups: &[u32], socket: &Path) -> std::io::Result<UnixStream> {
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    thread::scope(|scope| {
        let connecting = scope.spawn(move || {
            rustix::thread::set_thread_groups(&groups)?;
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            UnixStream::connect(socket)
        });
        connecting.join().unwrap()
    })
}

fn code(client: &mut Client, request: &str) -> Value {
    client.send(request);
    client.reply()["code"].clone()
}
