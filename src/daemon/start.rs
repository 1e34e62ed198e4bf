//! How a daemon starts: the one of its place, or not at all.

use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::Mode;
use tracing::{error, warn};

use super::args::{IDLE_EXIT_DEFAULT, IdleExit, SeqdArgs};
use super::config::Config;
use super::detach;
use super::directory::{self, Access};
use super::facts::{Facts, say_and_abort};
use super::inherited::{self, Inherited};
use super::listen::{self, Listening};
use super::lock::{LifeLock, Taken};
use super::log::Log;
use super::options;
use super::place::{Place, SOCKET_VARIABLE, SYSTEM_SOCKET, default_socket};
use super::serve::{Beginning, serve};
use super::storage;
use super::try_out::try_out;
use crate::clock::Time;
use crate::error::{Error, status};
use crate::store::{Database, Known, Machine, Numbers};
use crate::words::say;

/// Runs the daemon until it leaves; with `--detach`, starts it in the background.
///
/// # Errors
///
/// With the reason why it could not start or serve. That another daemon is there already is said by an error too,
/// with the exit status 0. With `--detach` all of that is said on standard output, as the client expects it.
pub fn run(args: &SeqdArgs) -> Result<(), Error> {
    if args.try_out {
        let could = try_out(args);
        detach::report(&could.as_ref().map_or_else(outcome, |()| "ready".to_owned()));
        return could;
    }
    if args.detach {
        return start_in_background(args);
    }
    let started = start(args);
    if let Err(error) = &started
        && args.detached
    {
        detach::report(&outcome(error));
    }
    started
}

fn start_in_background(args: &SeqdArgs) -> Result<(), Error> {
    let spawn = |place: Place| {
        let args_now = if args.as_before { options::as_before(args, &place)? } else { args.clone() };
        let said = detach::spawn_second_stage(args_now, &place)?;
        let is_refused = said.as_ref().is_some_and(|said| said.starts_with("error: "));
        let has_options = args.as_before && is_refused && place.options.exists();
        Ok(said.map(|said| if has_options { format!("{said}; {}", options::whose(&place)) } else { said }))
    };
    match find_place(args).and_then(spawn) {
        Ok(Some(said)) => {
            detach::report(&said);
            if let Some(why) = said.strip_prefix("error: ") {
                return Err(Error::failure(why));
            }
            say_who_is_kept_out(args);
            Ok(())
        }
        // Nothing is said of that: a client that started it tries again.
        Ok(None) => Err(Error::failure("the daemon in the background was killed, or not ready in time: see its log")),
        Err(error) => {
            detach::report(&outcome(&error));
            Err(error)
        }
    }
}

/// The daemon in the background has it in its log, and nobody looks there who has just started it by hand.
fn say_who_is_kept_out(args: &SeqdArgs) {
    if let (Ok(place), Ok(access)) = (find_place(args), Access::of(args))
        && let Some(remark) = directory::closed_to_group(&place, access, args.group.as_deref())
    {
        say("seqd", &remark);
    }
}

/// Why a daemon does not run in the background, as whoever started it expects it.
fn outcome(error: &Error) -> String {
    if error.exit_status() == status::OK {
        return "busy".to_owned();
    }
    format!("error: {}", error.to_string().replace('\n', " "))
}

fn start(args: &SeqdArgs) -> Result<(), Error> {
    let started = Time::now();
    crate::sys::ignore_file_size_signal();
    // The modes of what is made here are chosen for what it is, not by whoever starts it.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let Inherited { connections_max, budget, remarks } = inherited::shake_off(args.detached)?;
    let passed = if args.detached { None } else { listen::passed()? };
    let place = match &passed {
        Some((_, path)) => Place::of_socket(path)?,
        None => find_place(args)?,
    };
    let access = Access::of(args)?;
    directory::prepare(&place.directory, access)?;
    let lock = match LifeLock::take(&place.life_lock)? {
        Taken::Mine(lock) => lock,
        Taken::Busy(pid) => return Err(busy(&place, pid)),
    };
    let log = Log::start(log_path(args, &place), args.log.is_some())?;
    std::panic::set_hook(Box::new(say_and_abort));
    for remark in remarks {
        warn!("{remark}");
    }
    if passed.is_none()
        && let Some(remark) = directory::closed_to_group(&place, access, args.group.as_deref())
    {
        warn!("{remark}");
        // Without a file the log is there.
        if log.path().is_some() && !args.detached {
            say("seqd", &remark);
        }
    }
    let begin = || {
        if place.state != place.directory {
            directory::prepare(&place.state, Access::default())?;
        }
        Numbers::check(&place.numbers)?;
        let mut storage = storage::open(args, &place, budget)?;
        let mut config = Config::of(args);
        let policies = storage.settings.load(&mut config, args.detached)?;
        if let Err(error) = directory::prepare_done(&place.done, access) {
            warn!("users cannot leave word in {}: {error}", place.done.display());
        }
        // What is kept in memory ends with the daemon.
        let in_use = storage.database.is_some().then(|| Machine::this().boot_id);
        let known = storage.database.as_mut().map_or(Ok(Known::default()), Database::known_numbers)?;
        let (numbers, next_ticket, next_token) = Numbers::open(&place.numbers, known, in_use)?;
        let Listening { listener, identity } = match passed {
            Some((listening, _)) => listening,
            None => listen::bind(&place, access)?,
        };
        if let Err(error) = options::leave(args, &place) {
            warn!("the next daemon will not have the options of this one: {}: {error}", place.options.display());
        }
        let (is_shared, idle_exit) = (access.everybody, idle_exit(args));
        let facts = Facts { place: place.clone(), log, started, connections_max, budget, is_shared, idle_exit };
        let next = (next_ticket, next_token);
        serve(Beginning {
            facts,
            args: args.clone(),
            budget,
            access,
            lock,
            listener,
            identity,
            numbers,
            next,
            storage,
            config,
            policies,
            reports: args.detached,
        })
    };
    begin().inspect_err(|error| error!("{error}"))
}

/// Where this daemon is to be.
pub(super) fn find_place(args: &SeqdArgs) -> Result<Place, Error> {
    if args.system {
        return Place::of_socket(SYSTEM_SOCKET.as_ref());
    }
    let named = args.socket.clone();
    let from_environment = || std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let socket = match named.or_else(from_environment) {
        Some(socket) => Some(socket),
        None => default_socket()?,
    };
    let socket = socket.ok_or_else(|| {
        Error::failure(format_args!(
            "this user has no home directory to keep the socket in: name one with --socket or {SOCKET_VARIABLE}"
        ))
    })?;
    Place::of_socket(&socket)
}

fn busy(place: &Place, pid: Option<u32>) -> Error {
    let socket = place.socket.display();
    match pid {
        Some(pid) => Error::new(status::OK, format_args!("a daemon serves {socket} already: process {pid}")),
        None => Error::new(status::OK, format_args!("a daemon serves {socket} already")),
    }
}

/// Where the log goes, unless to standard error.
pub(super) fn log_path(args: &SeqdArgs, place: &Place) -> Option<PathBuf> {
    args.log.clone().or_else(|| args.detached.then(|| place.log.clone()))
}

fn idle_exit(args: &SeqdArgs) -> Option<Duration> {
    let default = if args.detached { IdleExit::After(IDLE_EXIT_DEFAULT) } else { IdleExit::Never };
    match args.idle_exit.unwrap_or(default) {
        IdleExit::After(duration) => Some(duration),
        IdleExit::Never => None,
    }
}
