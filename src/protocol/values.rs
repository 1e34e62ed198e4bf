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

/// Some of the values, on the wire a list of their names. A name that this version does not know is passed over.
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

    /// All of them, in the order in which they are shown.
    pub fn iter(self) -> impl Iterator<Item = PolicyValue> {
        PolicyValue::ALL.into_iter().filter(move |value| self.has(*value))
    }

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
        PolicyValue::ALL.into_iter().filter(|value| names.iter().any(|name| name == value.as_str())).collect()
    }
}

impl From<ValueSet> for Vec<&'static str> {
    fn from(set: ValueSet) -> Vec<&'static str> {
        set.iter().map(PolicyValue::as_str).collect()
    }
}
