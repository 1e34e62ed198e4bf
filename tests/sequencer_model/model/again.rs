//! A request that lives comes again.

use seq::clock::Time;
use seq::protocol::{Active, Binding, ErrorCode, Reply, RequestId, Ticket, Token};
use seq::sequencer::{Effect, Enqueue};

use super::{Model, SECOND, are_same, named};

impl Model {
    /// The ticket without a client whose secret this is.
    pub(super) fn left_by(&self, ask: &Enqueue) -> Option<u64> {
        let is_it = |request: &&super::Request| {
            request.connection.is_none()
                && request.secret.is_some()
                && request.secret == ask.secret
                && are_same(&request.domains(), &named(&ask.domain, &ask.wishes))
                && request.uid == ask.peer.uid
                && self.is_for_the_same(request.ticket, ask)
                && ask.request_id.as_ref().is_none_or(|id| *id == request.id)
        };
        self.requests.iter().find(is_it).map(|request| request.ticket)
    }

    pub(super) fn resume(&mut self, ticket: u64, ask: Enqueue) {
        if let Some(code) = self.why_not_resume(ticket, &ask) {
            let id = ask.request_id.as_ref().map(RequestId::to_string);
            return self.error(ask.connection, code, Some(ask.domain), id, Some(ticket));
        }
        let index = self.index(ticket).unwrap();
        let deadline = self.requests[index].deadline;
        self.take_up(index, ask, deadline);
    }

    fn why_not_resume(&self, ticket: u64, ask: &Enqueue) -> Option<ErrorCode> {
        if self.leaving {
            return Some(ErrorCode::Leaving);
        }
        let Some(index) = self.index(ticket) else {
            let end = self.ends.iter().find(|(ended, uid, _)| (*ended, *uid) == (ticket, ask.peer.uid));
            return Some(end.map_or(ErrorCode::NotFound, |(_, _, code)| *code));
        };
        let request = &self.requests[index];
        let is_same_request = are_same(&request.domains(), &named(&ask.domain, &ask.wishes))
            && ask.request_id.as_ref().unwrap_or(&request.id) == &request.id;
        let is_proven = ask.secret.is_some() && request.secret == ask.secret && request.uid == ask.peer.uid;
        let is_one_more = request.connection != Some(ask.connection);
        if !is_same_request {
            Some(ErrorCode::NotFound)
        } else if !is_proven {
            Some(ErrorCode::Forbidden)
        } else if is_one_more && self.hanging_on(ask.connection) >= self.limits.tickets_per_connection {
            Some(ErrorCode::TooManyRequests)
        } else {
            None
        }
    }

    /// The newcomer has the place, or the turn.
    pub(super) fn take_up(&mut self, index: usize, ask: Enqueue, deadline: Option<Time>) {
        let old = self.requests[index].clone();
        let ticket = Ticket(old.ticket);
        self.out.push(Effect::Admitted { ticket, follower: None });
        self.out.push(Effect::Changed { ticket });
        if old.connection.is_none() {
            self.grace.0 = self.grace.1.min(self.now + SECOND * 10);
        }
        let processes = u32::from(ask.binding == Binding::Process);
        let key = self.key_of(old.ticket).map(|record| record.name.key);
        let request = &mut self.requests[index];
        request.connection = Some(ask.connection);
        request.pid = ask.pid;
        if let Some((token, _)) = request.turn {
            request.pipes += u32::from(ask.pipe);
            request.processes += processes;
            request.named |= ask.named_process;
            request.unconfirmed &= ask.confirm;
            request.command = ask.command.or(old.command);
            request.secret = ask.secret.or(old.secret);
            let (domain, request_id, token) = (old.domain, old.id, Token(token));
            let max_run_ms = old.max_run.map(|max_run| u64::try_from(max_run.as_millis()).unwrap());
            let reply = Active { domain, request_id, ticket, token, resumed: true, max_run_ms, key };
            self.tell(ask.connection, Reply::Active(reply));
            if old.superseded.is_some() {
                let holder = self.requests[index].clone();
                self.tell_owner(&holder, ErrorCode::Superseded);
            }
            if self.requests[index].is_to_begin() && !ask.says_started {
                self.goes_on(index);
            }
            return;
        }
        request.pipes = u32::from(ask.pipe);
        request.processes = processes;
        request.binding = ask.binding;
        request.lease = ask.lease;
        request.named = ask.named_process;
        request.unconfirmed = ask.confirm;
        request.says_started = ask.says_started;
        request.command = ask.command;
        request.secret = ask.secret;
        if old.connection != Some(ask.connection) {
            self.tell_owner(&old, ErrorCode::TakenOver);
        }
        self.settle_all(old.domains());
        if self.requests[index].turn.is_none() {
            self.stand(index, deadline, ask.positions);
        }
    }
}
