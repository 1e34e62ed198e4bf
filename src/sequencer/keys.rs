//! All keys that are in use or remembered, and what can be seen of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::{Domain, Key, Ticket};

use super::connections::Attached;
use super::follow::Follower;
use super::key::{KeyName, KeyRecord, KeyState};
use super::nested::Who;
use super::timers::{Timer, Timers};
use super::{ConnectionId, Enqueue, Sequencer};

/// All keys that are in use or remembered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Keys {
    pub(super) records: BTreeMap<KeyName, KeyRecord>,
    /// How many each user has.
    counts: BTreeMap<u32, usize>,
    /// The key of each ticket that is reserved, running, or of which nothing is known.
    tickets: BTreeMap<Ticket, KeyName>,
    /// Those that expire.
    expiries: BTreeSet<(Time, KeyName)>,
    /// When those that have expired are let go of.
    prune_at: Option<Time>,
    /// Before this they are not.
    prune_from: Time,
    /// Those who wait for somebody else's outcome, in order.
    pub(super) followers: BTreeMap<u64, Follower>,
    /// The same by key.
    pub(super) followed: BTreeSet<(KeyName, u64)>,
    /// Those of them that were made within a turn, which may have ended since, by that.
    pub(super) nested: BTreeSet<(Ticket, u64)>,
    pub(super) next_follower: u64,
    /// Keys that are free now, and for which somebody waits.
    pub(super) vacant: BTreeSet<KeyName>,
}

/// Keys that expire within so long are let go of together.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);

/// Keys that are let go of at once.
const PRUNE_KEYS_MAX: usize = 1_000;

/// How long after that the next are.
const PRUNE_PAUSE: Duration = Duration::from_secs(1);

impl Keys {
    /// How many there are, and how many of them are this user's.
    pub(super) fn counts(&self, uid: u32) -> (usize, usize) {
        (self.records.len(), self.counts.get(&uid).copied().unwrap_or(0))
    }

    /// The key that a ticket has, or had when the last was heard of it.
    pub(super) fn of_ticket(&self, ticket: Ticket) -> Option<&KeyRecord> {
        self.records.get(self.tickets.get(&ticket)?)
    }

    /// The tickets whose outcome is waited for by requests within a turn, and by which key.
    pub(super) fn awaited_within(&self, turn: Ticket) -> impl Iterator<Item = (Ticket, &Key)> + '_ {
        let followers = self.nested.range((turn, 0)..=(turn, u64::MAX));
        let followers = followers.filter_map(|(_, number)| self.followers.get(number));
        let records = followers.filter_map(|follower| self.records.get(&follower.key()));
        // That of a key which is free is nobody any more, and the follower is about to use it.
        records.filter(|record| record.is_under_way()).map(|record| (record.ticket, &record.name.key))
    }

    /// Puts a record in the place of whatever there is of that key.
    pub(super) fn put(&mut self, record: KeyRecord, timers: &mut Timers) {
        self.take(&record.name, timers);
        let is_over = matches!(record.state, KeyState::Completed(_) | KeyState::Freed(_));
        if !is_over {
            self.tickets.insert(record.ticket, record.name.clone());
        }
        *self.counts.entry(record.name.uid).or_default() += 1;
        self.expiries.extend(record.expires_at.map(|at| (at, record.name.clone())));
        self.records.insert(record.name.clone(), record);
        self.plan_prune(timers);
    }

    pub(super) fn take(&mut self, name: &KeyName, timers: &mut Timers) -> Option<KeyRecord> {
        let record = self.records.remove(name)?;
        if self.tickets.get(&record.ticket) == Some(name) {
            self.tickets.remove(&record.ticket);
        }
        if let Some(count) = self.counts.get_mut(&name.uid) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&name.uid);
            }
        }
        record.expires_at.map(|at| self.expiries.remove(&(at, name.clone())));
        self.plan_prune(timers);
        Some(record)
    }

    /// Some of those that have expired, to be let go of before the next are planned.
    pub(super) fn pop_expired(&mut self, now: Time) -> Vec<KeyName> {
        self.prune_at = None;
        self.prune_from = now + PRUNE_PAUSE;
        let due = self.expiries.iter().take_while(|(at, _)| *at <= now).take(PRUNE_KEYS_MAX);
        due.map(|(_, name)| name.clone()).collect()
    }

    /// Whole intervals, so that those which expire at about the same time go together.
    pub(super) fn plan_prune(&mut self, timers: &mut Timers) {
        let interval = u64::try_from(PRUNE_INTERVAL.as_nanos()).unwrap_or(u64::MAX);
        let whole = |at: Time| Time::from_nanos(at.as_nanos().div_ceil(interval).saturating_mul(interval));
        let prune_at = self.expiries.first().map(|(at, _)| whole(*at).max(self.prune_from));
        if prune_at != self.prune_at {
            timers.clear(self.prune_at, Timer::Keys);
            timers.set(prune_at, Timer::Keys);
            self.prune_at = prune_at;
        }
    }

    /// How many timers are set for keys.
    pub(super) fn deadlines(&self) -> usize {
        let of_followers = self.followers.values().filter(|follower| follower.deadline.is_some()).count();
        of_followers + usize::from(self.prune_at.is_some())
    }

    pub(super) fn check(&self, timers: &Timers) {
        let mut counts = BTreeMap::<u32, usize>::new();
        let (mut tickets, mut expiries) = (0, 0);
        for (name, record) in &self.records {
            assert_eq!(*name, record.name);
            *counts.entry(name.uid).or_default() += 1;
            let is_over = matches!(record.state, KeyState::Completed(_) | KeyState::Freed(_));
            let leads_here = self.tickets.get(&record.ticket) == Some(name);
            assert_eq!(leads_here, !is_over, "ticket {} knows its key", record.ticket);
            tickets += usize::from(leads_here);
            expiries += usize::from(record.expires_at.is_some());
            let is_known = record.expires_at.is_none_or(|at| self.expiries.contains(&(at, name.clone())));
            assert!(is_known, "key {} expires some time", name.key);
            let is_reserved = matches!(record.state, KeyState::Reserved);
            assert!(is_reserved || record.displaced.is_none(), "key {} is run again", name.key);
            let can_expire = is_over || matches!(record.state, KeyState::Unknown { .. });
            assert_eq!(can_expire, record.expires_at.is_some(), "key {} expires once it has ended", name.key);
        }
        assert_eq!((self.tickets.len(), self.expiries.len()), (tickets, expiries), "keys are known");
        assert_eq!(self.counts, counts, "the keys of each user are counted");
        assert_eq!(self.prune_at.is_some(), !self.expiries.is_empty(), "somebody lets go of what expires");
        assert!(self.prune_at.is_none_or(|at| timers.has(at, Timer::Keys)), "that is planned");
        assert!(self.vacant.is_empty(), "a key that is free is used by whoever waits for it");
        assert_eq!(self.followed.len(), self.followers.len());
        let is_its_own = |(_, number): &(Ticket, u64)| self.followers.contains_key(number);
        assert!(self.nested.iter().all(is_its_own), "who waits within a turn waits");
        for (number, follower) in &self.followers {
            let name = follower.key();
            assert!(self.followed.contains(&(name.clone(), *number)));
            let is_for_something = self.records.get(&name).is_some_and(KeyRecord::is_under_way);
            assert!(is_for_something, "follower {number} waits for nothing");
        }
    }
}

impl Sequencer {
    /// What is known of keys: those of one user or of all, in one domain or in all, of one name or of any. In order.
    pub fn keys<'a>(
        &'a self,
        uid: Option<u32>,
        domain: Option<&'a Domain>,
        key: Option<&'a Key>,
    ) -> impl Iterator<Item = &'a KeyRecord> {
        let is_meant = move |name: &KeyName| {
            uid.is_none_or(|uid| name.uid == uid)
                && domain.is_none_or(|domain| name.domain == *domain)
                && key.is_none_or(|key| name.key == *key)
        };
        let is_shown = |record: &&KeyRecord| !matches!(record.state, KeyState::Freed(_));
        let records = self.keys.records.values().filter(is_shown);
        records.filter(move |record| is_meant(&record.name) && !record.is_expired(self.present))
    }

    /// How many requests wait for the outcome of a key.
    pub fn followers(&self, name: &KeyName) -> u64 {
        self.keys.followed.range((name.clone(), 0)..=(name.clone(), u64::MAX)).count() as u64
    }

    /// The key that a ticket has used, and that records what its command writes.
    pub fn recorded_key(&self, ticket: Ticket, connection: ConnectionId) -> Option<&KeyName> {
        let (entry, _) = self.holder(ticket)?;
        let record = self.keys.of_ticket(ticket)?;
        (record.records_output && entry.connection == Some(connection)).then_some(&record.name)
    }

    /// The key that a ticket has used, if it waits, runs, or ended without anybody knowing how.
    pub fn key_of(&self, ticket: Ticket) -> Option<&KeyName> {
        self.keys.of_ticket(ticket).map(|record| &record.name)
    }

    /// Whether a request is for the key that a ticket has, and for the same command; or neither is for any.
    pub(super) fn is_for_same_key(&self, ticket: Ticket, request: &Enqueue) -> bool {
        match (self.keys.of_ticket(ticket), request.key_name(), &request.key) {
            (Some(record), Some(name), Some(ask)) => record.name == name && record.fingerprint == ask.fingerprint,
            (None, None, _) => true,
            _ => false,
        }
    }

    /// Whom a turn has to wait for before it may end: what was made within it, and what that waits for by a key.
    pub(super) fn waited_for_within(&self, turn: Ticket) -> impl Iterator<Item = Who> + '_ {
        let awaited = self.keys.awaited_within(turn).map(|(ticket, _)| Who::Ticket(ticket));
        self.families.children(turn).chain(awaited)
    }

    /// The turns in a line within which somebody waits by a key, but nobody has a ticket.
    pub(super) fn followers_parents_in<'a>(&'a self, domain: &'a Domain) -> impl Iterator<Item = Ticket> + 'a {
        let mut turns: Vec<Ticket> = self.keys.nested.iter().map(|(turn, _)| *turn).collect();
        turns.dedup();
        let is_here = move |ticket: &Ticket| {
            let entry = self.tickets.get(ticket).filter(|entry| entry.turn().is_some());
            let is_named = entry.is_some_and(|entry| entry.names().any(|name| name == domain));
            is_named && self.families.children(*ticket).next().is_none()
        };
        turns.into_iter().filter(is_here)
    }

    /// The turns of a connection that have used a key.
    pub fn keyed_tickets(&self, connection: ConnectionId) -> Vec<Ticket> {
        let is_keyed = |attached| match attached {
            Attached::Ticket(ticket) => Some(ticket).filter(|ticket| self.keys.of_ticket(*ticket).is_some()),
            Attached::Wait(_) | Attached::Follower(_) => None,
        };
        if self.keys.records.is_empty() {
            return Vec::new();
        }
        self.connections.of(connection).into_iter().filter_map(is_keyed).collect()
    }
}
