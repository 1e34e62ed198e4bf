//! When a line lets no turn begin though nobody is there.

use std::time::Duration;

use seq::clock::Time;
use seq::protocol::{Domain, HeadWait};
use seq::sequencer::{Effect, PastChange, Policy, Rate};

use super::{Model, Request};

/// The starts and the last end of a domain, used or not.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub(super) domain: Domain,
    starts: Vec<Time>,
    end: Option<Time>,
}

impl Model {
    pub(super) fn rests_by_policy(&self, domain: &Domain) -> bool {
        let has = |policy: &Policy| {
            let is_set = policy.min_interval.is_some() || policy.cooldown.is_some() || policy.rate.is_some();
            is_set.then_some(())
        };
        self.value(domain, has).is_some()
    }

    /// Until when nobody may begin, and for which reason; over or not.
    fn whole_rest(&self, domain: &Domain) -> Option<(Time, HeadWait)> {
        let past = self.pasts.iter().find(|past| past.domain == *domain)?;
        let mut rests = Vec::new();
        if let (Some(interval), Some(last)) = (self.value(domain, |policy| policy.min_interval), past.starts.last()) {
            rests.push((*last + interval, HeadWait::MinInterval));
        }
        if let (Some(cooldown), Some(end)) = (self.value(domain, |policy| policy.cooldown), past.end) {
            rests.push((end + cooldown, HeadWait::Cooldown));
        }
        if let Some(rate) = self.value(domain, |policy| policy.rate) {
            let mut begun = past.starts.clone();
            for ticket in self.starts_to_come(domain) {
                let given_at = self.requests[self.index(ticket).unwrap()].turn.unwrap().1;
                begun.remove(begun.iter().position(|start| *start == given_at).unwrap());
            }
            let may_begin = (rate.starts as usize).saturating_sub(self.to_begin(domain).len());
            if let Some(start) = begun.iter().rev().nth(may_begin.wrapping_sub(1)) {
                rests.push((*start + counted_for(rate), HeadWait::Rate));
            }
        }
        let longest = rests.iter().map(|(until, _)| *until).max()?;
        rests.into_iter().find(|(until, _)| *until == longest)
    }

    pub(super) fn rest(&self, domain: &Domain) -> Option<(Time, HeadWait)> {
        self.whole_rest(domain).filter(|(until, _)| *until > self.present)
    }

    /// Turns in a domain that are given and have not begun.
    fn to_begin(&self, domain: &Domain) -> Vec<&Request> {
        self.requests.iter().filter(|request| request.is_to_begin() && request.lines().contains(domain)).collect()
    }

    /// Those of them that one of the known starts stands for.
    pub(super) fn starts_to_come(&self, domain: &Domain) -> Vec<u64> {
        let mut starts =
            self.pasts.iter().find(|past| past.domain == *domain).map_or(Vec::new(), |past| past.starts.clone());
        let mut found = Vec::new();
        for request in self.to_begin(domain) {
            if let Some(index) = starts.iter().position(|start| *start == request.turn.unwrap().1) {
                starts.remove(index);
                found.push(request.ticket);
            }
        }
        found
    }

    /// Whether a turn has to begin before another may.
    pub(super) fn awaits_start(&self, domain: &Domain) -> bool {
        let to_begin = self.to_begin(domain).len();
        let is_full = |rate: Rate| to_begin >= rate.starts as usize;
        let by_interval = self.value(domain, |policy| policy.min_interval).is_some();
        to_begin > 0 && (by_interval || self.value(domain, |policy| policy.rate).is_some_and(is_full))
    }

    /// Domains that nobody uses but that rest.
    pub(super) fn resting(&self) -> Vec<Domain> {
        let resting = self.pasts.iter().filter(|past| !self.is_in_use(&past.domain) && self.may_matter(past));
        resting.map(|past| past.domain.clone()).collect()
    }

    fn past_mut(&mut self, domain: &Domain) -> &mut Past {
        let index = self.pasts.iter().position(|past| past.domain == *domain).unwrap_or_else(|| {
            self.pasts.push(Past { domain: domain.clone(), starts: Vec::new(), end: None });
            self.pasts.len() - 1
        });
        &mut self.pasts[index]
    }

    pub(super) fn note_start(&mut self, domain: &Domain) {
        self.note_start_at(domain, self.present);
    }

    pub(super) fn note_start_at(&mut self, domain: &Domain, at: Time) {
        let known = self.value(domain, |policy| policy.rate).map_or(32, |rate| (rate.starts as usize).max(32));
        let past = self.past_mut(domain);
        past.starts.push(at);
        past.starts.drain(..past.starts.len().saturating_sub(known));
        if self.rests_by_policy(domain) {
            self.out.push(Effect::Past(PastChange::Started { domain: domain.clone(), at }));
        }
    }

    pub(super) fn move_start(&mut self, domain: &Domain, from: Time) {
        let to = self.present;
        let past = self.past_mut(domain);
        if let Some(index) = past.starts.iter().position(|start| *start == from) {
            past.starts[index] = to;
            past.starts.sort();
            if self.rests_by_policy(domain) {
                self.out.push(Effect::Past(PastChange::Moved { domain: domain.clone(), from, to }));
            }
        }
        self.set_wake(domain);
    }

    pub(super) fn note_end(&mut self, domain: &Domain) {
        let at = self.now;
        self.past_mut(domain).end = Some(at);
        if self.rests_by_policy(domain) {
            self.out.push(Effect::Past(PastChange::Ended { domain: domain.clone(), at }));
        }
    }

    pub(super) fn past_starts(&mut self, domain: &Domain, starts: Vec<Time>, end: Option<Time>) {
        let now = self.now;
        let known = self.value(domain, |policy| policy.rate).map_or(32, |rate| (rate.starts as usize).max(32));
        let past = self.past_mut(domain);
        past.starts = starts.into_iter().map(|start| start.min(now)).collect();
        past.starts.sort();
        past.starts.drain(..past.starts.len().saturating_sub(known));
        past.end = end.map(|end| end.min(now));
        if self.is_in_use(domain) {
            self.settle(domain);
        }
    }

    /// What is not in use, nor remembered, and makes nobody wait any more whoever comes, is forgotten.
    pub(super) fn forget_pasts(&mut self) {
        let mut pasts = std::mem::take(&mut self.pasts);
        let is_remembered = |past: &Past| self.runs.iter().any(|(known, _)| *known == past.domain);
        pasts.retain(|past| self.is_in_use(&past.domain) || is_remembered(past) || self.may_matter(past));
        self.pasts = pasts;
    }

    fn may_matter(&self, past: &Past) -> bool {
        let Past { domain, starts, end } = past;
        let is_to_come = |at: &Time, rest: Option<Duration>| rest.is_some_and(|rest| *at + rest > self.present);
        starts.iter().any(|start| {
            is_to_come(start, self.value(domain, |policy| policy.min_interval))
                || is_to_come(start, self.value(domain, |policy| policy.rate).map(counted_for))
        }) || end.is_some_and(|end| is_to_come(&end, self.value(domain, |policy| policy.cooldown)))
    }

    /// Domains of which all is told whatever happens: those in use whose policy lets them rest, and those that do rest.
    pub(super) fn told_of(&self) -> Vec<Domain> {
        let mut domains = self.domains_in_use();
        domains.retain(|domain| self.rests_by_policy(domain));
        domains.extend(self.resting());
        domains
    }

    /// A policy that lets a domain rest, which it did not before, makes what is known worth writing down.
    pub(super) fn write_past(&mut self, domain: &Domain, before: &[Domain]) {
        if before.contains(domain) || !self.told_of().contains(domain) {
            return;
        }
        if !self.is_in_use(domain) {
            self.out.push(Effect::Past(PastChange::Forgotten { domain: domain.clone() }));
        }
        let past = self.past_mut(domain).clone();
        let starts = past.starts.iter().map(|at| PastChange::Started { domain: domain.clone(), at: *at });
        let end = past.end.map(|at| PastChange::Ended { domain: domain.clone(), at });
        self.out.extend(starts.chain(end).map(Effect::Past));
    }

    pub(super) fn domains_known(&self) -> Vec<Domain> {
        let mut domains = self.domains_in_use();
        domains.extend(self.pasts.iter().map(|past| past.domain.clone()));
        domains.sort();
        domains.dedup();
        domains
    }

    /// When a line is looked at because its rest is over.
    pub(super) fn wake_of(&self, domain: &Domain) -> Option<Time> {
        let head = *self.waiters(domain).first()?;
        let waits = self.line_waits(domain, &self.requests[head].wishes)?;
        matches!(waits, HeadWait::MinInterval | HeadWait::Cooldown | HeadWait::Rate)
            .then(|| self.rest(domain).map(|(until, _)| until))?
    }

    pub(super) fn set_wake(&mut self, domain: &Domain) {
        self.wakes.retain(|(_, woken)| woken != domain);
        let wake = self.wake_of(domain);
        self.wakes.extend(wake.map(|until| (until, domain.clone())));
    }

    /// Nothing is woken for but what is still to come, and all of that.
    pub(super) fn check_wakes(&self) {
        for domain in self.domains_in_use() {
            let wake = self.wakes.iter().find(|(_, woken)| *woken == domain).map(|(until, _)| *until);
            assert_eq!(wake, self.wake_of(&domain), "{domain}");
        }
    }
}

/// A call is made a little after it starts.
fn counted_for(rate: Rate) -> Duration {
    let nanoseconds = u64::try_from(rate.per.as_nanos()).unwrap();
    Duration::from_nanos(nanoseconds + (nanoseconds / 20).min(50_000_000))
}
