//! Going into the background, and telling the client that waits for it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::SigSet;
use rustix::fs::Mode;

use super::args::SeqdArgs;
use super::place::Place;
use crate::error::Error;

/// The first stage: runs this same program again as nobody's child, in a session of its own, and is done.
///
/// The second stage inherits standard output only, to say on it how the start went: any other descriptor would be
/// held open for as long as the daemon lives, and hang whoever waits for its end.
pub(super) fn spawn_second_stage(args: &SeqdArgs, place: &Place) -> Result<(), Error> {
    let failed = |error: io::Error| Error::failure(format_args!("cannot go into the background: {error}"));
    let mut args = args.clone();
    args.log = args.log.map(|log| std::path::absolute(&log)).transpose().map_err(failed)?;
    crate::sys::close_from(3).map_err(failed)?;
    rustix::process::setsid().map_err(|error| failed(error.into()))?;
    std::env::set_current_dir("/").map_err(failed)?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    // The client that asked takes signals as events and has blocked them; a daemon with TERM blocked could not be ended.
    SigSet::empty().thread_set_mask().map_err(|errno| failed(errno.into()))?;
    // Not `current_exe`: after an upgrade that is the name of a file that is not there.
    Command::new(Path::new("/proc/self/exe"))
        .arg0("seqd")
        .args(args.for_second_stage(place.socket.clone()))
        .stdin(Stdio::null())
        .stdout(Stdio::inherit())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    Ok(())
}

/// Says how the start went, in one line, then leaves standard output alone for ever.
pub(super) fn report(outcome: &str) {
    // Whoever asked may be gone; the daemon serves the others all the same.
    let _ = io::stdout().write_all(format!("{outcome}\n").as_bytes());
    let _ = io::stdout().flush();
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}
