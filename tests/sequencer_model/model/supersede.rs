//! Who makes way for whom.

use seq::protocol::{Domain, ErrorCode, Outcome, Ticket};
use seq::sequencer::{Effect, Enqueue, Successor};

use super::Model;

impl Model {
    fn rivals(&self, ask: &Enqueue, has_turn: bool) -> Vec<usize> {
        let domains = self.lines_of(ask);
        let is_rival = |index: &usize| {
            let request = &self.requests[*index];
            ask.wishes.supersede.is_some()
                && request.wishes.supersede == ask.wishes.supersede
                && request.uid == ask.peer.uid
                && domains.iter().any(|domain| request.stands_in(domain))
                && request.turn.is_some() == has_turn
        };
        (0..self.requests.len()).filter(is_rival).collect()
    }

    /// Those waiters that are gone once `ask` has come.
    pub(super) fn replaced_by(&self, ask: &Enqueue) -> Vec<usize> {
        self.rivals(ask, false)
    }

    /// The newcomer takes the place of others.
    pub(super) fn supersede(&mut self, ask: &Enqueue, ticket: u64) -> Vec<Domain> {
        let mut left = Vec::new();
        let by = Successor { ticket: Ticket(ticket), pid: ask.pid, uid: ask.peer.uid };
        while let Some(index) = self.replaced_by(ask).first().copied() {
            self.requests[index].superseded = Some(by);
            let ended = self.end(index, Outcome::Superseded, None);
            self.tell_owner(&ended, ErrorCode::Superseded);
            left.extend(ended.domains());
        }
        if !ask.wishes.cancel_running {
            return left;
        }
        for index in self.rivals(ask, true) {
            if self.requests[index].superseded.is_none() && !self.is_ancestor(ask, index) {
                self.requests[index].superseded = Some(by);
                let holder = self.requests[index].clone();
                self.out.push(Effect::Changed { ticket: Ticket(holder.ticket) });
                self.tell_owner(&holder, ErrorCode::Superseded);
            }
        }
        left
    }
}
