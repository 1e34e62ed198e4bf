//! `seq info` and `seq stop`: about the daemon itself.

use std::io::Write;

use crate::cli;
use crate::error::{Error, status};
use crate::protocol::limits::ANSWER_TIMEOUT;
use crate::protocol::{Info, InfoReply, Reply, Request, Stop};

use super::connect::Daemon;
use super::link::{Link, LinkError};
use super::refusal::refused;
use super::status::{Users, json, show_milliseconds};
use super::table::{Screen, printable};

/// Prints what the daemon says about itself.
pub(super) fn info(daemon: &Daemon, args: &cli::Info, out: &mut dyn Write) -> Result<u8, Error> {
    let reply = match daemon.ask_if_there(&Request::Info(Info::default()))? {
        Some(Reply::Info(reply)) => reply,
        Some(other) => return Err(refused(other)),
        None => {
            let socket = daemon.place().socket.display();
            return Err(Error::failure(format_args!(
                "no daemon listens at {socket}: 'seq run' starts one when it is needed"
            )));
        }
    };
    let text = if args.json { json(&reply) } else { describe(&reply, Screen::of(std::io::stdout()), &Users::read()) };
    out.write_all(text.as_bytes()).map_err(|error| Error::output(&error))?;
    Ok(status::OK)
}

/// Asks the daemon to leave, and waits until it is gone.
pub(super) fn stop(daemon: &Daemon) -> Result<u8, Error> {
    let request = Request::Stop(Stop::default());
    let ask = |link: &mut Link| link.ask(&request, ANSWER_TIMEOUT);
    // Where none may be started there is nothing to stop, whatever the last one left.
    let asked = if daemon.may_start() { daemon.talk_if_there(ask) } else { daemon.talk_if_up(ask) };
    let Some((mut link, reply)) = asked? else {
        let socket = daemon.place().socket.display();
        return Err(Error::new(status::OK, format_args!("nothing to stop: no daemon listens at {socket}")));
    };
    if !matches!(reply, Reply::Stopping(_)) {
        return Err(refused(reply));
    }
    loop {
        match link.receive(Some(ANSWER_TIMEOUT)) {
            Ok(_) => {}
            Err(LinkError::Closed) => return Ok(status::OK),
            Err(error) => return Err(daemon.explain(error)),
        }
    }
}

fn describe(info: &InfoReply, screen: Screen, users: &Users) -> String {
    let (counts, limits) = (&info.counts, &info.limits);
    let rows = [
        ["socket", &printable(&info.socket)],
        ["log", &info.log.as_deref().map_or_else(|| "standard error".to_owned(), printable)],
        ["storage", &printable(&info.storage)],
        ["version", &format!("{}, protocol {}", info.version, info.protocol)],
        ["process", &format!("{}, user {}", info.pid, users.name(info.uid))],
        ["up", &format!("{}, since {}", show_milliseconds(info.uptime_ms), printable(&info.since))],
        ["connections", &format!("{} of {}", counts.connections, limits.connections)],
        ["domains", &format!("{} of {}", counts.domains, limits.domains)],
        ["holders", &counts.holders.to_string()],
        ["waiters", &format!("{}, at most {} in a domain", counts.waiters, limits.waiters_per_domain)],
        ["turns", &format!("{} given", counts.turns)],
        ["request", &format!("at most {} bytes a line", limits.line_bytes)],
        ["tickets", &format!("at most {} of one connection", limits.tickets_per_connection)],
    ];
    let rows = rows.map(|[name, value]| {
        let name = format!("{name:12}");
        let parts: Vec<&str> = std::iter::once(name.as_str()).chain(value.split(' ')).collect();
        screen.wrap(0, &parts)
    });
    rows.into_iter().flatten().map(|line| line + "\n").collect()
}
