//! What the daemon says on standard error, where nobody reads it any more.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::wire::{Client, Sleeper, seqd};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_log_that_nobody_reads_any_more_is_no_reason_to_end() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("seq/seqd.sock");
    let mut daemon = Sleeper(seqd().arg("--socket").arg(&socket).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(daemon.0.stderr.take().unwrap());
    let mut first = String::new();
    log.read_line(&mut first).unwrap();
    assert!(first.contains("serves"), "{first}");
    drop(log);
    let mut client = Client::connect(&socket);
    client.takes_turn("a");
    client.send(r#"{"op":"watch"}"#);
    // Each is told to the log, too.
    for _ in 0..3 {
        kill_process(Pid::from_child(&daemon.0), Signal::HUP).unwrap();
        while client.reply()["event"] != "reloaded" {}
    }
    client.ask(r#"{"op":"stop"}"#);
    assert!(daemon.0.wait().unwrap().success());
}

#[test]
fn an_error_that_nobody_reads_has_its_exit_status() {
    let home = tempfile::tempdir().unwrap();
    // A file is in the place of the directory.
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let socket = file.join("seqd.sock");
    for (arguments, status) in [(&["--no-such-option"][..], 2), (&["--socket", socket.to_str().unwrap()], 125)] {
        let mut command = seqd();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(command.args(arguments).stderr(writer).status().unwrap().code(), Some(status), "{arguments:?}");
    }
}
