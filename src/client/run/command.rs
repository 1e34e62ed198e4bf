//! Starting the command, as it would be started without seq.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::{SigSet, Signal};
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, set_child_subreaper};

use crate::cli;
use crate::error::{Error, status, with_limit};
use crate::protocol::{Active, Domain, Started};
use crate::sys::was_sigpipe_ignored;

use super::super::nested::{TICKET_VARIABLE, TOKEN_VARIABLE, TURN_SOCKET_VARIABLE};
use super::super::streams::keep_closed;
use super::keeper::Keeper;
use super::record::Recorder;
use super::terminal::Terminal;

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
    pidfd: Option<OwnedFd>,
}

/// What a command is started with whatever its turn is: there is time to make it while the daemon has the word.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The program, as it was named.
    program: CString,
    /// What it is called, and its arguments.
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
        Ok(Prepared { program: words[0].clone(), words, environment })
    }

    /// The shell instead, which runs this `script` with the same arguments.
    fn by_sh(self, script: &OsStr) -> io::Result<Prepared> {
        let mut words = vec![c"sh".to_owned(), text(&[script.as_bytes()])?];
        words.extend(self.words.into_iter().skip(1));
        Ok(Prepared { program: c"/bin/sh".to_owned(), words, environment: self.environment })
    }
}

/// What a command is started with besides.
struct How<'a> {
    /// The signals that are blocked in it.
    blocked: SigSet,
    /// What it has in the place of seq's own standard output and error.
    recorder: Option<&'a Recorder>,
    /// Whether it stays in seq's own process group.
    shares_group: bool,
}

/// The variables that tell a command which turn it has, in the order in which [`tell_of_turn`] has their values.
const OURS: [&str; 6] =
    ["SEQ_DOMAIN", "SEQ_DOMAINS", "SEQ_REQUEST_ID", TICKET_VARIABLE, TOKEN_VARIABLE, TURN_SOCKET_VARIABLE];

/// Starts the command with everything of seq's own: terminal, directory, environment, standard streams. It may have to
/// be stopped when it has run for the `longest` time, or is superseded.
pub(super) fn start(
    args: &cli::Run,
    prepared: io::Result<Prepared>,
    longest: Option<Duration>,
    (turn, socket): (&Active, &Path),
    ((keeper, recorder), blocked): ((Option<&Keeper>, Option<&Recorder>), SigSet),
) -> Result<Running, Error> {
    let terminal = Terminal::of_this_process();
    let shares_group = terminal.is_some();
    let leaves_orphans = longest.is_some() || args.wishes.supersede.is_some() || args.until_all_exit;
    if leaves_orphans {
        set_child_subreaper(Some(rustix::process::getpid())).map_err(|errno| cannot_run(&args.command[0], errno))?;
    }
    if let Some(keeper) = keeper {
        keeper.let_inherit().map_err(|errno| cannot_run(&args.command[0], errno))?;
    }
    keep_closed();
    let program = &args.command[0];
    let how = How { blocked, recorder, shares_group };
    let spawned = prepared.and_then(|mut prepared| {
        tell_of_turn(&mut prepared.environment, args, turn, socket)?;
        match spawn(&prepared, &how) {
            // A script without a first line that says what runs it: run by sh, as execvp(3) and all shells do.
            Err(error) if is(&error, Errno::NOEXEC) => spawn(&prepared.by_sh(find(program).as_os_str())?, &how),
            spawned => spawned,
        }
    });
    let pid = spawned.map_err(|error| cannot_start(program, &error))?;
    // The child is not waited for yet, so its pid is still its own.
    Ok(Running { pid, terminal, leaves_orphans, pidfd: pidfd_open(pid, PidfdFlags::empty()).ok() })
}

/// Starts a program with those signals blocked that seq was started with. Those that seq takes as events are blocked in
/// seq itself, and the standard library's `Command` would hand that on, so that the command could not even be stopped.
fn spawn(command: &Prepared, how: &How<'_>) -> io::Result<Pid> {
    let mut attributes = PosixSpawnAttr::init()?;
    let mut flags = PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF;
    attributes.set_sigmask(&how.blocked)?;
    if !was_sigpipe_ignored() {
        // seq ignores it from the start, and nobody else may expect that.
        attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
    }
    if !how.shares_group {
        flags |= PosixSpawnFlags::POSIX_SPAWN_SETPGROUP;
        attributes.set_pgroup(nix::unistd::Pid::from_raw(0))?;
    }
    attributes.set_flags(flags)?;
    let mut actions = PosixSpawnFileActions::init()?;
    for (number, descriptor) in how.recorder.into_iter().flat_map(Recorder::descriptors) {
        actions.add_dup2(descriptor.as_raw_fd(), number)?;
    }
    let pid = posix_spawnp(&command.program, &actions, &attributes, &command.words, &command.environment)?;
    Pid::from_raw(pid.as_raw()).ok_or_else(|| io::Error::from(Errno::SRCH))
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

impl Running {
    /// What tells the daemon which process works under the turn, and the descriptors that go with it. If the process
    /// `keeps` the turn, it is watched, even if it closes the descriptor that it inherited.
    pub(super) fn started(&self, turn: &Active, keeps: bool) -> (Started, Vec<BorrowedFd<'_>>) {
        let pid = self.pid.as_raw_nonzero().get().unsigned_abs();
        let descriptors: Vec<_> = self.pidfd.iter().filter(|_| keeps).map(AsFd::as_fd).collect();
        (Started { ticket: turn.ticket.0, pid, descriptors: descriptors.len() }, descriptors)
    }
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
