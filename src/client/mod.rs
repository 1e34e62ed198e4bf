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
mod turn;
mod run;
mod sequence;
mod ending;
mod wait;
mod status;
mod watch;
mod log;
mod info;
mod restart;
mod handover;
mod refusal;
mod table;

pub use connect::Daemon;
pub use handover::hand_over;
pub use link::{Link, LinkError};

use std::io::Write;
use std::time::Duration;

use crate::cli::{Cli, Command, Global};
use crate::error::Error;
use crate::protocol::{Reply, Request, Status};

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
        Command::Restart => restart::restart(&daemon, out),
        Command::Stop => info::stop(&daemon),
    }
}

/// The domains that the daemon knows, for completions: none when there is no daemon, or none that answers at once.
pub fn known_domains(global: &Global) -> Vec<String> {
    let request = Request::Status(Status { waiters_max: Some(0), idle: true, ..Status::default() });
    let known = Daemon::locate(global).map(|daemon| daemon.without_start().within(COMPLETION_PATIENCE));
    match known.and_then(|daemon| daemon.ask_if_there(&request)) {
        Ok(Some(Reply::Status(reply))) => reply.domains.iter().map(|line| line.domain.to_string()).collect(),
        _ => Vec::new(),
    }
}
