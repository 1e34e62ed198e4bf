//! Pids that are used again: what has the number of a dead process is neither trusted nor signalled.
//!
//! Each test runs again as the first process of a pid namespace, where it says itself which number comes next
//! (`ns_last_pid`, `proc_sys_kernel(5)`). Only root may make one. `SEQ_PID_ROUNDS=500` is the long form.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::puppet::Puppet;
use crate::wire::{Daemon, Sleeper, until};
use rustix::process::{Pid, Signal, WaitOptions, geteuid, kill_process, waitpid};
use tempfile::TempDir;

/// Says that a test is in its namespace already.
const INSIDE: &str = "SEQ_TEST_PID_NAMESPACE";

/// Rounds in the suite.
const ROUNDS: usize = 40;

fn rounds() -> usize {
    std::env::var("SEQ_PID_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

/// Whether this process is where it can choose pids. If not, runs the test called `name` again there.
fn is_inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        assert_eq!(std::process::id(), 1, "this is not the first process of a pid namespace");
        return true;
    }
    if !geteuid().is_root() {
        #[expect(clippy::print_stderr, reason = "it must not look as if it had been shown")]
        {
            eprintln!("only root may make a pid namespace: {name} shows nothing");
        }
        return false;
    }
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("pid_reuse::{name}"), "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("unshare(1)");
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(output.status.success() && said.contains("test result: ok. 1 passed"), "in a pid namespace: {said}");
    false
}

/// A process that is to be left alone, with the number of one that is gone.
struct Stranger {
    child: Child,
    what: &'static str,
}

impl Stranger {
    /// Starts one with the number `pid`, which must be free or become so. It leads a group of its own.
    fn with(pid: u32, what: &'static str) -> Stranger {
        let child = until("the number is free, and given to who asks next", || {
            fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
            let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
            if child.id() == pid {
                return Some(child);
            }
            child.kill().unwrap();
            child.wait().unwrap();
            None
        });
        Stranger { child, what }
    }

    fn end_unharmed(mut self) {
        let ended = self.child.try_wait().unwrap();
        assert_eq!(ended, None, "a signal that was meant for {} hit another process", self.what);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Kills a process that is or becomes a child of this one, the first of all, and leaves nothing of it.
fn bury(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    // It may have ended with its wrapper.
    let _ = kill_process(pid, Signal::KILL);
    until("it has ended", || waitpid(Some(pid), WaitOptions::NOHANG).unwrap_or(None));
}

/// `seq` with these arguments, for the daemon at `socket`.
fn seq(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seq"));
    command.args(arguments).env("SEQ_SOCKET", socket).current_dir(socket.parent().unwrap()).stdin(Stdio::null());
    command
}

/// The pid that a command wrote into `file` beside the socket.
fn pid_in(socket: &Path, file: &str) -> u32 {
    let path = socket.with_file_name(file);
    until("a command writes its pid", || fs::read_to_string(&path).ok()?.strip_suffix('\n')?.parse().ok())
}

/// The domains that somebody holds, and those where somebody waits.
fn in_use(daemon: &Daemon) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut client = daemon.connect();
    client.send(r#"{"op":"status"}"#);
    let status = client.reply();
    let lines = status["domains"].as_array().unwrap();
    let names = |is_in: &dyn Fn(&serde_json::Value) -> bool| {
        lines.iter().filter(|line| is_in(line)).map(|line| line["domain"].as_str().unwrap().to_owned()).collect()
    };
    (names(&|line| line["holders"].as_array().is_some_and(|all| !all.is_empty())), names(&|line| line["waiting"] != 0))
}

fn a_daemon_dies_and_all_its_pids_are_used_again(daemon: Daemon, alive: &Sleeper) -> Daemon {
    let ask = |domain: &str| format!(r#"{{"op":"sequence","domain":"{domain}","secret":"s"}}"#);
    // A turn kept by its client alone, one by a shell, one by `seq run` and its command, and a place in line; and
    // beside them the same with processes that go on to live.
    let mut dead_client = Puppet::connect(&daemon.socket);
    assert!(dead_client.ask(&ask("client")).contains("active"));
    let mut live_client = daemon.connect();
    assert!(live_client.ask(&ask("live-client")).contains("active"));
    assert!(live_client.ask(&ask("line")).contains("active"));
    let mut dead_waiter = Puppet::connect(&daemon.socket);
    assert!(dead_waiter.ask(&ask("line")).contains("queued"));

    let bound = |domain: &str| {
        format!(r#"{{"op":"sequence","domain":"{domain}","binding":"process","descriptors":1,"secret":"s"}}"#)
    };
    let mut dead_shell = Sleeper::start();
    for (domain, shell) in [("shell", &dead_shell), ("live-shell", alive)] {
        let mut asker = daemon.connect();
        asker.send_with(&bound(domain), &[shell.pidfd().as_fd()]);
        assert!(asker.line().contains("active"));
    }

    let script = "echo $$ >command; exec sleep 1000";
    let mut wrapper =
        seq(&daemon.socket, &["run", "--no-start", "-d", "run", "--", "sh", "-c", script]).spawn().unwrap();
    let command = pid_in(&daemon.socket, "command");
    until("the daemon knows of the command", || {
        let mut client = daemon.connect();
        client.send(r#"{"op":"status","domain":"run"}"#);
        (client.reply()["domains"][0]["holders"][0]["pid"] == command).then_some(())
    });

    // All at once, and nobody is there to see it.
    let socket = daemon.kill();
    let pids = [dead_client.pid(), dead_waiter.pid(), dead_shell.0.id(), wrapper.id()];
    dead_client.kill();
    dead_waiter.kill();
    dead_shell.end();
    wrapper.kill().unwrap();
    wrapper.wait().unwrap();
    bury(command);
    fs::remove_file(socket.with_file_name("command")).unwrap();
    let [client, waiter, shell, wrapper] = pids;
    let strangers =
        [(client, "a client"), (waiter, "a waiter"), (shell, "a shell"), (wrapper, "seq run"), (command, "a command")]
            .map(|(pid, what)| Stranger::with(pid, what));

    let daemon = Daemon::start_at(&socket);
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let expected = (set(&["line", "live-client", "live-shell"]), set(&[]));
    assert_eq!(in_use(&daemon), expected, "held, and waited in, once the numbers were used again: {}", daemon.log());
    // The turns that were freed are given, and those that are kept are not.
    let mut next = daemon.connect();
    for domain in ["client", "shell", "run"] {
        next.takes_turn(domain);
    }
    for domain in ["live-client", "live-shell", "line"] {
        assert!(next.ask(&format!(r#"{{"op":"sequence","domain":"{domain}","no_wait":true}}"#)).contains("busy"));
        assert!(next.ask(&format!(r#"{{"op":"release","domain":"{domain}"}}"#)).contains("released"));
    }
    drop(next);
    until("nothing is in use", || (in_use(&daemon) == (set(&[]), set(&[]))).then_some(()));
    for stranger in strangers {
        stranger.end_unharmed();
    }
    daemon
}

#[test]
fn the_next_daemon_takes_no_process_for_the_one_that_had_its_number() {
    if !is_inside("the_next_daemon_takes_no_process_for_the_one_that_had_its_number") {
        return;
    }
    let alive = Sleeper::start();
    let mut daemon = Daemon::start();
    let _directory: TempDir = daemon.take_directory();
    for _ in 0..rounds() {
        daemon = a_daemon_dies_and_all_its_pids_are_used_again(daemon, &alive);
    }
}

/// Runs a command under `--max-run`; strangers get the pids that it writes into these files, as soon as they are free.
fn stop_beside_strangers(daemon: &Daemon, options: &[&str], script: &str, files: &[(&str, &'static str)]) {
    let arguments = [&["run", "-q", "-d", "run"], options, &["--", "sh", "-c", script]].concat();
    let mut wrapper = seq(&daemon.socket, &arguments).spawn().unwrap();
    let strangers: Vec<_> =
        files.iter().map(|(file, what)| Stranger::with(pid_in(&daemon.socket, file), what)).collect();
    let status = until("seq run ends", || wrapper.try_wait().unwrap());
    assert_eq!(status.code(), Some(124), "it had to be stopped");
    for stranger in strangers {
        stranger.end_unharmed();
    }
    for (file, _) in files {
        fs::remove_file(daemon.file(file)).unwrap();
    }
}

#[test]
fn what_is_stopped_by_max_run_is_what_was_started_and_nothing_that_has_its_number() {
    if !is_inside("what_is_stopped_by_max_run_is_what_was_started_and_nothing_that_has_its_number") {
        return;
    }
    let mut daemon = Daemon::start();
    let _directory = daemon.take_directory();
    for round in 0..rounds() {
        // A child ends just before, or at, or after the moment when everything is stopped, and its sibling needs KILL.
        let script = format!("trap '' TERM; sleep 0.{:02} & echo $! >child; sleep 1000 & wait", 5 + round % 16);
        let options = ["--max-run", "100ms", "--kill-grace", "60ms"];
        stop_beside_strangers(&daemon, &options, &script, &[("child", "a child of the command")]);
        // The command itself ends, and what it left behind, in a group of its own, is stopped.
        let script = "setsid sleep 1000 & echo $$ >command";
        let options = ["--until-all-exit", "--max-run", "100ms", "--kill-grace", "0"];
        stop_beside_strangers(&daemon, &options, script, &[("command", "the command")]);
    }
}
