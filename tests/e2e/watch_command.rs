//! `seq watch`, whose reader may go away.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use crate::support::{Home, Running};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A watcher of `home` whose standard output is a socket, as a program has it that Node.js starts; and the other end.
fn watcher(home: &Home) -> (Running, BufReader<UnixStream>) {
    let (reader, stdout) = UnixStream::pair().unwrap();
    let out = home.out();
    let stderr = std::fs::File::create(&out).unwrap();
    let mut command = home.seq_command(&["watch"]);
    command.stdout(OwnedFd::from(stdout)).stderr(Stdio::from(stderr));
    let running = Running::start_as_is(&mut command, home.path(), out.with_extension("stdout"), out);
    let mut reader = BufReader::new(reader);
    let mut shown = String::new();
    // It watches when it shows anything; what was left unread would be one more way to see that nobody reads.
    home.await_fact("it watches", || {
        home.seq(&["run", "-d", "foo.com", "--", "true"]).is_silent(0);
        shows(&reader).then_some(())
    });
    while !shown.contains("ended") || shows(&reader) {
        reader.read_line(&mut shown).unwrap();
    }
    (running, reader)
}

/// Whether there is something to read.
fn shows(reader: &BufReader<UnixStream>) -> bool {
    let mut ready = [PollFd::new(reader.get_ref(), PollFlags::IN)];
    poll(&mut ready, Some(&Timespec::default())).unwrap() > 0
}

/// As if it had died of SIGPIPE.
const UNREAD: i32 = 128 + 13;

#[test]
fn a_watcher_ends_when_the_other_end_of_its_socket_is_closed() {
    let home = Home::new();
    home.warm();
    let (running, reader) = watcher(&home);
    drop(reader);
    running.wait().is_silent(UNREAD);
}

#[test]
fn a_watcher_without_a_daemon_ends_when_the_other_end_of_its_socket_is_closed() {
    let home = Home::new();
    home.warm();
    let (running, reader) = watcher(&home);
    home.seq(&["stop"]).is_silent(0);
    drop(reader);
    running.wait().is_silent(UNREAD);
}
