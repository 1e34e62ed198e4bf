//! `seq done`, `seq cancel`, `seq release`: the ends of a request.

use rustix::process::geteuid;

use crate::cli;
use crate::clock::Time;
use crate::error::{Error, status};
use crate::protocol::limits::{ANSWER_TIMEOUT, WAITERS_PER_DOMAIN_MAX};
use crate::protocol::{
    Cancel, DomainStatus, Done, ErrorCode, ErrorReply, HolderState, HolderStatus, Release, Reply, Request, Stalled,
    Status, Ticket,
};
use crate::words::say;

use super::connect::Daemon;
use super::link::{Link, LinkError};
use super::process::ancestry;
use super::refusal::{refused, unless_sent_away};

/// Gives a turn back. Nothing to give back is fine: it may have ended by itself.
pub(super) fn done(daemon: &Daemon, args: &cli::Done) -> Result<u8, Error> {
    let callers = ancestry();
    let named = Named { domain: args.domain.as_deref(), request_id: args.request_id.as_deref(), ticket: args.ticket };
    let request = |ticket| {
        Request::Done(Done {
            domain: args.domain.clone(),
            request_id: args.request_id.clone(),
            ticket,
            exit_status: None,
            processes: callers.clone(),
        })
    };
    // What is the caller's own goes before what anybody may end.
    let of_caller = |line: &DomainStatus| {
        let own = line.holders.iter().find(|holder| is_callers(holder, &callers));
        own.or_else(|| line.holders.iter().find(|holder| holder.is_left && is_of_user(holder)))
            .map(|holder| holder.ticket)
    };
    match named.end(daemon, request, of_caller)? {
        Some(Answer::Reply(Reply::Done(_)) | Answer::Lost) | None => Ok(status::OK),
        // It has ended, and nothing is left to do for whoever calls this: a script goes on.
        Some(Answer::Reply(Reply::Stalled(Stalled { message, counts: Some(true) }))) => {
            say("seq", format_args!("{message}; the turn has ended, and is passed on once that is done"));
            Ok(status::OK)
        }
        Some(other) => Err(other.refusal()),
    }
}

/// Takes a waiter out of its line.
pub(super) fn cancel(daemon: &Daemon, args: &cli::Cancel) -> Result<u8, Error> {
    let named = Named { domain: args.domain.as_deref(), request_id: args.request_id.as_deref(), ticket: args.ticket };
    let request =
        |ticket| Request::Cancel(Cancel { domain: args.domain.clone(), request_id: args.request_id.clone(), ticket });
    match named.end(daemon, request, |_| None)? {
        Some(Answer::Reply(Reply::Cancelled(_)) | Answer::Lost) => Ok(status::OK),
        Some(other) => Err(other.refusal()),
        None => Err(nothing_there(daemon, "waits")),
    }
}

/// Takes the turn from its holder.
pub(super) fn release(daemon: &Daemon, args: &cli::Release) -> Result<u8, Error> {
    let named = Named { domain: args.domain.as_deref(), request_id: None, ticket: args.ticket };
    let request = |ticket| Request::Release(Release { domain: args.domain.clone(), request_id: None, ticket });
    match named.end(daemon, request, only_turn)? {
        Some(Answer::Reply(Reply::Released(_)) | Answer::Lost) => Ok(status::OK),
        Some(other) => Err(other.refusal()),
        None => Err(nothing_there(daemon, "has a turn")),
    }
}

/// The turn in a line, if there is one only: that of a command within another's is the same.
fn only_turn(line: &DomainStatus) -> Option<Ticket> {
    let mut turns = line.holders.iter().map(|holder| holder.within.unwrap_or(holder.ticket));
    let first = turns.next()?;
    // One whose outer command has ended has no ticket that stands for it.
    let is_there = line.holders.iter().any(|holder| holder.ticket == first);
    (is_there && turns.all(|turn| turn == first)).then_some(first)
}

/// Whether a bare `done` of `processes`, this one and those it descends from, visibly means this turn.
fn is_callers(holder: &HolderStatus, processes: &[u32]) -> bool {
    let is_bound = matches!(holder.state, HolderState::Process | HolderState::Lease);
    is_bound && is_of_user(holder) && processes.contains(&holder.pid)
}

fn is_of_user(holder: &HolderStatus) -> bool {
    let me = geteuid();
    me.is_root() || holder.uid == me.as_raw()
}

/// The request to be ended, as the user named it.
struct Named<'a> {
    domain: Option<&'a str>,
    request_id: Option<&'a str>,
    ticket: Option<u64>,
}

/// What came of it.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it lives for a moment")]
enum Answer {
    Reply(Reply),
    /// It was carried out, but the daemon died before it could say so.
    Lost,
    /// It may have been carried out, and asking again could end another request.
    Unsure,
}

impl Answer {
    fn refusal(self) -> Error {
        match self {
            Answer::Reply(reply) => refused(reply),
            Answer::Lost | Answer::Unsure => Error::failure(
                "the daemon ended before it answered: see `seq status`, and name what is still there by its ticket",
            ),
        }
    }
}

impl Named<'_> {
    /// Ends it by `request`, which takes the ticket; nothing when there is no daemon. A name may mean another request by
    /// the time that a lost answer makes it necessary to ask again, so the ticket is looked up first: by the request id,
    /// or as `meant` says. By its ticket a request ends once, however often that is asked for.
    fn end(
        &self,
        daemon: &Daemon,
        request: impl Fn(Option<u64>) -> Request,
        meant: impl Fn(&DomainStatus) -> Option<Ticket>,
    ) -> Result<Option<Answer>, Error> {
        let mut ticket = self.ticket;
        // Who had a turn at first, if the ticket is not known.
        let mut holders: Option<Vec<Ticket>> = None;
        let mut may_be_done = false;
        let asked = daemon.talk_if_there(|link| {
            if ticket.is_none() {
                let line = self.look(link)?;
                let now = line.iter().flat_map(|line| &line.holders).map(|holder| holder.ticket).collect::<Vec<_>>();
                if may_be_done {
                    if let Some(answer) = after_doubt(holders.as_deref(), &now) {
                        return Ok(answer);
                    }
                } else {
                    ticket = line.as_ref().and_then(|line| self.find(line, &meant)).map(|ticket| ticket.0);
                    holders = Some(now);
                }
            }
            let request = request(ticket);
            link.open_with(&request, &[])?;
            let answer = answer(link, &request);
            may_be_done |= matches!(answer, Err(LinkError::Closed));
            match unless_sent_away(answer?)? {
                Reply::Error(ErrorReply { code: ErrorCode::NotFound, .. }) if may_be_done => Ok(Answer::Lost),
                reply => Ok(Answer::Reply(reply)),
            }
        })?;
        Ok(asked.map(|(_, answer)| answer))
    }

    /// The line that it is in.
    fn look(&self, link: &mut Link) -> Result<Option<DomainStatus>, LinkError> {
        let waiters_max = if self.request_id.is_some() { WAITERS_PER_DOMAIN_MAX } else { 0 };
        let domain = self.domain.map(str::to_owned);
        let status = Request::Status(Status { domain, waiters_max: Some(waiters_max), ..Status::default() });
        match unless_sent_away(link.ask(&status, ANSWER_TIMEOUT)?)? {
            Reply::Status(status) => Ok(status.domains.into_iter().next()),
            // What is wrong is said when the request itself is refused.
            _ => Ok(None),
        }
    }

    fn find(&self, line: &DomainStatus, meant: impl Fn(&DomainStatus) -> Option<Ticket>) -> Option<Ticket> {
        let Some(wanted) = self.request_id else { return meant(line) };
        let holders = line.holders.iter().map(|holder| (&holder.request_id, holder.ticket));
        let mut all = holders.chain(line.waiters.iter().map(|waiter| (&waiter.request_id, waiter.ticket)));
        all.find(|(request_id, _)| request_id.as_str() == wanted).map(|(_, ticket)| ticket)
    }
}

/// The answer to `request`. On a full disk that is kept; but whether the turn has ended is told at once, perhaps after
/// what everybody is told.
fn answer(link: &mut Link, request: &Request) -> Result<Reply, LinkError> {
    let deadline = Time::now() + ANSWER_TIMEOUT;
    let is_for_done = matches!(request, Request::Done(_));
    let mut unclear = None;
    loop {
        match link.answer(Some(deadline.since(Time::now()))) {
            Ok(reply @ Reply::Stalled(Stalled { counts: None, .. })) if is_for_done => unclear = Some(reply),
            Err(LinkError::Silent) => return unclear.ok_or(LinkError::Silent),
            answer => return answer,
        }
    }
}

/// What became of a request by name alone whose answer was lost: `before` had the turns when it was first asked, `now`
/// has them. Nothing if it was not carried out, so that it can be asked again.
fn after_doubt(before: Option<&[Ticket]>, now: &[Ticket]) -> Option<Answer> {
    match before {
        Some([only]) if now.contains(only) => None,
        Some([_]) => Some(Answer::Lost),
        _ => Some(Answer::Unsure),
    }
}

fn nothing_there(daemon: &Daemon, what: &str) -> Error {
    let socket = daemon.place().socket.display();
    Error::new(status::NO, format_args!("nothing {what}: no daemon listens at {socket}"))
}
