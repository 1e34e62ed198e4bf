//! Waiting until a domain is idle.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::{Domain, Idle, Reply, Ticket};

use super::connections::Attached;
use super::cycle::Waiter;
use super::leaving::Leaving;
use super::nested::Who;
use super::refusal::{About, Refusal};
use super::ticket::Entry;
use super::timers::Timer;
use super::{ConnectionId, Effect, Sequencer, Wishes, Within};

/// A `Wait` that is not answered yet. Its domain is in use as long as it is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PendingWait {
    pub(super) connection: ConnectionId,
    pub(super) domain: Domain,
    pub(super) request_id: Option<String>,
    pub(super) since: Time,
    pub(super) deadline: Option<Time>,
    /// The turn that it was made within, which may have ended since.
    pub(super) parent: Option<Ticket>,
}

impl PendingWait {
    pub(super) fn refuse(self, refusal: &Refusal) -> Effect {
        let about = About { domain: Some(self.domain), request_id: self.request_id, ticket: None };
        refusal.tell(self.connection, about)
    }

    /// It stands behind everybody in its line, and nobody waits for it but the turn that it was made within.
    pub(super) fn waiter(&self, who: Who) -> Waiter<'_> {
        let (rank, wishes) = ((Reverse(i8::MIN), who), Wishes::whole());
        Waiter { rank, wishes, lines: vec![&self.domain], follows: None, parent: self.parent }
    }
}

impl Sequencer {
    pub(super) fn wait(&mut self, mut wait: PendingWait, (uid, within): (u32, Option<Within>), out: &mut Vec<Effect>) {
        let PendingWait { connection, deadline, .. } = wait;
        wait.parent = self.parent(uid, within).map(|parent| parent.ticket);
        if self.leaving != Leaving::Not {
            out.push(wait.refuse(&Refusal::Leaving));
            return;
        }
        if !self.lines.contains_key(&wait.domain) {
            let reply = Reply::Idle(Idle { domain: wait.domain, request_id: wait.request_id });
            out.push(Effect::Tell { connection, reply });
            return;
        }
        let refusal = self
            .refusal_of_one_more(connection)
            .or_else(|| self.refusal_of_wait_within(&wait.domain, (uid, within)))
            .or_else(|| self.refusal_of_waiting(&wait.waiter(Who::Newcomer), &[]));
        if let Some(refusal) = refusal {
            out.push(wait.refuse(&refusal));
            return;
        }
        let id = self.next_wait;
        self.next_wait += 1;
        self.timers.set(deadline, Timer::Wait(id));
        self.connections.attach(connection, Attached::Wait(id));
        if let Some(line) = self.lines.get_mut(&wait.domain) {
            line.waits.insert(id);
            line.inner_waits += usize::from(wait.parent.is_some());
        }
        if let Some(parent) = wait.parent {
            self.begin_inner_wait(parent, id);
        }
        self.waits.insert(id, wait);
    }

    /// Why a `Wait` would wait for whom it is asked within, if so.
    fn refusal_of_wait_within(&self, domain: &Domain, (uid, within): (u32, Option<Within>)) -> Option<Refusal> {
        let has_line = |outer: &&Entry| outer.names().any(|name| name == domain);
        let outer = self.ancestors(uid, within).find(has_line)?;
        Some(Refusal::WaitsForOuter { domain: domain.clone(), outer: outer.ticket, pid: outer.pid })
    }

    pub(super) fn wait_due(&mut self, now: Time, id: u64, out: &mut Vec<Effect>) {
        let Some(wait) = self.remove_wait(id) else { return };
        let waited = now.since(wait.since);
        let refusal = Refusal::StillInUse { domain: wait.domain.clone(), waited };
        out.push(wait.refuse(&refusal));
    }

    /// Refuses every `Wait`, oldest first.
    pub(super) fn dismiss_waits(&mut self, refusal: &Refusal, out: &mut Vec<Effect>) {
        while let Some((id, _)) = self.waits.first_key_value() {
            let Some(wait) = self.remove_wait(*id) else { return };
            out.push(wait.refuse(refusal));
        }
    }

    /// Takes a `Wait` out of everything that knows of it.
    pub(super) fn remove_wait(&mut self, id: u64) -> Option<PendingWait> {
        let wait = self.waits.remove(&id)?;
        self.timers.clear(wait.deadline, Timer::Wait(id));
        self.connections.detach(wait.connection, Attached::Wait(id));
        if let Some(line) = self.lines.get_mut(&wait.domain) {
            line.waits.remove(&id);
            line.inner_waits -= usize::from(wait.parent.is_some());
        }
        if let Some(parent) = wait.parent {
            self.end_inner_wait(parent, id);
        }
        Some(wait)
    }
}
