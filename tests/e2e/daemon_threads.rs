//! A daemon that the system gives no further thread, as where its user has all processes that there may be.

use std::fs;
use std::os::fd::AsFd;

use crate::wire::{Daemon, until};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Less than the stack of a thread, and room for what a few clients need.
const MEMORY_LEFT_BYTES: u64 = 1024 * 1024;

#[test]
fn without_a_thread_nothing_is_lost_but_the_answer_that_needs_one() {
    let daemon = Daemon::start();
    let (mut client, mut wrapper) = (daemon.connect(), daemon.connect());
    client.takes_turn("a");
    client.ask(r#"{"op":"done","domain":"a"}"#);
    // For root there is no limit on processes; this one holds for everybody.
    let before = limit_memory(&daemon, Some(address_space(&daemon) + MEMORY_LEFT_BYTES));
    let answer = client.ask(r#"{"op":"log","request_id":"l"}"#);
    assert_eq!(
        answer,
        r#"{"type":"error","code":"storage","message":"cannot read the history: Resource temporarily unavailable (os error 11): raise the limit on processes (ulimit -u), or end some","request_id":"l"}"#
    );
    let (reading, writing) = std::io::pipe().expect("a pipe");
    wrapper.send_with(r#"{"op":"sequence","domain":"b","descriptors":1}"#, &[reading.as_fd()]);
    assert_eq!(wrapper.reply()["type"], "active");
    drop(wrapper);
    until("its user is told that nobody looks for what has the turn", || {
        daemon.log().contains("cannot look for what keeps ticket 2: Resource temporarily").then_some(())
    });
    limit_memory(&daemon, before);
    let turns = client.ask(r#"{"op":"log","turns_max":1}"#);
    assert!(turns.contains(r#""type":"log""#), "{turns}");
    drop(writing);
}

/// Sets the limit on the daemon's memory, and gives what it was.
fn limit_memory(daemon: &Daemon, current: Option<u64>) -> Option<u64> {
    let pid = i32::try_from(daemon.pid()).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::As, Rlimit { current, maximum: None }).expect("the daemon is there").current
}

/// In bytes.
fn address_space(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("the daemon is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}
