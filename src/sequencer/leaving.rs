//! The daemon leaves: for good, or for the next one to take over.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::{Outcome, Ticket};

use super::refusal::{About, Refusal};
use super::{Effect, Input, Sequencer};

/// Whether the daemon leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Leaving {
    Not,
    /// No `Sequence` and no `Wait` is taken any more.
    ForGood,
    /// Nothing changes any more: what is saved belongs to the next daemon.
    Frozen,
}

impl Sequencer {
    /// Tells every client that the next daemon has what it has here.
    pub(super) fn freeze(&mut self, out: &mut Vec<Effect>) {
        let mut attached: Vec<_> = self.tickets.values().filter(|entry| entry.connection.is_some()).collect();
        attached.sort_unstable_by_key(|entry| entry.ticket);
        for entry in attached {
            out.extend(entry.connection.map(|connection| Refusal::Restarting.tell(connection, entry.about())));
        }
        self.dismiss_waits(&Refusal::Restarting, out);
        self.dismiss_followers(&Refusal::Restarting, out);
        self.leaving = Leaving::Frozen;
    }

    pub(super) fn leave(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.leaving = Leaving::ForGood;
        // Waiters go first, so that no turn that ends here is given to one of them.
        let (turns, waiters): (Vec<Ticket>, Vec<Ticket>) =
            self.tickets.keys().partition(|ticket| self.holder(*ticket).is_some());
        // Before what they wait for ends without an outcome, for none of them is to be the next.
        self.dismiss_followers(&Refusal::Leaving, out);
        let mut left = VecDeque::new();
        for ticket in waiters {
            let Some(entry) = self.end(now, ticket, Outcome::Stopped, None, out) else { continue };
            out.extend(entry.connection.map(|connection| Refusal::Leaving.tell(connection, entry.about())));
            left.extend(entry.names().cloned());
        }
        self.dismiss_waits(&Refusal::Leaving, out);
        // A turn that was kept for somebody who was away is nobody's now.
        self.settle_all(left, out);
        for ticket in turns {
            self.leave_turn(now, ticket, out);
        }
    }

    fn leave_turn(&mut self, now: Time, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(entry) = self.tickets.get(&ticket) else { return };
        let told = entry.connection.map(|connection| Refusal::Leaving.tell(connection, entry.about()));
        let lines = entry.names().cloned().collect();
        if !entry.outlives_the_daemon() {
            self.end(now, ticket, Outcome::Stopped, None, out);
        }
        out.extend(told);
        self.settle_all(lines, out);
    }
}

/// Refuses what would have to change something after all is written down.
pub(super) fn refuse_after_all(input: Input, out: &mut Vec<Effect>) {
    let (connection, about) = match input {
        Input::Sequence(request) => {
            let request_id = request.request_id.map(|id| id.to_string());
            (request.connection, About { domain: Some(request.domain), request_id, ticket: request.resume })
        }
        Input::Started { connection, ticket, .. } | Input::Confirm { connection, ticket } => {
            (connection, About { ticket: Some(ticket), ..About::default() })
        }
        Input::Done { connection, which, request_id, .. } | Input::Release { connection, which, request_id, .. } => {
            (connection, About::which(&which, request_id))
        }
        Input::Cancel { connection, which, .. } => (connection, About::which(&which, None)),
        Input::SetPolicy { connection, request_id, .. } | Input::UnsetPolicy { connection, request_id, .. } => {
            (connection, About { request_id, ..About::default() })
        }
        Input::Wait { connection, domain, request_id, .. }
        | Input::Pause { connection, domain, request_id, .. }
        | Input::Resume { connection, domain, request_id, .. } => {
            (connection, About { domain: Some(domain), request_id, ticket: None })
        }
        Input::ForgetKey { connection, domain, request_id, .. } => {
            (connection, About { domain, request_id, ticket: None })
        }
        Input::BeginsNow { .. }
        | Input::Overslept { .. }
        | Input::Found { .. }
        | Input::Disconnected { .. }
        | Input::PipeClosed { .. }
        | Input::ProcessGone { .. }
        | Input::Restore(_)
        | Input::PastEnd { .. }
        | Input::PastRuns { .. }
        | Input::PastStarts { .. }
        | Input::FilePolicies(_)
        | Input::PastPolicy { .. }
        | Input::PastPause { .. }
        | Input::PastKey(_)
        | Input::KeyLearned { .. }
        | Input::Leave { .. }
        | Input::Tick => return,
    };
    out.push(Refusal::Restarting.tell(connection, about));
}
