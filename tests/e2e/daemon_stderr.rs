//! What the daemon says on standard error, where nobody reads it any more.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{Home, seq_program, seqd_program};
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

#[test]
fn what_was_asked_of_it_and_cannot_be_written_is_said_to_be_so() {
    let home = Home::new();
    let link = home.file("bin").join("seqd");
    std::fs::create_dir(home.file("bin")).unwrap();
    std::os::unix::fs::symlink(seq_program(), &link).unwrap();
    for program in [seqd_program(), link] {
        let program = program.display();
        let ended = home.sh(&format!("{program} --version >/dev/full; echo $?; {program} --version >&-; echo $?"));
        assert_eq!(ended.stdout(), "125\n125\n", "{program}: {}", ended.stderr());
    }
}
