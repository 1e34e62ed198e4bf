//! Rests: for how long a line lets no turn begin after a start or an end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::limits::KNOWN_STARTS;
use crate::protocol::{Domain, Ticket};

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
    /// The turns that have to begin still, by the word of their clients. Their starts were when they were given, until
    /// it is known when they are.
    to_begin: BTreeMap<Ticket, ToBegin>,
}

/// A turn that has to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ToBegin {
    given_at: Time,
    /// Whether one of the starts is its own.
    is_counted: bool,
}

impl Past {
    /// As this is, but with other starts and another last end.
    fn replaced(self, mut starts: Vec<Time>, last_end: Option<Time>, policy: &Policy) -> Past {
        starts.sort_unstable();
        let mut past = Past { starts: starts.into(), last_end, ..self };
        past.forget(policy);
        past
    }

    pub(super) fn started(&mut self, at: Time, policy: &Policy) {
        self.starts.push_back(at);
        self.forget(policy);
    }

    /// This turn, given at `given_at`, has to begin still.
    pub(super) fn expect(&mut self, ticket: Ticket, given_at: Time) {
        self.to_begin.insert(ticket, ToBegin { given_at, is_counted: false });
        self.count();
    }

    /// A turn that was expected to begin does so; whether the start that it had before is one that counts still.
    pub(super) fn begun(&mut self, ticket: Ticket, to: Time, policy: &Policy) -> Option<Time> {
        let before = self.to_begin.remove(&ticket).filter(|turn| turn.is_counted).map(|turn| turn.given_at);
        match before {
            Some(from) => _ = self.moved(ticket, from, to),
            None => self.started(to, policy),
        }
        before
    }

    /// A start was at `to`, later than it was said to be; whether it is one that counts still.
    pub(super) fn moved(&mut self, ticket: Ticket, from: Time, to: Time) -> bool {
        if let Some(turn) = self.to_begin.get_mut(&ticket) {
            turn.given_at = to;
        }
        let index = self.starts.iter().rposition(|start| *start == from);
        if let Some(index) = index {
            self.starts.remove(index);
            self.starts.insert(self.starts.partition_point(|start| *start <= to), to);
        }
        self.count();
        index.is_some()
    }

    /// Finds out which of the starts are those of turns that have to begin.
    fn count(&mut self) {
        let mut counted = BTreeMap::new();
        for turn in self.to_begin.values_mut() {
            let at = turn.given_at;
            let starts =
                self.starts.partition_point(|start| *start <= at) - self.starts.partition_point(|start| *start < at);
            let others = counted.entry(at).or_insert(0);
            turn.is_counted = *others < starts;
            *others += usize::from(turn.is_counted);
        }
    }

    /// The turn that has to begin before another one may be given.
    pub(super) fn awaited_start(&self, policy: &Policy) -> Option<Ticket> {
        let (oldest, _) = self.to_begin.first_key_value()?;
        let is_full = |rate: Rate| self.to_begin.len() >= rate.starts as usize;
        (policy.min_interval.is_some() || policy.rate.is_some_and(is_full)).then_some(*oldest)
    }

    /// When the last starts began but for `number`, of those that have begun.
    fn begun_before(&self, number: usize) -> Option<Time> {
        let counted = self.to_begin.values().filter(|turn| turn.is_counted);
        let mut to_begin: Vec<Time> = counted.map(|turn| turn.given_at).collect();
        to_begin.sort_unstable();
        let mut passed = number;
        let start = |passed: usize| self.starts.get(self.starts.len().checked_sub(passed + 1)?).copied();
        while start(passed).is_some_and(|start| to_begin.last().is_some_and(|last| *last >= start)) {
            to_begin.pop();
            passed += 1;
        }
        start(passed)
    }

    pub(super) fn ended(&mut self, at: Time) {
        self.last_end = Some(at);
    }

    fn forget(&mut self, policy: &Policy) {
        while self.starts.len() > policy.known_starts() {
            self.starts.pop_front();
        }
        self.count();
    }

    /// The rest that lasts longest, over or not.
    fn rest(&self, policy: &Policy) -> Option<Rest> {
        let interval = policy.min_interval.and_then(|interval| Some(*self.starts.back()? + interval));
        let cooldown = policy.cooldown.and_then(|cooldown| Some(self.last_end? + cooldown));
        // One that has to begin may do so at any time: it counts until then, and long enough after it.
        let rate = policy.rate.and_then(|rate| {
            let others = (rate.starts as usize).checked_sub(self.to_begin.len() + 1)?;
            Some(self.begun_before(others)? + rate.window())
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

    /// Whether it is these turns that have to begin.
    pub(super) fn check(&self, to_begin: &BTreeSet<Ticket>) {
        assert!(self.to_begin.keys().eq(to_begin), "turns that have to begin are known");
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
        let last_end = last_end.map(|end| end.min(now));
        if let Some(line) = self.lines.get_mut(domain) {
            line.past = std::mem::take(&mut line.past).replaced(starts, last_end, &policy);
            self.settle(domain, out);
        } else {
            self.resting.take(domain);
            self.keep_past(domain, Past::default().replaced(starts, last_end, &policy), &policy);
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
