//! `seq key`: what is recorded of keys, by which commands run once.

use std::io::Write;
use std::time::Duration;

use crate::cli::{self, KeyArgs, KeyCommand};
use crate::clock::exact_duration;
use crate::error::{Error, status};
use crate::protocol::{
    ErrorCode, Fingerprint, KeyForget, KeyList, KeyListReply, KeyStateName, KeyStatus, Reply, Request,
};

use super::connect::Daemon;
use super::moment::day_and_clock;
use super::refusal::refused;
use super::status::{Users, json, show_milliseconds};
use super::table::{Screen, Side, columns, printable};

/// Domain, key, user, state, since when, when it is forgotten, conflicts.
type Row = [String; 7];

const HEADINGS: [&str; 7] = ["DOMAIN", "KEY", "USER", "STATE", "SINCE", "UNTIL", "CONFLICTS"];

const SIDES: [Side; 7] = [Side::Left, Side::Left, Side::Left, Side::Left, Side::Left, Side::Left, Side::Right];

/// The columns that are left out first on a narrow terminal: user, conflicts, when it is forgotten, since when.
const DISPENSABLE: [usize; 4] = [2, 6, 5, 4];

/// Lists, shows or forgets.
pub(super) fn key(daemon: &Daemon, args: &KeyArgs, out: &mut dyn Write) -> Result<u8, Error> {
    match &args.command {
        KeyCommand::List(args) => list(daemon, args, out),
        KeyCommand::Show(args) => show(daemon, args, out),
        KeyCommand::Forget(args) => forget(daemon, args),
    }
}

fn list(daemon: &Daemon, args: &cli::KeyList, out: &mut dyn Write) -> Result<u8, Error> {
    let (uid, domain, keys_max) = (args.uid, args.domain.clone(), Some(args.keys));
    let request = KeyList { uid, domain, keys_max, ..KeyList::default() };
    let reply = ask(daemon, request)?;
    let text = if args.json { reply.keys.iter().map(json).collect() } else { describe(&reply, args) };
    out.write_all(text.as_bytes()).map_err(|error| Error::output(&error))?;
    Ok(status::OK)
}

fn show(daemon: &Daemon, args: &cli::KeyShow, out: &mut dyn Write) -> Result<u8, Error> {
    let (uid, domain, key) = (args.uid, args.domain.clone(), Some(args.key.clone()));
    let request = KeyList { uid, domain, key, ..KeyList::default() };
    let reply = ask(daemon, request)?;
    if reply.keys.is_empty() {
        let place = args.domain.as_ref().map(|domain| format!(" in {}", printable(domain))).unwrap_or_default();
        let message = format_args!("there is no key {}{place}: see 'seq key list'", printable(&args.key));
        return Err(Error::new(status::NO, message));
    }
    let text: String = if args.json {
        reply.keys.iter().map(json).collect()
    } else {
        let users = Users::read();
        let shown: Vec<String> = reply.keys.iter().map(|key| describe_one(key, &users)).collect();
        shown.join("\n")
    };
    out.write_all(text.as_bytes()).map_err(|error| Error::output(&error))?;
    Ok(status::OK)
}

fn forget(daemon: &Daemon, args: &cli::KeyForget) -> Result<u8, Error> {
    let (uid, domain) = (args.uid, args.domain.clone());
    let request = KeyForget { uid, key: args.key.clone(), domain, request_id: None };
    match daemon.ask(&Request::KeyForget(request))? {
        Reply::KeyForgotten(_) => Ok(status::OK),
        Reply::Error(error) if error.code == ErrorCode::UnknownOperation => Err(too_old()),
        other => Err(refused(other)),
    }
}

fn ask(daemon: &Daemon, request: KeyList) -> Result<KeyListReply, Error> {
    match daemon.ask(&Request::KeyList(request))? {
        Reply::KeyList(reply) => Ok(reply),
        Reply::Error(error) if error.code == ErrorCode::UnknownOperation => Err(too_old()),
        other => Err(refused(other)),
    }
}

/// The daemon is from before there were keys.
pub(super) fn too_old() -> Error {
    Error::failure("the daemon is too old to know of keys: put the new one in its place with 'seq restart'")
}

fn describe(reply: &KeyListReply, args: &cli::KeyList) -> String {
    if reply.keys.is_empty() && reply.more == 0 {
        return "no keys are in use or remembered\n".to_owned();
    }
    let (screen, users) = (Screen::of(std::io::stdout()), Users::read());
    let mut rows: Vec<Row> = vec![HEADINGS.map(str::to_owned)];
    rows.extend(reply.keys.iter().map(|key| row(key, &users)));
    let is_one_user = reply.keys.windows(2).all(|keys| keys[0].uid == keys[1].uid);
    for row in &mut rows {
        // What is the same in every row says nothing.
        if is_one_user {
            row[2].clear();
        }
        if args.domain.is_some() {
            row[0].clear();
        }
    }
    if rows.iter().skip(1).all(|row| row[6].is_empty()) {
        rows[0][6].clear();
    }
    let table = columns(&rows, SIDES, &DISPENSABLE, screen.width);
    let mut lines: Vec<String> = table.iter().map(|line| screen.cut(line)).collect();
    if reply.more > 0 {
        lines.push(format!("and {} more", reply.more));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn row(key: &KeyStatus, users: &Users) -> Row {
    let since = key.ended_at.as_ref().or(key.started_at.as_ref()).unwrap_or(&key.reserved_at);
    [
        printable(key.domain.as_str()),
        printable(key.key.as_str()),
        users.name(key.uid),
        state(key),
        day_and_clock(since),
        key.expires_at.as_deref().map(day_and_clock).unwrap_or_default(),
        if key.conflicts == 0 { String::new() } else { key.conflicts.to_string() },
    ]
}

fn state(key: &KeyStatus) -> String {
    match (key.state, key.exit_status) {
        (KeyStateName::Reserved, _) => format!("reserved, ticket {}", key.ticket),
        (KeyStateName::Running, _) => format!("running, ticket {}", key.ticket),
        (KeyStateName::Completed, Some(exit_status)) => format!("completed, status {exit_status}"),
        (KeyStateName::Completed, None) => "completed".to_owned(),
        (KeyStateName::Unknown | KeyStateName::Other, _) => "unknown".to_owned(),
    }
}

/// All that is recorded, a line for each fact.
fn describe_one(key: &KeyStatus, users: &Users) -> String {
    let mut facts: Vec<(&str, String)> = vec![
        ("key", printable(key.key.as_str())),
        ("domain", printable(key.domain.as_str())),
        ("user", users.name(key.uid)),
        ("state", state(key)),
        ("ticket", key.ticket.to_string()),
    ];
    facts.extend(key.token.map(|token| ("token", token.to_string())));
    facts.push(("pid", key.pid.to_string()));
    facts.push(("reserved", day_and_clock(&key.reserved_at)));
    facts.extend(key.started_at.as_deref().map(|at| ("started", day_and_clock(at))));
    let ago = key.ended_ago_ms.map(|ago| format!(", {} ago", show_milliseconds(ago))).unwrap_or_default();
    facts.extend(key.ended_at.as_deref().map(|at| ("ended", day_and_clock(at) + &ago)));
    let left = key.expires_in_ms.map(|left| format!(", in {}", show_milliseconds(left))).unwrap_or_default();
    facts.extend(key.expires_at.as_deref().map(|at| ("expires", day_and_clock(at) + &left)));
    facts.push(("ttl", exact_duration(Duration::from_millis(key.ttl_ms))));
    facts.push(("failures", if key.keep_failures { "are kept" } else { "free the key" }.to_owned()));
    if key.records_output {
        facts.push(("output", "is recorded".to_owned()));
    }
    if key.followers > 0 {
        facts.push(("waiting", format!("{} for the outcome", key.followers)));
    }
    facts.push(("fingerprint", key.fingerprint.to_string()));
    facts.push(("conflicts", key.conflicts.to_string()));
    facts.extend(key.conflicting.iter().map(|other: &Fingerprint| ("", other.to_string())));
    facts.push(("record", key.id.clone()));
    let lines: Vec<String> = facts.into_iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect();
    lines.concat()
}
