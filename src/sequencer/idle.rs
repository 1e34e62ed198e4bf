//! Domains that nobody uses any more, remembered for completions and estimates.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::Domain;

use super::FixedHasher;

/// The domains that fell idle last, and their past runs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IdleDomains {
    by_name: HashMap<Domain, Remembered, FixedHasher>,
    by_age: BTreeMap<u64, Domain>,
    next_age: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    age: u64,
    runs: VecDeque<Duration>,
}

impl IdleDomains {
    /// Remembers a domain that is not remembered yet, and forgets the one idle longest if that makes too many.
    pub(super) fn put(&mut self, domain: Domain, runs: VecDeque<Duration>, domains_max: usize) {
        let age = self.next_age;
        self.next_age += 1;
        self.by_age.insert(age, domain.clone());
        self.by_name.insert(domain, Remembered { age, runs });
        while self.by_name.len() > domains_max {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.by_name.remove(&oldest);
        }
    }

    /// Takes a domain that comes into use again out, with its past runs if it is remembered.
    pub(super) fn take(&mut self, domain: &Domain) -> VecDeque<Duration> {
        let Some(remembered) = self.by_name.remove(domain) else { return VecDeque::new() };
        self.by_age.remove(&remembered.age);
        remembered.runs
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
