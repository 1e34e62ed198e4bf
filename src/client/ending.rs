//! `seq done`, `seq cancel`, `seq release`: the ends of a request.

use crate::cli;
use crate::error::{Error, status};
use crate::protocol::{Cancel, Done, Release, Reply, Request};

use super::connect::Daemon;
use super::process::ancestry;
use super::refusal::refused;

/// Gives a turn back. Nothing to give back is fine: it may have ended by itself.
pub(super) fn done(daemon: &Daemon, args: &cli::Done) -> Result<u8, Error> {
    let request = Done {
        domain: args.domain.clone(),
        request_id: args.request_id.clone(),
        ticket: args.ticket,
        exit_status: None,
        processes: ancestry(),
    };
    match daemon.ask_if_there(&Request::Done(request))? {
        Some(Reply::Done(_)) | None => Ok(status::OK),
        Some(other) => Err(refused(other)),
    }
}

/// Takes a waiter out of its line.
pub(super) fn cancel(daemon: &Daemon, args: &cli::Cancel) -> Result<u8, Error> {
    let request = Cancel { domain: args.domain.clone(), request_id: args.request_id.clone(), ticket: args.ticket };
    match daemon.ask_if_there(&Request::Cancel(request))? {
        Some(Reply::Cancelled(_)) => Ok(status::OK),
        Some(other) => Err(refused(other)),
        None => Err(nothing_there(daemon, "waits")),
    }
}

/// Takes the turn from its holder.
pub(super) fn release(daemon: &Daemon, args: &cli::Release) -> Result<u8, Error> {
    let request = Release { domain: args.domain.clone(), request_id: None, ticket: args.ticket };
    match daemon.ask_if_there(&Request::Release(request))? {
        Some(Reply::Released(_)) => Ok(status::OK),
        Some(other) => Err(refused(other)),
        None => Err(nothing_there(daemon, "has a turn")),
    }
}

fn nothing_there(daemon: &Daemon, what: &str) -> Error {
    let socket = daemon.place().socket.display();
    Error::new(status::NO, format_args!("nothing {what}: no daemon listens at {socket}"))
}
