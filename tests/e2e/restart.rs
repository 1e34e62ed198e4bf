//! `seq restart`: another daemon, and nothing else is different.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::{Home, Running, seqd_program, size};

/// Restarts the daemon, and gives the first words of what was said, without the process's number.
#[track_caller]
fn restart(home: &Home) -> String {
    let ended = home.seq(&["restart"]);
    assert_eq!((ended.status.code(), ended.stderr()), (Some(0), String::new()));
    let pid = home.daemon_pid().expect("a daemon");
    assert_eq!(home.daemons(), [pid]);
    ended.stdout().replace(&format!("(pid {pid})"), "(pid)")
}

fn said(words: &str) -> String {
    format!("seqd {} (pid) {words}\n", env!("CARGO_PKG_VERSION"))
}

#[test]
fn without_a_daemon_there_is_nothing_to_restart() {
    let home = Home::new();
    let socket = home.socket();
    let words = format!("seq: nothing to restart: no daemon listens at {}\n", socket.display());
    home.seq(&["restart"]).says(0, "", &words);
    assert!(home.daemons().is_empty());
}

#[test]
fn an_idle_daemon_is_replaced() {
    let home = Home::new();
    home.warm();
    let before = home.daemon();
    assert_eq!(restart(&home), said("took over 0 turns and 0 waiters"));
    assert!(!before.is_alive());
}

#[test]
fn a_turn_and_a_waiter_are_taken_over() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a", "gate");
    let waiter = home.queue("foo.com", "b", 1);
    assert_eq!(restart(&home), said("took over 1 turn and 1 waiter"));
    gate.open();
    holder.wait().is_silent(0);
    waiter.wait().is_silent(0);
    assert_eq!(home.log(), ["start a", "end a", "start b", "end b"]);
}

/// What the daemon was told on its command line.
fn arguments(home: &Home) -> String {
    let arguments = fs::read(format!("/proc/{}/cmdline", home.daemon().pid)).expect("a daemon of ours");
    String::from_utf8_lossy(&arguments).replace('\0', " ")
}

#[test]
fn the_next_daemon_has_the_options_of_the_last_one_also_when_that_was_killed() {
    let home = Home::new();
    let options = ["--idle-exit", "1h", "--log", "their.log", "--history-turns", "200000", "--history-age", "400d"];
    let detach = |options: &[&str]| {
        let started = home.finish(home.command(seqd_program()).arg("--detach").args(options));
        assert!(started.stdout().starts_with("ready"), "{}", started.stdout());
    };
    detach(&options);
    let first = arguments(&home);
    for option in ["--idle-exit 1h ", "/their.log ", "--history-turns 200000 ", "--history-age 400d "] {
        assert!(first.contains(option), "{first}");
    }
    restart(&home);
    assert_eq!(arguments(&home), first);
    home.kill_daemon();
    home.warm();
    assert_eq!(arguments(&home), first);
    // Who starts one by hand says what it is to have.
    home.seq(&["stop"]).is_silent(0);
    detach(&["--idle-exit", "2h"]);
    home.seq(&["stop"]).is_silent(0);
    home.warm();
    let last = arguments(&home);
    assert!(last.contains("--idle-exit 2h ") && !last.contains("--history") && !last.contains("--log"), "{last}");
}

#[test]
fn a_daemon_of_a_group_stays_one() {
    let home = Home::new();
    let socket = home.file("shared/seqd.sock");
    let group = rustix::process::getegid().as_raw();
    let mut seqd = home.command(seqd_program());
    seqd.arg("--socket").arg(&socket).args(["--detach", "--group", &group.to_string()]);
    assert!(home.finish(&mut seqd).stdout().starts_with("ready"));
    let seq = |command: &str| home.finish(home.seq_command(&[command]).arg("--socket").arg(&socket));
    let is_shared = || {
        let mode = |path| fs::metadata(path).map(|found| (found.permissions().mode() & 0o777, found.gid())).ok();
        (mode(socket.with_file_name("")), mode(socket.clone())) == (Some((0o750, group)), Some((0o660, group)))
    };
    assert!(is_shared());
    let ended = seq("restart");
    assert_eq!((ended.status.code(), ended.stderr()), (Some(0), String::new()));
    assert!(is_shared());
    seq("stop").is_silent(0);
    let ended = home.finish(home.seq_command(&["run", "-d", "a"]).arg("--socket").arg(&socket).args(["--", "true"]));
    ended.is_silent(0);
    assert!(is_shared());
}

#[test]
fn a_daemon_of_a_group_says_that_no_member_can_reach_it() {
    let home = Home::new();
    let group = rustix::process::getegid().as_raw();
    let open = |path: &std::path::Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let detach = || {
        let started = home.finish(home.command(seqd_program()).args(["--detach", "--group", &group.to_string()]));
        assert!(started.stdout().starts_with("ready"), "{}", started.stdout());
        home.seq(&["stop"]).is_silent(0);
        started.stderr()
    };
    let words = format!(
        "no member of the group {group} can reach {}: {} is closed to them: let them enter it (chmod), or name a socket \
         elsewhere with --socket",
        home.socket().display(),
        home.path().display()
    );
    assert_eq!(detach(), format!("seqd: {words}\n"));
    assert!(home.read(".local/state/seq/seqd.log").contains(&words));
    open(home.path());
    // The daemon has made these, for its user alone.
    for made in [".local", ".local/state"] {
        assert!(detach().contains(&format!(": {} is closed", home.file(made).display())));
        open(&home.file(made));
    }
    assert_eq!(detach(), "");
}

#[test]
fn who_may_start_none_waits_for_the_next_one() {
    let home = Home::new();
    home.warm();
    let ended = home.seq(&["restart", "--no-start"]);
    ended.complains(125, "the daemon has made room, and nobody has started the next one within 5 s: no daemon listens");
    assert!(home.daemons().is_empty());
}

/// Restarts a daemon that was started with `options` and that no other could follow, and gives what is said of that.
#[track_caller]
fn stays(home: &Home, options: &[&str], spoil: impl FnOnce(), restart: &mut std::process::Command) -> String {
    let started = home.finish(home.command(seqd_program()).arg("--detach").args(options));
    assert!(started.stdout().starts_with("ready"), "{}", started.stdout());
    let daemon = home.daemon();
    spoil();
    let ended = home.finish(restart);
    assert_eq!((ended.status.code(), ended.stdout()), (Some(125), String::new()));
    assert!(daemon.is_alive(), "{}", ended.stderr());
    // It serves as before.
    home.warm();
    let present = format!("the present one (pid {}) stays: ", daemon.pid);
    ended.stderr().replace(&present, "").replace(&home.path().display().to_string(), "HOME")
}

#[test]
fn a_daemon_stays_that_no_other_could_follow_with_its_log() {
    let home = Home::new();
    let directory = home.file("logs");
    fs::create_dir(&directory).unwrap();
    let log = directory.join("log");
    let spoil = || fs::remove_dir_all(&directory).unwrap();
    let said = stays(&home, &["--log", log.to_str().unwrap()], spoil, &mut home.seq_command(&["restart"]));
    assert_eq!(
        said,
        "seq: the next daemon could not start, so cannot write the log HOME/logs/log: No such file or directory \
         (os error 2): name another file with --log; that is an option of the one that serves, in \
         HOME/.local/state/seq/seqd.options: mend what it names, or end that one with 'seq stop' when nothing waits, \
         and start 'seqd --detach' with other options\n"
    );
    // The way out works, both ways.
    fs::create_dir(&directory).unwrap();
    restart(&home);
    home.seq(&["stop"]).is_silent(0);
    home.warm();
}

#[test]
fn a_daemon_stays_that_no_other_could_follow_with_its_group() {
    let home = Home::new();
    let group = rustix::process::getegid().as_raw().to_string();
    let options = home.state().join("seqd.options");
    let is_unknown = || fs::write(&options, "[\"--group\",\"nosuchgroup\"]\n").unwrap();
    let said = stays(&home, &["--group", &group], is_unknown, &mut home.seq_command(&["restart"]));
    assert!(said.contains("there is no group nosuchgroup in /etc/group: name another, or "), "{said}");
    assert!(said.contains("HOME/.local/state/seq/seqd.options"), "{said}");
    home.seq(&["stop"]).is_silent(0);
    is_unknown();
    let said = home.seq(&["run", "-d", "a", "--", "true"]).stderr();
    assert!(said.contains("nosuchgroup") && said.contains(&format!("{}: remove that", options.display())), "{said}");
}

#[test]
fn a_daemon_stays_that_no_other_could_follow_with_these_limits() {
    let home = Home::new();
    let mut restart = home.command("sh");
    restart.args(["-c", "ulimit -n 100; exec \"$SEQ\" restart"]);
    let said = stays(&home, &[], || {}, &mut restart);
    assert!(said.contains("a process may have 100 open files here (ulimit -Hn)"), "{said}");
}

#[test]
fn a_daemon_stays_whose_config_file_no_other_could_start_with() {
    let home = Home::new();
    fs::create_dir_all(home.file(".config/seq")).unwrap();
    let spoil = || fs::write(home.file(".config/seq/seqd.toml"), "concurrency 3\n").unwrap();
    let said = stays(&home, &[], spoil, &mut home.seq_command(&["restart"]));
    assert!(
        said.starts_with("seq: the next daemon could not start, so this one stays: HOME/.config/seq/seqd.toml:1:"),
        "{said}"
    );
}

/// `SEQ_RESTARTS=20` for the whole of it.
#[test]
fn fifty_waiters_and_five_holders_stay_as_they_are() {
    let home = Home::new();
    let gate = home.gate("gate");
    let domains = ["a", "b", "c", "d", "e"];
    let mut all: Vec<Running> = Vec::new();
    for domain in domains {
        all.push(home.hold(domain, &format!("{domain}0"), "gate"));
        all.extend((1..=10).map(|place| home.queue(domain, &format!("{domain}{place}"), place)));
    }
    for _ in 0..size("SEQ_RESTARTS", 3) {
        assert_eq!(restart(&home), said("took over 5 turns and 50 waiters"));
    }
    gate.open();
    for running in all {
        running.wait().is_silent(0);
    }
    let log = home.log();
    for domain in domains {
        let of_domain = |line: &&String| line.split(' ').nth(1).is_some_and(|name| name.starts_with(domain));
        let found: Vec<&String> = log.iter().filter(of_domain).collect();
        let expected: Vec<String> =
            (0..=10).flat_map(|place| [format!("start {domain}{place}"), format!("end {domain}{place}")]).collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>());
    }
}
