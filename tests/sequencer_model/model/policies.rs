//! What is set for the domains, looked up in a flat list each time.

use std::sync::Arc;
use std::time::Duration;

use seq::protocol::{
    Domain, ErrorCode, HeadWait, Paused, PolicySetReply, PolicyUnsetReply, PolicyValues, RateValue, Reply, Resumed,
};
use seq::sequencer::{
    ConnectionId, Effect, FilePolicy, Pattern, Pause, Peer, Policy, PolicyChange, PolicySource, PolicyValue, Wishes,
};

use super::Model;

/// What somebody set.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pattern: Pattern,
    source: PolicySource,
    policy: Policy,
}

impl Rule {
    /// The less, the more specific.
    fn rank(&self) -> (bool, usize, usize, String, u32) {
        let text = self.pattern.as_str();
        let wildcards = text.chars().filter(|letter| "*?".contains(*letter)).count();
        let others = if wildcards == 0 { 0 } else { 1_000 + wildcards - text.chars().count() };
        let line = if let PolicySource::File { line } = self.source { line + 1 } else { 0 };
        (wildcards > 0, others, wildcards, text.to_owned(), line)
    }
}

impl Model {
    /// The first that is set of one value.
    pub(super) fn value<T>(&self, domain: &Domain, value: impl Fn(&Policy) -> Option<T>) -> Option<T> {
        let mut rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.pattern.matches(domain)).collect();
        rules.sort_by_key(|rule| rule.rank());
        let mut closed = Vec::new();
        for Rule { policy, .. } in rules {
            if let Some(found) = value(&without(policy, &closed)) {
                return Some(found);
            }
            closed.extend(policy.none.iter());
        }
        None
    }

    pub(super) fn slots(&self, domain: &Domain) -> u32 {
        self.value(domain, |policy| policy.concurrency).unwrap_or(1)
    }

    pub(super) fn max_queue(&self, domain: &Domain) -> usize {
        let max_queue = self.value(domain, |policy| policy.max_queue).map_or(usize::MAX, |max| max as usize);
        max_queue.min(self.limits.waiters_per_domain)
    }

    pub(super) fn max_run(&self, domain: &Domain) -> Option<Duration> {
        self.value(domain, |policy| policy.max_run)
    }

    pub(super) fn default_max_wait(&self, domain: &Domain) -> Option<Duration> {
        self.value(domain, |policy| policy.default_max_wait)
    }

    pub(super) fn pause_of(&self, domain: &Domain) -> Option<&Pause> {
        self.pauses.iter().find(|(paused, _)| paused == domain).map(|(_, pause)| pause)
    }

    /// What the first of a line waits for.
    pub(super) fn head_waits(&self, domain: &Domain, index: usize) -> Option<HeadWait> {
        let request = &self.requests[index];
        let is_held_up_in = |other: &Domain| {
            self.waiters(other).first() != Some(&index) || self.line_waits(other, &request.wishes).is_some()
        };
        let mut others = request.lines();
        others.retain(|other| other != domain);
        let elsewhere = others.iter().any(is_held_up_in).then_some(HeadWait::Line);
        let comes_back = request.is_away().then_some(HeadWait::Client);
        self.line_waits(domain, &request.wishes).or(comes_back).or(elsewhere)
    }

    /// What one that is the first of a line waits for there.
    pub(super) fn line_waits(&self, domain: &Domain, wishes: &Wishes) -> Option<HeadWait> {
        if self.pause_of(domain).is_some() {
            return Some(HeadWait::Resume);
        }
        let start = self.awaits_start(domain).then_some(HeadWait::Start);
        self.room_waits(domain, wishes).or(start).or(self.rest(domain).map(|(_, why)| why))
    }

    /// What one that is the first waits for, as far as those who have a turn are concerned.
    pub(super) fn room_waits(&self, domain: &Domain, wishes: &Wishes) -> Option<HeadWait> {
        let taken = self.slots_of(domain);
        let readers = taken.iter().filter(|(.., shared)| *shared).count();
        if wishes.shared && readers < taken.len() || !wishes.shared && readers > 0 {
            return Some(HeadWait::Holders);
        }
        if wishes.shared {
            return None;
        }
        let slots = self.slots(domain);
        let used: u32 = taken.into_iter().map(|(_, take, _)| take.min(slots)).sum();
        if used + wishes.take.min(slots) <= slots {
            None
        } else if used >= slots {
            Some(HeadWait::Holders)
        } else {
            Some(HeadWait::Slots)
        }
    }

    pub(super) fn set(&mut self, pattern: &Pattern, new: &Policy) -> Policy {
        let is_it = |rule: &Rule| rule.pattern == *pattern && rule.source == PolicySource::Set;
        let old = self.rules.iter().find(|rule| is_it(rule)).map(|rule| rule.policy).unwrap_or_default();
        self.rules.retain(|rule| !is_it(rule));
        let of_old: Vec<PolicyValue> = PolicyValue::ALL.into_iter().filter(|value| !new.has(*value)).collect();
        let none = old.none.iter().filter(|value| of_old.contains(value)).chain(new.none.iter()).collect();
        let old = without(&old, &new.none.iter().collect::<Vec<_>>());
        let policy = Policy {
            concurrency: new.concurrency.or(old.concurrency),
            max_queue: new.max_queue.or(old.max_queue),
            min_interval: new.min_interval.or(old.min_interval),
            cooldown: new.cooldown.or(old.cooldown),
            rate: new.rate.or(old.rate),
            max_run: new.max_run.or(old.max_run),
            default_max_wait: new.default_max_wait.or(old.default_max_wait),
            none,
        };
        self.rules.push(Rule { pattern: pattern.clone(), source: PolicySource::Set, policy });
        policy
    }

    pub(super) fn set_policy(
        &mut self,
        connection: ConnectionId,
        peer: Peer,
        pattern: &Pattern,
        policy: &Policy,
        request_id: Option<String>,
    ) {
        if !peer.is_operator {
            return self.error(connection, ErrorCode::Forbidden, None, request_id, None);
        }
        let set = self.rules.iter().filter(|rule| rule.source == PolicySource::Set);
        let is_known = set.clone().any(|rule| rule.pattern == *pattern);
        if !is_known && set.count() >= self.limits.policies {
            return self.error(connection, ErrorCode::TooManyPolicies, None, request_id, None);
        }
        let before = self.told_of();
        let policy = self.set(pattern, policy);
        self.out.push(Effect::Policy(PolicyChange::Set { pattern: pattern.clone(), policy, uid: peer.uid }));
        let reply = PolicySetReply { pattern: pattern.to_string(), policy: on_the_wire(&policy), request_id };
        self.tell(connection, Reply::PolicySet(reply));
        self.look_anew(Some(pattern), &before);
    }

    pub(super) fn unset_policy(
        &mut self,
        connection: ConnectionId,
        peer: Peer,
        pattern: &Pattern,
        request_id: Option<String>,
    ) {
        if !peer.is_operator {
            return self.error(connection, ErrorCode::Forbidden, None, request_id, None);
        }
        let before = self.told_of();
        let rules = self.rules.len();
        self.rules.retain(|rule| rule.pattern != *pattern || rule.source != PolicySource::Set);
        let was_set = self.rules.len() < rules;
        if was_set {
            self.out.push(Effect::Policy(PolicyChange::Unset { pattern: pattern.clone(), uid: peer.uid }));
        }
        let reply = PolicyUnsetReply { pattern: pattern.to_string(), was_set, request_id };
        self.tell(connection, Reply::PolicyUnset(reply));
        self.look_anew(Some(pattern), &before);
    }

    pub(super) fn file_policies(&mut self, entries: Vec<FilePolicy>) {
        let before = self.told_of();
        self.rules.retain(|rule| rule.source == PolicySource::Set);
        for FilePolicy { pattern, line, policy } in entries {
            let source = PolicySource::File { line };
            self.rules.push(Rule { pattern, source, policy });
        }
        self.look_anew(None, &before);
    }

    /// Whoever waits in a line that a pattern is for, or in any, may have a turn now.
    pub(super) fn look_anew(&mut self, pattern: Option<&Pattern>, before: &[Domain]) {
        let mut domains = self.domains_known();
        domains.retain(|domain| pattern.is_none_or(|pattern| pattern.matches(domain)));
        for domain in &domains {
            self.write_past(domain, before);
        }
        domains.retain(|domain| self.is_in_use(domain));
        self.settle_all(domains);
        self.break_circles();
    }

    pub(super) fn settle_if_used(&mut self, domain: &Domain) {
        if self.is_in_use(domain) {
            self.settle(domain);
        }
    }

    pub(super) fn pause(
        &mut self,
        connection: ConnectionId,
        peer: Peer,
        domain: Domain,
        reason: Option<Arc<str>>,
        request_id: Option<String>,
    ) {
        let before = self.pause_of(&domain).cloned();
        if !peer.is_operator {
            return self.error(connection, ErrorCode::Forbidden, Some(domain), request_id, None);
        }
        if before.is_none() && self.pauses.len() >= self.limits.domains {
            return self.error(connection, ErrorCode::TooManyDomains, Some(domain), request_id, None);
        }
        let mut shown = before.clone().and_then(|pause| pause.reason);
        if before.is_none() || reason.is_some() {
            shown = reason.filter(|reason| !reason.is_empty());
            let pause = Pause { uid: peer.uid, at: self.now, reason: shown.clone() };
            self.pauses.retain(|(paused, _)| *paused != domain);
            self.pauses.push((domain.clone(), pause.clone()));
            self.out.push(Effect::Policy(PolicyChange::Paused { domain: domain.clone(), pause }));
        }
        let reason = shown.map(|reason| reason.to_string());
        self.tell(connection, Reply::Paused(Paused { domain: domain.clone(), reason, request_id }));
        self.settle_if_used(&domain);
    }

    pub(super) fn unpause(&mut self, connection: ConnectionId, peer: Peer, domain: Domain, request_id: Option<String>) {
        if !peer.is_operator {
            return self.error(connection, ErrorCode::Forbidden, Some(domain), request_id, None);
        }
        let was_paused = self.pause_of(&domain).is_some();
        if was_paused {
            self.pauses.retain(|(paused, _)| *paused != domain);
            self.out.push(Effect::Policy(PolicyChange::Resumed { domain: domain.clone(), uid: peer.uid }));
        }
        let reply = Resumed { domain: domain.clone(), was_paused, request_id };
        self.tell(connection, Reply::Resumed(reply));
        self.settle_if_used(&domain);
    }
}

/// A policy as if some values were not set in it.
fn without(policy: &Policy, closed: &[PolicyValue]) -> Policy {
    let is_open = |value| !closed.contains(&value);
    Policy {
        concurrency: policy.concurrency,
        max_queue: policy.max_queue.filter(|_| is_open(PolicyValue::MaxQueue)),
        min_interval: policy.min_interval.filter(|_| is_open(PolicyValue::MinInterval)),
        cooldown: policy.cooldown.filter(|_| is_open(PolicyValue::Cooldown)),
        rate: policy.rate.filter(|_| is_open(PolicyValue::Rate)),
        max_run: policy.max_run.filter(|_| is_open(PolicyValue::MaxRun)),
        default_max_wait: policy.default_max_wait.filter(|_| is_open(PolicyValue::DefaultMaxWait)),
        none: policy.none,
    }
}

fn on_the_wire(policy: &Policy) -> PolicyValues {
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
    PolicyValues {
        concurrency: policy.concurrency,
        max_queue: policy.max_queue,
        min_interval_ms: policy.min_interval.map(milliseconds),
        cooldown_ms: policy.cooldown.map(milliseconds),
        rate: policy.rate.map(|rate| RateValue { starts: rate.starts, per_ms: milliseconds(rate.per) }),
        max_run_ms: policy.max_run.map(milliseconds),
        default_max_wait_ms: policy.default_max_wait.map(milliseconds),
        none: policy.none,
    }
}
