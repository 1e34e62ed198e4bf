//! Finding or starting the daemon, asking it, waiting, running, reporting.

mod connect;
mod start;
mod link;
mod errand;
mod pause;
mod waiting;
mod standing;
mod process;
mod streams;
mod signals;
mod rejoin;
mod deliver;
mod around;
mod wake;
mod turn;
mod wishes;
mod nested;
mod run;
mod sequence;
mod ending;
mod wait;
mod status;
mod watch;
mod log;
mod info;
mod policy;
mod key;
mod restart;
mod handover;
mod refusal;
mod table;
mod moment;

pub use connect::Daemon;
pub use handover::hand_over;
pub use link::{Link, LinkError};

use std::io::Write;
use std::time::Duration;

use crate::cli::{Cli, Command, Global};
use crate::error::Error;
use crate::protocol::{DomainStatus, KeyList, PolicyShow, Reply, Request, Status};

/// How long completions wait for the daemon: a shell must not hang because of it.
const COMPLETION_PATIENCE: Duration = Duration::from_millis(300);

/// Does what the user asked for and gives the exit status. `out` is standard output.
pub fn main(cli: &Cli, out: &mut dyn Write) -> Result<u8, Error> {
    let daemon = Daemon::locate(&cli.global)?;
    match &cli.command {
        Command::Run(args) => run::run(&daemon, args),
        Command::Sequence(args) => sequence::sequence(&daemon, args, out),
        Command::Done(args) => ending::done(&daemon, args),
        Command::Status(args) => status::status(&daemon, args, out),
        Command::Watch(args) => watch::watch(&daemon, args, out),
        Command::Wait(args) => wait::wait(&daemon, args),
        Command::Cancel(args) => ending::cancel(&daemon, args),
        Command::Release(args) => ending::release(&daemon, args),
        Command::Info(args) => info::info(&daemon, args, out),
        Command::Log(args) => log::log(&daemon, args, out),
        Command::Policy(args) => policy::policy(&daemon, args, out),
        Command::Key(args) => key::key(&daemon, args, out),
        Command::Pause(args) => policy::pause(&daemon, args),
        Command::Resume(args) => policy::resume(&daemon, args),
        Command::Restart => restart::restart(&daemon, out),
        Command::Stop => info::stop(&daemon),
    }
}

/// The domains that the daemon knows, for completions: none when there is no daemon, or none that answers at once.
pub fn known_domains(global: &Global) -> Vec<String> {
    lines(global).iter().map(|line| line.domain.to_string()).collect()
}

/// The domains that are paused, likewise.
pub fn paused_domains(global: &Global) -> Vec<String> {
    let lines = lines(global).into_iter().filter(|line| line.paused.is_some());
    lines.map(|line| line.domain.to_string()).collect()
}

/// The keys of this user, likewise.
pub fn known_keys(global: &Global) -> Vec<String> {
    match ask_for_completion(global, &Request::KeyList(KeyList::default())) {
        Some(Reply::KeyList(reply)) => reply.keys.into_iter().map(|key| key.key.to_string()).collect(),
        _ => Vec::new(),
    }
}

/// The patterns for which something is set by hand, likewise.
pub fn known_patterns(global: &Global) -> Vec<String> {
    match ask_for_completion(global, &Request::PolicyShow(PolicyShow::default())) {
        Some(Reply::PolicyShow(reply)) => {
            let by_hand = reply.policies.into_iter().filter(|policy| policy.line.is_none());
            by_hand.map(|policy| policy.pattern).collect()
        }
        _ => Vec::new(),
    }
}

fn lines(global: &Global) -> Vec<DomainStatus> {
    let request = Request::Status(Status { waiters_max: Some(0), idle: true, ..Status::default() });
    match ask_for_completion(global, &request) {
        Some(Reply::Status(reply)) => reply.domains,
        _ => Vec::new(),
    }
}

fn ask_for_completion(global: &Global, request: &Request) -> Option<Reply> {
    let daemon = Daemon::locate(global).ok()?.without_start().within(COMPLETION_PATIENCE);
    daemon.ask_if_there(request).ok()?
}
