//! `seq wait`: until a domain is idle, without taking a turn.

use std::time::Duration;

use crate::cli::{self, show_duration};
use crate::clock::Time;
use crate::error::{Error, status};
use crate::protocol::limits::ANSWER_TIMEOUT;
use crate::protocol::{ErrorCode, ErrorReply, Reply, Request, Wait};

use super::connect::Daemon;
use super::link::{Link, LinkError};
use super::refusal::{is_leaving, refused};

/// Waits, as long as it takes. A daemon that leaves meanwhile hands its turns to the next, which is then asked.
pub(super) fn wait(daemon: &Daemon, args: &cli::Wait) -> Result<u8, Error> {
    let deadline = args.max_wait.map(|longest| Time::now() + longest);
    loop {
        let left = deadline.map(|deadline| deadline.since(Time::now()));
        let request = Request::Wait(Wait {
            domain: args.domain.clone(),
            request_id: None,
            max_wait_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        });
        let Some((mut link, ())) = daemon.talk_if_there(|link| greet(link, &request))? else {
            return Ok(status::OK);
        };
        match link.answer(left.map(|left| left + ANSWER_TIMEOUT)) {
            Ok(Reply::Idle(_)) => return Ok(status::OK),
            Ok(Reply::Error(ErrorReply { code: ErrorCode::TimedOut, .. })) => return Err(not_idle(args)),
            Ok(reply) if is_leaving(&reply) => {}
            Ok(other) => return Err(refused(other)),
            Err(LinkError::Closed) => {}
            Err(error) => return Err(daemon.explain(error)),
        }
    }
}

/// Asks, and makes sure that somebody hears it: the answer itself may take its time.
fn greet(link: &mut Link, request: &Request) -> Result<(), LinkError> {
    link.open_with(request, &[])?;
    link.receive(Some(ANSWER_TIMEOUT)).map(|_| ())
}

fn not_idle(args: &cli::Wait) -> Error {
    let longest = show_duration(args.max_wait.unwrap_or(Duration::ZERO));
    Error::new(status::NO_TURN, format_args!("{} is not idle after {longest}", args.domain))
}
