//! Starting the command, as it would be started without seq.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{Access, Mode, OFlags, access, open};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, set_child_subreaper};

use crate::cli;
use crate::error::{Error, status};
use crate::protocol::{Active, Request, Started};

use super::super::link::{Link, LinkError};
use super::keeper::Keeper;

/// A command that was started and has not been waited for.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: Pid,
    /// Whether it is in seq's own process group, because there is a terminal whose foreground group that may be.
    /// Otherwise it leads a group of its own.
    pub(super) shares_group: bool,
    /// None on a kernel without pidfds (before Linux 5.3).
    pidfd: Option<OwnedFd>,
}

/// Starts the command with everything of seq's own: terminal, directory, environment, standard streams.
pub(super) fn start(args: &cli::Run, turn: &Active, keeper: Option<&Keeper>) -> Result<Running, Error> {
    let shares_group = has_terminal();
    if args.max_run.is_some() {
        // What the command leaves behind becomes a child of seq, so that it can be found and stopped, too.
        set_child_subreaper(Some(rustix::process::getpid())).map_err(|errno| cannot_run(&args.command[0], errno))?;
    }
    if let Some(keeper) = keeper {
        keeper.let_inherit().map_err(|errno| cannot_run(&args.command[0], errno))?;
    }
    let prepare = |program: &OsStr, arguments: &[OsString]| {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("SEQ_DOMAIN", turn.domain.as_str())
            .env("SEQ_REQUEST_ID", turn.request_id.as_str())
            .env("SEQ_TICKET", turn.ticket.to_string())
            .env("SEQ_TOKEN", turn.token.to_string());
        if !shares_group {
            command.process_group(0);
        }
        command
    };
    let (program, arguments) = (&args.command[0], &args.command[1..]);
    let spawned = match prepare(program, arguments).spawn() {
        // A script without a first line that says what runs it: run by sh, as execvp(3) and all shells do.
        Err(error) if is(&error, Errno::NOEXEC) => {
            let script = find(program).into_os_string();
            prepare(OsStr::new("/bin/sh"), &[&[script], arguments].concat()).spawn()
        }
        spawned => spawned,
    };
    let child = spawned.map_err(|error| cannot_start(program, &error))?;
    // The child is not waited for yet, so its pid is still its own.
    let pid = Pid::from_child(&child);
    Ok(Running { pid, shares_group, pidfd: pidfd_open(pid, PidfdFlags::empty()).ok() })
}

impl Running {
    /// Tells the daemon which process works under the turn, so that it is watched even if it closes the descriptor.
    pub(super) fn tell(&self, link: &Link, turn: &Active) -> Result<(), LinkError> {
        let pid = self.pid.as_raw_nonzero().get().unsigned_abs();
        let descriptors: Vec<_> = self.pidfd.iter().map(AsFd::as_fd).collect();
        let started = Started { ticket: turn.ticket.0, pid, descriptors: descriptors.len() };
        link.send(&Request::Started(started), &descriptors)
    }
}

/// Whether this process has a controlling terminal.
fn has_terminal() -> bool {
    open("/dev/tty", OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).is_ok()
}

/// Where `program` is, looked for as `execvp(3)` does.
fn find(program: &OsStr) -> PathBuf {
    let is_path = program.as_encoded_bytes().contains(&b'/');
    let path = std::env::var_os("PATH").filter(|_| !is_path).unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| access(file, Access::EXEC_OK).is_ok())
        .unwrap_or_else(|| program.into())
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn cannot_start(program: &OsStr, error: &io::Error) -> Error {
    let shown = program.display();
    if error.kind() != io::ErrorKind::NotFound {
        return Error::new(status::CANNOT_EXECUTE, format_args!("cannot run {shown}: {error}"));
    }
    let why = if !program.as_encoded_bytes().contains(&b'/') {
        "there is no such command on PATH"
    } else if access(program, Access::EXISTS).is_ok() {
        "what its first line names, or its loader, is not there"
    } else {
        "there is no such file"
    };
    Error::new(status::NOT_FOUND, format_args!("cannot run {shown}: {why}"))
}

fn cannot_run(program: &OsStr, errno: Errno) -> Error {
    Error::failure(format_args!("cannot run {}: {}", program.display(), io::Error::from(errno)))
}
