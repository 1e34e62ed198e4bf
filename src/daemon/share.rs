//! What one user may have of a daemon that serves several: turns are never closed, so nobody is given so many that
//! there are none left for others.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use super::crowd::{all_open, too_many};
use super::link::Link;
use super::owner::Owner;
use super::wake::Ask;
use crate::protocol::{ErrorCode, ErrorReply, Reply};
use crate::sequencer::{Enqueue, Peer};

/// Of the connections of a shared daemon, and of the descriptors that may keep turns, one in so many is for root and the
/// daemon's own user alone.
const SHARE_RESERVED: usize = 16;

impl Owner {
    /// Why this request would take more than its user's share of the connections, if it would: on as many as are left
    /// for all others that user has turns, or places in line, which become turns. So whoever has none always finds some:
    /// the first may have half of all, the second half of the rest, and so on.
    pub(super) fn beyond_share(&self, link: &Link, ask: &Ask) -> Option<String> {
        // Without what is called within a turn that turn never ends.
        let is_for_more = |enqueue: &Enqueue| {
            enqueue.resume.is_none() && !self.sequencer.is_within_turn(link.peer.uid, enqueue.wishes.within)
        };
        if !matches!(ask, Ask::Sequence(enqueue, _) if is_for_more(enqueue))
            || !self.has_share(link.peer)
            || self.sequencer.has_ticket(link.id)
        {
            return None;
        }
        let connections_max = self.facts.connections_max;
        let used = self.sequencer.connections_with_tickets();
        let is_own = |other: &&Rc<Link>| other.peer.uid == link.peer.uid && self.sequencer.has_ticket(other.id);
        let own = || self.clients.values().filter(is_own).count();
        let own = own_beyond_share(connections_max, used, own)?;
        Some(if own == 0 {
            self.crowded(link.peer)
        } else {
            format!(
                "{own} of the {connections_max} connections of this shared daemon are in use by you (uid {}), as many as \
                 are left for all others: end some",
                link.peer.uid
            )
        })
    }

    /// Why a descriptor that is to keep a turn would be more than its user's share of them, if it would: as with
    /// connections.
    pub(super) fn beyond_share_of_files(&self, peer: Peer, descriptor: &OwnedFd) -> Option<String> {
        if !self.has_share(peer) {
            return None;
        }
        let files_max = self.facts.budget.for_turns();
        // The system gives the lowest number that is free (`open(2)`).
        let used = usize::try_from(descriptor.as_raw_fd()).unwrap_or(usize::MAX);
        let own = || self.kept.descriptors_of(peer.uid) + self.descriptors_waiting(peer.uid);
        match own_beyond_share(files_max, used, own)? {
            0 => Some(self.facts.budget.refusal().0.message),
            own => Some(format!(
                "{own} of the files that this shared daemon may have open keep turns of yours (uid {}), as many as are \
                 left for all others: end some",
                peer.uid
            )),
        }
    }

    /// Refuses a request for which there is no descriptor in its user's share.
    pub(super) fn refuse_descriptor(&mut self, enqueue: &Enqueue, message: String) {
        let Some(link) = self.clients.get(&enqueue.connection).cloned() else { return };
        let request_id = enqueue.request_id.as_ref().map(ToString::to_string);
        let (code, domain) = (ErrorCode::TooManyRequests, Some(enqueue.domain.clone()));
        self.reply(&link, &Reply::Error(ErrorReply { code, message, domain, request_id, ticket: None }));
    }

    /// What a client is told that finds no place: also who has most of them, where that may be somebody else.
    pub(super) fn crowded(&self, newcomer: Peer) -> String {
        let connections_max = self.facts.connections_max;
        if !self.facts.is_shared {
            return too_many(connections_max);
        }
        let mut users: HashMap<u32, usize> = HashMap::new();
        for link in self.clients.values().filter(|link| !link.is_closing()) {
            *users.entry(link.peer.uid).or_default() += 1;
        }
        let Some((uid, count)) = users.into_iter().max_by_key(|(uid, count)| (*count, *uid)) else {
            return too_many(connections_max);
        };
        let are_open = all_open(connections_max);
        if uid == newcomer.uid {
            format!("{are_open}, {count} of them by you (uid {uid}): end some")
        } else {
            format!("{are_open}, {count} of them by uid {uid}: ask that user to end some, or root to release turns")
        }
    }

    /// Root and the daemon's own user can see to themselves, and a user's own daemon is for that user alone.
    fn has_share(&self, peer: Peer) -> bool {
        self.facts.is_shared && !peer.is_operator
    }
}

/// How many of `all` a user has, if one more would be too many: as many are left for all others by then, beside what is
/// for root and the daemon's own user. The user's `own` are among those that are `used`.
fn own_beyond_share(all: usize, used: usize, own: impl FnOnce() -> usize) -> Option<usize> {
    let for_users = all - (all / SHARE_RESERVED).max(1);
    let left = for_users.saturating_sub(used);
    // Nobody has more than there are in use, and to count takes longer.
    if used < left { None } else { Some(own()).filter(|own| *own >= left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_come_one_after_the_other_and_each_finds_something_left() {
        let shares_of = |all| {
            let (mut used, mut shares) = (0, Vec::new());
            loop {
                let mut own = 0;
                while own_beyond_share(all, used, || own).is_none() {
                    (own, used) = (own + 1, used + 1);
                }
                if own == 0 {
                    return shares;
                }
                shares.push(own);
            }
        };
        assert_eq!(shares_of(178), [84, 42, 21, 10, 5, 3, 1, 1]);
        assert_eq!(shares_of(16).iter().sum::<usize>(), 15);
    }
}
