//! How tickets ended, for clients that could not be told.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::protocol::{ErrorCode, Outcome, Ticket};

use super::{NumberHasher, Sequencer};

/// The last tickets that ended otherwise than their clients asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct PastEnds {
    by_ticket: HashMap<Ticket, PastEnd, NumberHasher>,
    /// In the order in which they ended.
    order: VecDeque<Ticket>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct PastEnd {
    /// The user who asked; nobody else is told.
    uid: u32,
    code: ErrorCode,
}

impl PastEnds {
    /// What to tell a client of user `uid` who asks for this ticket.
    pub(super) fn code(&self, ticket: Ticket, uid: u32) -> Option<ErrorCode> {
        self.by_ticket.get(&ticket).filter(|end| end.uid == uid).map(|end| end.code)
    }
}

impl Sequencer {
    /// Remembers how a ticket ended. It may have been told already; but who is told may be gone before hearing it.
    pub(super) fn past_end(&mut self, ticket: Ticket, uid: u32, (had_turn, outcome): (bool, Outcome)) {
        let code = match outcome {
            Outcome::Cancelled => ErrorCode::Cancelled,
            // Somebody else gave up its place.
            Outcome::Done if !had_turn => ErrorCode::Cancelled,
            Outcome::Superseded => ErrorCode::Superseded,
            Outcome::Released => ErrorCode::Released,
            Outcome::Expired => ErrorCode::Expired,
            Outcome::TimedOut => ErrorCode::TimedOut,
            Outcome::Deadlock => ErrorCode::WouldDeadlock,
            // Its place went with the daemon, and is not to be asked for anew behind its user's back.
            Outcome::Stopped if !had_turn => ErrorCode::Stopped,
            Outcome::Done | Outcome::Gone | Outcome::Stopped | Outcome::Unknown => return,
        };
        if self.ends.by_ticket.insert(ticket, PastEnd { uid, code }).is_none() {
            self.ends.order.push_back(ticket);
        }
        while self.ends.order.len() > self.limits.past_ends {
            let Some(first) = self.ends.order.pop_front() else { return };
            self.ends.by_ticket.remove(&first);
        }
    }
}
