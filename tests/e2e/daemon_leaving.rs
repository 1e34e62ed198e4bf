//! A daemon that leaves, and the one that follows it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::wire::{Client, Daemon, Sleeper, seqd, until};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn stop_is_answered_and_the_daemon_leaves_nothing_behind() {
    let mut daemon = Daemon::start();
    let (mut client, mut waiting) = (daemon.connect(), daemon.connect());
    client.takes_turn("a");
    waiting.ask(r#"{"op":"sequence","domain":"a","request_id":"w"}"#);
    let pid = daemon.pid();
    assert_eq!(
        client.ask(r#"{"op":"stop","request_id":"s"}"#),
        format!(r#"{{"type":"stopping","pid":{pid},"request_id":"s"}}"#)
    );
    assert_eq!(client.reply()["code"], "leaving");
    assert_eq!(waiting.reply()["code"], "leaving");
    client.hears_the_end();
    assert!(daemon.wait().success());
    assert!(!daemon.socket.exists() && !daemon.file("seq.db-wal").exists());
    assert!(daemon.log().ends_with("leaving: asked by a client\n"), "{}", daemon.log());
}

#[test]
fn sigterm_and_sigint_let_it_leave_with_status_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start();
        let (mut client, mut watcher, mut idle) = (daemon.connect(), daemon.connect(), daemon.connect());
        client.takes_turn("a");
        watcher.ask(r#"{"op":"watch"}"#);
        watcher.reply();
        idle.ask(r#"{"op":"info"}"#);
        daemon.signal(signal);
        for client in [&mut client, &mut watcher, &mut idle] {
            assert_eq!(client.reply()["code"], "restarting");
            client.hears_the_end();
        }
        assert_eq!(daemon.wait().code(), Some(0));
        assert!(!daemon.socket.exists());
    }
}

#[test]
fn numbers_rise_over_a_restart_and_over_a_kill() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let socket = daemon.socket.clone();
    assert_eq!(daemon.connect().takes_turn("a"), 1);
    daemon.signal(Signal::TERM);
    daemon.wait();
    let mut daemon = Daemon::start_at(&socket);
    assert_eq!(daemon.connect().takes_turn("b"), 2);
    daemon.signal(Signal::KILL);
    daemon.wait();
    let daemon = Daemon::start_at(&socket);
    assert_eq!(daemon.connect().takes_turn("c"), 10_002);
}

#[test]
fn a_slow_reader_does_not_hold_up_the_leaving() {
    let mut daemon = Daemon::start();
    let (slow, mut client) = (slow_reader(&daemon), daemon.connect());
    client.takes_turn("a");
    daemon.signal(Signal::TERM);
    assert_eq!(client.reply()["code"], "restarting");
    assert!(daemon.wait().success());
    assert!(daemon.log().contains("some clients do not read: left without them"), "{}", daemon.log());
    drop(slow);
}

#[test]
fn a_second_signal_lets_it_leave_at_once() {
    let mut daemon = Daemon::start();
    let (_slow, mut client) = (slow_reader(&daemon), daemon.connect());
    client.takes_turn("a");
    daemon.signal(Signal::TERM);
    assert_eq!(client.reply()["code"], "restarting");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    assert!(daemon.log().contains("asked to leave again: left at once"), "{}", daemon.log());
}

#[test]
fn sighup_opens_the_log_again() {
    let daemon = Daemon::start();
    daemon.connect().takes_turn("a");
    fs::rename(daemon.file("seqd.log"), daemon.file("seqd.log.1")).unwrap();
    daemon.signal(Signal::HUP);
    until("the log is there again", || daemon.log().contains("opened the log again").then_some(()));
    daemon.connect().takes_turn("b");
}

#[test]
fn a_daemon_in_the_foreground_logs_to_standard_error_and_stays() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("d/seqd.sock");
    let mut child = seqd().arg("--socket").arg(&socket).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(first.ends_with(&format!(" INFO seqd {version} serves {}", socket.display())), "{first}");
    Client::connect(&socket).ask(r#"{"op":"stop"}"#);
    assert!(lines.next().unwrap().unwrap().ends_with(" INFO leaving: asked by a client"));
    assert!(child.wait().unwrap().success());
    assert!(!socket.with_file_name("seqd.log").exists());
}

#[test]
fn a_turn_whose_command_runs_on_stays_taken_over_a_restart() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut wrapper = daemon.connect();
    let mut command = Sleeper::start();
    let ticket = wrapper.takes_turn("a");
    let pidfd = command.pidfd();
    wrapper.send_with(&format!(r#"{{"op":"started","ticket":{ticket},"pid":7,"descriptors":1}}"#), &[pidfd.as_fd()]);
    wrapper.hears_nothing();
    drop(wrapper);
    until("it is orphaned", || (state(&daemon) == "orphaned").then_some(()));

    let daemon = restarted(daemon);
    let mut next = daemon.connect();
    let queued = next.ask(r#"{"op":"sequence","domain":"a"}"#);
    assert_eq!(queued, r#"{"type":"queued","domain":"a","request_id":"t-2","ticket":2,"position":1,"total_ahead":1}"#);
    assert_eq!(state(&daemon), "orphaned");
    command.end();
    next.hears(&[r#"{"type":"active","domain":"a","request_id":"t-2","ticket":2,"token":2}"#]);
}

#[test]
fn a_turn_whose_pipe_is_open_stays_taken_over_a_restart() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut wrapper = daemon.connect();
    let (reading, writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    wrapper.send_with(r#"{"op":"sequence","domain":"a","descriptors":1}"#, &[reading.as_fd()]);
    drop(reading);
    wrapper.line();
    let mut command = inherits(writing);
    drop(wrapper);
    until("it is orphaned", || (state(&daemon) == "orphaned").then_some(()));

    let daemon = restarted(restarted(daemon));
    let mut next = daemon.connect();
    assert!(next.ask(r#"{"op":"sequence","domain":"a"}"#).contains("queued"));
    command.end();
    assert_eq!(next.reply()["type"], "active");
}

#[test]
fn the_wrapper_of_a_held_turn_may_take_it_up_again() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut wrapper = daemon.connect();
    let command = Sleeper::start();
    wrapper.send(r#"{"op":"sequence","domain":"a","request_id":"mine"}"#);
    wrapper.line();
    let pidfd = command.pidfd();
    wrapper.send_with(r#"{"op":"started","ticket":1,"pid":7,"descriptors":1}"#, &[pidfd.as_fd()]);
    wrapper.hears_nothing();

    let daemon = restarted(daemon);
    let mut wrapper = daemon.connect();
    let again = wrapper.ask(r#"{"op":"sequence","domain":"a","request_id":"mine"}"#);
    assert_eq!(again, r#"{"type":"active","domain":"a","request_id":"mine","ticket":1,"token":1,"resumed":true}"#);
    wrapper.send(r#"{"op":"done","domain":"a","request_id":"mine","exit_status":3}"#);
    wrapper.hears(&[r#"{"type":"done","domain":"a","request_id":"mine","ticket":1,"released":true}"#]);
    wrapper.takes_turn("a");
}

#[test]
fn a_turn_whose_process_ended_meanwhile_is_free() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    let mut shell = Sleeper::start();
    let pidfd = shell.pidfd();
    let mut asker = daemon.connect();
    asker.send_with(r#"{"op":"sequence","domain":"a","binding":"process","descriptors":1}"#, &[pidfd.as_fd()]);
    asker.line();
    daemon.signal(Signal::TERM);
    daemon.wait();
    let body: Vec<u8> = database(&daemon).query_row("SELECT body FROM turns", [], |row| row.get(0)).unwrap();
    let saved: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(saved["workers"][0]["pid"], shell.0.id());
    shell.end();
    Daemon::start_at(&daemon.socket).connect().takes_turn("a");
}

#[test]
fn a_lease_goes_on_over_a_restart() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    daemon.connect().ask(r#"{"op":"sequence","domain":"a","binding":"lease","lease_ms":3000}"#);
    let daemon = restarted(daemon);
    assert_eq!(state(&daemon), "lease");
    let mut next = daemon.connect();
    next.ask(r#"{"op":"sequence","domain":"a"}"#);
    assert_eq!(next.reply()["type"], "active");
}

#[test]
fn turns_from_before_a_reboot_are_over() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    daemon.connect().ask(r#"{"op":"sequence","domain":"a","binding":"lease","lease_ms":1000000}"#);
    daemon.signal(Signal::TERM);
    daemon.wait();
    // Its mark is of that run too.
    let mark = daemon.file("seq.mark");
    let words = fs::read(&mark).unwrap();
    fs::write(&mark, [&[7; 8], &words[8..]].concat()).unwrap();
    database(&daemon).execute("UPDATE facts SET value = 'another' WHERE name = 'boot_id'", []).unwrap();
    let daemon = Daemon::start_at(&daemon.socket);
    let mut client = daemon.connect();
    client.takes_turn("a");
    client.send(r#"{"op":"log"}"#);
    assert_eq!(client.reply()["turns"][0]["outcome"], "gone");
}

#[test]
fn a_damaged_number_file_is_refused_by_name_and_left_alone() {
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    daemon.signal(Signal::TERM);
    daemon.wait();
    let path = daemon.file("numbers");
    fs::write(&path, "{\"format\":1,").unwrap();
    let said = Daemon::start_with(&daemon.socket, &[]).err().unwrap();
    assert!(said.starts_with(&format!("error: the number file {} is damaged (", path.display())), "{said}");
    assert!(said.ends_with("away: the numbers go on above those in seq.db and seq.mark beside it\n"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"format\":1,");
    assert!(!daemon.socket.exists());
    fs::remove_file(&path).unwrap();
    Daemon::start_at(&daemon.socket).connect().takes_turn("a");
}

/// What a service manager does: it owns the socket, and starts the daemon when somebody connects.
struct Manager {
    home: tempfile::TempDir,
    socket: PathBuf,
    listener: UnixListener,
    notified: UnixDatagram,
}

impl Manager {
    fn new() -> Manager {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("d");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();
        let socket = directory.join("seqd.sock");
        let notified = UnixDatagram::bind(home.path().join("notify")).unwrap();
        notified.set_read_timeout(Some(crate::wire::DEADLINE)).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        Manager { home, socket, listener, notified }
    }

    /// Starts the daemon. The descriptor becomes number 3, as `sd_listen_fds(3)` has it; the shell says whose it is.
    fn start(&self) -> Sleeper {
        let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\"";
        let daemon = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_seqd")])
            .env("NOTIFY_SOCKET", self.home.path().join("notify"))
            .env_remove("SEQ_SOCKET")
            .stdin(OwnedFd::from(self.listener.try_clone().unwrap()))
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        Sleeper(daemon.unwrap())
    }

    /// What the daemon says next.
    fn hears(&self) -> String {
        let mut told = [0; 64];
        let count = self.notified.recv(&mut told).unwrap();
        String::from_utf8_lossy(&told[..count]).trim_end().to_owned()
    }
}

#[test]
fn a_socket_that_the_service_manager_passes_is_used_and_left_in_place() {
    let manager = Manager::new();
    // A client may connect before the daemon is there.
    let mut client = Client::connect(&manager.socket);
    client.send(r#"{"op":"sequence","domain":"a"}"#);
    let mut daemon = manager.start();
    assert_eq!(manager.hears(), "READY=1");
    assert_eq!(client.reply()["type"], "active");
    assert!(manager.socket.with_file_name("life.lock").exists());
    client.ask(r#"{"op":"stop"}"#);
    assert_eq!(manager.hears(), "STOPPING=1");
    assert!(daemon.0.wait().unwrap().success());
    assert!(manager.socket.exists(), "it belongs to the service manager");
}

/// `seq restart` starts no daemon of its own then: the service manager does, because somebody connects.
#[test]
fn a_daemon_of_the_service_manager_is_restarted_by_it_on_the_same_socket() {
    let manager = Manager::new();
    let mut old = manager.start();
    assert_eq!(manager.hears(), "READY=1");
    let mut client = Client::connect(&manager.socket);
    client.ask(r#"{"op":"sequence","domain":"a","binding":"lease","lease_ms":1000000}"#);
    let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
    let before = inode(&manager.socket);
    let mut restart = Command::new(env!("CARGO_BIN_EXE_seq"));
    restart.args(["restart", "--socket"]).arg(&manager.socket).stdout(Stdio::piped()).stderr(Stdio::piped());
    let restart = restart.spawn().unwrap();
    assert_eq!(manager.hears(), "STOPPING=1");
    assert!(old.0.wait().unwrap().success());
    // Nobody is at the socket now, and it still takes connections: that is what wakes the service manager.
    let mut somebody = [PollFd::new(&manager.listener, PollFlags::IN)];
    assert_eq!(poll(&mut somebody, Some(&crate::wire::DEADLINE.try_into().unwrap())), Ok(1));
    let mut new = manager.start();
    assert_eq!(manager.hears(), "READY=1");
    let output = restart.wait_with_output().unwrap();
    let said = format!("seqd {} (pid {}) took over 1 turn and 0 waiters\n", env!("CARGO_PKG_VERSION"), new.0.id());
    assert_eq!(
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        (said.into(), "".into())
    );
    assert_eq!(inode(&manager.socket), before);
    Client::connect(&manager.socket).ask(r#"{"op":"stop"}"#);
    assert!(new.0.wait().unwrap().success());
}

#[test]
fn a_daemon_that_cannot_write_its_numbers_gives_none_out_and_goes() {
    let mut daemon = Daemon::start();
    // Nothing can be written where a directory is.
    fs::create_dir(daemon.file("numbers.new")).unwrap();
    let mut client = daemon.connect();
    client.ask(r#"{"op":"sequence","domain":"held","binding":"lease","lease_ms":1000000}"#);
    let pair = "{\"op\":\"sequence\",\"domain\":\"a\"}\n{\"op\":\"done\",\"domain\":\"a\"}\n";
    let mut last = 0;
    'until_it_goes: for _ in 0..11_000 {
        if std::io::Write::write_all(&mut client.stream(), pair.as_bytes()).is_err() {
            break;
        }
        for _ in 0..2 {
            let line = client.line();
            if line.is_empty() {
                break 'until_it_goes;
            }
            let reply: Value = serde_json::from_str(&line).unwrap();
            last = reply["token"].as_u64().unwrap_or(last);
        }
    }
    assert!(last < 10_001, "{last} was given out and is written down nowhere");
    assert_eq!(daemon.wait().code(), Some(125));
    let path = daemon.file("numbers");
    let reason = format!("ERROR cannot write the number file {}: Is a directory (os error 21)", path.display());
    assert!(daemon.log().contains(&reason), "{}", daemon.log());
    let live: i64 =
        database(&daemon).query_row("SELECT count(*) FROM turns WHERE state = 0", [], |row| row.get(0)).unwrap();
    assert_eq!(live, 1, "the lease goes on");
}

/// What a daemon that is gone has left.
fn database(daemon: &Daemon) -> rusqlite::Connection {
    rusqlite::Connection::open(daemon.file("seq.db")).unwrap()
}

/// The next daemon, after this one was asked to leave.
fn restarted(mut daemon: Daemon) -> Daemon {
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    Daemon::start_at(&daemon.socket)
}

/// A command that has the writing end of a pipe, and it alone.
fn inherits(writing: OwnedFd) -> Sleeper {
    Sleeper(Command::new("sleep").arg("1000").stdout(writing).spawn().unwrap())
}

/// A client that asks for much and reads nothing.
fn slow_reader(daemon: &Daemon) -> Client {
    let mut client = daemon.connect();
    client.takes_turn("slow");
    for _ in 0..2_000 {
        client.send(r#"{"op":"sequence","domain":"slow","command":"a long command that is to be shown"}"#);
    }
    for _ in 0..20 {
        client.send(r#"{"op":"status"}"#);
    }
    client
}

fn state(daemon: &Daemon) -> String {
    let mut client = daemon.connect();
    client.send(r#"{"op":"status"}"#);
    client.reply()["domains"][0]["holders"][0]["state"].as_str().unwrap_or_default().to_owned()
}
