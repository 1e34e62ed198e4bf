//! What the daemon says of policies and pauses.

use serde::{Deserialize, Serialize};

use super::name::Domain;
use super::values::PolicyValues;

/// Body of `policy_set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySetReply {
    /// The pattern, in its normal form.
    pub pattern: String,
    /// All that is set for it by `policy_set` now.
    pub policy: PolicyValues,
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `policy_unset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyUnsetReply {
    /// The pattern, in its normal form.
    pub pattern: String,
    /// Whether anything was set for it.
    pub was_set: bool,
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `policy_show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyShowReply {
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The config file, whether it is there or not; nothing for a daemon that looks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// What is wrong with it, so that what it said before goes on to count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mistake: Option<String>,
    /// From the request, in its normal form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// What holds for that domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyValues>,
    /// Where each value of it comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<PolicyValueSource>,
    /// Without a domain: every policy, the most specific pattern first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyStatus>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyValueSource {
    /// The value, as people write it: `max-queue`.
    pub value: String,
    /// The pattern that it was set for.
    pub pattern: String,
    /// The line of the config file; none if it was set by `policy_set`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// What was set for a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// The pattern.
    pub pattern: String,
    /// The line of the config file; none if it was set by `policy_set`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What was set.
    pub policy: PolicyValues,
}

/// Body of `paused`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// The line.
    pub domain: Domain,
    /// Why, as it is shown now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Body of `resumed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// The line.
    pub domain: Domain,
    /// Whether it was paused.
    pub was_paused: bool,
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}
