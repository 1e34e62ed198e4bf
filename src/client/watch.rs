//! `seq watch`: what happens, as it happens.

use std::io::Write;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::cli;
use crate::clock::{Time, show_duration};
use crate::error::{Error, status};
use crate::protocol::limits::ANSWER_TIMEOUT;
use crate::protocol::{Domain, Event, EventKind, Outcome, PolicyEvent, PolicyEventKind, Reply, Request, Ticket, Watch};

use super::connect::Daemon;
use super::link::{Link, LinkError, timespec};
use super::log::several;
use super::moment::clock;
use super::pause::{Pause, RETURN_TIMEOUT};
use super::policy::shown_values;
use super::refusal::{is_leaving, is_restarting, refused, unless_sent_away};
use super::status::{Users, describe, json, show_milliseconds, shown_command};
use super::table::{Screen, printable};

/// What is said between what one daemon told and what the next one tells.
const REPLACED: &str = "the daemon was replaced, and events may have been missed: what is now follows\n";

/// Prints until the reader of standard output or the user has had enough. When the daemon leaves or dies the next one
/// is watched, from what it shows first.
pub(super) fn watch(daemon: &Daemon, args: &cli::Watch, out: &mut dyn Write) -> Result<u8, Error> {
    let request = Request::Watch(Watch { domain: args.domain.clone(), request_id: None });
    let mut link = begin(daemon, &request)?;
    let mut print =
        |text: &str| out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Error::output(&error));
    let users = Users::read();
    loop {
        let reply = match next(&mut link) {
            Ok(Some(reply)) => reply,
            Ok(None) => return Err(unread()),
            Err(LinkError::Closed) => match begin_again(daemon, &request)? {
                Some(next) => {
                    link = next;
                    // In JSON the next status says so.
                    if !args.json {
                        print(REPLACED)?;
                    }
                    continue;
                }
                None => return Err(unread()),
            },
            Err(error) => return Err(daemon.explain(error)),
        };
        let text = if args.json { json(&reply) } else { show(&reply, &users) };
        print(&text)?;
    }
}

fn begin(daemon: &Daemon, request: &Request) -> Result<Link, Error> {
    match daemon.talk(|link| unless_sent_away(link.ask(request, ANSWER_TIMEOUT)?))? {
        (link, Reply::Watching(_)) => Ok(link),
        (_, other) => Err(refused(other)),
    }
}

/// Waits for the next daemon; nothing when nobody reads standard output any more. None is started: this one may have
/// been stopped on purpose, and there is nothing to see before somebody uses the next.
fn begin_again(daemon: &Daemon, request: &Request) -> Result<Option<Link>, Error> {
    let next_one = daemon.without_start();
    let give_up = Time::now() + RETURN_TIMEOUT;
    let mut pause = Pause::new();
    loop {
        match begin(&next_one, request) {
            Ok(link) => return Ok(Some(link)),
            Err(_) if Time::now() >= give_up => return Err(nobody_came(daemon)),
            Err(_) => {}
        }
        let stdout = std::io::stdout();
        let mut ready = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
        _ = poll(&mut ready, Some(&timespec(pause.next())));
        if is_unread(&ready[0]) {
            return Ok(None);
        }
    }
}

/// The next message; nothing when nobody reads standard output any more.
fn next(link: &mut Link) -> Result<Option<Reply>, LinkError> {
    let stdout = std::io::stdout();
    loop {
        match link.try_receive()? {
            Some(reply) if is_restarting(&reply) || is_leaving(&reply) => return Err(LinkError::Closed),
            Some(reply) => return Ok(Some(reply)),
            None => {}
        }
        let stdout = stdout.as_fd();
        let mut ready = [PollFd::new(&*link, PollFlags::IN), PollFd::from_borrowed_fd(stdout, PollFlags::empty())];
        match poll(&mut ready, None) {
            Ok(_) if is_unread(&ready[1]) => return Ok(None),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The error when nobody reads standard output any more.
fn unread() -> Error {
    Error::output(&std::io::ErrorKind::BrokenPipe.into())
}

/// Whether nobody reads what is written to standard output.
fn is_unread(stdout: &PollFd<'_>) -> bool {
    stdout.revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
}

fn nobody_came(daemon: &Daemon) -> Error {
    let (socket, patience) = (daemon.place().socket.display(), show_duration(RETURN_TIMEOUT));
    Error::failure(format_args!(
        "the daemon at {socket} has left, and no other came within {patience}: there is nothing more to watch"
    ))
}

/// A message as people read it: lines, or nothing.
fn show(reply: &Reply, users: &Users) -> String {
    let screen = Screen::of(std::io::stdout());
    match reply {
        Reply::Status(status) if status.domains.is_empty() => String::new(),
        Reply::Status(status) => describe(status, screen, users),
        Reply::Event(event) => format!("{}\n", screen.cut(&describe_event(event))),
        Reply::PolicyEvent(event) => format!("{}\n", screen.cut(&describe_policy_event(event, users))),
        Reply::Stalled(stalled) => format!("{}: nothing is told until then\n", stalled.message),
        Reply::Lagged(lagged) => format!("{} events were missed: what is now follows\n", lagged.missed),
        _ => String::new(),
    }
}

fn describe_event(event: &Event) -> String {
    let what = match event.event {
        EventKind::Queued => "waits".to_owned(),
        EventKind::Active => format!("has the turn{}", after(event.waited_ms)),
        EventKind::Orphaned => "keeps the turn: its seq was killed, what it started still runs".to_owned(),
        EventKind::Ended => format!("ended{}: {}", after(event.held_ms), ending_of(event)),
        EventKind::Left => format!("left the line{}: {}", after(event.waited_ms), ending_of(event)),
        EventKind::Unknown => "changed".to_owned(),
    };
    let (at, domain) = (clock(&event.at), several(&event.domain, &event.also));
    let (ticket, pid) = (event.ticket, event.pid);
    format!("{at}  {domain}  ticket {ticket} {what}  (pid {pid}: {})", shown_command(event.command.as_deref()))
}

fn describe_policy_event(event: &PolicyEvent, users: &Users) -> String {
    let PolicyEvent { event: kind, at, uid, domain, reason, pattern, policy, config, mistake } = event;
    let at = clock(at);
    let who = uid.map(|uid| format!(" by {}", users.name(uid))).unwrap_or_default();
    let what = domain.as_ref().map(Domain::as_str).or(pattern.as_deref()).or(config.as_deref());
    let what = what.map_or_else(|| "the policies".to_owned(), printable);
    match kind {
        PolicyEventKind::Paused => {
            let why = reason.as_ref().map(|reason| format!(": {}", printable(reason))).unwrap_or_default();
            format!("{at}  {what}  is paused{who}{why}")
        }
        PolicyEventKind::Resumed => format!("{at}  {what}  goes on, resumed{who}"),
        PolicyEventKind::PolicySet => {
            let values = policy.as_ref().map(shown_values).unwrap_or_default();
            format!("{at}  {what}  has a policy, set{who}: {values}")
        }
        PolicyEventKind::PolicyUnset => format!("{at}  {what}  has no policy any more, unset{who}"),
        PolicyEventKind::Reloaded => match mistake {
            None => format!("{at}  {what}  was read again"),
            Some(mistake) => {
                format!(
                    "{at}  {what}  was not read again: {}; what it said before goes on to count",
                    printable(mistake)
                )
            }
        },
        PolicyEventKind::Unknown => format!("{at}  {what}  changed{who}"),
    }
}

fn after(milliseconds_ago: Option<u64>) -> String {
    milliseconds_ago.map(|number| format!(" after {}", show_milliseconds(number))).unwrap_or_default()
}

fn ending_of(event: &Event) -> String {
    ending(event.outcome, event.exit_status, event.superseded_by)
}

/// How a ticket ended, in words.
pub(super) fn ending(outcome: Option<Outcome>, exit_status: Option<i32>, superseded_by: Option<Ticket>) -> String {
    match (outcome, exit_status) {
        (Some(Outcome::Done), Some(status)) => format!("status {status}"),
        (Some(Outcome::Done), None) => "given back".to_owned(),
        (Some(Outcome::Gone), _) => "what kept it is gone".to_owned(),
        (Some(Outcome::Released), _) => "taken away by release".to_owned(),
        (Some(Outcome::Expired), _) => "its lease is over".to_owned(),
        (Some(Outcome::Cancelled), _) => "cancelled".to_owned(),
        (Some(Outcome::Superseded), exit_status) => replaced(superseded_by, exit_status),
        (Some(Outcome::TimedOut), _) => "its longest wait is over".to_owned(),
        (Some(Outcome::Deadlock), _) => "it would have waited for ever".to_owned(),
        (Some(Outcome::Stopped), _) => "the daemon left".to_owned(),
        (Some(Outcome::Unknown) | None, _) => "for another reason".to_owned(),
    }
}

/// A turn was replaced: its own status is worth a word unless it is the usual one.
fn replaced(by: Option<Ticket>, exit_status: Option<i32>) -> String {
    let by = by.map_or_else(|| "a newer request".to_owned(), |ticket| format!("ticket {ticket}"));
    let usual = Some(i32::from(status::CANCELLED));
    let own = exit_status.filter(|_| exit_status != usual).map(|status| format!(", status {status}"));
    format!("replaced by {by}{}", own.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_made_way_is_said_to_have_been_replaced() {
        let superseded = Some(Outcome::Superseded);
        assert_eq!(ending(superseded, None, Some(Ticket(7))), "replaced by ticket 7");
        assert_eq!(ending(superseded, Some(76), Some(Ticket(7))), "replaced by ticket 7");
        assert_eq!(ending(superseded, Some(3), Some(Ticket(7))), "replaced by ticket 7, status 3");
        assert_eq!(ending(superseded, None, None), "replaced by a newer request", "in what an earlier daemon wrote");
    }
}
