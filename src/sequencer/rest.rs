//! Rests: for how long a line lets no turn begin after a start or an end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::Domain;
use crate::protocol::limits::KNOWN_STARTS;

use super::policy::{Policy, PolicyValue, Rate};
use super::timers::Timer;
use super::{Effect, Obstacle, PastChange, Sequencer};

/// Until when no turn may begin in a line, and by which value of its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// The first moment at which one may.
    pub until: Time,
    /// The one of `min_interval`, `cooldown` and `rate` that lasts longest.
    pub why: PolicyValue,
}

/// When turns of a domain began and ended, as far as that may still matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Past {
    /// The last starts, the oldest first: as many as the rate counts, and a few for one that is set later.
    starts: VecDeque<Time>,
    last_end: Option<Time>,
}

impl Past {
    fn new(mut starts: Vec<Time>, last_end: Option<Time>, policy: &Policy) -> Past {
        starts.sort_unstable();
        let mut past = Past { starts: starts.into(), last_end };
        past.forget(policy);
        past
    }

    pub(super) fn started(&mut self, at: Time, policy: &Policy) {
        self.starts.push_back(at);
        self.forget(policy);
    }

    /// A start was at `to`, later than it was said to be; whether it is one that counts still.
    pub(super) fn moved(&mut self, from: Time, to: Time) -> bool {
        let Some(index) = self.starts.iter().rposition(|start| *start == from) else { return false };
        self.starts.remove(index);
        self.starts.insert(self.starts.partition_point(|start| *start <= to), to);
        true
    }

    pub(super) fn ended(&mut self, at: Time) {
        self.last_end = Some(at);
    }

    fn forget(&mut self, policy: &Policy) {
        while self.starts.len() > policy.known_starts() {
            self.starts.pop_front();
        }
    }

    /// The rest that lasts longest, over or not.
    fn rest(&self, policy: &Policy) -> Option<Rest> {
        let interval = policy.min_interval.and_then(|interval| Some(*self.starts.back()? + interval));
        let cooldown = policy.cooldown.and_then(|cooldown| Some(self.last_end? + cooldown));
        let rate = policy.rate.and_then(|rate| {
            let first = self.starts.len().checked_sub(rate.starts as usize)?;
            Some(*self.starts.get(first)? + rate.window())
        });
        let all = [(rate, PolicyValue::Rate), (cooldown, PolicyValue::Cooldown), (interval, PolicyValue::MinInterval)];
        let rests = all.into_iter().filter_map(|(until, why)| Some(Rest { until: until?, why }));
        rests.max_by_key(|rest| rest.until)
    }

    /// The rest that is not over at `now`.
    pub(super) fn rest_after(&self, policy: &Policy, now: Time) -> Option<Rest> {
        self.rest(policy).filter(|rest| rest.until > now)
    }

    /// Until when any of this may make somebody wait: a rate counts starts also while it lets more of them come.
    fn matters_until(&self, policy: &Policy) -> Option<Time> {
        let after = |at: Option<Time>, rest: Option<Duration>| Some(at? + rest?);
        let last_start = self.starts.back().copied();
        let until = [
            after(last_start, policy.min_interval),
            after(last_start, policy.rate.map(Rate::window)),
            after(self.last_end, policy.cooldown),
        ];
        until.into_iter().flatten().max()
    }

    /// All that is known, to be written down.
    fn changes<'a>(&'a self, domain: &'a Domain) -> impl Iterator<Item = Effect> + 'a {
        let started = self.starts.iter().map(|at| PastChange::Started { domain: domain.clone(), at: *at });
        let ended = self.last_end.iter().map(|at| PastChange::Ended { domain: domain.clone(), at: *at });
        started.chain(ended).map(Effect::Past)
    }
}

/// Domains that nobody uses but whose past may matter still. They count as domains in use, for they must not be
/// forgotten.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Resting {
    pasts: BTreeMap<Domain, (Time, Past)>,
    by_until: BTreeSet<(Time, Domain)>,
}

impl Resting {
    pub(super) fn len(&self) -> usize {
        self.pasts.len()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Domain> {
        self.pasts.keys()
    }

    pub(super) fn has(&self, domain: &Domain) -> bool {
        self.pasts.contains_key(domain)
    }

    pub(super) fn get(&self, domain: &Domain) -> Option<(&Domain, &Past)> {
        self.pasts.get_key_value(domain).map(|(domain, (_, past))| (domain, past))
    }

    pub(super) fn take(&mut self, domain: &Domain) -> Option<Past> {
        let (until, past) = self.pasts.remove(domain)?;
        self.by_until.remove(&(until, domain.clone()));
        Some(past)
    }

    /// Keeps it while it may matter after `now`; gives it back if it does not.
    fn put(&mut self, domain: &Domain, past: Past, policy: &Policy, now: Time) -> Option<Past> {
        let Some(until) = past.matters_until(policy).filter(|until| *until > now) else { return Some(past) };
        self.by_until.insert((until, domain.clone()));
        self.pasts.insert(domain.clone(), (until, past));
        None
    }

    /// Takes out one that matters no more at `now`.
    fn pop_over(&mut self, now: Time) -> Option<(Domain, Past)> {
        let (_, domain) = self.by_until.first().filter(|(until, _)| *until <= now)?;
        let domain = domain.clone();
        let past = self.take(&domain)?;
        Some((domain, past))
    }

    pub(super) fn check(&self) {
        assert_eq!(self.pasts.len(), self.by_until.len(), "every rest ends some time");
        for (domain, (until, _)) in &self.pasts {
            assert!(self.by_until.contains(&(*until, domain.clone())), "the past of {domain} is forgotten");
        }
    }
}

impl Sequencer {
    /// Keeps what is known of a domain that nobody uses: while it matters in any case, then as long as the domain is
    /// remembered.
    pub(super) fn keep_past(&mut self, domain: &Domain, past: Past, policy: &Policy) {
        if let Some(past) = self.resting.put(domain, past, policy, self.present) {
            self.idle.keep_past(domain, past);
        }
    }

    /// Those that rest no more at `now` are only remembered.
    pub(super) fn rests_over(&mut self, now: Time) {
        while let Some((domain, past)) = self.resting.pop_over(now) {
            self.idle.keep_past(&domain, past);
        }
    }

    /// For how long a domain rests that nobody uses.
    pub(super) fn rest_of_idle(&self, domain: &Domain, now: Time) -> Option<Rest> {
        self.resting.get(domain)?.1.rest_after(&self.policies.resolve(domain), now)
    }

    /// What an earlier daemon knew of the starts and the last end of a domain.
    pub(super) fn past_starts(
        &mut self,
        domain: &Domain,
        (starts, last_end): (Vec<Time>, Option<Time>),
        out: &mut Vec<Effect>,
    ) {
        let now = self.now;
        let policy = self.policy(domain);
        let starts = starts.into_iter().map(|start| start.min(now)).collect();
        let past = Past::new(starts, last_end.map(|end| end.min(now)), &policy);
        if let Some(line) = self.lines.get_mut(domain) {
            line.past = past;
            self.settle(domain, out);
        } else {
            self.resting.take(domain);
            self.keep_past(domain, past, &policy);
        }
    }

    /// The rest of a line is over.
    pub(super) fn rest_due(&mut self, domain: &Domain, out: &mut Vec<Effect>) {
        if let Some(line) = self.lines.get_mut(domain) {
            line.rest_due = None;
        }
        self.settle(domain, out);
    }

    /// Sees to it that a line is looked at again when its rest is over, if that alone is what its head waits for there.
    pub(super) fn await_rest(&mut self, domain: &Domain) {
        let Some(line) = self.lines.get(domain) else { return };
        let head = line.order.head().and_then(|head| self.tickets.get(&head));
        let due = match head.and_then(|head| self.obstacle_in(domain, line, head.wishes())) {
            Some(Obstacle::Rest(rest)) => Some(rest.until),
            _ => None,
        };
        let Some(line) = self.lines.get_mut(domain).filter(|line| line.rest_due != due) else { return };
        self.timers.clear(line.rest_due, Timer::Line(domain.clone()));
        self.timers.set(due, Timer::Line(domain.clone()));
        line.rest_due = due;
    }

    /// The policy of a domain is another now: what was not worth writing down before may be now, and who rests may
    /// rest for another time.
    pub(super) fn rest_anew(&mut self, domain: &Domain, policy: Policy, out: &mut Vec<Effect>) {
        if let Some(line) = self.lines.get_mut(domain) {
            if policy.rests() && !line.policy.rests() {
                out.extend(line.past.changes(domain));
            }
            line.policy = policy;
            return;
        }
        let known = self.resting.take(domain);
        let was_resting = known.is_some();
        let Some(past) = known.or_else(|| self.idle.take_past(domain)) else { return };
        self.keep_past(domain, past, &policy);
        if let Some((domain, past)) = self.resting.get(domain).filter(|_| !was_resting) {
            out.push(Effect::Past(PastChange::Forgotten { domain: domain.clone() }));
            out.extend(past.changes(domain));
        }
    }
}

impl Policy {
    /// How many of the last starts are to be known: all that may make a turn wait, and a few more.
    pub fn known_starts(&self) -> usize {
        self.rate.map_or(0, |rate| rate.starts as usize).max(KNOWN_STARTS)
    }

    /// Whether a turn may have to wait for a while though nobody is there.
    pub fn rests(&self) -> bool {
        self.min_interval.is_some() || self.cooldown.is_some() || self.rate.is_some()
    }
}
