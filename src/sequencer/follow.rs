//! Requests with a key: who is the first to use it, and who waits for what becomes of that.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::{Domain, Following, Key, KeyForgotten, Reply, Ticket};

use super::connections::Attached;
use super::key::{KeyName, KeyRecord, KeyState};
use super::key_refusal::KeyRefusal;
use super::leaving::Leaving;
use super::nested::{Arrival, Who};
use super::refusal::{About, Refusal};
use super::timers::Timer;
use super::{ConnectionId, Effect, Enqueue, Peer, Sequencer, Successor};

/// A request that waits for the outcome of another one with the same key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Follower {
    pub(super) request: Box<Enqueue>,
    pub(super) since: Time,
    pub(super) deadline: Option<Time>,
}

/// The outcome of a key, as it is to be told to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTold {
    /// The client's name for its request.
    pub request_id: Option<String>,
    /// What is known of the key; it is completed, or freed.
    pub record: Box<KeyRecord>,
    /// Whether the request waited for it.
    pub followed: bool,
    /// Whether it wants what was written.
    pub replay: bool,
}

impl Follower {
    pub(super) fn key(&self) -> KeyName {
        self.request.key_name().expect("only a request with a key follows")
    }
}

impl Enqueue {
    /// The key that it is for.
    pub(super) fn key_name(&self) -> Option<KeyName> {
        let ask = self.key.as_ref()?;
        Some(KeyName { uid: self.peer.uid, domain: self.domain.clone(), key: ask.key.clone() })
    }

    fn about(&self, ticket: Option<Ticket>) -> About {
        let request_id = self.request_id.as_ref().map(ToString::to_string);
        About { domain: Some(self.domain.clone()), request_id, ticket }
    }

    fn outcome(&self, record: &KeyRecord, followed: bool) -> Effect {
        let request_id = self.request_id.as_ref().map(ToString::to_string);
        let replay = self.key.as_ref().is_some_and(|ask| ask.replay);
        let told = KeyTold { request_id, record: Box::new(record.clone()), followed, replay };
        Effect::TellOutcome { connection: self.connection, told }
    }

    fn following(&self, ticket: Ticket) -> Option<Effect> {
        let KeyName { domain, key, .. } = self.key_name()?;
        let request_id = self.request_id.as_ref().map(ToString::to_string);
        let reply = Reply::Following(Following { domain, request_id, key, ticket });
        Some(Effect::Tell { connection: self.connection, reply })
    }
}

impl Sequencer {
    /// Decides by its key what becomes of a new request. Gives it back if it is to be done, because nobody has done it,
    /// or does.
    pub(super) fn first_use(&mut self, now: Time, request: Enqueue, out: &mut Vec<Effect>) -> Option<Enqueue> {
        let (Some(name), Some(ask), Leaving::Not) = (request.key_name(), &request.key, self.leaving) else {
            return Some(request);
        };
        if self.keys.records.get(&name).is_some_and(|record| record.is_expired(now)) {
            self.forget_key(&name, Vec::new(), out);
        }
        let Some(record) = self.keys.records.get(&name) else {
            let (all, of_user) = self.keys.counts(name.uid);
            if all < self.limits.keys && of_user < self.limits.keys_per_user {
                return Some(request);
            }
            let refusal =
                Refusal::Key(KeyRefusal::TooMany { keys: if all < self.limits.keys { of_user } else { all } });
            out.push(refusal.tell(request.connection, request.about(None)));
            return None;
        };
        let (ticket, is_same) = (record.ticket, record.fingerprint == ask.fingerprint);
        match record.state {
            KeyState::Freed(_) if is_same && ask.follows == Some(ticket) => out.push(request.outcome(record, true)),
            KeyState::Freed(_) => return Some(request),
            _ if !is_same => {
                let refusal = Refusal::Key(KeyRefusal::Conflict { key: ask.key.clone(), ticket });
                let fingerprint = ask.fingerprint;
                self.note_conflict(&name, fingerprint, out);
                out.push(refusal.tell(request.connection, request.about(Some(ticket))));
            }
            KeyState::Completed(_) => {
                let followed = ask.follows == Some(ticket);
                out.push(request.outcome(record, followed));
            }
            KeyState::Unknown { .. } if ask.retry_unknown => return Some(request),
            KeyState::Unknown { .. } => {
                let refusal = Refusal::Key(KeyRefusal::Unknown { key: ask.key.clone(), ticket });
                out.push(refusal.tell(request.connection, request.about(Some(ticket))));
            }
            KeyState::Reserved | KeyState::Running { .. } => self.follow(now, request, ticket, out),
        }
        None
    }

    /// Somebody else is at it.
    fn follow(&mut self, now: Time, request: Enqueue, ticket: Ticket, out: &mut Vec<Effect>) {
        let refusal = if request.no_wait {
            request.key.as_ref().map(|ask| Refusal::Key(KeyRefusal::Busy { key: ask.key.clone(), ticket }))
        } else {
            self.refusal_of_one_more(request.connection)
        };
        if let Some(refusal) = refusal {
            let about = if request.no_wait { Some(ticket) } else { None };
            out.push(refusal.tell(request.connection, request.about(about)));
            return;
        }
        let deadline = self.wait_until(now, Arrival { request: &request, guests: &[] });
        let number = self.keys.next_follower;
        self.keys.next_follower += 1;
        let told = request.following(ticket);
        self.timers.set(deadline, Timer::Follower(number));
        self.connections.attach(request.connection, Attached::Follower(number));
        let follower = Follower { request: Box::new(request), since: now, deadline };
        let (connection, about) = (follower.request.connection, follower.request.about(Some(ticket)));
        let parent = self.parent_of(&follower);
        self.keys.followed.insert((follower.key(), number));
        self.keys.nested.extend(parent.map(|parent| (parent, number)));
        self.keys.followers.insert(number, follower);
        if let Some(refusal) = parent.and_then(|parent| self.refusal_of_follower_within(parent, number)) {
            self.take_follower(number);
            out.push(refusal.tell(connection, about));
            return;
        }
        out.push(Effect::Follows { follower: number });
        out.extend(told);
    }

    /// Why a new follower within a turn would wait for ever, if so.
    fn refusal_of_follower_within(&self, parent: Ticket, number: u64) -> Option<Refusal> {
        let stuck = self.stuck(self.may_be_stuck(), None, &[]);
        let follower = self.keys.followers.get(&number).filter(|_| stuck.contains(&Who::Ticket(parent)))?;
        self.refusal_of_following(follower, &stuck)
    }

    /// The turn that a follower is really within.
    pub(super) fn parent_of(&self, follower: &Follower) -> Option<Ticket> {
        let Enqueue { peer, wishes, .. } = &*follower.request;
        self.parent(peer.uid, wishes.within).map(|parent| parent.ticket)
    }

    /// Lets go of a follower that gets no ticket.
    pub(super) fn remove_follower(&mut self, number: u64, out: &mut Vec<Effect>) -> Option<Follower> {
        let follower = self.take_follower(number)?;
        out.push(Effect::Unfollowed { follower: number });
        Some(follower)
    }

    /// Takes a follower out of everything that knows of it.
    fn take_follower(&mut self, number: u64) -> Option<Follower> {
        let follower = self.keys.followers.remove(&number)?;
        self.keys.followed.remove(&(follower.key(), number));
        if let Some(within) = follower.request.wishes.within {
            self.keys.nested.remove(&(within.ticket, number));
        }
        self.timers.clear(follower.deadline, Timer::Follower(number));
        self.connections.detach(follower.request.connection, Attached::Follower(number));
        Some(follower)
    }

    fn followers_of(&self, name: &KeyName) -> Vec<u64> {
        let of_key = self.keys.followed.range((name.clone(), 0)..=(name.clone(), u64::MAX));
        of_key.map(|(_, number)| *number).collect()
    }

    pub(super) fn connections_following(&self, name: &KeyName) -> Vec<ConnectionId> {
        let followers = self.followers_of(name).into_iter().filter_map(|number| self.keys.followers.get(&number));
        followers.map(|follower| follower.request.connection).collect()
    }

    /// Tells all who wait for it what became of a key. Where nobody knows, those who would do it again wait on until one
    /// of them does.
    pub(super) fn tell_followers(&mut self, record: &KeyRecord, out: &mut Vec<Effect>) {
        let is_unknown = matches!(record.state, KeyState::Unknown { .. });
        for number in self.followers_of(&record.name) {
            let would_retry = |follower: &Follower| follower.request.key.as_ref().is_some_and(|ask| ask.retry_unknown);
            if is_unknown && self.keys.followers.get(&number).is_some_and(would_retry) {
                self.keys.vacant.insert(record.name.clone());
                continue;
            }
            let Some(Follower { request, .. }) = self.remove_follower(number, out) else { continue };
            out.push(if is_unknown {
                let (key, ticket) = (record.name.key.clone(), record.ticket);
                let refusal = Refusal::Key(KeyRefusal::Unknown { key, ticket });
                refusal.tell(request.connection, request.about(Some(record.ticket)))
            } else {
                request.outcome(record, true)
            });
        }
    }

    /// Whom a newer request replaced takes those along who waited for what became of it.
    pub(super) fn replace_followers(
        &mut self,
        name: &KeyName,
        (ticket, by): (Ticket, Successor),
        out: &mut Vec<Effect>,
    ) {
        for number in self.followers_of(name) {
            let Some(Follower { request, .. }) = self.remove_follower(number, out) else { continue };
            out.push(Refusal::Superseded { ticket, by }.tell(request.connection, request.about(Some(ticket))));
        }
    }

    /// Lets whoever has waited longest for a key that is free again be the next to use it; the others wait for that.
    pub(super) fn fill_vacant_keys(&mut self, now: Time, out: &mut Vec<Effect>) {
        while let Some(name) = self.keys.vacant.pop_first() {
            while !self.keys.records.get(&name).is_some_and(KeyRecord::is_under_way)
                && let Some(number) = self.followers_of(&name).first().copied()
                && let Some(Follower { mut request, deadline, .. }) = self.take_follower(number)
            {
                request.max_wait = deadline.map(|deadline| deadline.since(now));
                // Domains that rest no more count no more, also where a deadline is done before the input at hand.
                self.rests_over(self.present);
                let before = out.len();
                self.sequence(now, *request, out);
                let mut admitted = out[before..].iter_mut().filter_map(|effect| match effect {
                    Effect::Admitted { follower, .. } => Some(follower),
                    _ => None,
                });
                match admitted.next() {
                    Some(follower) => *follower = Some(number),
                    None => out.push(Effect::Unfollowed { follower: number }),
                }
            }
            let Some(ticket) = self.keys.records.get(&name).map(|record| record.ticket) else { continue };
            for number in self.followers_of(&name) {
                let follower = self.keys.followers.get(&number);
                out.extend(follower.and_then(|follower| follower.request.following(ticket)));
            }
            self.break_cycles(out);
        }
    }

    pub(super) fn follower_due(&mut self, now: Time, number: u64, out: &mut Vec<Effect>) {
        let Some(Follower { request, since, deadline }) = self.remove_follower(number, out) else { return };
        let Some(name) = request.key_name() else { return };
        let Some(ticket) = self.keys.records.get(&name).map(|record| record.ticket) else { return };
        let longest = deadline.map(|deadline| deadline.since(since));
        let waited = now.since(since);
        let refusal = Refusal::Key(KeyRefusal::TimedOut { key: name.key, ticket, waited, longest });
        out.push(refusal.tell(request.connection, request.about(Some(ticket))));
    }

    /// The newest of those who wait for an outcome, and never get it, because what they are within never ends before.
    pub(super) fn newest_stuck_follower(&self, stuck: &BTreeSet<Who>) -> Option<u64> {
        let is_stuck = |(parent, number): &&(Ticket, u64)| {
            let follower = self.keys.followers.get(number);
            let record = follower.and_then(|follower| self.keys.records.get(&follower.key()));
            stuck.contains(&Who::Ticket(*parent))
                && record.is_some_and(|record| stuck.contains(&Who::Ticket(record.ticket)))
        };
        self.keys.nested.iter().filter(is_stuck).map(|(_, number)| *number).max()
    }

    pub(super) fn refuse_stuck_follower(&mut self, number: u64, stuck: &BTreeSet<Who>, out: &mut Vec<Effect>) {
        let follower = self.keys.followers.get(&number);
        let refusal = follower.and_then(|follower| self.refusal_of_following(follower, stuck));
        let Some(Follower { request, .. }) = self.remove_follower(number, out) else { return };
        let record = request.key_name().and_then(|name| self.keys.records.get(&name));
        let about = request.about(record.map(|record| record.ticket));
        out.extend(refusal.map(|refusal| refusal.tell(request.connection, about)));
    }

    /// Refuses everybody who waits for an outcome, in order.
    pub(super) fn dismiss_followers(&mut self, refusal: &Refusal, out: &mut Vec<Effect>) {
        while let Some((number, _)) = self.keys.followers.first_key_value() {
            let Some(Follower { request, .. }) = self.remove_follower(*number, out) else { return };
            out.push(refusal.tell(request.connection, request.about(None)));
        }
    }

    pub(super) fn forget_key_for(
        &mut self,
        (connection, peer): (ConnectionId, Peer),
        (uid, domain, key): (Option<u32>, Option<Domain>, Key),
        request_id: Option<String>,
        out: &mut Vec<Effect>,
    ) {
        let about = About { domain: domain.clone(), request_id: request_id.clone(), ticket: None };
        let named = |uid| {
            let found = self.keys(uid, domain.as_ref(), Some(&key)).map(|record| (record.name.clone(), record.ticket));
            found.collect::<Vec<_>>()
        };
        if uid.is_some_and(|uid| uid != peer.uid) && !peer.is_operator {
            out.push(Refusal::Key(KeyRefusal::OfOthers).tell(connection, about));
            return;
        }
        let mut named_by_it = named(uid.or(Some(peer.uid)));
        if named_by_it.is_empty() && uid.is_none() && peer.is_operator {
            named_by_it = named(None);
        }
        let refusal = match &named_by_it[..] {
            [] => KeyRefusal::NoSuch { key, domain },
            [(name, ticket)] if self.keys.records.get(name).is_some_and(KeyRecord::is_under_way) => {
                KeyRefusal::InUse { key, ticket: *ticket }
            }
            [(name, _)] => {
                let name = name.clone();
                self.forget_key(&name, vec![connection], out);
                let reply = KeyForgotten { request_id, domain: name.domain, key: name.key };
                out.push(Effect::Tell { connection, reply: Reply::KeyForgotten(reply) });
                return;
            }
            several => {
                let mut domains: Vec<Domain> = several.iter().map(|(name, _)| name.domain.clone()).collect();
                domains.sort_unstable();
                domains.dedup();
                let mut users: Vec<u32> = several.iter().map(|(name, _)| name.uid).collect();
                users.dedup();
                KeyRefusal::Several { key, domains, users }
            }
        };
        out.push(Refusal::Key(refusal).tell(connection, about));
    }
}
