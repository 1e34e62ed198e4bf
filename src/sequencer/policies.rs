//! All policies: what is set for which pattern, and by whom.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::protocol::Domain;

use super::pattern::{Glob, Pattern};
use super::policy::{Policy, PolicyValue};

/// Who set a policy. What was set by hand goes before what the config file says of the same pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicySource {
    /// `seq policy set`.
    Set,
    /// The config file.
    File {
        /// Counted from 1.
        line: u32,
    },
}

/// What the config file says of one pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePolicy {
    /// Which domains.
    pub pattern: Pattern,
    /// Where in the file. Of two that are for one pattern, the one further up goes first.
    pub line: u32,
    /// What.
    pub policy: Policy,
}

/// Every policy there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    names: BTreeMap<Domain, BySource>,
    globs: BTreeMap<Glob, BySource>,
}

/// What is set for one pattern; never nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct BySource {
    set: Option<Policy>,
    /// By line.
    file: BTreeMap<u32, Policy>,
}

impl Policies {
    /// Sets values for a pattern, by hand; others that were set so for it stay. What all of them are then.
    pub fn set(&mut self, pattern: Pattern, policy: &Policy) -> Policy {
        let entry = self.entry(pattern);
        let policy = policy.or(&entry.set.unwrap_or_default());
        entry.set = Some(policy);
        policy
    }

    /// Forgets all that was set for this very pattern, by hand; whether there was anything.
    pub fn unset(&mut self, pattern: &Pattern) -> bool {
        let Some(entry) = self.get_mut(pattern) else { return false };
        let was_set = entry.set.take().is_some();
        if entry.is_empty() {
            self.remove(pattern);
        }
        was_set
    }

    /// Replaces all that the config file said.
    pub fn replace_file(&mut self, entries: Vec<FilePolicy>) {
        let forget = |of_one: &mut BySource| {
            of_one.file.clear();
            !of_one.is_empty()
        };
        self.names.retain(|_, of_one| forget(of_one));
        self.globs.retain(|_, of_one| forget(of_one));
        for FilePolicy { pattern, line, policy } in entries {
            self.entry(pattern).file.insert(line, policy);
        }
    }

    /// What is set for exactly this pattern, by hand.
    pub fn get_set(&self, pattern: &Pattern) -> Option<Policy> {
        match pattern {
            Pattern::Name(name) => self.names.get(name)?.set,
            Pattern::Glob(glob) => self.globs.get(glob)?.set,
        }
    }

    /// The values for `domain`: each from the most specific pattern that sets it.
    pub fn resolve(&self, domain: &Domain) -> Policy {
        self.matching(domain).fold(Policy::default(), |sum, (_, _, policy)| sum.or(policy))
    }

    /// Where each value for `domain` comes from, in the order of [`PolicyValue::ALL`].
    pub fn explain(&self, domain: &Domain) -> Vec<(PolicyValue, Pattern, PolicySource)> {
        let source = |value| {
            let (pattern, source, _) = self.matching(domain).find(|(.., policy)| policy.has(value))?;
            Some((value, pattern, source))
        };
        PolicyValue::ALL.into_iter().filter_map(source).collect()
    }

    /// Every entry, the most specific first.
    pub fn iter(&self) -> impl Iterator<Item = (Pattern, PolicySource, &Policy)> {
        let names = self.names.iter().map(|(name, of_one)| (Pattern::Name(name.clone()), of_one));
        let globs = self.globs.iter().map(|(glob, of_one)| (Pattern::Glob(glob.clone()), of_one));
        names.chain(globs).flat_map(|(pattern, of_one)| of_one.iter(pattern))
    }

    /// How many entries there are that were set by hand.
    pub fn set_len(&self) -> usize {
        self.names.values().chain(self.globs.values()).filter(|of_one| of_one.set.is_some()).count()
    }

    /// Every entry that is for `domain`, the most specific first. Takes time for each glob.
    fn matching(&self, domain: &Domain) -> impl Iterator<Item = (Pattern, PolicySource, &Policy)> {
        let name = self.names.get_key_value(domain);
        let name = name.map(|(name, of_one)| (Pattern::Name(name.clone()), of_one));
        let globs = self.globs.iter().filter(|(glob, _)| glob.matches(domain));
        let globs = globs.map(|(glob, of_one)| (Pattern::Glob(glob.clone()), of_one));
        name.into_iter().chain(globs).flat_map(|(pattern, of_one)| of_one.iter(pattern))
    }

    fn entry(&mut self, pattern: Pattern) -> &mut BySource {
        match pattern {
            Pattern::Name(name) => self.names.entry(name).or_default(),
            Pattern::Glob(glob) => self.globs.entry(glob).or_default(),
        }
    }

    fn get_mut(&mut self, pattern: &Pattern) -> Option<&mut BySource> {
        match pattern {
            Pattern::Name(name) => self.names.get_mut(name),
            Pattern::Glob(glob) => self.globs.get_mut(glob),
        }
    }

    fn remove(&mut self, pattern: &Pattern) {
        match pattern {
            Pattern::Name(name) => _ = self.names.remove(name),
            Pattern::Glob(glob) => _ = self.globs.remove(glob),
        }
    }
}

impl BySource {
    fn is_empty(&self) -> bool {
        self.set.is_none() && self.file.is_empty()
    }

    fn iter(&self, pattern: Pattern) -> impl Iterator<Item = (Pattern, PolicySource, &Policy)> {
        let set = self.set.iter().map(|policy| (PolicySource::Set, policy));
        let file = self.file.iter().map(|(line, policy)| (PolicySource::File { line: *line }, policy));
        set.chain(file).map(move |(source, policy)| (pattern.clone(), source, policy))
    }
}
