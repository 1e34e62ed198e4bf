//! Starting the command, as it would be started without seq.

use std::cell::Cell;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::SigSet;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open, set_child_subreaper};

use crate::cli;
use crate::error::{Error, status, with_limit};
use crate::protocol::{Active, Domain, Started};
use crate::sys::{Spawn, spawn};

use super::super::nested::{TICKET_VARIABLE, TOKEN_VARIABLE, TURN_SOCKET_VARIABLE};
use super::super::streams::keep_closed;
use super::record::Recorder;
use super::terminal::Terminal;
use super::tie::Tie;

/// A command that was started and has not been waited for.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: Pid,
    /// The terminal that it runs at. Then it is in seq's own process group, which may be that of the foreground there;
    /// otherwise it leads a group of its own.
    pub(super) terminal: Option<Terminal>,
    /// Whether what the command leaves behind becomes a child of seq, so that it can be found, and stopped, too.
    pub(super) leaves_orphans: bool,
    /// None on a kernel without pidfds (before Linux 5.3).
    pub(super) pidfd: Option<OwnedFd>,
    /// Whether the daemon was told of it.
    pub(super) is_announced: bool,
}

/// What a command is started with whatever its turn is: there is time to make it while the daemon has the word.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The program, as it was named, and its arguments.
    words: Vec<CString>,
    /// seq's own environment, but for what tells which turn this is.
    environment: Vec<CString>,
}

impl Prepared {
    /// The command of a run.
    ///
    /// # Errors
    ///
    /// When something holds a zero, which nothing that the system handed over does.
    pub(super) fn new(args: &cli::Run) -> io::Result<Prepared> {
        let words = args.command.iter().map(|word| text(&[word.as_bytes()])).collect::<io::Result<Vec<_>>>()?;
        let inherited = std::env::vars_os().filter(|(name, _)| OURS.iter().all(|ours| name != ours));
        let environment = inherited.map(|(name, value)| variable(&name, &value)).collect::<io::Result<_>>()?;
        Ok(Prepared { words, environment })
    }
}

/// The variables that tell a command which turn it has, in the order in which [`tell_of_turn`] has their values.
const OURS: [&str; 6] =
    ["SEQ_DOMAIN", "SEQ_DOMAINS", "SEQ_REQUEST_ID", TICKET_VARIABLE, TOKEN_VARIABLE, TURN_SOCKET_VARIABLE];

/// Starts the command with everything of seq's own: terminal, directory, environment, standard streams. It may have to
/// be stopped when it has run for the `longest` time, or is superseded. Those signals are blocked in it that seq was
/// started with: what seq takes as events is blocked in seq itself, and the command could not even be stopped.
///
/// The daemon is told of the process before that becomes the command: even one that ends seq at once, and closes what it
/// inherits, keeps its turn.
pub(super) fn start(
    args: &cli::Run,
    prepared: io::Result<Prepared>,
    longest: Option<Duration>,
    (turn, tie): (&Active, &Tie<'_>),
    (recorder, blocked): (Option<&Recorder>, SigSet),
) -> Result<Running, Error> {
    let terminal = Terminal::of_this_process();
    let leaves_orphans = longest.is_some() || args.wishes.supersede.is_some() || args.until_all_exit;
    if leaves_orphans {
        set_child_subreaper(Some(getpid())).map_err(|errno| cannot_run(&args.command[0], errno))?;
    }
    if let Some(keeper) = tie.keeper() {
        keeper.let_inherit().map_err(|errno| cannot_run(&args.command[0], errno))?;
    }
    keep_closed();
    let is_announced = Cell::new(false);
    let announce = || {
        let me = getpid();
        is_announced.set(tie.tell_started(me, pidfd_open(me, PidfdFlags::empty()).ok().as_ref()).is_ok());
    };
    let spawned = prepared.and_then(|mut prepared| {
        tell_of_turn(&mut prepared.environment, args, turn, tie.socket())?;
        let descriptors = recorder.into_iter().flat_map(Recorder::descriptors);
        let program = Spawn {
            program: &prepared.words[0],
            words: &prepared.words,
            environment: &prepared.environment,
            leads_group: terminal.is_none(),
            blocked,
            descriptors: descriptors.map(|(number, descriptor)| (number, descriptor.as_fd())).collect(),
        };
        spawn(&program, &announce)
    });
    let pid = spawned.map_err(|error| cannot_start(&args.command[0], &error))?;
    // The child is not waited for yet, so its pid is still its own.
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok();
    Ok(Running { pid, terminal, leaves_orphans, pidfd, is_announced: is_announced.get() })
}

/// Puts into the `environment` which turn this is.
fn tell_of_turn(environment: &mut Vec<CString>, args: &cli::Run, turn: &Active, socket: &Path) -> io::Result<()> {
    let values: [OsString; OURS.len()] = [
        turn.domain.to_string().into(),
        normal(&args.domain).join("\n").into(),
        turn.request_id.to_string().into(),
        turn.ticket.to_string().into(),
        turn.token.to_string().into(),
        socket.into(),
    ];
    for (name, value) in OURS.into_iter().zip(&values) {
        environment.push(variable(OsStr::new(name), value)?);
    }
    Ok(())
}

fn variable(name: &OsStr, value: &OsStr) -> io::Result<CString> {
    text(&[name.as_bytes(), b"=", value.as_bytes()])
}

fn text(parts: &[&[u8]]) -> io::Result<CString> {
    CString::new(parts.concat()).map_err(io::Error::from)
}

/// Domains in their normal form, each once.
fn normal(typed: &[String]) -> Vec<String> {
    let named = typed.iter().filter_map(|typed| Domain::parse(typed).ok());
    Domain::each_once(named).map(|domain| domain.to_string()).collect()
}

/// What tells the daemon which process works under the turn, and the descriptors that go with it: with its pidfd it is
/// watched, even if it closes the descriptor that it inherited.
pub(super) fn started<'fd>(turn: &Active, pid: Pid, pidfd: Option<&'fd OwnedFd>) -> (Started, Option<BorrowedFd<'fd>>) {
    let pid = pid.as_raw_nonzero().get().unsigned_abs();
    (Started { ticket: turn.ticket.0, pid, descriptors: usize::from(pidfd.is_some()) }, pidfd.map(AsFd::as_fd))
}

fn cannot_start(program: &OsStr, error: &io::Error) -> Error {
    let shown = program.display();
    if program.is_empty() {
        return Error::new(status::NOT_FOUND, "cannot run a command without a name: say what to run behind '--'");
    }
    if error.kind() != io::ErrorKind::NotFound {
        return Error::new(
            status::CANNOT_EXECUTE,
            format_args!("cannot run {shown}: {}", cannot_execute(program, error)),
        );
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

/// Why what is there cannot be executed, and the way out where there is one.
fn cannot_execute(program: &OsStr, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return with_limit(error);
    }
    let file = Path::new(program);
    if file.is_dir() {
        "it is a directory: name a program in it".to_owned()
    } else if file.is_file() && access(file, Access::EXEC_OK).is_err() {
        format!("it is not executable: 'chmod +x {}' makes it so", file.display())
    } else {
        error.to_string()
    }
}

fn cannot_run(program: &OsStr, errno: Errno) -> Error {
    Error::failure(format_args!("cannot run {}: {}", program.display(), io::Error::from(errno)))
}
