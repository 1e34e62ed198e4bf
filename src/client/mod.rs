//! Finding or starting the daemon, asking it, waiting, running, reporting.

mod connect;
mod start;
mod link;
mod waiting;
mod process;
mod signals;
mod turn;
mod run;
mod sequence;

pub use connect::Daemon;
pub use link::{Link, LinkError};

use std::io::Write;

use crate::cli::{Cli, Command};
use crate::error::Error;

/// Does what the user asked for and gives the exit status. `out` is standard output.
pub fn main(cli: &Cli, out: &mut dyn Write) -> Result<u8, Error> {
    let daemon = Daemon::locate(&cli.global)?;
    match &cli.command {
        Command::Run(args) => run::run(&daemon, args),
        Command::Sequence(args) => sequence::sequence(&daemon, args, out),
        _ => todo!(),
    }
}

/// The domains that the daemon knows, for completions: none when there is no daemon.
pub fn known_domains() -> Vec<String> {
    Vec::new()
}
