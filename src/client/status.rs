//! `seq status`: who has a turn and who waits.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use crate::cli;
use crate::clock::show_duration;
use crate::error::{Error, status};
use crate::protocol::{
    Domain, DomainStatus, HeadStatus, HeadWait, HolderState, HolderStatus, Reply, Request, Status, StatusReply,
    WaiterStatus,
};

use super::connect::Daemon;
use super::moment::short;
use super::policy::shown;
use super::refusal::refused;
use super::standing::{cause, suspended};
use super::table::{Screen, Side, columns, ordinal, printable, with_short_name};

/// Waiters shown for each domain; further ones are counted.
const WAITERS_SHOWN_MAX: usize = 10_000;

/// Blanks before what is said of a domain.
const INDENT: usize = 2;

/// The cells of a row: place, ticket, user, pid, how long, how long still, command.
type Row = [String; 7];

const HEADINGS: [&str; 7] = ["", "TICKET", "USER", "PID", "FOR", "ABOUT", "COMMAND"];

const SIDES: [Side; 7] = [Side::Left, Side::Right, Side::Left, Side::Right, Side::Right, Side::Left, Side::Left];

/// The columns that are left out first on a narrow terminal: how long still, user, ticket, how long.
const DISPENSABLE: [usize; 4] = [5, 2, 1, 4];

/// Prints it.
pub(super) fn status(daemon: &Daemon, args: &cli::Status, out: &mut dyn Write) -> Result<u8, Error> {
    let domain = args.domain.clone();
    let idle = domain.is_some();
    let request = Status { domain, waiters_max: Some(WAITERS_SHOWN_MAX), idle, ..Status::default() };
    let mut reply = match daemon.ask_if_it_knows(&Request::Status(request))? {
        Some(Reply::Status(reply)) => reply,
        Some(other) => return Err(refused(other)),
        None => StatusReply { request_id: None, domains: Vec::new() },
    };
    // Of one that is idle, only what is set for it is of any use.
    reply.domains.retain(|line| !is_idle(line) || !line.policy.is_empty());
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
    match domain.and_then(|domain| Domain::parse(domain).ok()) {
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
    let mut page = Page { screen, text };
    page.heading(line);
    page.policy(line);
    page.pause(line, users);
    if !line.holders.is_empty() || !line.waiters.is_empty() {
        page.table(line, users);
    }
    page.obstacles(line);
    page.troubles(line);
}

/// The lines about one domain.
struct Page<'a> {
    screen: Screen,
    text: &'a mut String,
}

impl Page<'_> {
    fn add(&mut self, line: &str) {
        _ = writeln!(self.text, "{line}");
    }

    fn say(&mut self, sentence: &str) {
        for line in self.screen.wrap(INDENT, &sentence.split(' ').collect::<Vec<_>>()) {
            self.add(&line);
        }
    }

    fn warn(&mut self, sentence: &str) {
        for line in self.screen.wrap(INDENT, &sentence.split(' ').collect::<Vec<_>>()) {
            self.add(&self.screen.warning(&line));
        }
    }

    fn heading(&mut self, line: &DomainStatus) {
        let width = self.screen.width.unwrap_or(usize::MAX);
        let heading = with_short_name(&printable(line.domain.as_str()), width, |name| heading(name, line));
        self.add(&self.screen.bold(&self.screen.cut(&heading)));
    }

    fn policy(&mut self, line: &DomainStatus) {
        let values = shown(&line.policy);
        let last = values.len().saturating_sub(1);
        let comma = |index: usize| if index < last { "," } else { "" };
        let values = values.iter().enumerate().map(|(index, (name, value))| format!("{name} {value}{}", comma(index)));
        let values: Vec<String> = values.collect();
        if !values.is_empty() {
            let parts: Vec<&str> = std::iter::once("policy:").chain(values.iter().map(String::as_str)).collect();
            for line in self.screen.wrap(INDENT, &parts) {
                self.add(&line);
            }
        }
    }

    fn pause(&mut self, line: &DomainStatus, users: &Users) {
        let Some(paused) = &line.paused else { return };
        let reason = paused.reason.as_ref().map(|reason| format!(": {}", printable(reason))).unwrap_or_default();
        let since = if self.screen.width.is_some() { short(&paused.since) } else { paused.since.clone() };
        self.warn(&format!("paused by {} since {since}{reason};", users.name(paused.uid)));
        self.warn(&format!("'seq resume {}' lets turns begin again", printable(line.domain.as_str())));
    }

    /// Who has a turn and who waits; below each that wants something out of the ordinary, what that is.
    fn table(&mut self, line: &DomainStatus, users: &Users) {
        let mut rows: Vec<Row> = vec![HEADINGS.map(str::to_owned)];
        rows.extend(line.holders.iter().map(|holder| holder_row(holder, users)));
        rows.extend(line.waiters.iter().map(|waiter| waiter_row(waiter, users)));
        let holders = line.holders.iter().map(|holder| (within(holder, line), Wishes::of_holder(holder).note()));
        let waiters = line.waiters.iter().map(|waiter| (None, Wishes::of_waiter(waiter).note()));
        let notes = std::iter::once((None, None)).chain(holders).chain(waiters);
        let width = self.screen.width.map(|width| width.saturating_sub(INDENT));
        for (row, (within, wishes)) in columns(&rows, SIDES, &DISPENSABLE, width).iter().zip(notes) {
            self.add(&self.screen.cut(&format!("  {row}")));
            for note in within.into_iter().chain(wishes) {
                for line in self.screen.wrap(2 * INDENT, &note.iter().map(String::as_str).collect::<Vec<_>>()) {
                    self.add(&line);
                }
            }
        }
        let more = line.waiting.saturating_sub(line.waiters.len() as u64);
        if more > 0 {
            self.say(&format!("and {more} more"));
        }
    }

    /// Why the first has no turn, where the table does not say it.
    fn obstacles(&mut self, line: &DomainStatus) {
        if let Some(sentence) = line.rest.as_ref().and_then(|rest| self.rest(rest)) {
            self.say(&sentence);
        }
        match line.head.as_ref().map(|head| (head, head.waits_for, &head.line)) {
            Some((head, HeadWait::Line, Some(other))) => {
                let why = self.elsewhere(head).map(|why| format!(": {why}")).unwrap_or_default();
                self.say(&format!("the 1st waits for {}, too{why}", printable(other.as_str())));
            }
            Some((_, HeadWait::Start, _)) => self.say("the 1st waits until the turn given before it begins"),
            Some((_, HeadWait::Slots, _)) => self.say("the 1st waits until enough slots are free at once"),
            _ => {}
        }
    }

    /// What the head waits for in the other line that it waits for.
    fn elsewhere(&self, head: &HeadStatus) -> Option<String> {
        match head.line_waits_for? {
            HeadWait::Ahead => Some("others are ahead of it there".to_owned()),
            HeadWait::Resume => Some("it is paused".to_owned()),
            HeadWait::Holders => Some("others have the turn there".to_owned()),
            HeadWait::Start => Some("the turn given before has to begin there".to_owned()),
            HeadWait::Slots => Some("not enough slots are free there at once".to_owned()),
            wait => self.rest(&HeadStatus { waits_for: wait, ..head.clone() }),
        }
    }

    /// By what a domain rests, and until when.
    fn rest(&self, rest: &HeadStatus) -> Option<String> {
        let (cause, left, until) = (cause(rest.waits_for)?, show_milliseconds(rest.left_ms?), rest.until.as_ref()?);
        Some(match self.screen.width {
            Some(_) => format!("its {cause} lets nobody begin until {} (in {left})", short(until)),
            None => format!("its {cause} lets nobody begin for another {left}, until {until}"),
        })
    }

    /// What somebody may have to do something about.
    fn troubles(&mut self, line: &DomainStatus) {
        if let Some(awaited) = line.awaited_ms {
            self.warn("nobody has the turn: the 1st is away since the daemon was started anew;");
            self.warn(&format!("its place is kept for {} more", show_milliseconds(awaited)));
        }
        for holder in &line.holders {
            let ticket = holder.ticket;
            if holder.unseen {
                self.warn(&format!(
                    "ticket {ticket}: what has the turn is out of the daemon's sight, in another pid namespace;"
                ));
                self.warn(&format!("once it is gone 'seq release {ticket}' frees the turn"));
            } else if holder.state == HolderState::Orphaned {
                self.warn(&format!("ticket {ticket}: its seq was killed, what it started still runs;"));
                self.warn(&format!("'seq release {ticket}' frees the turn"));
            }
            if let Some(pid) = suspended(holder) {
                self.warn(&format!("ticket {ticket}: pid {pid} is suspended, 'kill -CONT {pid}' lets it go on"));
            }
            if holder.is_over && holder.state == HolderState::Process {
                self.warn(&format!(
                    "ticket {ticket} has its turn for too long, but no seq is there to stop what works;"
                ));
                self.warn(&format!("'seq release {ticket}' takes the turn away, what works goes on"));
            }
            if let Some(by) = holder.superseded_by.filter(|_| holder.state != HolderState::Attached) {
                self.warn(&format!("ticket {ticket} is to make way for ticket {by}, but no seq is there to stop it"));
            }
        }
    }
}

/// Whether nobody uses it, and nothing lets nobody in.
fn is_idle(line: &DomainStatus) -> bool {
    line.holders.is_empty() && line.waiting == 0 && line.paused.is_none() && line.rest.is_none()
}

fn heading(name: &str, line: &DomainStatus) -> String {
    let waiting = match line.waiting {
        _ if is_idle(line) => return format!("{name} is idle"),
        0 => "nobody waits".to_owned(),
        1 => "1 waits".to_owned(),
        many => format!("{many} wait"),
    };
    let usual = match line.usual_run_ms {
        Some(usual) => format!(", a run takes about {}", show_milliseconds(usual)),
        None => String::new(),
    };
    format!("{name}: {waiting}{usual}")
}

fn holder_row(holder: &HolderStatus, users: &Users) -> Row {
    let state = match holder.state {
        _ if suspended(holder).is_some() => "suspended",
        HolderState::Attached if holder.superseded_by.is_some() => "stopping",
        HolderState::Attached => "runs",
        HolderState::Orphaned => "runs on",
        HolderState::Process | HolderState::Unknown => "has turn",
        HolderState::Lease => "leases",
    };
    let left = match holder.left_ms {
        _ if holder.is_over => format!("over its {}", show_milliseconds(holder.max_run_ms.unwrap_or_default())),
        Some(0) if holder.state != HolderState::Lease => "overdue".to_owned(),
        Some(left) => format!("{} left", show_milliseconds(left)),
        None => String::new(),
    };
    [
        state.to_owned(),
        holder.ticket.to_string(),
        users.name(holder.uid),
        holder.pid.to_string(),
        show_milliseconds(holder.held_ms),
        left,
        shown_command(holder.command.as_deref()),
    ]
}

/// By which turn a holder has the slots that it has, and so takes none of its own.
fn within(holder: &HolderStatus, line: &DomainStatus) -> Option<Vec<String>> {
    let host = holder.within?;
    let is_there = line.holders.iter().any(|other| other.ticket == host);
    let what = if is_there { "whose turn it has as well" } else { "which has ended and left it the turn" };
    Some(format!("within ticket {host}, {what}").split(' ').map(str::to_owned).collect())
}

fn waiter_row(waiter: &WaiterStatus, users: &Users) -> Row {
    [
        ordinal(waiter.position) + if waiter.away { ", away" } else { "" },
        waiter.ticket.to_string(),
        users.name(waiter.uid),
        waiter.pid.to_string(),
        show_milliseconds(waiter.waited_ms),
        match waiter.left_ms {
            Some(0) => "soon".to_owned(),
            Some(left) => format!("in {}", show_milliseconds(left)),
            None => String::new(),
        },
        shown_command(waiter.command.as_deref()),
    ]
}

/// How a request wants to be treated.
struct Wishes<'a> {
    take: u32,
    also: &'a [Domain],
    shared: bool,
    priority: i8,
    supersede: Option<&'a str>,
    cancel_running: bool,
}

impl Wishes<'_> {
    fn of_holder(holder: &HolderStatus) -> Wishes<'_> {
        let HolderStatus { take, also, shared, priority, supersede, cancel_running, .. } = holder;
        let (take, shared, priority, cancel_running) = (*take, *shared, *priority, *cancel_running);
        Wishes { take, also, shared, priority, supersede: supersede.as_deref(), cancel_running }
    }

    fn of_waiter(waiter: &WaiterStatus) -> Wishes<'_> {
        let WaiterStatus { take, also, shared, priority, supersede, cancel_running, .. } = waiter;
        let (take, shared, priority, cancel_running) = (*take, *shared, *priority, *cancel_running);
        Wishes { take, also, shared, priority, supersede: supersede.as_deref(), cancel_running }
    }

    /// What is out of the ordinary, as it is typed, in parts that stay on one line each.
    fn note(self) -> Option<Vec<String>> {
        let mut words: Vec<String> =
            self.also.iter().map(|domain| format!("-d {}", printable(domain.as_str()))).collect();
        words.extend((self.take != 1).then(|| format!("--take {}", self.take)));
        words.extend(self.shared.then(|| "--shared".to_owned()));
        words.extend((self.priority != 0).then(|| format!("--priority {}", self.priority)));
        words.extend(self.supersede.map(|group| match group {
            "" => "--supersede".to_owned(),
            group => format!("--supersede={}", printable(group)),
        }));
        words.extend(self.cancel_running.then(|| "--cancel-running".to_owned()));
        (!words.is_empty()).then(|| std::iter::once("with".to_owned()).chain(words).collect())
    }
}

/// A command for people, `-` for none.
pub(super) fn shown_command(command: Option<&str>) -> String {
    command.map_or_else(|| "-".to_owned(), printable)
}

/// A number of milliseconds for people.
pub(super) fn show_milliseconds(number: u64) -> String {
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
