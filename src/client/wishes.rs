//! What a request wishes for, from the command line.

use crate::cli;
use crate::protocol::Sequence;

use super::connect::Daemon;
use super::nested::outer_turn;

/// A request for these domains that wants to be treated so, and says nothing else yet.
pub(super) fn wishes(daemon: &Daemon, domains: &[String], wishes: &cli::Wishes) -> Sequence {
    Sequence {
        domain: domains.first().cloned().unwrap_or_default(),
        also: domains.iter().skip(1).cloned().collect(),
        take: wishes.take,
        shared: wishes.shared,
        priority: wishes.priority,
        supersede: wishes.supersede.clone(),
        cancel_running: wishes.cancel_running,
        within: outer_turn(&daemon.place().socket),
        ..Sequence::default()
    }
}
