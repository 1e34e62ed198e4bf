//! When turns began and ended in domains whose policies make them rest, as the next daemon finds it.
//!
//! The starts of a domain are in blocks, of which each is a row, so that what is written for one does not grow with
//! how many a rate counts.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::ledger::form;
use super::report::WallClock;
use crate::clock::Time;
use crate::protocol::Domain;
use crate::sequencer::{Input, PastChange, Policies, Policy, Rate};
use crate::store::{Change, Setting, SettingKind};

/// Starts in one row.
const BLOCK_STARTS: usize = 32;

/// Domains that are looked at whether they rest still, for each change.
const LOOKS: usize = 2;

/// What is between a domain and the number of a block in the name of a row: no domain has it.
const SEPARATOR: char = '\n';

/// What is written down of each domain that rests.
#[derive(Debug, Default)]
pub(super) struct Rests {
    /// The run of the machine whose clock the moments are by.
    boot_id: String,
    domains: BTreeMap<Domain, Past>,
    /// Which of them [`forget_some`](Rests::forget_some) looked at last.
    looked_at: Option<Domain>,
}

#[derive(Debug, Default)]
struct Past {
    /// The number of the first block.
    first: u64,
    blocks: VecDeque<Vec<Time>>,
    end: Option<Time>,
    last: Time,
}

/// One row: a block of starts, or the last end.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    boot_id: String,
    /// When the machine started, in milliseconds since 1970.
    up_since_ms: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    starts: Vec<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<Time>,
}

/// What was found of one domain.
#[derive(Debug, Default)]
struct Found {
    starts: Vec<Time>,
    end: Option<Time>,
}

impl Rests {
    pub(super) fn new(boot_id: String) -> Rests {
        Rests { boot_id, ..Rests::default() }
    }

    /// The run of the machine whose clock moments are by.
    pub(super) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// What rows of an earlier daemon say: what the sequencer is to be told, and what of the rows is to be changed, for
    /// what they say is written anew.
    pub(super) fn restore(
        &mut self,
        rows: Vec<Setting>,
        policies: &Policies,
        now: Time,
        clock: &WallClock,
    ) -> (Vec<Input>, Vec<Change>) {
        let (mut found, mut changes) = (HashMap::<Domain, Found>::new(), Vec::new());
        for Setting { name, body, .. } in rows {
            let domain = name.split(SEPARATOR).next().and_then(|name| Domain::parse(name).ok());
            let row = serde_json::from_slice::<Row>(&body);
            let row = row.inspect_err(|why| warn!("when turns began in {name:?} is not understood: {why}")).ok();
            changes.push(Change::Setting { kind: SettingKind::Rest, name, body: None });
            let (Some(domain), Some(row)) = (domain, row) else { continue };
            let longest = longest_rest(&policies.resolve(&domain));
            let here = |at: Time| self.here(at, &row, longest, now, clock);
            let of_domain = found.entry(domain).or_default();
            of_domain.starts.extend(row.starts.iter().copied().filter_map(here));
            of_domain.end = of_domain.end.max(row.end.and_then(here));
        }
        let mut inputs = Vec::new();
        for (domain, Found { mut starts, end }) in found {
            starts.sort_unstable();
            let keep = starts.len();
            for at in &starts {
                changes.extend(self.note(&PastChange::Started { domain: domain.clone(), at: *at }, keep, clock));
            }
            if let Some(at) = end {
                changes.extend(self.note(&PastChange::Ended { domain: domain.clone(), at }, keep, clock));
            }
            inputs.push(Input::PastStarts { domain, starts, last_end: end });
        }
        (inputs, changes)
    }

    /// A moment of a row by the clock of this run of the machine; nothing when no policy counts it any more. Only
    /// across a restart of the machine the wall clock decides.
    fn here(&self, at: Time, row: &Row, longest: Duration, now: Time, clock: &WallClock) -> Option<Time> {
        if row.boot_id == self.boot_id {
            return Some(at);
        }
        let milliseconds = |nanoseconds: u64| i64::try_from(nanoseconds / 1_000_000).unwrap_or(i64::MAX);
        let then = row.up_since_ms.saturating_add(milliseconds(at.as_nanos()));
        let age = clock.milliseconds(now).saturating_sub(then);
        if age >= i64::try_from(longest.as_millis()).unwrap_or(i64::MAX) {
            return None;
        }
        let up = then.saturating_sub(clock.milliseconds(Time::ZERO));
        Some(Time::from_nanos(u64::try_from(up).unwrap_or(0).saturating_mul(1_000_000)))
    }

    /// What there is to write of a change, if the policy counts the last `keep` starts.
    pub(super) fn note(&mut self, change: &PastChange, keep: usize, clock: &WallClock) -> Vec<Change> {
        let (domain, at) = match change {
            PastChange::Forgotten { domain } => return self.forget(domain),
            PastChange::Started { domain, at }
            | PastChange::Moved { domain, to: at, .. }
            | PastChange::Ended { domain, at } => (domain, *at),
        };
        let past = self.domains.entry(domain.clone()).or_default();
        past.last = past.last.max(at);
        let row = |starts: &[Time], end| Row {
            boot_id: self.boot_id.clone(),
            up_since_ms: clock.milliseconds(Time::ZERO),
            starts: starts.to_vec(),
            end,
        };
        match change {
            PastChange::Forgotten { .. } | PastChange::Started { .. } => {}
            PastChange::Moved { from, .. } => {
                // A turn is mostly the last that began, or one of the last. If it began so late that the start which it
                // had before is let go of, this is one like any other.
                if let Some(index) = past.blocks.iter().rposition(|block| block.contains(from)) {
                    let block = &mut past.blocks[index];
                    if let Some(start) = block.iter_mut().rfind(|start| *start == from) {
                        *start = at;
                    }
                    let number = past.first + index as u64;
                    return vec![set(block_name(domain, number), Some(form(&row(block, None))))];
                }
            }
            PastChange::Ended { .. } => {
                past.end = past.end.max(Some(at));
                return vec![set(end_name(domain), Some(form(&row(&[], past.end))))];
            }
        }
        if past.blocks.back().is_none_or(|block| block.len() >= BLOCK_STARTS) {
            past.blocks.push_back(Vec::with_capacity(BLOCK_STARTS));
        }
        let mut changes = Vec::new();
        if let Some(block) = past.blocks.back_mut() {
            block.push(at);
            let number = past.first + past.blocks.len() as u64 - 1;
            let starts = past.blocks.back().map_or(&[][..], Vec::as_slice);
            changes.push(set(block_name(domain, number), Some(form(&row(starts, None)))));
        }
        // The first goes once those behind it are enough.
        while past.blocks.len() > 1 && past.blocks.iter().skip(1).map(Vec::len).sum::<usize>() >= keep {
            past.blocks.pop_front();
            changes.push(set(block_name(domain, past.first), None));
            past.first += 1;
        }
        changes
    }

    /// What is written down of a domain, for the sequencer.
    pub(super) fn past_starts(&self, domain: Domain) -> Input {
        let past = self.domains.get(&domain);
        let starts = past.iter().flat_map(|past| past.blocks.iter().flatten().copied()).collect();
        Input::PastStarts { domain, starts, last_end: past.and_then(|past| past.end) }
    }

    /// Looks at a few domains, one after the other and then again from the first, and lets go of those that do not rest
    /// any more. So none that rests for long keeps others, and with two looks for each change there are never many more
    /// of them than rest.
    pub(super) fn forget_some(&mut self, policies: &Policies, now: Time) -> Vec<Change> {
        let from = self.looked_at.take().map_or(Bound::Unbounded, Bound::Excluded);
        let looked: Vec<(Domain, Time)> = self
            .domains
            .range((from, Bound::Unbounded))
            .take(LOOKS)
            .map(|(domain, past)| (domain.clone(), past.last))
            .collect();
        // Fewer are the last ones.
        self.looked_at = if looked.len() < LOOKS { None } else { looked.last().map(|(domain, _)| domain.clone()) };
        let is_over = |(domain, last): &&(Domain, Time)| *last + longest_rest(&policies.resolve(domain)) <= now;
        let over = looked.iter().filter(is_over);
        over.flat_map(|(domain, _)| self.forget(domain)).collect()
    }

    /// Lets go of all domains whose policies make none rest: if they do later, what is known is told again.
    pub(super) fn forget_restless(&mut self, policies: &Policies) -> Vec<Change> {
        let is_restless = |domain: &&Domain| !policies.resolve(domain).rests();
        let restless: Vec<Domain> = self.domains.keys().filter(is_restless).cloned().collect();
        restless.iter().flat_map(|domain| self.forget(domain)).collect()
    }

    fn forget(&mut self, domain: &Domain) -> Vec<Change> {
        let Some(past) = self.domains.remove(domain) else { return Vec::new() };
        let numbers = past.first..past.first + past.blocks.len() as u64;
        let blocks = numbers.map(|number| set(block_name(domain, number), None));
        blocks.chain(past.end.map(|_| set(end_name(domain), None))).collect()
    }
}

fn set(name: String, body: Option<Vec<u8>>) -> Change {
    Change::Setting { kind: SettingKind::Rest, name, body }
}

fn block_name(domain: &Domain, number: u64) -> String {
    format!("{domain}{SEPARATOR}{number}")
}

fn end_name(domain: &Domain) -> String {
    format!("{domain}{SEPARATOR}end")
}

/// How long at most anything that happened makes a domain rest.
fn longest_rest(policy: &Policy) -> Duration {
    let rests = [policy.min_interval, policy.cooldown, policy.rate.map(Rate::window)];
    rests.into_iter().flatten().max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequencer::Pattern;

    fn domain() -> Domain {
        Domain::parse("a").unwrap()
    }

    fn seconds(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    /// That of a machine which has been up for so long now.
    fn clock(now: Time) -> WallClock {
        WallClock::of(now, jiff::Timestamp::now())
    }

    fn counting(starts: u32, per: u64) -> Policies {
        let mut policies = Policies::default();
        let rate = Rate { starts, per: Duration::from_secs(per) };
        policies.set(Pattern::Name(domain()), &Policy { rate: Some(rate), ..Policy::default() });
        policies
    }

    /// The rows after these changes.
    fn apply(rows: &mut Vec<Setting>, changes: Vec<Change>) {
        for change in changes {
            let Change::Setting { kind, name, body } = change else { panic!("it is a setting") };
            rows.retain(|row| row.name != name);
            rows.extend(body.map(|body| Setting { kind, name, body }));
        }
    }

    fn write(starts: usize, keep: usize) -> Vec<Setting> {
        let (mut rests, mut rows) = (Rests::new("boot".to_owned()), Vec::new());
        let clock = clock(seconds(1_000));
        for at in 0..starts as u64 {
            let started = PastChange::Started { domain: domain(), at: seconds(at) };
            apply(&mut rows, rests.note(&started, keep, &clock));
        }
        apply(&mut rows, rests.note(&PastChange::Ended { domain: domain(), at: seconds(999) }, keep, &clock));
        rows
    }

    fn found(rows: Vec<Setting>, boot_id: &str, policies: &Policies, now: Time) -> (Vec<Time>, Option<Time>) {
        let (inputs, _) = Rests::new(boot_id.to_owned()).restore(rows, policies, now, &clock(now));
        match inputs.into_iter().next() {
            Some(Input::PastStarts { starts, last_end, .. }) => (starts, last_end),
            _ => (Vec::new(), None),
        }
    }

    #[test]
    fn the_next_daemon_finds_as_many_starts_as_count_and_few_more() {
        for (written, keep) in [(0, 1), (1, 1), (31, 10), (32, 10), (33, 10), (100, 1), (500, 100)] {
            let rows = write(written, keep);
            let policies = counting(u32::try_from(keep).unwrap(), 3_600);
            let (starts, end) = found(rows, "boot", &policies, seconds(1_000));
            assert!(starts.len() >= keep.min(written), "{written} {keep}: {}", starts.len());
            assert!(starts.len() <= keep + 2 * BLOCK_STARTS, "{written} {keep}: {}", starts.len());
            assert_eq!(starts.last().copied(), written.checked_sub(1).map(|last| seconds(last as u64)));
            assert_eq!(end, Some(seconds(999)));
        }
    }

    #[test]
    fn after_a_restart_of_the_machine_only_what_counts_still_is_told_and_is_no_older_than_that() {
        let rows = write(5, 10);
        // The wall clock goes on, and the other one begins anew.
        let (starts, end) = found(rows.clone(), "next", &counting(10, 86_400), seconds(2));
        assert_eq!(starts, vec![Time::ZERO; 5]);
        // The machine was up for 1000 s before; the two clocks are read one after the other.
        assert!(end.is_some_and(|end| end <= seconds(1)), "{end:?}");
        let (starts, _) = found(rows, "next", &counting(10, 1), seconds(2));
        assert!(starts.is_empty());
    }

    #[test]
    fn a_start_that_moves_after_it_was_let_go_of_is_a_new_one() {
        let (mut rests, mut rows) = (Rests::new("boot".to_owned()), Vec::new());
        let (clock, policies) = (clock(seconds(1)), counting(1, 10));
        apply(&mut rows, rests.note(&PastChange::Started { domain: domain(), at: seconds(1) }, 1, &clock));
        apply(&mut rows, rests.forget_some(&policies, seconds(20)));
        assert!(rows.is_empty());
        let moved = PastChange::Moved { domain: domain(), from: seconds(1), to: seconds(30) };
        apply(&mut rows, rests.note(&moved, 1, &clock));
        assert_eq!(found(rows, "boot", &policies, seconds(31)), (vec![seconds(30)], None));
    }

    #[test]
    fn what_counts_no_more_is_let_go_of() {
        let (mut rests, mut rows) = (Rests::new("boot".to_owned()), Vec::new());
        let clock = clock(seconds(1));
        apply(&mut rows, rests.note(&PastChange::Started { domain: domain(), at: seconds(1) }, 1, &clock));
        apply(&mut rows, rests.note(&PastChange::Ended { domain: domain(), at: seconds(2) }, 1, &clock));
        apply(&mut rows, rests.forget_some(&counting(1, 10), seconds(12)));
        assert_eq!(rows.len(), 2);
        apply(&mut rows, rests.forget_some(&counting(1, 10), seconds(13)));
        assert!(rows.is_empty() && rests.domains.is_empty());
        apply(&mut rows, rests.note(&PastChange::Started { domain: domain(), at: seconds(20) }, 1, &clock));
        apply(&mut rows, rests.forget_restless(&Policies::default()));
        assert!(rows.is_empty() && rests.domains.is_empty());
    }

    #[test]
    fn domains_that_rest_for_long_keep_no_others() {
        let (mut rests, mut rows) = (Rests::new("boot".to_owned()), Vec::new());
        let clock = WallClock::at(seconds(1));
        let mut policies = Policies::default();
        let mut rest = |pattern: &str, seconds| {
            let cooldown = Some(Duration::from_secs(seconds));
            policies.set(Pattern::parse(pattern).unwrap(), &Policy { cooldown, ..Policy::default() });
        };
        rest("long*", 1_000_000);
        rest("short*", 1);
        let names = (1..=10).map(|number| format!("long{number}")).chain((1..=1_000).map(|it| format!("short{it}")));
        for (name, at) in names.zip(1..) {
            let ended = PastChange::Ended { domain: Domain::parse(&name).unwrap(), at: seconds(at) };
            apply(&mut rows, rests.note(&ended, 1, &clock));
            apply(&mut rows, rests.forget_some(&policies, seconds(at)));
            // As many that rest, and what one round of looks brings.
            assert!(rests.domains.len() <= 2 * (10 + 2), "{} after {name}", rests.domains.len());
        }
        assert_eq!(rows.len(), rests.domains.len());
    }
}
