//! Descriptors that come with requests, and how many of them there may be.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};

use super::read::Refusal;
use crate::protocol::ErrorCode;
use crate::protocol::limits::DESCRIPTORS_PENDING_MAX;

/// Descriptors kept back from new turns: for the processes of turns that there are, for new connections, and for the
/// daemon itself.
const KEPT_FROM_TURNS: u64 = 48;

/// Descriptors kept back from everything that clients send.
const KEPT_FROM_CLIENTS: u64 = 24;

/// How many descriptors may be open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// The daemon's limit on open files.
    pub(super) open_files: u64,
}

impl Budget {
    /// Whether a descriptor that has just come is one too many for a new turn.
    pub(super) fn is_used_up(self, descriptor: &OwnedFd) -> bool {
        self.is_within(descriptor, KEPT_FROM_TURNS)
    }

    /// Why a request is refused whose descriptor is one too many.
    pub(super) fn refusal(self) -> Refusal {
        let message = format!(
            "turns that are kept by a pipe or a process use up the daemon's limit on open files, {} (ulimit -Hn): \
             try again when some have ended, or raise it and restart the daemon with 'seq restart'",
            self.open_files
        );
        Refusal::new(ErrorCode::TooManyRequests, message)
    }

    /// Whether at most `kept` descriptors are left, by this one: the system gives the lowest number that is free
    /// (`open(2)`).
    fn is_within(self, descriptor: &OwnedFd, kept: u64) -> bool {
        u64::try_from(descriptor.as_raw_fd()).is_ok_and(|number| number >= self.open_files.saturating_sub(kept))
    }
}

/// Those that a client has sent and not named in a request yet.
#[derive(Debug)]
pub(super) struct Pending {
    /// None where there was none left for it.
    queue: VecDeque<Option<OwnedFd>>,
    pub(super) budget: Budget,
}

impl Pending {
    pub(super) fn new(budget: Budget) -> Pending {
        Pending { queue: VecDeque::new(), budget }
    }

    /// Keeps what has come with one message. What is too much is closed right here. `are_lost` says that the system
    /// had no descriptors left for some.
    pub(super) fn extend(&mut self, received: impl Iterator<Item = OwnedFd>, are_lost: bool) {
        for descriptor in received {
            let is_too_many = self.budget.is_within(&descriptor, KEPT_FROM_CLIENTS);
            self.push((!is_too_many).then_some(descriptor));
        }
        if are_lost {
            // It is not known how many, and none of a later message may be taken for one of them.
            while self.push(None) {}
        }
    }

    /// The next `count`, or as many as there are.
    pub(super) fn take(&mut self, count: usize) -> impl Iterator<Item = Option<OwnedFd>> {
        self.queue.drain(..count.min(self.queue.len()))
    }

    /// Whether there was a place for it.
    fn push(&mut self, descriptor: Option<OwnedFd>) -> bool {
        let has_place = self.queue.len() < DESCRIPTORS_PENDING_MAX;
        if has_place {
            self.queue.push_back(descriptor);
        }
        has_place
    }
}
