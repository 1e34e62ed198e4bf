//! What can be set for a domain, and what such a value may be.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::protocol::PolicyValue;
use crate::protocol::limits::{CONCURRENCY_MAX, RATE_SLACK_MAX, RATE_STARTS_MAX};
use crate::protocol::{PolicyValues, RateValue, ValueSet};

/// Values for a domain; what is not set here is set elsewhere, or is as it is by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Turns at once, 1 to [`CONCURRENCY_MAX`]; one by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How many may wait; zero means nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queue: Option<u32>,
    /// Least time from one start to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_interval: Option<Duration>,
    /// Least time from an end to the next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
    /// How many starts in how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Longest turn; more than zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_run: Option<Duration>,
    /// How long a request waits that does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_max_wait: Option<Duration>,
    /// Values that there are to be none of, whatever a less specific pattern sets; none of those above.
    #[serde(skip_serializing_if = "ValueSet::is_empty")]
    pub none: ValueSet,
}

/// At most `starts` in any window of `per` and a [little more](Rate::window), of which one end is open: one more may come
/// when the first is so old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many, 1 to [`RATE_STARTS_MAX`].
    pub starts: u32,
    /// In how long; more than zero.
    pub per: Duration,
}

impl Rate {
    /// For how long a start counts: a twentieth longer than `per`, but at most 50 ms. What starts reaches what it calls
    /// only a little later, and a call that was slower than the one which takes its place must not be counted with it.
    pub fn window(self) -> Duration {
        self.per + (self.per / 20).min(RATE_SLACK_MAX)
    }

    /// Reads `10/1m`, with `duration` to read what is behind the stroke.
    ///
    /// # Errors
    ///
    /// When it has another form; what it says is checked with the [`Policy`] that it becomes part of.
    pub fn parse(text: &str, duration: impl Fn(&str) -> Result<Duration, String>) -> Result<Rate, String> {
        let wrong = || format!("'{text}' is not a rate: write how many starts in how long, such as 10/1m");
        let (starts, per) = text.split_once('/').ok_or_else(wrong)?;
        let starts = starts.trim().parse().map_err(|_| wrong())?;
        Ok(Rate { starts, per: duration(per.trim())? })
    }
}

impl Policy {
    /// Whether each value is one that can be.
    ///
    /// # Errors
    ///
    /// The first one that cannot.
    pub fn check(&self) -> Result<(), PolicyError> {
        if *self == Policy::default() {
            return Err(PolicyError::Nothing);
        }
        if self.concurrency == Some(0) {
            return Err(PolicyError::Zero(PolicyValue::Concurrency));
        }
        if self.concurrency.is_some_and(|concurrency| concurrency > CONCURRENCY_MAX) {
            return Err(PolicyError::TooLarge(PolicyValue::Concurrency, CONCURRENCY_MAX));
        }
        if self.rate.is_some_and(|rate| rate.starts == 0 || rate.per.is_zero()) {
            return Err(PolicyError::Zero(PolicyValue::Rate));
        }
        if self.rate.is_some_and(|rate| rate.starts > RATE_STARTS_MAX) {
            return Err(PolicyError::TooLarge(PolicyValue::Rate, RATE_STARTS_MAX));
        }
        if self.max_run.is_some_and(|max_run| max_run.is_zero()) {
            return Err(PolicyError::Zero(PolicyValue::MaxRun));
        }
        if self.none.has(PolicyValue::Concurrency) {
            return Err(PolicyError::None(PolicyValue::Concurrency));
        }
        Ok(())
    }

    /// Sets one duration, or that there is to be none; a longest turn of no time is none.
    pub fn set_duration(&mut self, value: PolicyValue, duration: Option<Duration>) {
        let duration = duration.filter(|duration| value != PolicyValue::MaxRun || !duration.is_zero());
        match value {
            PolicyValue::MinInterval => self.min_interval = duration,
            PolicyValue::Cooldown => self.cooldown = duration,
            PolicyValue::MaxRun => self.max_run = duration,
            PolicyValue::DefaultMaxWait => self.default_max_wait = duration,
            PolicyValue::Concurrency | PolicyValue::MaxQueue | PolicyValue::Rate => return,
        }
        if duration.is_none() {
            self.none.insert(value);
        }
    }

    /// Whether this value is set here, or that there is to be none.
    pub fn has(&self, value: PolicyValue) -> bool {
        self.none.has(value) || self.has_some(value)
    }

    fn has_some(&self, value: PolicyValue) -> bool {
        match value {
            PolicyValue::Concurrency => self.concurrency.is_some(),
            PolicyValue::MaxQueue => self.max_queue.is_some(),
            PolicyValue::MinInterval => self.min_interval.is_some(),
            PolicyValue::Cooldown => self.cooldown.is_some(),
            PolicyValue::Rate => self.rate.is_some(),
            PolicyValue::MaxRun => self.max_run.is_some(),
            PolicyValue::DefaultMaxWait => self.default_max_wait.is_some(),
        }
    }

    /// These values, and for those that are not set here the ones of `other`.
    #[must_use]
    pub fn or(self, other: &Policy) -> Policy {
        let is_open = |value| !self.none.has(value);
        let none = PolicyValue::ALL
            .into_iter()
            .filter(|value| if self.has(*value) { self.none } else { other.none }.has(*value));
        Policy {
            concurrency: self.concurrency.or(other.concurrency),
            max_queue: self.max_queue.or(other.max_queue.filter(|_| is_open(PolicyValue::MaxQueue))),
            min_interval: self.min_interval.or(other.min_interval.filter(|_| is_open(PolicyValue::MinInterval))),
            cooldown: self.cooldown.or(other.cooldown.filter(|_| is_open(PolicyValue::Cooldown))),
            rate: self.rate.or(other.rate.filter(|_| is_open(PolicyValue::Rate))),
            max_run: self.max_run.or(other.max_run.filter(|_| is_open(PolicyValue::MaxRun))),
            default_max_wait: self
                .default_max_wait
                .or(other.default_max_wait.filter(|_| is_open(PolicyValue::DefaultMaxWait))),
            none: none.collect(),
        }
    }
}

impl From<&PolicyValues> for Policy {
    fn from(values: &PolicyValues) -> Policy {
        let mut policy = Policy {
            concurrency: values.concurrency,
            max_queue: values.max_queue,
            min_interval: values.min_interval_ms.map(Duration::from_millis),
            cooldown: values.cooldown_ms.map(Duration::from_millis),
            rate: values.rate.map(|rate| Rate { starts: rate.starts, per: Duration::from_millis(rate.per_ms) }),
            max_run: None,
            default_max_wait: values.default_max_wait_ms.map(Duration::from_millis),
            none: ValueSet::default(),
        };
        if let Some(max_run) = values.max_run_ms {
            policy.set_duration(PolicyValue::MaxRun, Some(Duration::from_millis(max_run)));
        }
        let none = values.none.iter().filter(|value| !policy.has_some(*value)).chain(policy.none.iter());
        Policy { none: none.collect(), ..policy }
    }
}

impl From<&Policy> for PolicyValues {
    fn from(policy: &Policy) -> PolicyValues {
        PolicyValues {
            concurrency: policy.concurrency,
            max_queue: policy.max_queue,
            min_interval_ms: policy.min_interval.map(milliseconds_up),
            cooldown_ms: policy.cooldown.map(milliseconds_up),
            rate: policy.rate.map(|rate| RateValue { starts: rate.starts, per_ms: milliseconds_up(rate.per) }),
            max_run_ms: policy.max_run.map(milliseconds_up),
            default_max_wait_ms: policy.default_max_wait.map(milliseconds_up),
            none: policy.none,
        }
    }
}

/// As it is on the wire; a part of one counts as a whole one, so that nothing becomes zero.
pub(super) fn milliseconds_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Why a policy is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// It sets nothing.
    Nothing,
    /// A value is zero that may not be.
    Zero(PolicyValue),
    /// There must be one of this value.
    None(PolicyValue),
    /// A value is larger than it may be.
    TooLarge(PolicyValue, u32),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::Nothing => {
                f.write_str("the policy sets nothing: name at least one value, such as concurrency")
            }
            PolicyError::Zero(PolicyValue::Concurrency) => {
                f.write_str("concurrency must be at least 1: `seq pause` is for letting nobody in")
            }
            PolicyError::Zero(PolicyValue::Rate) => {
                f.write_str("the rate must be at least one start in more than no time: write, for example, 10/1m")
            }
            PolicyError::Zero(value) => write!(f, "{value} must be more than zero"),
            PolicyError::None(value) => write!(f, "{value} cannot be none: 1 is how it is without a policy"),
            PolicyError::TooLarge(PolicyValue::Rate, max) => {
                write!(f, "the rate has too many starts: use at most {max}, in a shorter time")
            }
            PolicyError::TooLarge(value, max) => write!(f, "{value} is too large: use at most {max}"),
        }
    }
}

impl std::error::Error for PolicyError {}
