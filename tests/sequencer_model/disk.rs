//! What is written down, and the core beside the model that it must agree with.

use std::collections::{BTreeMap, BTreeSet};

use seq::clock::Time;
use seq::protocol::{Domain, Outcome, Reply, Ticket, Token};
use seq::sequencer::{
    Change, Effect, Input, KeyName, KeyRecord, Limits, PastChange, Pattern, Pause, Policy, PolicyChange, Restored,
    Sequencer,
};

use crate::model::Model;

/// Ends that are written down; a client stays away for fewer.
const ENDS_MAX: usize = 50;

/// Everything that outlives a daemon. Each batch is written as one transaction, or not at all.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) live: BTreeMap<Ticket, Restored>,
    /// How tickets ended, as the next daemon is told.
    pub(crate) ends: Vec<Input>,
    /// What is set by hand, and what is paused.
    pub(crate) policies: BTreeMap<Pattern, Policy>,
    pub(crate) pauses: BTreeMap<Domain, Pause>,
    /// The starts and the last end of each domain.
    pub(crate) pasts: BTreeMap<Domain, (Vec<Time>, Option<Time>)>,
    pub(crate) keys: BTreeMap<KeyName, KeyRecord>,
    /// The numbers to go on with.
    pub(crate) next: (Ticket, Token),
}

impl Disk {
    pub(crate) fn new() -> Disk {
        Disk {
            live: BTreeMap::new(),
            ends: Vec::new(),
            policies: BTreeMap::new(),
            pauses: BTreeMap::new(),
            pasts: BTreeMap::new(),
            keys: BTreeMap::new(),
            next: (Ticket(1), Token(1)),
        }
    }

    /// Writes a batch: each ticket that it names as it is now, or its end.
    pub(crate) fn commit(&mut self, batch: &[Effect], core: &Sequencer) {
        let mut named = BTreeSet::new();
        for effect in batch {
            match effect {
                Effect::Changed { ticket } => _ = named.insert(*ticket),
                Effect::Record(record) => {
                    named.insert(record.ticket);
                    let (had_turn, outcome) = match record.change {
                        Change::Ended { outcome, .. } => (true, outcome),
                        Change::Left { outcome, .. } => (false, outcome),
                        _ => continue,
                    };
                    if outcome != Outcome::Gone && (outcome, had_turn) != (Outcome::Done, true) {
                        self.ends.push(Input::PastEnd { ticket: record.ticket, uid: record.uid, had_turn, outcome });
                    }
                }
                Effect::Policy(change) => self.change(change.clone()),
                Effect::Past(PastChange::Forgotten { domain }) => _ = self.pasts.remove(domain),
                Effect::Past(PastChange::Started { domain, at }) => {
                    self.pasts.entry(domain.clone()).or_default().0.push(*at);
                }
                Effect::Past(PastChange::Moved { domain, from, to }) => {
                    let (starts, _) = self.pasts.get_mut(domain).expect("it has begun");
                    let start = starts.iter_mut().rfind(|start| *start == from).expect("it has begun then");
                    *start = *to;
                }
                Effect::Past(PastChange::Ended { domain, at }) => {
                    self.pasts.entry(domain.clone()).or_default().1 = Some(*at);
                }
                Effect::Key(change) => {
                    self.keys.remove(&change.name);
                    self.keys.extend(change.record.as_deref().map(|record| (change.name.clone(), record.clone())));
                }
                Effect::Admitted { .. }
                | Effect::Follows { .. }
                | Effect::Unfollowed { .. }
                | Effect::TellOutcome { .. }
                | Effect::Tell { .. } => {}
            }
        }
        for ticket in named {
            match core.saved(ticket) {
                Some(saved) => _ = self.live.insert(ticket, saved),
                None => _ = self.live.remove(&ticket),
            }
        }
        let extra = self.ends.len().saturating_sub(ENDS_MAX);
        self.ends.drain(..extra);
        self.next = core.next_numbers();
    }

    /// What comes from an earlier daemon is written down already.
    pub(crate) fn remember(&mut self, input: &Input) {
        match input {
            Input::PastPolicy { pattern, policy } => {
                let set = self.policies.entry(pattern.clone()).or_default();
                *set = policy.or(set);
            }
            Input::PastPause { domain, pause } => _ = self.pauses.insert(domain.clone(), pause.clone()),
            _ => {}
        }
    }

    fn change(&mut self, change: PolicyChange) {
        match change {
            PolicyChange::Set { pattern, policy, .. } => _ = self.policies.insert(pattern, policy),
            PolicyChange::Unset { pattern, .. } => _ = self.policies.remove(&pattern),
            PolicyChange::Paused { domain, pause } => _ = self.pauses.insert(domain, pause),
            PolicyChange::Resumed { domain, .. } => _ = self.pauses.remove(&domain),
        }
    }

    /// What the next daemon is told before it is told of tickets.
    pub(crate) fn before_tickets(&self) -> Vec<Input> {
        let policies = self.policies.clone().into_iter().map(|(pattern, policy)| Input::PastPolicy { pattern, policy });
        let pauses = self.pauses.clone().into_iter().map(|(domain, pause)| Input::PastPause { domain, pause });
        let pasts = self.pasts.clone().into_iter();
        let pasts = pasts.map(|(domain, (starts, last_end))| Input::PastStarts { domain, starts, last_end });
        policies.chain(pauses).chain(pasts).chain(self.ends.iter().cloned()).collect()
    }

    /// What the next daemon is told after it is told of tickets.
    pub(crate) fn after_tickets(&self) -> Vec<Input> {
        self.keys.values().map(|record| Input::PastKey(Box::new(record.clone()))).collect()
    }

    /// Whatever lives is written down as it is, except that something which kept it may be gone since.
    pub(crate) fn check(&self, both: &Both) {
        assert_eq!(both.model.records(), self.keys.values().cloned().collect::<Vec<_>>(), "keys that are written down");
        let saved = both.model.saved();
        assert_eq!(saved.len(), self.live.len(), "tickets that are written down");
        for saved in saved {
            assert_eq!(both.core.saved(saved.ticket).as_ref(), Some(&saved));
            let written = &self.live[&saved.ticket];
            assert!(written.pipes >= saved.pipes && written.processes >= saved.processes, "ticket {}", saved.ticket);
            let kept_alike = Restored { pipes: saved.pipes, processes: saved.processes, ..written.clone() };
            assert_eq!(kept_alike, saved, "what is written down");
        }
    }
}

/// The core, and the model of it.
#[derive(Clone, Debug)]
pub(crate) struct Both {
    pub(crate) core: Sequencer,
    pub(crate) model: Model,
    pub(crate) limits: Limits,
    pub(crate) now: Time,
    /// What the core said of circles at the last step.
    pub(crate) circles: Vec<String>,
}

impl Both {
    pub(crate) fn new((ticket, token): (Ticket, Token), limits: Limits, now: Time) -> Both {
        let core = Sequencer::with_limits(ticket, token, limits);
        Both { core, model: Model::new(ticket, token, limits), limits, now, circles: Vec::new() }
    }

    /// Takes an input, which both must answer alike.
    pub(crate) fn step(&mut self, input: &Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.handle(self.now, input.clone(), &mut effects);
        self.circles.clear();
        self.circles.extend(effects.iter().filter_map(circle));
        effects.iter_mut().for_each(check_and_drop_message);
        let expected = self.model.handle(self.now, input.clone());
        assert_eq!(effects, expected, "effects at {}: {input:?}", self.now);
        let (next, expected) = (self.core.next_timeout(), self.model.next_timeout());
        assert_eq!(next, expected, "next timeout at {}: {input:?}", self.now);
        assert_eq!(self.core.next_numbers(), self.model.next_numbers(), "{input:?}");
        assert_eq!(self.core.counts(), self.model.counts(), "{input:?}");
        effects
    }
}

fn circle(effect: &Effect) -> Option<String> {
    let Effect::Tell { reply: Reply::Error(error), .. } = effect else { return None };
    error.message.starts_with("a deadlock: ").then(|| error.message.clone())
}

/// The words are tested elsewhere; here they only must be there, and as the style asks.
fn check_and_drop_message(effect: &mut Effect) {
    let Effect::Tell { reply: Reply::Error(error), .. } = effect else { return };
    assert!(!error.message.is_empty() && !error.message.ends_with('.'), "{}", error.message);
    error.message.clear();
}
