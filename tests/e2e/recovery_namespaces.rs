//! The next daemon starts in another pid namespace, as in a container that shares the socket: what it cannot see is not
//! gone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::{BufRead, BufReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::wire::{Client, Daemon, Sleeper, until};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Another pid namespace, with a `/proc` of its own. Who is not root needs a user namespace for that.
const ELSEWHERE: [&str; 6] = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];

const ASK: &str = r#"{"op":"sequence","domain":"a"}"#;
const MINE: &str = r#"{"op":"sequence","domain":"a","request_id":"mine","secret":"s","descriptors":1"#;
const AT_ONCE: &str = r#"{"op":"sequence","domain":"a","no_wait":true}"#;

/// A daemon in a pid namespace of its own; killed when it goes out of scope.
struct Elsewhere {
    unshare: Child,
    socket: PathBuf,
}

impl Elsewhere {
    fn start_at(socket: &Path) -> Elsewhere {
        let mut command = Command::new("unshare");
        command.args(ELSEWHERE).arg(env!("CARGO_BIN_EXE_seqd")).arg("--detached").arg("--socket").arg(socket);
        let mut unshare =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("unshare(1)");
        let mut said = String::new();
        BufReader::new(unshare.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.starts_with("ready "), "{said}");
        Elsewhere { unshare, socket: socket.to_owned() }
    }

    fn connect(&self) -> Client {
        Client::connect(&self.socket)
    }

    /// Kills it with -9.
    fn kill(self) {
        drop(self);
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        _ = self.unshare.kill();
        _ = self.unshare.wait();
        // The daemon itself ends by and by.
        let lock = std::fs::File::open(self.socket.with_file_name("life.lock")).unwrap();
        rustix::fs::flock(lock, FlockOperation::LockExclusive).unwrap();
    }
}

/// Whether there can be another pid namespace. If not, nothing is shown, and that is said.
fn is_possible() -> bool {
    let is_possible = Command::new("unshare").args(ELSEWHERE).arg("true").stderr(Stdio::null()).status();
    let is_possible = is_possible.is_ok_and(|status| status.success());
    if !is_possible {
        #[expect(clippy::print_stderr, reason = "it must not look as if it had been shown")]
        {
            eprintln!("no pid namespace can be made here: this test shows nothing");
        }
    }
    is_possible
}

/// Whether this process sees all of the machine (`PID_NS_INIT_INO`, `linux/nsfs.h`).
fn sees_everything() -> bool {
    std::fs::metadata("/proc/self/ns/pid").unwrap().ino() == 0xEFFF_FFFC
}

/// The first process of the namespace that `unshare` has made.
fn first_process(unshare: &Child) -> OwnedFd {
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let child = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    pidfd_open(Pid::from_raw(child).unwrap(), PidfdFlags::empty()).unwrap()
}

fn holder(client: &mut Client) -> serde_json::Value {
    client.send(r#"{"op":"status"}"#);
    client.reply()["domains"][0]["holders"][0].clone()
}

/// This process takes the turn with a pipe, and lets go of it by dropping the end that is given back.
fn hold(client: &mut Client, request: &str) -> PipeWriter {
    let (reading, writing) = std::io::pipe().unwrap();
    client.send_with(request, &[reading.as_fd()]);
    assert_eq!(client.reply()["type"], "active");
    writing
}

#[track_caller]
fn is_busy(client: &mut Client) {
    client.send(AT_ONCE);
    assert_eq!(client.reply()["code"], "busy");
}

#[test]
fn a_holder_out_of_sight_keeps_its_turn_until_it_is_back_and_is_heard_then() {
    if !is_possible() {
        return;
    }
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut mine = daemon.connect();
    let first = hold(&mut mine, &format!("{MINE}}}"));
    let daemon = Elsewhere::start_at(&daemon.kill());
    let mut next = daemon.connect();
    is_busy(&mut next);
    assert_eq!(holder(&mut next)["unseen"], true);
    next.send(ASK);
    assert_eq!(next.reply()["type"], "queued");
    let mut mine = daemon.connect();
    let second = hold(&mut mine, &format!("{MINE},\"resume\":1}}"));
    let mut witness = daemon.connect();
    assert_eq!(holder(&mut witness)["unseen"], serde_json::Value::Null);
    drop(first);
    drop(mine);
    until("it is orphaned", || (holder(&mut witness)["state"] == "orphaned").then_some(()));
    next.hears_nothing();
    drop(second);
    assert_eq!(next.reply()["type"], "active");
}

#[test]
fn waiters_out_of_sight_keep_their_places() {
    if !is_possible() {
        return;
    }
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let (mut mine, mut waiter) = (daemon.connect(), daemon.connect());
    let _pipe = hold(&mut mine, &format!("{MINE}}}"));
    let ask = r#"{"op":"sequence","domain":"a","request_id":"waiter","secret":"w""#;
    waiter.send(&format!("{ask}}}"));
    assert_eq!(waiter.reply()["type"], "queued");
    let daemon = Elsewhere::start_at(&daemon.kill());
    let mut next = daemon.connect();
    next.send(ASK);
    assert_eq!(next.reply()["position"], 2);
    let mut waiter = daemon.connect();
    waiter.send(&format!("{ask},\"resume\":2}}"));
    assert_eq!(waiter.reply()["position"], 1);
    next.ask(r#"{"op":"release","ticket":1}"#);
    assert_eq!(waiter.reply()["type"], "active");
    next.hears_nothing();
}

#[test]
fn a_process_out_of_sight_keeps_its_turn_and_is_judged_again_where_it_shows() {
    if !is_possible() {
        return;
    }
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let (mut one, two) = (Sleeper::start(), Sleeper::start());
    for (domain, sleeper) in [("a", &one), ("b", &two)] {
        let ask = format!(r#"{{"op":"sequence","domain":"{domain}","binding":"process","descriptors":1}}"#);
        let mut client = daemon.connect();
        client.send_with(&ask, &[sleeper.pidfd().as_fd()]);
        assert_eq!(client.reply()["type"], "active");
    }
    let socket = daemon.kill();
    let daemon = Elsewhere::start_at(&socket);
    let mut client = daemon.connect();
    is_busy(&mut client);
    assert_eq!((&holder(&mut client)["unseen"], &holder(&mut client)["state"]), (&true.into(), &"process".into()));
    one.end();
    is_busy(&mut client);
    let log = std::fs::read_to_string(socket.with_file_name("seqd.log")).unwrap();
    assert!(log.contains("it is in a pid namespace out of sight): taken to be there; seq release 1 ends"), "{log}");
    daemon.kill();
    let daemon = Daemon::start_at(&socket);
    let mut client = daemon.connect();
    client.takes_turn("a");
    client.send(r#"{"op":"sequence","domain":"b","no_wait":true}"#);
    assert_eq!(client.reply()["code"], "busy");
}

#[test]
fn what_a_daemon_could_not_see_is_no_more_gone_for_the_next_that_cannot_see_it() {
    if !is_possible() {
        return;
    }
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let socket = daemon.socket.clone();
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait();
    let daemon = Elsewhere::start_at(&socket);
    let mut mine = daemon.connect();
    let pipe = hold(&mut mine, &format!("{MINE}}}"));
    daemon.kill();
    let daemon = Elsewhere::start_at(&socket);
    is_busy(&mut daemon.connect());
    daemon.kill();
    // Here it shows, and so does its end.
    let daemon = Daemon::start_at(&socket);
    let mut next = daemon.connect();
    is_busy(&mut next);
    drop(mine);
    next.send(ASK);
    assert_eq!(next.reply()["type"], "queued");
    // This process asked, and lives; so the turn is the one of a client that may come back.
    assert_eq!(holder(&mut daemon.connect())["state"], "attached");
    drop(pipe);
    next.hears_nothing();
    next.ask(r#"{"op":"release","ticket":1}"#);
}

#[test]
fn what_lived_in_a_namespace_that_is_gone_is_gone_for_a_daemon_that_sees_everything() {
    if !is_possible() {
        return;
    }
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let socket = daemon.socket.clone();
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait();
    // The daemon goes first, so that it sees nothing of the end of all others.
    let seq = r#""$SEQ" run -d warm -- true && exec "$SEQ" --no-start run -d a -- sh -c '
        kill -9 "$("$SEQ" info --json | sed "s/.*\"pid\":\([0-9]*\).*/\1/")"; echo there; sleep 1000'"#;
    let mut command = Command::new("unshare");
    command.args(ELSEWHERE).args(["sh", "-c", seq]).env("SEQ", env!("CARGO_BIN_EXE_seq")).env("SEQ_SOCKET", &socket);
    let mut container =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("unshare(1)");
    let mut said = String::new();
    BufReader::new(container.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "there\n");
    let first = first_process(&container);
    container.kill().unwrap();
    container.wait().unwrap();
    // It ends last of all that live in the container, and not in the same instant.
    poll(&mut [PollFd::new(&first, PollFlags::IN)], None).unwrap();
    let lock = std::fs::File::open(socket.with_file_name("life.lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    drop(lock);
    let daemon = Daemon::start_at(&socket);
    let mut next = daemon.connect();
    next.send(AT_ONCE);
    let answer = next.reply();
    // From within a namespace it shows only as long as nobody has taken note of the end of its first process.
    if sees_everything() || answer["type"] == "active" {
        assert_eq!(answer["type"], "active", "{answer}");
    } else {
        assert_eq!(answer["code"], "busy", "{answer}");
        next.ask(r#"{"op":"release","domain":"a"}"#);
        next.takes_turn("a");
    }
}
