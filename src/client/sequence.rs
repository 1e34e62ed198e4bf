//! `seq sequence`: a turn for a script that seq does not run.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::getsid;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};

use crate::cli;
use crate::clock::{milliseconds, milliseconds_at_least, show_duration};
use crate::error::{Error, with_limit};
use crate::protocol::{Active, Binding, HolderState, Reply, Request, Sequence, Status};

use super::connect::Daemon;
use super::deliver::give_back;
use super::process::{Stat, ancestry, command_line};
use super::refusal::refused;
use super::rejoin::secret;
use super::signals::{Signals, die_of};
use super::table::printable;
use super::turn::{Outcome, take_turn};
use super::waiting::{Loudness, Waiting};
use super::wishes::wishes;

/// Whose turn it will be.
struct Owner {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Owner {
    /// Its pid, as the protocol has it.
    fn number(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }
}

/// Waits for the turn, binds it to a process or to time, and returns.
pub(super) fn sequence(daemon: &Daemon, args: &cli::Sequence, out: &mut dyn Write) -> Result<u8, Error> {
    let signals = Signals::block()?;
    let owner = match (args.for_pid, args.lease) {
        (_, Some(_)) => None,
        (Some(pid), _) => Some(named(pid)?),
        (None, None) => Some(calling_shell()?),
    };
    let loudness = if args.verbose { Loudness::Verbose } else { Loudness::Normal };
    let mut waiting = Waiting::new(&args.domain, loudness);
    let asked_of = daemon.for_at_most(args.max_wait);
    let has_turn = has_turn(&asked_of, args, owner.as_ref())?;
    let request = request(daemon, args, owner.as_ref(), has_turn, waiting.is_shown());
    let descriptors: Vec<_> = owner.iter().map(|owner| owner.pidfd.as_fd()).collect();
    match take_turn(&asked_of, &request, &descriptors, &signals, &mut waiting, &|| ())? {
        Outcome::Signal(signal) => Ok(die_of(signal)),
        // It has no key.
        Outcome::Recorded(done) => Err(refused(Reply::KeyDone(*done))),
        Outcome::Turn(mut link, turn) => {
            if args.json
                && let Err(error) = print(&turn, owner.as_ref(), out)
            {
                // A turn that nobody was told of would be kept by mistake.
                give_back(daemon, &mut link, turn.ticket)?;
                return Err(error);
            }
            waiting.tell(&format!("ticket {} has the turn, {}", turn.ticket, binding(args, owner.as_ref())));
            Ok(0)
        }
    }
}

/// What the turn ends with, in words.
fn binding(args: &cli::Sequence, owner: Option<&Owner>) -> String {
    match owner {
        Some(owner) => {
            let command = command_line(owner.pid).map(|command| format!(" ({})", printable(&command)));
            format!("bound to process {}{}", owner.number(), command.unwrap_or_default())
        }
        None => format!("for {}", show_duration(args.lease.unwrap_or_default())),
    }
}

/// Whether this request has its turn already, bound to the same owner: then it is taken up again. A turn that another
/// process has under the same name is not: two would work under it side by side.
fn has_turn(daemon: &Daemon, args: &cli::Sequence, owner: Option<&Owner>) -> Result<bool, Error> {
    let (Some(wanted), Some(owner)) = (&args.request_id, owner) else { return Ok(false) };
    let domain = args.domain.first().cloned();
    let status = Request::Status(Status { domain, waiters_max: Some(0), ..Status::default() });
    let Some(Reply::Status(status)) = daemon.ask_if_there(&status)? else { return Ok(false) };
    let mut holders = status.domains.iter().flat_map(|line| &line.holders);
    Ok(holders.any(|holder| {
        holder.request_id.as_str() == wanted && holder.state == HolderState::Process && holder.pid == owner.number()
    }))
}

fn request(daemon: &Daemon, args: &cli::Sequence, owner: Option<&Owner>, has_turn: bool, positions: bool) -> Sequence {
    Sequence {
        request_id: args.request_id.clone(),
        positions,
        max_wait_ms: args.max_wait.map(milliseconds_at_least),
        binding: if owner.is_some() { Binding::Process } else { Binding::Lease },
        lease_ms: args.lease.map(milliseconds),
        // A shell that names itself is one like any other: its turn is not anybody's to give back.
        named_process: args.for_pid.is_some_and(|pid| !ancestry().contains(&pid)),
        confirm: true,
        fresh: args.request_id.is_some() && !has_turn,
        command: owner.and_then(|owner| command_line(owner.pid)),
        // Of a lease, too, it is the shell that takes it.
        pid: owner.map(Owner::number).or_else(|| getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs())),
        secret: secret(),
        descriptors: usize::from(owner.is_some()),
        ..wishes(daemon, &args.domain, &args.wishes)
    }
}

/// The process that called this one. It is the same before and after its pidfd is opened, so it is the right one.
fn calling_shell() -> Result<Owner, Error> {
    let lost = "the calling shell cannot be seen from here: name a process with --for-pid, or use --lease";
    let pid = getppid().ok_or_else(|| Error::failure(lost))?;
    let pidfd = open(pid)?;
    if getppid() != Some(pid) || is_foster_parent(pid) {
        return Err(Error::failure(
            "the calling shell has ended, so the turn would have no end: name a process with --for-pid, or use --lease",
        ));
    }
    Ok(Owner { pid, pidfd })
}

/// Whether this process was left to `parent`, since the one that called it has ended (`PR_SET_CHILD_SUBREAPER`,
/// `prctl(2)`). Who leads no session is in that of the process that called it; who leads one may have been called by
/// any, but not by process 1, which does not call seq for a turn of its own.
fn is_foster_parent(parent: Pid) -> bool {
    let session_of = |pid: Pid| getsid(Some(nix::unistd::Pid::from_raw(pid.as_raw_nonzero().get()))).ok();
    let (own, of_parent) = (getsid(None).ok(), session_of(parent));
    let is_leader = own == Some(nix::unistd::Pid::this());
    own.is_some() && of_parent.is_some() && own != of_parent && (!is_leader || parent.is_init())
}

fn named(pid: u32) -> Result<Owner, Error> {
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = known.ok_or_else(|| no_such_process(pid))?;
    let owner = Owner { pid, pidfd: open(pid)? };
    // It has ended, only its parent has not asked for its status yet.
    let is_dead = Stat::of(pid).is_some_and(|stat| matches!(stat.state, 'Z' | 'X'));
    if is_dead { Err(no_such_process(owner.number())) } else { Ok(owner) }
}

fn open(pid: Pid) -> Result<OwnedFd, Error> {
    pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| match errno {
        Errno::SRCH => no_such_process(pid.as_raw_nonzero()),
        // Which of them depends on the kernel (`pidfd_open(2)`).
        Errno::INVAL | Errno::NOENT => Error::failure(format_args!(
            "{} is a thread of a process: name the process with --for-pid",
            pid.as_raw_nonzero()
        )),
        Errno::NOSYS => Error::failure("this kernel has no pidfds (Linux 5.3): use --lease"),
        errno => Error::failure(format_args!("cannot watch process {pid}: {}", with_limit(&errno.into()))),
    })
}

fn no_such_process(pid: impl std::fmt::Display) -> Error {
    Error::failure(format_args!("there is no process {pid}: name one that runs with --for-pid"))
}

/// The turn as one line of JSON: `domain`, `request_id`, `ticket`, `token`, as in the protocol's `active`; and `bound_to`,
/// the process that it ends with, unless it ends with time.
fn print(turn: &Active, owner: Option<&Owner>, out: &mut dyn Write) -> Result<(), Error> {
    #[derive(serde::Serialize)]
    struct Turn<'a> {
        domain: &'a str,
        request_id: &'a str,
        ticket: u64,
        token: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        bound_to: Option<u32>,
    }
    let turn = Turn {
        domain: turn.domain.as_str(),
        request_id: turn.request_id.as_str(),
        ticket: turn.ticket.0,
        token: turn.token.0,
        bound_to: owner.map(Owner::number),
    };
    serde_json::to_writer(&mut *out, &turn)
        .map_err(std::io::Error::from)
        .and_then(|()| writeln!(out))
        .map_err(|error| Error::failure(format_args!("cannot print the turn: {error}")))
}
