//! Setting policies, and what follows for the lines.

use crate::protocol::{Domain, PolicySetReply, PolicyUnsetReply, PolicyValues, Reply};

use super::effect::PolicyChange;
use super::line::Line;
use super::refusal::{About, Refusal};
use super::{ConnectionId, Effect, FilePolicy, Pattern, Peer, Policies, Policy, Sequencer};

impl Sequencer {
    /// Every policy there is.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    pub(super) fn set_policy(
        &mut self,
        (connection, peer): (ConnectionId, Peer),
        (pattern, policy): (Pattern, &Policy),
        request_id: Option<String>,
        out: &mut Vec<Effect>,
    ) {
        if let Some(refusal) = self.refusal_of_setting(peer, &pattern) {
            out.push(refusal.tell(connection, About { request_id, ..About::default() }));
            return;
        }
        let policy = self.policies.set(pattern.clone(), policy);
        out.push(Effect::Policy(PolicyChange::Set { pattern: pattern.clone(), policy, uid: peer.uid }));
        let values = PolicyValues::from(&policy);
        let reply = Reply::PolicySet(PolicySetReply { pattern: pattern.to_string(), policy: values, request_id });
        out.push(Effect::Tell { connection, reply });
        self.apply(&pattern, out);
    }

    pub(super) fn unset_policy(
        &mut self,
        (connection, peer): (ConnectionId, Peer),
        pattern: &Pattern,
        request_id: Option<String>,
        out: &mut Vec<Effect>,
    ) {
        if !peer.is_operator {
            out.push(Refusal::NotOperator.tell(connection, About { request_id, ..About::default() }));
            return;
        }
        let was_set = self.policies.unset(pattern);
        if was_set {
            out.push(Effect::Policy(PolicyChange::Unset { pattern: pattern.clone(), uid: peer.uid }));
        }
        let reply = Reply::PolicyUnset(PolicyUnsetReply { pattern: pattern.to_string(), was_set, request_id });
        out.push(Effect::Tell { connection, reply });
        self.apply(pattern, out);
    }

    pub(super) fn past_policy(&mut self, pattern: &Pattern, policy: &Policy, out: &mut Vec<Effect>) {
        self.policies.set(pattern.clone(), policy);
        self.apply(pattern, out);
    }

    pub(super) fn file_policies(&mut self, entries: Vec<FilePolicy>, out: &mut Vec<Effect>) {
        self.policies.replace_file(entries);
        self.apply_to(|_| true, out);
    }

    fn refusal_of_setting(&self, peer: Peer, pattern: &Pattern) -> Option<Refusal> {
        if !peer.is_operator {
            return Some(Refusal::NotOperator);
        }
        let policies = self.limits.policies;
        let is_one_more = self.policies.get_set(pattern).is_none() && self.policies.set_len() >= policies;
        is_one_more.then_some(Refusal::TooManyPolicies { policies })
    }

    /// Policies of `pattern` have changed. A glob takes time for each line there is.
    fn apply(&mut self, pattern: &Pattern, out: &mut Vec<Effect>) {
        match pattern {
            Pattern::Name(domain) => {
                self.apply_to_one(domain, out);
                self.settle(domain, out);
                self.break_cycles(out);
            }
            Pattern::Glob(_) => self.apply_to(|domain| pattern.matches(domain), out),
        }
    }

    fn apply_to(&mut self, concerns: impl Fn(&Domain) -> bool, out: &mut Vec<Effect>) {
        let known = self.lines.keys().chain(self.resting.names()).chain(self.idle.names());
        let mut domains: Vec<Domain> = known.filter(|domain| concerns(domain)).cloned().collect();
        domains.sort_unstable();
        domains.dedup();
        for domain in &domains {
            self.apply_to_one(domain, out);
        }
        // Only now, for a turn in several lines must not begin by what was.
        self.settle_all(domains.into(), out);
        self.break_cycles(out);
    }

    fn apply_to_one(&mut self, domain: &Domain, out: &mut Vec<Effect>) {
        let policy = self.policies.resolve(domain);
        self.rest_anew(domain, policy, out);
    }

    /// The values for `domain`.
    pub(super) fn policy(&self, domain: &Domain) -> Policy {
        self.lines.get(domain).map_or_else(|| self.policies.resolve(domain), |line| line.policy)
    }

    /// The line of a domain, if that is in use.
    pub(super) fn line(&self, domain: &Domain) -> Option<&Line> {
        self.lines.get(domain).map(|line| &**line)
    }

    /// The line of a domain that is in use from now on, if it was not.
    pub(super) fn line_in_use(&mut self, domain: &Domain) -> &mut Line {
        self.lines.entry(domain.clone()).or_insert_with(|| {
            let (runs, past) = self.idle.take(domain);
            let past = self.resting.take(domain).unwrap_or(past);
            Box::new(Line { runs, policy: self.policies.resolve(domain), past, ..Line::default() })
        })
    }
}
