//! Signals: while waiting they end the wait, while running they reach the command.

use crate::support::{Home, Running, is_alive};
use rustix::process::Signal;

/// The signals that are passed on.
const PASSED_ON: [(Signal, &str, i32); 6] = [
    (Signal::TERM, "SIGTERM", 15),
    (Signal::INT, "SIGINT", 2),
    (Signal::HUP, "SIGHUP", 1),
    (Signal::QUIT, "SIGQUIT", 3),
    (Signal::USR1, "SIGUSR1", 10),
    (Signal::USR2, "SIGUSR2", 12),
];

/// A command that writes down each signal that it gets, and those that its child gets, until a gate lets it go.
const LISTENER: &str = r#"
import os, signal, sys
log = os.open(os.environ["HOME"] + "/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
who = "listener"
def heard(number, frame):
    os.write(log, f"{who} {signal.Signals(number).name}\n".encode())
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, heard)
child = os.fork()
if child == 0:
    who = "child"
    os.write(log, b"child ready\n")
    os.read(os.open("child-gate", os.O_RDONLY), 1)
    os._exit(0)
os.write(log, b"listener ready\n")
os.read(os.open("gate", os.O_RDONLY), 1)
os.waitpid(child, 0)
sys.exit(7)
"#;

/// Starts a listener in foo.com and waits until it listens.
fn listen(home: &Home, command: &str) -> Running {
    home.script("listener.py", LISTENER);
    let listener = home.launch(home.command("sh").args(["-c", command]));
    home.await_line("listener ready");
    home.await_line("child ready");
    listener
}

#[test]
fn a_signal_while_waiting_leaves_the_line_at_once() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    for (signal, _, number) in PASSED_ON {
        let waiter = home.queue("foo.com", "waiter", 1);
        waiter.signal(signal);
        waiter.wait().dies_of(number);
        home.await_waiters("foo.com", 0);
    }
    gate.open();
    holder.wait().is_silent(0);
    assert_eq!(home.log(), ["start holder", "end holder"], "no waiter ran");
}

#[test]
fn a_signal_while_running_reaches_the_command_exactly_once() {
    let home = Home::new();
    let gate = home.gate("gate");
    let child_gate = home.gate("child-gate");
    // Without a terminal, whatever these tests were started from.
    let listener = listen(&home, r#"exec setsid "$SEQ" run -d foo.com -- python3 listener.py"#);
    for (signal, name, _) in PASSED_ON {
        listener.signal(signal);
        home.await_line(&format!("listener {name}"));
        home.await_line(&format!("child {name}"));
    }
    // The turn is kept: the command is not gone.
    home.await_holder("foo.com", "attached");
    let next = home.queue("foo.com", "next", 1);
    child_gate.open();
    gate.open();
    listener.wait().is_silent(7);
    next.wait().is_silent(0);
    let log = home.log();
    for (_, name, _) in PASSED_ON {
        for who in ["listener", "child"] {
            let line = format!("{who} {name}");
            assert_eq!(log.iter().filter(|found| **found == line).count(), 1, "{line}: {log:?}");
        }
    }
    assert_eq!(log[log.len() - 2..], ["start next", "end next"], "it did not wait: {log:?}");
}

#[test]
fn who_is_signalled_dies_as_its_command_does_and_passes_the_turn_on() {
    let home = Home::new();
    let _gate = home.gate("gate");
    for (signal, name, number) in PASSED_ON {
        // Not bash, which ignores QUIT; `exec`, so that no shell is left to tell of its child's end.
        let script = "ulimit -c 0; echo \"start $0\" >>log; exec cat gate";
        let running = home.start(&["run", "-d", "foo.com", "--", "sh", "-c", script, name]);
        home.await_line(&format!("start {name}"));
        // Whether it is the shell still or `cat` by now, it has no handler for it.
        running.signal(signal);
        running.wait().dies_of(number);
        home.seq(&["run", "-n", "-d", "foo.com", "--", "true"]).is_silent(0);
    }
}

#[test]
fn nohup_keeps_a_waiter_and_its_command_going() {
    let home = Home::new();
    let gate = home.gate("gate");
    let _child_gate = home.gate("child-gate");
    let second_gate = home.gate("second-gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let script = r#"trap '' HUP; exec "$SEQ" run -d foo.com -- ./worker nohupped second-gate"#;
    let waiter = home.launch(home.command("sh").args(["-c", script]));
    home.await_waiters("foo.com", 1);
    waiter.signal(Signal::HUP);
    gate.open();
    holder.wait().is_silent(0);
    home.await_line("start nohupped");
    waiter.signal(Signal::HUP);
    second_gate.open();
    waiter.wait().is_silent(0);
    assert_eq!(home.log().last().map(String::as_str), Some("end nohupped"));
}

#[test]
fn an_ignored_signal_is_ignored_by_the_command_too() {
    let home = Home::new();
    let script = r#"trap '' HUP USR1; exec "$SEQ" run -d foo.com -- sh -c 'kill -HUP $$; kill -USR1 $$; exit 4'"#;
    home.sh(script).is_silent(4);
}

#[test]
fn the_command_starts_with_no_signal_blocked_and_none_ignored() {
    let home = Home::new();
    let masks = |command: &mut std::process::Command| -> Vec<u64> {
        let ended = home.finish(command);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr());
        // 32 and 33 are the C library's own.
        ended.stdout().lines().map(|line| u64::from_str_radix(&line[8..], 16).unwrap() & !0x1_8000_0000).collect()
    };
    let grep = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let without = masks(home.command(grep[0]).args(&grep[1..]));
    let with = masks(&mut home.seq_command(&[&["run", "-d", "foo.com", "--"][..], &grep[..]].concat()));
    assert_eq!(with, without);
}

#[test]
fn a_parent_that_ignores_sigchld_does_not_lose_the_status() {
    let home = Home::new();
    home.sh(r#"trap '' CHLD; exec "$SEQ" run -d foo.com -- sh -c 'exit 5'"#).is_silent(5);
    home.sh(r#"trap '' CHLD; exec "$SEQ" run -d foo.com --max-run 1m -- sh -c 'exit 6'"#).is_silent(6);
}

#[test]
fn a_stopped_wrapper_goes_on_where_it_was() {
    let home = Home::new();
    let gate = home.gate("gate");
    let running = home.hold("foo.com", "first", "gate");
    running.signal(Signal::STOP);
    let next = home.queue("foo.com", "next", 1);
    gate.open();
    home.await_line("end first");
    running.signal(Signal::CONT);
    running.wait().is_silent(0);
    next.wait().is_silent(0);
    assert_eq!(home.log(), ["start first", "end first", "start next", "end next"]);
}

#[test]
fn a_signal_ends_what_until_all_exit_waits_for() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let script = "cat gate & echo $! >left; echo $$ >command; exit 0";
    let running = home.start(&["run", "-d", "foo.com", "--until-all-exit", "--", "sh", "-c", script]);
    let left = home.await_process("left");
    let command = home.await_file("command").parse().expect("a pid");
    home.await_fact("the command's own end", || (!is_alive(command)).then_some(()));
    running.signal(Signal::TERM);
    assert!(left.has_ended_within(20), "what was left behind heard nothing");
    running.wait().is_silent(0);
    home.await_idle("foo.com");
}

#[test]
fn the_command_starts_with_the_signals_blocked_that_seq_was_started_with() {
    let home = Home::new();
    let blocked = |signals: &str| {
        let python = format!(
            "import os, signal; signal.pthread_sigmask(signal.SIG_BLOCK, [{signals}]); os.execv(os.environ['SEQ'], \
             ['seq', 'run', '-d', 'foo.com', '--', 'grep', 'SigBlk', '/proc/self/status'])"
        );
        home.finish(home.command("python3").args(["-c", &python]))
    };
    blocked("").says(0, "SigBlk:\t0000000000000000\n", "");
    blocked("signal.SIGTERM, signal.SIGWINCH").says(0, "SigBlk:\t0000000008004000\n", "");
}
