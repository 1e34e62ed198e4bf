//! `seq policy`, `seq pause` and `seq resume`: how a domain gives out turns.

use std::io::Write;
use std::time::Duration;

use crate::cli::{self, Limit, PolicyArgs, PolicyCommand};
use crate::clock::show_duration;
use crate::error::{Error, status};
use crate::protocol::{
    Pause, PolicySet, PolicyShow, PolicyShowReply, PolicyUnset, PolicyValues, Reply, Request, Resume,
};
use crate::sequencer::{Policy, PolicyValue};

use super::connect::Daemon;
use super::refusal::refused;
use super::status::json;
use super::table::{Screen, Side, columns, printable};

/// Sets, shows or unsets one.
pub(super) fn policy(daemon: &Daemon, args: &PolicyArgs, out: &mut dyn Write) -> Result<u8, Error> {
    match &args.command {
        PolicyCommand::Set(args) => set(daemon, args),
        PolicyCommand::Show(args) => show(daemon, args, out),
        PolicyCommand::Unset(args) => unset(daemon, args),
    }
}

fn set(daemon: &Daemon, args: &cli::PolicySet) -> Result<u8, Error> {
    let policy = policy_of(args);
    policy.check().map_err(|error| Error::new(status::USAGE, error))?;
    let (pattern, policy) = (args.pattern.clone(), PolicyValues::from(&policy));
    match daemon.ask(&Request::PolicySet(PolicySet { pattern, policy, request_id: None }))? {
        Reply::PolicySet(_) => Ok(status::OK),
        other => Err(refused(other)),
    }
}

fn policy_of(args: &cli::PolicySet) -> Policy {
    let mut policy = Policy {
        concurrency: args.concurrency,
        max_queue: args.max_queue.and_then(Limit::get),
        rate: args.rate.and_then(Limit::get),
        ..Policy::default()
    };
    let durations = [
        (PolicyValue::MinInterval, args.min_interval),
        (PolicyValue::Cooldown, args.cooldown),
        (PolicyValue::MaxRun, args.max_run),
        (PolicyValue::DefaultMaxWait, args.default_max_wait),
    ];
    for (value, limit) in durations {
        if let Some(limit) = limit {
            policy.set_duration(value, limit.get());
        }
    }
    if args.max_queue == Some(Limit::None) {
        policy.none.insert(PolicyValue::MaxQueue);
    }
    if args.rate == Some(Limit::None) {
        policy.none.insert(PolicyValue::Rate);
    }
    policy
}

fn unset(daemon: &Daemon, args: &cli::PolicyUnset) -> Result<u8, Error> {
    match daemon.ask(&Request::PolicyUnset(PolicyUnset { pattern: args.pattern.clone(), request_id: None }))? {
        Reply::PolicyUnset(reply) if reply.was_set => Ok(status::OK),
        Reply::PolicyUnset(reply) => {
            let pattern = printable(&reply.pattern);
            let message = format_args!("no policy is set for {pattern}: see 'seq policy show'");
            Err(Error::new(status::NO, message))
        }
        other => Err(refused(other)),
    }
}

/// Lets nobody begin.
pub(super) fn pause(daemon: &Daemon, args: &cli::PauseArgs) -> Result<u8, Error> {
    if args.domain.contains(['*', '?']) {
        let pattern = printable(&args.domain);
        let message = format_args!("a pause is for one domain, and {pattern} is a pattern: pause each by its name");
        return Err(Error::new(status::USAGE, message));
    }
    let (domain, reason) = (args.domain.clone(), args.reason.clone());
    match daemon.ask(&Request::Pause(Pause { domain, reason, request_id: None }))? {
        Reply::Paused(_) => Ok(status::OK),
        other => Err(refused(other)),
    }
}

/// Ends a pause.
pub(super) fn resume(daemon: &Daemon, args: &cli::Resume) -> Result<u8, Error> {
    match daemon.ask(&Request::Resume(Resume { domain: args.domain.clone(), request_id: None }))? {
        Reply::Resumed(_) => Ok(status::OK),
        other => Err(refused(other)),
    }
}

fn show(daemon: &Daemon, args: &cli::PolicyShow, out: &mut dyn Write) -> Result<u8, Error> {
    let request = PolicyShow { domain: args.domain.clone(), request_id: None };
    let reply = match daemon.ask(&Request::PolicyShow(request))? {
        Reply::PolicyShow(reply) => reply,
        other => return Err(refused(other)),
    };
    let text = if args.json { json(&reply) } else { describe(&reply, Screen::of(std::io::stdout())) };
    out.write_all(text.as_bytes()).map_err(|error| Error::output(&error))?;
    Ok(status::OK)
}

fn describe(reply: &PolicyShowReply, screen: Screen) -> String {
    let rows = match &reply.domain {
        Some(_) => of_domain(reply),
        None => of_all(reply),
    };
    let mut lines: Vec<String> = Vec::new();
    if rows.len() > 1 {
        let table = columns(&rows, [Side::Left; 3], &[], screen.width);
        lines.extend(table.iter().enumerate().map(|(row, line)| {
            let line = screen.cut(line);
            if row == 0 { screen.bold(&line) } else { line }
        }));
    } else if let Some(domain) = &reply.domain {
        lines.push(format!("{domain} has no policy: one turn at a time, in order of arrival"));
    } else {
        lines.push("no policies: one turn at a time in each domain, in order of arrival".to_owned());
    }
    if let Some(mistake) = &reply.mistake {
        lines.push(screen.warning(&format!("{}; what it said before goes on to count", printable(mistake))));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// Each value of a domain, and where it comes from.
fn of_domain(reply: &PolicyShowReply) -> Vec<[String; 3]> {
    let values = reply.policy.map(|policy| shown(&policy)).unwrap_or_default();
    let mut rows = vec![["VALUE", "", "FROM"].map(str::to_owned)];
    for (name, value) in values {
        let source = reply.sources.iter().find(|source| source.value == name);
        let from = source.map(|source| format!("{} {}", printable(&source.pattern), origin(reply, source.line)));
        rows.push([name.to_owned(), value, from.unwrap_or_default()]);
    }
    rows
}

/// Every policy, the most specific first.
fn of_all(reply: &PolicyShowReply) -> Vec<[String; 3]> {
    let mut rows = vec![["PATTERN", "POLICY", "FROM"].map(str::to_owned)];
    for policy in &reply.policies {
        rows.push([printable(&policy.pattern), shown_values(&policy.policy), origin(reply, policy.line)]);
    }
    rows
}

fn origin(reply: &PolicyShowReply, line: Option<u32>) -> String {
    match (line, &reply.config) {
        (None, _) => "(set)".to_owned(),
        (Some(line), Some(config)) => format!("({}:{line})", printable(config)),
        (Some(line), None) => format!("(line {line} of the config file)"),
    }
}

/// The values that are set, in one line.
pub(super) fn shown_values(values: &PolicyValues) -> String {
    let values: Vec<String> = shown(values).iter().map(|(name, value)| format!("{name} {value}")).collect();
    values.join(", ")
}

/// The values that are set, by their names, as people write them.
pub(super) fn shown(values: &PolicyValues) -> Vec<(&'static str, String)> {
    let duration = |milliseconds: Option<u64>| Some(show_duration(Duration::from_millis(milliseconds?)));
    let of = |value: PolicyValue| match value {
        PolicyValue::Concurrency => values.concurrency.map(|number| number.to_string()),
        PolicyValue::MaxQueue => values.max_queue.map(|number| number.to_string()),
        PolicyValue::MinInterval => duration(values.min_interval_ms),
        PolicyValue::Cooldown => duration(values.cooldown_ms),
        PolicyValue::Rate => {
            values.rate.and_then(|rate| Some(format!("{}/{}", rate.starts, duration(Some(rate.per_ms))?)))
        }
        PolicyValue::MaxRun => duration(values.max_run_ms),
        PolicyValue::DefaultMaxWait => duration(values.default_max_wait_ms),
    };
    let none = |value| values.none.has(value).then(|| "none".to_owned());
    PolicyValue::ALL
        .into_iter()
        .filter_map(|value| Some((value.as_str(), of(value).or_else(|| none(value))?)))
        .collect()
}
