//! The values that a policy can have, and their names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The values that a policy can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyValues {
    /// Turns at once, 1 to [`CONCURRENCY_MAX`](super::limits::CONCURRENCY_MAX); one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How many may wait; a further request is answered `queue_full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queue: Option<u32>,
    /// Milliseconds at least from one start to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_interval_ms: Option<u64>,
    /// Milliseconds at least from an end to the next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown_ms: Option<u64>,
    /// Starts at most in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateValue>,
    /// Milliseconds that a turn may take; zero is as good as none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_run_ms: Option<u64>,
    /// Milliseconds that a request waits which says neither `no_wait` nor `max_wait_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_max_wait_ms: Option<u64>,
    /// Values that there are to be none of, whatever a less specific pattern sets. Not `concurrency`.
    #[serde(default, skip_serializing_if = "ValueSet::is_empty")]
    pub none: ValueSet,
}

impl PolicyValues {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == PolicyValues::default()
    }

    /// Whether `value` is set to something.
    pub fn sets(&self, value: PolicyValue) -> bool {
        match value {
            PolicyValue::Concurrency => self.concurrency.is_some(),
            PolicyValue::MaxQueue => self.max_queue.is_some(),
            PolicyValue::MinInterval => self.min_interval_ms.is_some(),
            PolicyValue::Cooldown => self.cooldown_ms.is_some(),
            PolicyValue::Rate => self.rate.is_some(),
            PolicyValue::MaxRun => self.max_run_ms.is_some(),
            PolicyValue::DefaultMaxWait => self.default_max_wait_ms.is_some(),
        }
    }
}

/// So many starts in any so many milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateValue {
    /// 1 to [`RATE_STARTS_MAX`](super::limits::RATE_STARTS_MAX).
    pub starts: u32,
    /// At least 1.
    pub per_ms: u64,
}

/// The name of one value of a policy, as it is written everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyValue {
    /// [`PolicyValues::concurrency`].
    Concurrency,
    /// [`PolicyValues::max_queue`].
    MaxQueue,
    /// [`PolicyValues::min_interval_ms`].
    MinInterval,
    /// [`PolicyValues::cooldown_ms`].
    Cooldown,
    /// [`PolicyValues::rate`].
    Rate,
    /// [`PolicyValues::max_run_ms`].
    MaxRun,
    /// [`PolicyValues::default_max_wait_ms`].
    DefaultMaxWait,
}

impl PolicyValue {
    /// All of them, in the order in which they are shown.
    pub const ALL: [PolicyValue; 7] = [
        PolicyValue::Concurrency,
        PolicyValue::MaxQueue,
        PolicyValue::MinInterval,
        PolicyValue::Cooldown,
        PolicyValue::Rate,
        PolicyValue::MaxRun,
        PolicyValue::DefaultMaxWait,
    ];

    /// As people write it, and TOML.
    pub fn as_str(self) -> &'static str {
        match self {
            PolicyValue::Concurrency => "concurrency",
            PolicyValue::MaxQueue => "max-queue",
            PolicyValue::MinInterval => "min-interval",
            PolicyValue::Cooldown => "cooldown",
            PolicyValue::Rate => "rate",
            PolicyValue::MaxRun => "max-run",
            PolicyValue::DefaultMaxWait => "default-max-wait",
        }
    }
}

impl fmt::Display for PolicyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Some of the values, on the wire a list of their names. Of names that this version does not know, only that there are
/// some is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<&str>")]
pub struct ValueSet(u8);

impl ValueSet {
    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Whether `value` is one of them.
    pub fn has(self, value: PolicyValue) -> bool {
        self.0 & ValueSet::bit(value) != 0
    }

    /// Adds one.
    pub fn insert(&mut self, value: PolicyValue) {
        self.0 |= ValueSet::bit(value);
    }

    /// Whether something else was named as well.
    pub fn has_unknown(self) -> bool {
        self.0 & ValueSet::UNKNOWN != 0
    }

    /// All of them, in the order in which they are shown.
    pub fn iter(self) -> impl Iterator<Item = PolicyValue> {
        PolicyValue::ALL.into_iter().filter(move |value| self.has(*value))
    }

    /// Beyond those of all values.
    const UNKNOWN: u8 = 1 << PolicyValue::ALL.len();

    fn bit(value: PolicyValue) -> u8 {
        1 << value as u8
    }
}

impl FromIterator<PolicyValue> for ValueSet {
    fn from_iter<I: IntoIterator<Item = PolicyValue>>(values: I) -> ValueSet {
        let mut set = ValueSet::default();
        values.into_iter().for_each(|value| set.insert(value));
        set
    }
}

impl From<Vec<String>> for ValueSet {
    fn from(names: Vec<String>) -> ValueSet {
        let mut set = ValueSet::default();
        for name in names {
            match PolicyValue::ALL.into_iter().find(|value| value.as_str() == name) {
                Some(value) => set.insert(value),
                None => set.0 |= ValueSet::UNKNOWN,
            }
        }
        set
    }
}

impl From<ValueSet> for Vec<&'static str> {
    fn from(set: ValueSet) -> Vec<&'static str> {
        set.iter().map(PolicyValue::as_str).collect()
    }
}
