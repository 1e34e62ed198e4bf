//! What somebody takes away of a place while its daemon serves there: it is put back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::wire::{Daemon, until};
use rustix::fs::{CWD, RenameFlags};
use tempfile::TempDir;

#[test]
fn a_socket_that_a_cleaner_removed_is_put_back() {
    let daemon = Daemon::start();
    let mut before = daemon.connect();
    before.takes_turn("a");
    fs::remove_file(&daemon.socket).unwrap();
    until("the socket is back", || fs::symlink_metadata(&daemon.socket).ok());
    let mut after = daemon.connect();
    assert!(after.ask(r#"{"op":"sequence","domain":"a"}"#).contains("queued"));
    drop(before);
    assert_eq!(after.reply()["type"], "active");
}

#[test]
fn a_directory_that_is_taken_away_is_put_back_and_there_is_still_one_daemon() {
    let daemon = Daemon::start();
    let mut before = daemon.connect();
    before.takes_turn("a");
    let directory = daemon.socket.parent().unwrap();
    fs::rename(directory, directory.with_file_name("away")).unwrap();
    until("the socket is back", || fs::symlink_metadata(&daemon.socket).ok());
    assert!(fs::symlink_metadata(&daemon.socket).unwrap().file_type().is_socket());
    assert_eq!(refusal(&daemon.socket), "busy\n");
    assert!(daemon.connect().ask(r#"{"op":"sequence","domain":"a"}"#).contains("queued"));
    until("the numbers are back", || daemon.file("numbers").exists().then_some(()));
    until("the log is back", || daemon.log().contains("put the log back").then_some(()));
}

#[test]
fn a_log_that_somebody_removed_is_put_back_and_one_that_was_moved_is_left_to_whoever_did_that() {
    let daemon = Daemon::start();
    fs::remove_file(daemon.file("seqd.log")).unwrap();
    until("the log is back", || daemon.log().contains("put the log back").then_some(()));
    fs::rename(daemon.file("seqd.log"), daemon.file("seqd.log.1")).unwrap();
    // Whoever is let in comes after the look at that.
    daemon.connect().takes_turn("a");
    assert!(!daemon.file("seqd.log").exists());
}

#[test]
fn the_folder_of_notes_of_a_shared_daemon_and_its_options_are_put_back() {
    let (_home, socket) = home();
    let group = rustix::process::getegid().as_raw().to_string();
    let daemon = Daemon::start_with(&socket, &["--group", &group]).unwrap();
    let mode = || Some(fs::symlink_metadata(daemon.file("done")).ok()?.permissions().mode() & 0o7777);
    assert_eq!(mode(), Some(0o1733));
    fs::remove_dir(daemon.file("done")).unwrap();
    until("the folder is back, and open to all", || (mode() == Some(0o1733)).then_some(()));
    let options = || fs::read_to_string(daemon.file("seqd.options")).ok();
    let before = options();
    assert_eq!(before, Some(format!("[\"--group\",\"{group}\"]\n")));
    fs::remove_file(daemon.file("seqd.options")).unwrap();
    until("the options are back", || (options() == before).then_some(()));
}

/// Nothing tells that what is in the way has gone.
#[test]
fn a_directory_that_cannot_be_put_back_at_once_is_put_back_later() {
    let daemon = Daemon::start();
    let mut before = daemon.connect();
    before.takes_turn("a");
    let directory = daemon.socket.parent().unwrap();
    let away = directory.with_file_name("away");
    // Both at once: there is no moment in which it could be put back.
    fs::write(&away, "").unwrap();
    rustix::fs::renameat_with(CWD, directory, CWD, &away, RenameFlags::EXCHANGE).unwrap();
    until("it cannot be put back", || {
        let log = fs::read_to_string(away.join("seqd.log")).unwrap_or_default();
        log.contains("cannot put back what somebody had removed").then_some(())
    });
    fs::remove_file(directory).unwrap();
    until("the socket is back", || fs::symlink_metadata(&daemon.socket).ok());
    assert_eq!(refusal(&daemon.socket), "busy\n");
    assert!(daemon.connect().ask(r#"{"op":"sequence","domain":"a"}"#).contains("queued"));
}

/// As where a user has as many watches as the system allows (`inotify(7)`).
#[test]
fn a_directory_that_cannot_be_watched_is_put_back_all_the_same() {
    let (_home, socket) = home();
    let mut command = Command::new("unshare");
    let unwatched = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\"";
    command.args(["--user", "--map-root-user", "sh", "-c", unwatched]).arg(env!("CARGO_BIN_EXE_seqd"));
    // Where no user namespace can be made there is nothing to be shown.
    let is_possible =
        Command::new("unshare").args(["--user", "--map-root-user", "true"]).stderr(Stdio::null()).status();
    if !is_possible.is_ok_and(|status| status.success()) {
        return;
    }
    let daemon = Daemon::start_as(command, &socket, &[]).unwrap();
    assert!(daemon.log().contains("cannot watch"), "{}", daemon.log());
    let mut before = daemon.connect();
    before.takes_turn("a");
    let directory = socket.parent().unwrap();
    fs::rename(directory, directory.with_file_name("away")).unwrap();
    until("the socket is back", || fs::symlink_metadata(&socket).ok());
    assert_eq!(refusal(&socket), "busy\n");
    assert!(daemon.connect().ask(r#"{"op":"sequence","domain":"a"}"#).contains("queued"));
}

#[test]
fn a_directory_above_that_is_taken_away_is_put_back_as_well() {
    let home = tempfile::tempdir().unwrap();
    let above = home.path().join("a");
    let daemon = Daemon::start_at(&above.join("b/seq/seqd.sock"));
    let mut before = daemon.connect();
    before.takes_turn("a");
    for away in ["away", "away again"] {
        fs::rename(&above, home.path().join(away)).unwrap();
        until("the socket is back", || fs::symlink_metadata(&daemon.socket).ok());
        assert_eq!(refusal(&daemon.socket), "busy\n");
        assert!(daemon.connect().ask(r#"{"op":"sequence","domain":"a"}"#).contains("queued"));
    }
}

#[test]
fn a_daemon_whose_place_another_has_taken_leaves_and_writes_nothing() {
    let mut first = Daemon::start();
    let mut client = first.connect();
    client.takes_turn("a");
    let directory = first.socket.parent().unwrap();
    // Stopped, it cannot put back what is taken away from it.
    first.signal(rustix::process::Signal::STOP);
    fs::rename(directory, directory.with_file_name("away")).unwrap();
    let second = Daemon::start_at(&first.socket);
    first.signal(rustix::process::Signal::CONT);
    assert_eq!(client.reply()["code"], "restarting");
    assert!(first.wait().success());
    let numbers: serde_json::Value = serde_json::from_slice(&fs::read(second.file("numbers")).unwrap()).unwrap();
    assert_eq!((&numbers["ticket"], &numbers["token"]), (&10_001.into(), &10_001.into()));
    second.connect().takes_turn("a");
}

/// A directory of one's own, and a socket in one that is not there yet.
fn home() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("seq/seqd.sock");
    (home, socket)
}

/// What a daemon says that does not start.
fn refusal(socket: &Path) -> String {
    match Daemon::start_with(socket, &[]) {
        Ok(_) => panic!("it started"),
        Err(said) => said,
    }
}
