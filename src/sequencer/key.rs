//! A run-once key: what was asked for by whom, and what became of it.
//!
//! A record is made when the first request that uses a key takes its place, changes when its turn comes, and when that
//! ends it is kept until it expires, or lets go of.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConnectionId;
use crate::clock::{Moment, Time};
use crate::protocol::limits::{KEY_CONFLICTS_KEPT, KEY_FREED_KEPT};
use crate::protocol::{Domain, Fingerprint, Key, Ticket, Token};

/// Which key: one user's in one domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyName {
    /// The user.
    pub uid: u32,
    /// The line.
    pub domain: Domain,
    /// As the user calls it.
    pub key: Key,
}

/// What is asked for is to be done once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAsk {
    /// The key, of the user who asks, in the first of the lines.
    pub key: Key,
    /// Which command it is for.
    pub fingerprint: Fingerprint,
    /// How long its outcome is remembered.
    pub ttl: Duration,
    /// Whether a failure is remembered, too.
    pub keep_failures: bool,
    /// Whether it is done again where nobody knows what became of it.
    pub retry_unknown: bool,
    /// Whether what is written is recorded, and wanted back.
    pub replay: bool,
    /// The ticket whose outcome was waited for by a connection that was lost.
    pub follows: Option<Ticket>,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Which it is.
    pub name: KeyName,
    /// Which command it is for.
    pub fingerprint: Fingerprint,
    /// How long its outcome is remembered.
    pub ttl: Duration,
    /// Whether a failure is remembered, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_failures: bool,
    /// Whether what the command writes is recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub records_output: bool,
    /// The request that used it.
    pub ticket: Ticket,
    /// The process that asked, or worked.
    pub pid: u32,
    /// When it took its place.
    pub reserved_at: Moment,
    /// How far it is.
    pub state: KeyState,
    /// When it is as if never used, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// The status that its command ended with, while its turn goes on, if somebody has left word of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<i32>,
    /// While it is reserved by one who would run it again: what is known still, as long as that has not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displaced: Option<Box<KeyRecord>>,
    /// How often it was used for another command.
    #[serde(default)]
    pub conflicts: u64,
    /// Those commands, each once, the last [`KEY_CONFLICTS_KEPT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicting: Vec<Fingerprint>,
}

/// How far a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Its request waits for its turn.
    Reserved,
    /// Its request has its turn.
    Running {
        /// The fencing number.
        token: Token,
        /// When its turn came.
        started_at: Moment,
    },
    /// The command has ended.
    Completed(KeyOutcome),
    /// The command has ended so that the key is free; only those who waited for that are told.
    Freed(KeyOutcome),
    /// The turn has ended, and nobody knows how the command did.
    Unknown {
        /// The fencing number.
        token: Token,
        /// When its turn came.
        started_at: Moment,
        /// When it ended.
        ended_at: Moment,
    },
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOutcome {
    /// Its status.
    pub exit_status: i32,
    /// The fencing number of its turn.
    pub token: Token,
    /// When its turn came.
    pub started_at: Moment,
    /// When that ended.
    pub ended_at: Moment,
}

/// A key has changed: write that down, before any `Tell` that comes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// Which.
    pub name: KeyName,
    /// All that is known of it now; nothing, if it is as if never used.
    pub record: Option<Box<KeyRecord>>,
    /// Those to whom nothing that comes after it may be told before a power cut could not undo it any more.
    pub hold: Vec<ConnectionId>,
}

impl KeyRecord {
    /// Whether its request waits or has its turn.
    pub fn is_under_way(&self) -> bool {
        matches!(self.state, KeyState::Reserved | KeyState::Running { .. })
    }

    /// Whether it is as if never used.
    pub(super) fn is_expired(&self, now: Time) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Changes what it says of how its turn ended.
    pub(super) fn end(&mut self, state: KeyState, now: Time) {
        let kept = if matches!(state, KeyState::Freed(_)) { KEY_FREED_KEPT } else { self.ttl };
        self.expires_at = Some(now + kept);
        self.state = state;
        self.learned = None;
    }

    /// What a turn of `token` leaves that ended with this status, if that is known.
    pub(super) fn after(
        &self,
        (token, started_at): (Token, Moment),
        exit_status: Option<i32>,
        ended_at: Moment,
    ) -> KeyState {
        let Some(exit_status) = exit_status.or(self.learned) else {
            return KeyState::Unknown { token, started_at, ended_at };
        };
        let outcome = KeyOutcome { exit_status, token, started_at, ended_at };
        if exit_status == 0 || self.keep_failures { KeyState::Completed(outcome) } else { KeyState::Freed(outcome) }
    }

    /// What it says if its request never has its turn: nothing, or that nobody knows what became of the one before.
    pub(super) fn without_turn(self, now: Time) -> Option<KeyRecord> {
        let before = self.displaced.filter(|before| !before.is_expired(now))?;
        Some(KeyRecord { conflicts: self.conflicts, conflicting: self.conflicting, ..*before })
    }

    /// Notes a use for another command.
    pub(super) fn conflict(&mut self, fingerprint: Fingerprint) {
        self.conflicts += 1;
        self.conflicting.retain(|known| *known != fingerprint);
        self.conflicting.push(fingerprint);
        let extra = self.conflicting.len().saturating_sub(KEY_CONFLICTS_KEPT);
        self.conflicting.drain(..extra);
    }
}
