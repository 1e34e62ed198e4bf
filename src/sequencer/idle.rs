//! Domains that nobody uses any more, remembered for completions, estimates, and policies that are set later.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::Domain;

use super::FixedHasher;
use super::rest::Past;

/// The domains that fell idle last, and what is known of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct IdleDomains {
    by_name: HashMap<Domain, Remembered, FixedHasher>,
    by_age: BTreeMap<u64, Domain>,
    next_age: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remembered {
    age: u64,
    runs: VecDeque<Duration>,
    /// Unless it is kept among those that rest.
    past: Past,
}

impl IdleDomains {
    /// Remembers a domain that is not remembered yet, and forgets the one idle longest if that makes too many.
    pub(super) fn put(&mut self, domain: Domain, runs: VecDeque<Duration>, domains_max: usize) {
        let age = self.next_age;
        self.next_age += 1;
        self.by_age.insert(age, domain.clone());
        self.by_name.insert(domain, Remembered { age, runs, past: Past::default() });
        while self.by_name.len() > domains_max {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.by_name.remove(&oldest);
        }
    }

    /// Takes a domain that comes into use again out, with its past runs, and its past, if it is remembered.
    pub(super) fn take(&mut self, domain: &Domain) -> (VecDeque<Duration>, Past) {
        let Some(remembered) = self.by_name.remove(domain) else { return Default::default() };
        self.by_age.remove(&remembered.age);
        (remembered.runs, remembered.past)
    }

    /// Keeps the past of a domain as long as the domain is remembered.
    pub(super) fn keep_past(&mut self, domain: &Domain, past: Past) {
        if let Some(remembered) = self.by_name.get_mut(domain) {
            remembered.past = past;
        }
    }

    pub(super) fn take_past(&mut self, domain: &Domain) -> Option<Past> {
        self.by_name.get_mut(domain).map(|remembered| std::mem::take(&mut remembered.past))
    }

    /// A remembered domain: its name, as it is kept here, and its past runs.
    pub(super) fn get(&self, domain: &Domain) -> Option<(&Domain, &VecDeque<Duration>)> {
        self.by_name.get_key_value(domain).map(|(name, remembered)| (name, &remembered.runs))
    }

    /// Every remembered domain, the one idle longest first.
    pub(super) fn names(&self) -> impl Iterator<Item = &Domain> {
        self.by_age.values()
    }
}
