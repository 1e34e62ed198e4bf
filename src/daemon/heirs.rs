//! What works under the turn of a client that was killed before it had named it.

use super::owner::Owner;
use super::pipes::Heir;
use super::wake::WatchEnd;
use crate::protocol::Ticket;
use crate::sequencer::Input;

impl Owner {
    /// This is what works under the turn of a client that was killed early.
    pub(super) fn take_heir(&mut self, ticket: Ticket, heir: Heir) {
        let is_wanted = self.sequencer.is_orphan(ticket) && !self.kept.has_heir(ticket);
        if is_wanted && self.kept.only_pipe(ticket).is_some() {
            self.input(Input::Found { ticket, pid: heir.pid });
            self.kept.inherit(ticket, heir);
        }
    }

    /// Whether a pipe was closed by a process that is just dying, so that its end is waited for: it may have let go of
    /// the pipe before all else that it had, as a lock of its own.
    pub(super) fn is_closed_in_death(&mut self, end: WatchEnd) -> bool {
        let heir = if end.is_pipe { self.kept.take_heir(end.ticket) } else { None };
        let Some(pidfd) = heir.and_then(Heir::dying) else { return false };
        self.watcher.tell_after(pidfd, end);
        true
    }

    /// A client that was killed early has not named what it started: people are to see that, and not the client.
    pub(super) fn look_for_heir(&self, ticket: Ticket) {
        if let Some(pipe) = self.kept.only_pipe(ticket) {
            self.watcher.look_for_heir(ticket, pipe);
        }
    }
}
