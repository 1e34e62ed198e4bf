//! The daemon hangs: who wants to wait only for so long does.

mod support;

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use support::Home;

/// What waits for foo.com for a second at most.
const WAITING: [&[&str]; 3] = [
    &["run", "-d", "foo.com", "-w", "1s", "--", "true"],
    &["sequence", "-d", "foo.com", "-w", "1s", "--lease", "1h"],
    &["wait", "-d", "foo.com", "-w", "1s"],
];

/// The longest that a wait of a second may take: less than what a silent daemon has otherwise.
const LONGEST: Duration = Duration::from_secs(4);

#[test]
fn max_wait_is_kept_by_who_is_in_line() {
    for arguments in WAITING {
        let home = Home::new();
        home.seq(&["sequence", "-d", "foo.com", "--lease", "1h"]).is_silent(0);
        let daemon = home.daemon();
        let running = home.start(arguments);
        if arguments[0] == "wait" {
            // The daemon shows nothing of who only looks on.
            let pid = running.pid();
            home.await_fact("a connection", || has_socket(pid).then_some(()));
        } else {
            home.await_waiters("foo.com", 1);
        }
        daemon.signal(Signal::STOP);
        let ended = running.wait();
        ended.complains(75, "is stopped and did not answer in time: let it go on with 'kill -CONT ");
        assert!(ended.took < LONGEST, "{arguments:?} took {:?}", ended.took);
    }
}

fn has_socket(pid: u32) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten()
        .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"socket:")))
}

#[test]
fn max_wait_is_kept_by_who_comes_then() {
    let home = Home::new();
    home.seq(&["sequence", "-d", "foo.com", "--lease", "1h"]).is_silent(0);
    home.daemon().signal(Signal::STOP);
    for arguments in WAITING {
        let ended = home.seq(arguments);
        ended.complains(75, "is stopped and did not answer in time: let it go on with 'kill -CONT ");
        assert!(ended.took < LONGEST, "{arguments:?} took {:?}", ended.took);
    }
    let quiet = ["run", "-q", "-d", "foo.com", "-w", "1s", "--conflict-exit-code", "9", "--", "true"];
    home.seq(&quiet).is_silent(9);
}
