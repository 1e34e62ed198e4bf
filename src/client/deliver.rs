//! Telling a daemon that a turn is over: the one that gave it, or the next.

use std::thread;
use std::time::Duration;

use crate::clock::Time;
use crate::error::{Cure, Error};
use crate::protocol::{Done, ErrorCode, ErrorReply, Reply, Request, Ticket};

use super::connect::Daemon;
use super::errand::{Errand, reports};
use super::link::{Link, LinkError};
use super::pause::Pause;
use super::refusal::{is_restarting, refused};

/// How long the daemon may take to confirm that a turn was given back. What it was sent it will hear in any case.
const DONE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a daemon that is not there may hold somebody up.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Ends a turn that nobody was told of, over `link` while that leads to a daemon.
///
/// # Errors
///
/// When no daemon could be told in time, so that the turn may be taken still.
pub(super) fn give_back(daemon: &Daemon, link: &mut Link, ticket: Ticket) -> Result<(), Error> {
    let request = Request::Done(Done { ticket: Some(ticket.0), ..Done::default() });
    match tell_done(link, &request, &mut None) {
        // It was sent, so it will be heard.
        Ok(()) | Err(LinkError::Silent) => Ok(()),
        Err(_) => deliver(daemon, request, true).map_err(|error| {
            Error::failure(format_args!(
                "ticket {ticket} may have its turn still: end it with 'seq done --ticket {ticket}' ({error})"
            ))
        }),
    }
}

/// Gives the turn back and waits until the daemon has confirmed it.
pub(super) fn tell_done(link: &mut Link, request: &Request, stalled: &mut Option<String>) -> Result<(), LinkError> {
    link.send(request, &[])?;
    let deadline = Time::now() + DONE_TIMEOUT;
    loop {
        match link.receive(Some(deadline.since(Time::now())))? {
            Reply::Done(_) => return Ok(()),
            Reply::Stalled(found) => *stalled = Some(found.message),
            reply if is_restarting(&reply) => return Err(LinkError::Closed),
            Reply::Error(error) if error.code == ErrorCode::NotFound => return Ok(()),
            _ => {}
        }
    }
}

/// Tells the next daemon, which is started if it may be, that a turn is over. If none `is_expected` it is not waited
/// for.
///
/// # Errors
///
/// When there was none in time: why.
pub(super) fn deliver(daemon: &Daemon, request: Request, is_expected: bool) -> Result<(), Error> {
    let (mut reporter, mut reasons) = reports().map_err(Error::failure)?;
    let asked = daemon.clone();
    let told = Errand::start(move || {
        let mut pause = Pause::new();
        loop {
            let (why, may_try_again) = match asked.ask(&request) {
                Ok(Reply::Done(_) | Reply::Error(ErrorReply { code: ErrorCode::NotFound, .. })) => return true,
                Ok(other) => (refused(other), false),
                Err(error) if error.cure() == Cure::Room => (error, true),
                Err(error) => (error, is_expected),
            };
            reporter.say(why);
            if !may_try_again {
                return false;
            }
            thread::sleep(pause.next());
        }
    });
    if told.is_ok_and(|errand| errand.result_within(DELIVERY_TIMEOUT) == Some(true)) {
        return Ok(());
    }
    Err(std::iter::from_fn(|| reasons.next()).last().unwrap_or_else(|| daemon.explain(LinkError::Silent)))
}
