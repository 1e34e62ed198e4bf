//! How much the sequencer takes on.

use serde::{Deserialize, Serialize};

use crate::protocol::limits::{
    DOMAINS_MAX, IDLE_DOMAINS_MAX, KEYS_MAX, KEYS_PER_USER_MAX, PAST_ENDS_MAX, PAST_RUNS_MAX, POLICIES_MAX,
    STATUS_WAITERS_MAX, TICKETS_PER_CONNECTION_MAX, WAITERS_PER_DOMAIN_MAX,
};

/// What the lines may have; the default is what the protocol promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Waiters in one domain; a further request is refused with `queue_full`.
    pub waiters_per_domain: usize,
    /// Domains in use; a request for a further one is refused with `too_many_domains`.
    pub domains: usize,
    /// Tickets and `Wait`s of one connection; a further one is refused with `too_many_requests`.
    pub tickets_per_connection: usize,
    /// Policies set by hand; a further one is refused with `too_many_policies`.
    pub policies: usize,
    /// Run-once keys that are remembered; a further one is refused with `too_many_keys`.
    pub keys: usize,
    /// Of these, those of one user.
    pub keys_per_user: usize,
    /// Idle domains that are remembered; the one idle longest is forgotten first.
    pub idle_domains: usize,
    /// Past runs of a domain that its usual run is the median of.
    pub past_runs: usize,
    /// Tickets that ended otherwise than their clients asked that are remembered; the first is forgotten first.
    pub past_ends: usize,
    /// Waiters listed in one view of all lines.
    pub waiters_viewed: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            waiters_per_domain: WAITERS_PER_DOMAIN_MAX,
            domains: DOMAINS_MAX,
            tickets_per_connection: TICKETS_PER_CONNECTION_MAX,
            policies: POLICIES_MAX,
            keys: KEYS_MAX,
            keys_per_user: KEYS_PER_USER_MAX,
            idle_domains: IDLE_DOMAINS_MAX,
            past_runs: PAST_RUNS_MAX,
            past_ends: PAST_ENDS_MAX,
            waiters_viewed: STATUS_WAITERS_MAX,
        }
    }
}
