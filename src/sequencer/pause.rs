//! Domains in which nobody is given a turn for a while.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::{Domain, Paused, Reply, Resumed};

use super::effect::PolicyChange;
use super::refusal::{About, Refusal};
use super::{ConnectionId, Effect, Peer, Sequencer};

/// By whom a domain was paused, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The user.
    pub uid: u32,
    /// When.
    pub at: Time,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

impl Sequencer {
    pub(super) fn pause(
        &mut self,
        now: Time,
        (connection, peer): (ConnectionId, Peer),
        domain: Domain,
        (reason, request_id): (Option<Arc<str>>, Option<String>),
        out: &mut Vec<Effect>,
    ) {
        if let Some(refusal) = self.refusal_of_pause(peer, &domain) {
            let about = About { domain: Some(domain), request_id, ticket: None };
            out.push(refusal.tell(connection, about));
            return;
        }
        let before = self.pauses.get(&domain);
        let reason_now = reason.clone().or_else(|| before?.reason.clone()).filter(|reason| !reason.is_empty());
        if before.is_none() || reason.is_some() {
            let pause = Pause { uid: peer.uid, at: now, reason: reason_now.clone() };
            self.pauses.insert(domain.clone(), pause.clone());
            out.push(Effect::Policy(PolicyChange::Paused { domain: domain.clone(), pause }));
        }
        let reason = reason_now.map(|reason| reason.to_string());
        out.push(Effect::Tell {
            connection,
            reply: Reply::Paused(Paused { domain: domain.clone(), reason, request_id }),
        });
        self.settle(&domain, out);
    }

    pub(super) fn resume_domain(
        &mut self,
        (connection, peer): (ConnectionId, Peer),
        domain: Domain,
        request_id: Option<String>,
        out: &mut Vec<Effect>,
    ) {
        if !peer.is_operator {
            let about = About { domain: Some(domain), request_id, ticket: None };
            out.push(Refusal::NotOperator.tell(connection, about));
            return;
        }
        let was_paused = self.pauses.remove(&domain).is_some();
        if was_paused {
            out.push(Effect::Policy(PolicyChange::Resumed { domain: domain.clone(), uid: peer.uid }));
        }
        let reply = Reply::Resumed(Resumed { domain: domain.clone(), was_paused, request_id });
        out.push(Effect::Tell { connection, reply });
        self.settle(&domain, out);
    }

    pub(super) fn past_pause(&mut self, domain: &Domain, pause: Pause, out: &mut Vec<Effect>) {
        self.pauses.insert(domain.clone(), pause);
        self.settle(domain, out);
    }

    fn refusal_of_pause(&self, peer: Peer, domain: &Domain) -> Option<Refusal> {
        if !peer.is_operator {
            return Some(Refusal::NotOperator);
        }
        let domains = self.limits.domains;
        let is_one_more = !self.pauses.contains_key(domain) && self.pauses.len() >= domains;
        is_one_more.then_some(Refusal::TooManyDomains { domains })
    }
}
