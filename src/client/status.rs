//! `seq status`: who has a turn and who waits.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use crate::cli::{self, show_duration};
use crate::error::{Error, status};
use crate::protocol::{
    DomainStatus, HeadStatus, HeadWait, HolderState, HolderStatus, Reply, Request, Status, StatusReply, WaiterStatus,
};

use super::connect::Daemon;
use super::refusal::refused;
use super::standing::cause;
use super::table::{Screen, Side, columns, ordinal, printable};

/// Waiters shown for each domain; further ones are counted.
const WAITERS_SHOWN_MAX: usize = 10_000;

/// The cells of a row: place, ticket, user, pid, how long, how long still, command.
type Row = [String; 7];

const HEADINGS: [&str; 7] = ["", "TICKET", "USER", "PID", "FOR", "ABOUT", "COMMAND"];

const SIDES: [Side; 7] = [Side::Left, Side::Right, Side::Left, Side::Right, Side::Right, Side::Left, Side::Left];

/// Prints it.
pub(super) fn status(daemon: &Daemon, args: &cli::Status, out: &mut dyn Write) -> Result<u8, Error> {
    let domain = args.domain.clone();
    let request = Status { domain, waiters_max: Some(WAITERS_SHOWN_MAX), ..Status::default() };
    let reply = match daemon.ask_if_there(&Request::Status(request))? {
        Some(Reply::Status(reply)) => reply,
        Some(other) => return Err(refused(other)),
        None => StatusReply { request_id: None, domains: Vec::new() },
    };
    let text = if args.json {
        json(&reply)
    } else if reply.domains.is_empty() {
        nothing(args.domain.as_deref())
    } else {
        describe(&reply, Screen::of(std::io::stdout()), &Users::read())
    };
    out.write_all(text.as_bytes()).map_err(|error| Error::output(&error))?;
    Ok(status::OK)
}

/// `message` as one line of JSON.
pub(super) fn json<T: serde::Serialize>(message: &T) -> String {
    let mut line = Vec::new();
    crate::protocol::encode(message, &mut line);
    String::from_utf8_lossy(&line).into_owned()
}

fn nothing(domain: Option<&str>) -> String {
    match domain.and_then(|domain| crate::protocol::Domain::parse(domain).ok()) {
        Some(domain) => format!("{domain} is idle\n"),
        None => "nothing has a turn, and nothing waits\n".to_owned(),
    }
}

/// The lines of a status, as people read them.
pub(super) fn describe(status: &StatusReply, screen: Screen, users: &Users) -> String {
    let mut text = String::new();
    for (index, line) in status.domains.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        describe_line(line, screen, users, &mut text);
    }
    text
}

fn describe_line(line: &DomainStatus, screen: Screen, users: &Users, text: &mut String) {
    let mut add = |shown: &str| _ = writeln!(text, "{shown}");
    add(&screen.bold(&screen.cut(&heading(line))));
    if let Some(paused) = &line.paused {
        let reason = paused.reason.as_ref().map(|reason| format!(": {}", printable(reason))).unwrap_or_default();
        let domain = &line.domain;
        for sentence in [
            format!("  paused by {} since {}{reason};", users.name(paused.uid), paused.since),
            format!("  'seq resume {domain}' lets turns begin again"),
        ] {
            add(&screen.warning(&screen.cut(&sentence)));
        }
    }
    if line.holders.is_empty() && line.waiters.is_empty() {
        if let Some(sentence) = line.rest.as_ref().and_then(rest) {
            add(&screen.cut(&format!("  {sentence}")));
        }
        return;
    }
    let mut rows: Vec<Row> = vec![HEADINGS.map(str::to_owned)];
    rows.extend(line.holders.iter().map(|holder| holder_row(holder, users)));
    rows.extend(line.waiters.iter().map(|waiter| waiter_row(waiter, users)));
    let width = screen.width.map(|width| width.saturating_sub(2));
    for row in columns(&rows, SIDES, width) {
        add(&screen.cut(&format!("  {row}")));
    }
    let more = line.waiting.saturating_sub(line.waiters.len() as u64);
    if more > 0 {
        add(&screen.cut(&format!("  and {more} more")));
    }
    if let Some(sentence) = line.rest.as_ref().and_then(rest) {
        add(&screen.cut(&format!("  {sentence}")));
    }
    if let Some(sentence) = line.head.as_ref().and_then(head) {
        add(&screen.cut(&format!("  {sentence}")));
    }
    if let Some(awaited) = line.awaited_ms {
        for sentence in [
            "  nobody has the turn: the 1st is away since the daemon was started anew;".to_owned(),
            format!("  its place is kept for {} more", milliseconds(awaited)),
        ] {
            add(&screen.warning(&screen.cut(&sentence)));
        }
    }
    for holder in line.holders.iter().filter(|holder| holder.unseen) {
        let ticket = holder.ticket;
        for sentence in [
            format!("  ticket {ticket}: what has the turn is out of the daemon's sight, in another pid namespace;"),
            format!("  once it is gone 'seq release {ticket}' frees the turn"),
        ] {
            add(&screen.warning(&screen.cut(&sentence)));
        }
    }
    for holder in line.holders.iter().filter(|holder| holder.state == HolderState::Orphaned && !holder.unseen) {
        let ticket = holder.ticket;
        for sentence in [
            format!("  ticket {ticket}: its seq was killed, what it started still runs;"),
            format!("  'seq release {ticket}' frees the turn"),
        ] {
            add(&screen.warning(&screen.cut(&sentence)));
        }
    }
}

fn heading(line: &DomainStatus) -> String {
    let waiting = match line.waiting {
        0 => "nobody waits".to_owned(),
        1 => "1 waits".to_owned(),
        many => format!("{many} wait"),
    };
    let usual = match line.usual_run_ms {
        Some(usual) => format!(", a run takes about {}", milliseconds(usual)),
        None => String::new(),
    };
    let at_once = if line.concurrency > 1 { format!(", {} slots", line.concurrency) } else { String::new() };
    format!("{}: {waiting}{at_once}{usual}", printable(line.domain.as_str()))
}

/// By what a domain rests, and until when.
fn rest(rest: &HeadStatus) -> Option<String> {
    let (cause, left) = (cause(rest.waits_for)?, milliseconds(rest.left_ms?));
    Some(format!("its {cause} lets nobody begin for another {left}, until {}", rest.until.as_ref()?))
}

/// Why the first has no turn, where the rows do not say it.
fn head(head: &HeadStatus) -> Option<String> {
    match head.waits_for {
        HeadWait::Line => Some(format!("the 1st waits for {}, too", head.line.as_ref()?)),
        HeadWait::Slots => Some("the 1st waits until enough slots are free at once".to_owned()),
        _ => None,
    }
}

fn holder_row(holder: &HolderStatus, users: &Users) -> Row {
    let state = match holder.state {
        _ if holder.superseded_by.is_some() => "is stopped",
        HolderState::Attached => "runs",
        HolderState::Orphaned => "runs on",
        HolderState::Process => "has turn",
        HolderState::Lease => "leases",
    };
    let left = match holder.left_ms {
        _ if holder.is_over => format!("over its {}", milliseconds(holder.max_run_ms.unwrap_or_default())),
        Some(0) => "overdue".to_owned(),
        Some(left) => format!("{} left", milliseconds(left)),
        None => String::new(),
    };
    [
        with_wishes(state.to_owned(), holder.take, holder.shared, 0),
        holder.ticket.to_string(),
        users.name(holder.uid),
        holder.pid.to_string(),
        milliseconds(holder.held_ms),
        left,
        shown_command(holder.command.as_deref()),
    ]
}

fn waiter_row(waiter: &WaiterStatus, users: &Users) -> Row {
    [
        with_wishes(
            ordinal(waiter.position) + if waiter.away { ", away" } else { "" },
            waiter.take,
            waiter.shared,
            waiter.priority,
        ),
        waiter.ticket.to_string(),
        users.name(waiter.uid),
        waiter.pid.to_string(),
        milliseconds(waiter.waited_ms),
        match waiter.left_ms {
            Some(0) => "soon".to_owned(),
            Some(left) => format!("in {}", milliseconds(left)),
            None => String::new(),
        },
        shown_command(waiter.command.as_deref()),
    ]
}

/// A state or a place, and what is out of the ordinary about it.
fn with_wishes(mut what: String, slots: u32, shared: bool, priority: i8) -> String {
    if slots != 1 {
        _ = write!(what, ", {slots} slots");
    }
    if shared {
        what.push_str(", shared");
    }
    if priority != 0 {
        _ = write!(what, ", priority {priority}");
    }
    what
}

/// A command for people, `-` for none.
pub(super) fn shown_command(command: Option<&str>) -> String {
    command.map_or_else(|| "-".to_owned(), printable)
}

/// A number of milliseconds for people.
pub(super) fn milliseconds(number: u64) -> String {
    show_duration(Duration::from_millis(number))
}

/// The names of users, as `/etc/passwd` has them (`passwd(5)`); a number stands for those that are elsewhere.
#[derive(Debug, Default)]
pub(super) struct Users(HashMap<u32, String>);

impl Users {
    /// Reads them.
    pub(super) fn read() -> Users {
        Users::parse(&std::fs::read_to_string("/etc/passwd").unwrap_or_default())
    }

    /// The name, or the number.
    pub(super) fn name(&self, uid: u32) -> String {
        self.0.get(&uid).map_or_else(|| uid.to_string(), |name| printable(name))
    }

    fn parse(text: &str) -> Users {
        let entry = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.parse().ok()?, name))
        };
        // The first of several names counts, as in getpwuid(3).
        Users(text.lines().rev().filter_map(entry).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_user_counts() {
        let users = Users::parse("root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n#\nana:x:1000:1::/:\n");
        assert_eq!([0, 1000, 7].map(|uid| users.name(uid)), ["root", "ana", "7"]);
    }
}
