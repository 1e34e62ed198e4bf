//! A daemon that was killed while somebody had a turn, and what the next one says that cannot start there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::stored::contents;
use super::wire::Daemon;

/// A daemon that was killed while somebody had a turn, and where its files are.
pub(crate) fn killed() -> (TempDir, PathBuf) {
    let mut daemon = Daemon::start();
    let directory = daemon.take_directory();
    daemon.connect().ask(r#"{"op":"sequence","domain":"a","binding":"lease","lease_ms":1000000}"#);
    daemon.connect().ask(r#"{"op":"sequence","domain":"b","binding":"lease","lease_ms":1000000}"#);
    (directory, daemon.kill())
}

/// The files of the storage at `socket`, with what is in them.
pub(crate) fn files(socket: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut files = contents(socket.parent().unwrap());
    files.retain(|name, _| !["life.lock", "seqd.log", "seqd.sock"].contains(&name.as_str()));
    files
}

/// What a daemon says that cannot start, after `error: `. It changes nothing.
#[track_caller]
pub(crate) fn refusal(socket: &Path) -> String {
    let before = files(socket);
    let said = Daemon::start_with(socket, &[]).err().expect("it must not start");
    assert!(!socket.exists() || std::os::unix::net::UnixStream::connect(socket).is_err(), "nobody is let in");
    assert!(files(socket) == before, "something has changed: {said}");
    said.strip_prefix("error: ").unwrap_or_else(|| panic!("{said}")).trim_end().to_owned()
}
