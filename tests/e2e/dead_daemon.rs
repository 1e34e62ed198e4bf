//! The daemon is dead, and turns may have been taken: nobody is told that there are none.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use crate::support::{Home, Process, daemon_pid, look_for, of_home, seq_program, seqd_program};
use rustix::process::Signal;

/// Commands that would have to know who has a turn.
const ASKING: [&[&str]; 6] = [
    &["status"],
    &["wait", "-d", "foo.com"],
    &["done", "-d", "foo.com"],
    &["release", "-d", "foo.com"],
    &["cancel", "-d", "foo.com", "--request-id", "mine"],
    &["restart"],
];

/// A home whose daemon is dead while somebody has the turn in foo.com.
fn with_a_turn() -> Home {
    let home = Home::new();
    home.seq(&["sequence", "-d", "foo.com", "--lease", "1h"]).is_silent(0);
    home.kill_daemon();
    home
}

#[test]
fn where_none_may_be_started_that_is_what_is_said() {
    let home = with_a_turn();
    let said = format!("seq: no daemon listens at {}: start seqd, or leave out --no-start\n", home.socket().display());
    for command in ASKING {
        home.seq(&[&["--no-start"], command].concat()).says(125, "", &said);
    }
    let said = format!("seq: nothing to stop: no daemon listens at {}\n", home.socket().display());
    home.seq(&["--no-start", "stop"]).says(0, "", &said);
    let status = home.seq(&["status"]).stdout();
    assert!(status.contains("foo.com"), "it is there still: {status}");
}

#[test]
fn where_the_storage_is_gone_nobody_is_told_that_all_is_idle() {
    for removed in [&["seq.db", "seq.mark"][..], &["seq.db", "seq.db-wal", "seq.mark"]] {
        let home = with_a_turn();
        for file in removed {
            _ = fs::remove_file(home.state().join(file));
        }
        for command in ASKING {
            home.seq(command).complains(125, "says that somebody may have a turn");
        }
    }
}

#[test]
fn a_restart_after_a_death_takes_over_what_there_was() {
    let home = with_a_turn();
    let ended = home.seq(&["restart"]);
    let said =
        format!("seqd {} (pid {}) took over 1 turn and 0 waiters\n", env!("CARGO_PKG_VERSION"), home.daemon().pid);
    ended.says(0, &said, "");
}

#[test]
fn a_restart_in_the_moment_of_a_death_succeeds() {
    for is_told in [true, false] {
        let home = Home::new();
        home.seq(&["sequence", "-d", "foo.com", "--lease", "1h"]).is_silent(0);
        let daemon = home.daemon();
        daemon.signal(Signal::STOP);
        let restart = home.start(&["restart"]);
        if is_told {
            let pid = restart.pid();
            home.await_fact("a connection", || has_socket(pid).then_some(()));
        }
        daemon.signal(Signal::KILL);
        let ended = restart.wait();
        let next = home.daemon().pid;
        let said = format!("seqd {} (pid {next}) took over 1 turn and 0 waiters\n", env!("CARGO_PKG_VERSION"));
        ended.says(0, &said, "");
        assert_ne!(next, daemon.pid);
    }
}

fn has_socket(pid: u32) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten()
        .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"socket:")))
}

#[test]
fn a_newcomer_is_served_though_many_daemons_die_while_they_start() {
    const DEATHS: usize = 6;
    let home = Home::new();
    let mut newcomer = home.start(&["run", "-d", "foo.com", "--", "true"]);
    let mut killed = Vec::new();
    look_for(|| {
        let is_new_daemon = |process: &Process| {
            let arguments = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            arguments.starts_with(b"seqd\0") && !killed.contains(&process.pid)
        };
        if let Some(daemon) = of_home(home.path()).into_iter().find(is_new_daemon)
            && daemon.signal(Signal::KILL)
        {
            killed.push(daemon.pid);
        }
        (killed.len() == DEATHS || newcomer.has_ended()).then_some(())
    });
    newcomer.wait().is_silent(0);
}

/// A user that is not in `/etc/passwd`, and a group.
const USER: u32 = 40_001;
const GROUP: u32 = 54_321;

/// Only root can play another user; for anybody else there is nothing to see.
#[test]
fn the_dead_daemon_of_another_user_is_said_to_be_dead() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).expect("a home of ours");
    let program = home.install(&seq_program(), "seq");
    let theirs = home.file("theirs");
    fs::create_dir(&theirs).expect("a directory");
    chown(&theirs, Some(USER), Some(GROUP)).expect("root may");
    let socket = home.file("shared/seqd.sock");
    let mut start = home.command(seqd_program());
    start.arg("--socket").arg(&socket).args(["--group", &GROUP.to_string(), "--detach"]);
    home.finish(&mut start);
    let run = |arguments: &[&str]| {
        let mut command = home.command("setpriv");
        command.args([&format!("--reuid={USER}"), &format!("--regid={GROUP}"), "--clear-groups"]);
        home.finish(command.arg(&program).arg("--socket").arg(&socket).args(arguments).env("HOME", &theirs))
    };
    run(&["sequence", "-d", "foo.com", "--lease", "1h"]).is_silent(0);
    let daemon = Process::open(daemon_pid(&home.file("shared")).expect("a daemon")).expect("a daemon");
    daemon.signal(Signal::KILL);
    assert!(daemon.has_ended_within(10));
    let said = format!(
        "seq: the daemon of user 0 at {} is not running: ask that user to start it, or use your own: without --socket and SEQ_SOCKET\n",
        socket.display()
    );
    for command in ASKING {
        run(command).says(125, "", &said);
    }
    run(&["run", "-d", "foo.com", "--", "true"]).says(125, "", &said);
}

/// In a container of its own, which all ends with: the daemon of the whole system dies while somebody has a turn.
const OF_ALL: &str = r#"
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib || exit 77
start() { "$SEQD" --system --group 54321 --detach; }
start || exit
for name in "status" "wait -d foo.com" "done -d foo.com" "release -d foo.com" "restart" "stop"; do
    "$SEQ" sequence -d foo.com --lease 1h || exit
    pid=$(sed 's/.*"pid":\([0-9]*\).*/\1/' /run/seqd/life.lock)
    kill -9 $pid
    while kill -0 $pid 2>/dev/null; do sleep .01; done
    setpriv --reuid=40001 --regid=40001 --groups=54321 "$1" $name
    echo "status $?"
    start || exit
    "$SEQ" done -d foo.com
done
"#;

#[test]
fn the_dead_daemon_of_the_whole_system_is_said_to_be_dead() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).expect("a home of ours");
    let program = home.install(&seq_program(), "seq");
    let container = ["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c"];
    let probe = home.finish(home.command("unshare").args(container).arg("mount -t tmpfs tmpfs /run"));
    if !probe.status.success() {
        return; // Where no container can be made there is nothing to see.
    }
    let mut command = home.command("unshare");
    let ended = home.finish(command.args(container).args([OF_ALL, "sh"]).arg(program).env("SEQD", seqd_program()));
    let said: Vec<String> =
        ended.stdout().lines().filter(|line| line.starts_with("status ")).map(str::to_owned).collect();
    assert_eq!(
        said,
        ["status 125", "status 125", "status 125", "status 125", "status 125", "status 0"],
        "{}",
        ended.stderr()
    );
    let dead = "seq: the system-wide daemon at /run/seqd/seqd.sock is not running: ";
    assert_eq!(ended.stderr().lines().filter(|line| line.starts_with(dead)).count(), 5, "{}", ended.stderr());
}

/// The daemon of another user is away for longer than a command's end waits for it.
#[test]
fn a_status_is_not_lost_while_another_users_daemon_is_away() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).expect("a home of ours");
    let program = home.install(&seq_program(), "seq");
    let theirs = home.file("theirs");
    fs::create_dir(&theirs).expect("a directory");
    chown(&theirs, Some(USER), Some(GROUP)).expect("root may");
    let gate = home.gate("theirs/gate");
    chown(home.file("theirs/gate"), Some(USER), Some(GROUP)).expect("root may");
    let socket = home.file("shared/seqd.sock");
    let start = || {
        let mut start = home.command(seqd_program());
        start.arg("--socket").arg(&socket).args(["--group", &GROUP.to_string(), "--detach"]);
        assert!(home.finish(&mut start).status.success());
    };
    let user = || {
        let mut command = home.command("setpriv");
        command.args([&format!("--reuid={USER}"), &format!("--regid={GROUP}"), "--clear-groups"]);
        command.arg(&program).arg("--socket").arg(&socket).env("HOME", &theirs).current_dir(&theirs);
        command
    };
    start();
    let script = "echo >here; read -r line <gate; exit 7";
    let run = home.launch(user().args(["run", "-d", "foo.com", "--", "sh", "-c", script]));
    home.await_file("theirs/here");
    let daemon = Process::open(daemon_pid(&home.file("shared")).expect("a daemon")).expect("a daemon");
    daemon.signal(Signal::KILL);
    assert!(daemon.has_ended_within(10));
    gate.open();
    run.wait().is_silent(7);
    start();
    let log = home.finish(user().args(["log", "--json"])).stdout();
    let turn: serde_json::Value = serde_json::from_str(&log).unwrap_or_else(|error| panic!("{error}: {log}"));
    assert_eq!((&turn["outcome"], &turn["exit_status"]), (&"done".into(), &7.into()), "{log}");
}
