//! What is said on standard error while a request waits.

use std::time::Duration;

use crate::protocol::DomainStatus;

/// How much the user wants to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loudness {
    /// `--quiet`: nothing.
    Quiet,
    /// What suits a terminal, a CI log, or a mail from cron.
    Normal,
    /// `--verbose`: also when it waits, runs and ends.
    Verbose,
}

/// The waiting line: live on a terminal, a line now and then under CI, otherwise nothing.
#[derive(Debug)]
pub(super) struct Waiting {}

impl Waiting {
    /// Decides by `loudness`, by whether standard error is a terminal, and by `CI`, what will be said.
    pub(super) fn new(domain: &str, loudness: Loudness) -> Waiting {
        let _ = (domain, loudness);
        Waiting {}
    }

    /// Whether queue positions and statuses are of any use; asked once, before the request is sent.
    pub(super) fn is_shown(&self) -> bool {
        false
    }

    /// The place in line, first or changed.
    pub(super) fn position(&mut self, position: u64, total_ahead: u64) {
        let _ = (position, total_ahead);
    }

    /// Who holds the turn, as the daemon answered to `status`.
    pub(super) fn status(&mut self, status: Option<&DomainStatus>) {
        let _ = status;
    }

    /// How long until `tick` should be called next; none for never.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        None
    }

    /// Time has passed: shows the line anew. True when a fresh `status` should be asked for.
    pub(super) fn tick(&mut self) -> bool {
        false
    }

    /// The wait is over: nothing of a live line stays on the screen.
    pub(super) fn end(&mut self) {}
}
