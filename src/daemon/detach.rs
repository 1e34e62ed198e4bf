//! Going into the background, and telling the client that waits for it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;

use super::args::SeqdArgs;
use super::place::Place;
use crate::clock::Time;
use crate::error::Error;

/// How long the first stage waits for the second.
pub const DAEMON_START_TIMEOUT: Duration = Duration::from_secs(5);

/// The first stage: runs this same program again, in a session of its own, and gives what that has to say on how the
/// start went; nothing when it hangs or is killed. Whoever comes after the first stage is done finds the daemon there.
///
/// The second stage inherits nothing but a pipe for its one line: any other descriptor would be held open for as long
/// as the daemon lives, and hang whoever waits for its end.
pub(super) fn spawn_second_stage(mut args: SeqdArgs, place: &Place) -> Result<Option<String>, Error> {
    let failed = |error: io::Error| Error::failure(format_args!("cannot go into the background: {error}"));
    for path in [&mut args.log, &mut args.config] {
        *path = path.take().map(std::path::absolute).transpose().map_err(failed)?;
    }
    crate::sys::close_from(3).map_err(failed)?;
    rustix::process::setsid().map_err(|error| failed(error.into()))?;
    std::env::set_current_dir("/").map_err(failed)?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    // The client that asked takes signals as events and has blocked them; a daemon with TERM blocked could not be ended.
    SigSet::empty().thread_set_mask().map_err(|errno| failed(errno.into()))?;
    // Not `current_exe`: after an upgrade that is the name of a file that is not there.
    let second = Command::new(Path::new("/proc/self/exe"))
        .arg0("seqd")
        .args(args.for_second_stage(place.socket.clone()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    second.stdout.map_or(Ok(None), read_line).map_err(failed)
}

/// The one line that the second stage says; nothing when it says none in time.
fn read_line(mut stdout: ChildStdout) -> io::Result<Option<String>> {
    let deadline = Time::now() + DAEMON_START_TIMEOUT;
    let (mut said, mut bytes) = (Vec::new(), [0; 512]);
    while !said.ends_with(b"\n") {
        let left = Timespec::try_from(deadline.since(Time::now())).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        match stdout.read(&mut bytes)? {
            0 => return Ok(None),
            read => said.extend_from_slice(&bytes[..read]),
        }
    }
    Ok(Some(String::from_utf8_lossy(&said).trim_end().to_owned()))
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
