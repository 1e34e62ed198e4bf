//! What is to be done once, in a flat list of records.

use std::time::Duration;

use seq::clock::Time;
use seq::protocol::{
    Domain, ErrorCode, Fingerprint, Following, Key, KeyForgotten, Outcome, Reply, RequestId, Ticket, Token,
};
use seq::sequencer::{
    Change, ConnectionId, Effect, Enqueue, KeyAsk, KeyChange, KeyName, KeyOutcome, KeyRecord, KeyState, KeyTold, Peer,
};

use super::{Model, Request, SECOND, named};

/// Who waits for the outcome of somebody else's request.
#[derive(Clone, Debug)]
pub(super) struct Follower {
    pub(super) number: u64,
    pub(super) ask: Enqueue,
    pub(super) deadline: Option<Time>,
}

impl Model {
    /// All records, by name, expired or not.
    pub(crate) fn records(&self) -> Vec<KeyRecord> {
        let mut records = self.keys.clone();
        records.sort_by(|one, other| one.name.cmp(&other.name));
        records
    }

    /// What can be seen of keys, with how many requests wait for each.
    pub(crate) fn keys_seen(&self) -> Vec<(KeyRecord, u64)> {
        let mut records = self.records();
        records.retain(|record| !is_expired(record, self.present) && !matches!(record.state, KeyState::Freed(_)));
        let followers = |name: &KeyName| self.followers_of(name).len() as u64;
        records.into_iter().map(|record| (record.clone(), followers(&record.name))).collect()
    }

    fn record_of(&self, name: &KeyName) -> Option<&KeyRecord> {
        self.keys.iter().find(|record| record.name == *name)
    }

    /// The key of a ticket that has not ended, or of whose end nothing is known.
    pub(super) fn key_of(&self, ticket: u64) -> Option<KeyRecord> {
        let is_it = |record: &&KeyRecord| record.ticket.0 == ticket && !is_over(&record.state);
        self.keys.iter().find(is_it).cloned()
    }

    /// Whether it asks for what is being done under this turn, and would not take that up.
    pub(super) fn would_do_it_again(&self, index: usize, ask: &Enqueue) -> bool {
        let name = self.key_of(self.requests[index].ticket).map(|record| record.name);
        ask.fresh && self.requests[index].turn.is_some() && name.is_some() && name == name_of(ask)
    }

    pub(super) fn is_for_the_same(&self, ticket: u64, ask: &Enqueue) -> bool {
        let has = self.key_of(ticket).map(|record| (record.name, record.fingerprint));
        has == name_of(ask).zip(ask.key.as_ref().map(|key| key.fingerprint))
    }

    fn followers_of(&self, name: &KeyName) -> Vec<Follower> {
        let is_it = |follower: &&Follower| name_of(&follower.ask).as_ref() == Some(name);
        let mut followers: Vec<Follower> = self.followers.iter().filter(is_it).cloned().collect();
        followers.sort_by_key(|follower| follower.number);
        followers
    }

    fn write(&mut self, record: KeyRecord, hold: Vec<ConnectionId>) {
        self.keys.retain(|known| known.name != record.name);
        self.keys.push(record.clone());
        let (name, record) = (record.name.clone(), Some(Box::new(record)));
        self.out.push(Effect::Key(KeyChange { name, record, hold }));
    }

    fn forget(&mut self, name: &KeyName, hold: Vec<ConnectionId>) {
        self.keys.retain(|known| known.name != *name);
        self.out.push(Effect::Key(KeyChange { name: name.clone(), record: None, hold }));
    }

    /// Whether a new request is to be done; otherwise its key decides what becomes of it.
    pub(super) fn is_first_use(&mut self, ask: &Enqueue) -> bool {
        let Some(name) = name_of(ask).filter(|_| !self.leaving) else { return true };
        let key = ask.key.clone().unwrap();
        if self.record_of(&name).is_some_and(|record| is_expired(record, self.now)) {
            self.forget(&name, Vec::new());
        }
        let Some(record) = self.record_of(&name).cloned() else {
            let of_user = self.keys.iter().filter(|record| record.name.uid == name.uid).count();
            if self.keys.len() >= self.limits.keys || of_user >= self.limits.keys_per_user {
                self.refuse(ask, ErrorCode::TooManyKeys, None);
                return false;
            }
            return true;
        };
        let is_same = record.fingerprint == key.fingerprint;
        let has_waited = key.follows == Some(record.ticket);
        match record.state {
            KeyState::Freed(_) if !is_same || !has_waited => return true,
            KeyState::Unknown { .. } if is_same && key.retry_unknown => return true,
            _ if !is_same => {
                self.conflict(record.clone(), key.fingerprint);
                self.refuse(ask, ErrorCode::KeyConflict, Some(record.ticket));
            }
            KeyState::Completed(_) | KeyState::Freed(_) => self.tell_outcome(ask, &record, has_waited),
            KeyState::Unknown { .. } => self.refuse(ask, ErrorCode::KeyUnknown, Some(record.ticket)),
            KeyState::Reserved | KeyState::Running { .. } => self.follow(ask, record.ticket),
        }
        false
    }

    /// Every use for another command counts; the last sixteen commands are shown.
    fn conflict(&mut self, mut record: KeyRecord, fingerprint: Fingerprint) {
        record.conflicts += 1;
        if let Some(known) = record.conflicting.iter().position(|known| *known == fingerprint) {
            record.conflicting.remove(known);
        }
        record.conflicting.push(fingerprint);
        if record.conflicting.len() > 16 {
            record.conflicting.remove(0);
        }
        self.write(record, Vec::new());
    }

    fn follow(&mut self, ask: &Enqueue, ticket: Ticket) {
        if ask.no_wait {
            return self.refuse(ask, ErrorCode::Busy, Some(ticket));
        }
        if self.hanging_on(ask.connection) >= self.limits.tickets_per_connection {
            return self.refuse(ask, ErrorCode::TooManyRequests, None);
        }
        let lines = named(&ask.domain, &ask.wishes);
        let usual = lines.iter().filter_map(|domain| self.default_max_wait(domain)).min();
        let deadline = ask.max_wait.or(usual).map(|max_wait| self.now + max_wait);
        let number = self.next_follower;
        self.next_follower += 1;
        self.followers.push(Follower { number, ask: ask.clone(), deadline });
        if let Some(parent) = self.parent(ask.peer.uid, ask.wishes.within) {
            let parent = self.requests[parent].ticket;
            if self.stuck().0.iter().any(|request| request.ticket == parent) {
                self.followers.retain(|follower| follower.number != number);
                return self.refuse(ask, ErrorCode::WouldDeadlock, Some(ticket));
            }
        }
        self.out.push(Effect::Follows { follower: number });
        self.tell_following(ask, ticket);
    }

    fn tell_following(&mut self, ask: &Enqueue, ticket: Ticket) {
        let KeyName { domain, key, .. } = name_of(ask).unwrap();
        let request_id = ask.request_id.as_ref().map(RequestId::to_string);
        self.tell(ask.connection, Reply::Following(Following { domain, request_id, key, ticket }));
    }

    fn tell_outcome(&mut self, ask: &Enqueue, record: &KeyRecord, followed: bool) {
        let told = KeyTold {
            request_id: ask.request_id.as_ref().map(RequestId::to_string),
            record: Box::new(record.clone()),
            followed,
            replay: ask.key.as_ref().unwrap().replay,
        };
        self.out.push(Effect::TellOutcome { connection: ask.connection, told });
    }

    fn refuse(&mut self, ask: &Enqueue, code: ErrorCode, ticket: Option<Ticket>) {
        let id = ask.request_id.as_ref().map(RequestId::to_string);
        self.error(ask.connection, code, Some(ask.domain.clone()), id, ticket.map(|ticket| ticket.0));
    }

    fn unfollow(&mut self, number: u64) {
        self.followers.retain(|follower| follower.number != number);
        self.out.push(Effect::Unfollowed { follower: number });
    }

    pub(super) fn reserve(&mut self, ask: &Enqueue, ticket: u64) {
        let Some(name) = name_of(ask) else { return };
        let KeyAsk { fingerprint, ttl, keep_failures, replay, .. } = **ask.key.as_ref().unwrap();
        let before = self.record_of(&name).filter(|before| matches!(before.state, KeyState::Unknown { .. })).cloned();
        let record = KeyRecord {
            name,
            fingerprint,
            ttl,
            keep_failures,
            records_output: replay,
            ticket: Ticket(ticket),
            pid: ask.pid,
            reserved_at: self.now.into(),
            state: KeyState::Reserved,
            expires_at: None,
            learned: None,
            conflicts: before.as_ref().map_or(0, |before| before.conflicts),
            conflicting: before.as_ref().map_or(Vec::new(), |before| before.conflicting.clone()),
            displaced: before.map(Box::new),
        };
        self.write(record, vec![ask.connection]);
    }

    pub(super) fn key_started(&mut self, request: &Request) {
        let Some(mut record) = self.key_of(request.ticket) else { return };
        let (token, started_at) = request.turn.unwrap();
        record.state = KeyState::Running { token: Token(token), started_at: started_at.into() };
        record.displaced = None;
        self.write(record, request.connection.into_iter().collect());
    }

    /// How a ticket ended for which something was to be done once: `outcome` is what happened to it, and `change` what
    /// that is called.
    pub(super) fn key_ended(&mut self, request: &Request, outcome: Outcome, change: Change) {
        let Some(mut record) = self.key_of(request.ticket) else { return };
        record.pid = request.pid;
        let had_to_stop = matches!(
            change,
            Change::Ended { outcome: Outcome::Superseded, .. } | Change::Left { outcome: Outcome::Superseded, .. }
        );
        let status = match (change, outcome) {
            (Change::Ended { exit_status: Some(status), .. }, Outcome::Done) => Some(status),
            // Who was told to stop, and does, has not done it.
            (Change::Ended { .. }, Outcome::Done) => Some(i32::from(had_to_stop)),
            (Change::Ended { .. }, _) => record.learned,
            _ => None,
        };
        let is_free = request.turn.is_none() || had_to_stop && status.is_some_and(|status| status != 0);
        let hold = request.connection.into_iter().collect();
        if !is_free {
            let (token, started_at) = request.turn.unwrap();
            let over = self.how_it_ended(&record, (token, started_at.into()), status, self.now.into());
            return self.conclude(record, over, hold);
        }
        let unknown = unknown_before(&record, self.now);
        if let Some(unknown) = &unknown {
            let mut hold: Vec<ConnectionId> = hold;
            hold.extend(self.followers_of(&record.name).iter().map(|follower| follower.ask.connection));
            self.write(unknown.clone(), hold);
        } else {
            self.forget(&record.name, hold);
        }
        if request.superseded.is_none() {
            match unknown {
                Some(unknown) => self.tell_of_unknown(&unknown),
                None => self.vacant.push(record.name),
            }
            return;
        }
        for follower in self.followers_of(&record.name) {
            self.unfollow(follower.number);
            self.refuse(&follower.ask, ErrorCode::Superseded, Some(record.ticket));
        }
    }

    #[expect(clippy::unused_self, reason = "it reads like the rest")]
    fn how_it_ended(
        &self,
        record: &KeyRecord,
        (token, started_at): (u64, seq::clock::Moment),
        status: Option<i32>,
        ended_at: seq::clock::Moment,
    ) -> KeyState {
        let token = Token(token);
        match status {
            None => KeyState::Unknown { token, started_at, ended_at },
            Some(exit_status) => {
                let outcome = KeyOutcome { exit_status, token, started_at, ended_at };
                let is_kept = record.keep_failures || exit_status == 0;
                if is_kept { KeyState::Completed(outcome) } else { KeyState::Freed(outcome) }
            }
        }
    }

    /// Writes down how it ended, and tells all who wait for that. Who would do it again where nobody knows, does.
    fn conclude(&mut self, mut record: KeyRecord, over: KeyState, mut hold: Vec<ConnectionId>) {
        conclude(&mut record, over, self.now);
        let followers = self.followers_of(&record.name);
        hold.extend(followers.iter().map(|follower| follower.ask.connection));
        self.write(record.clone(), hold);
        for Follower { number, ask, .. } in followers {
            if !matches!(over, KeyState::Unknown { .. }) {
                self.unfollow(number);
                self.tell_outcome(&ask, &record, true);
            } else if ask.key.as_ref().unwrap().retry_unknown {
                self.vacant.push(record.name.clone());
            } else {
                self.unfollow(number);
                self.refuse(&ask, ErrorCode::KeyUnknown, Some(record.ticket));
            }
        }
    }

    /// Nobody knows it after all: who would do it again is the next to.
    fn tell_of_unknown(&mut self, record: &KeyRecord) {
        for Follower { number, ask, .. } in self.followers_of(&record.name) {
            if ask.key.as_ref().unwrap().retry_unknown {
                self.vacant.push(record.name.clone());
            } else {
                self.unfollow(number);
                self.refuse(&ask, ErrorCode::KeyUnknown, Some(record.ticket));
            }
        }
    }

    pub(super) fn key_learned(&mut self, ticket: u64, status: i32, hold: Vec<ConnectionId>) {
        let Some(mut record) = self.key_of(ticket) else { return };
        match record.state {
            KeyState::Unknown { token, started_at, ended_at } => {
                let over = self.how_it_ended(&record, (token.0, started_at), Some(status), ended_at);
                self.conclude(record, over, hold);
            }
            KeyState::Running { .. } => {
                record.learned = Some(status);
                self.write(record, hold);
            }
            _ => {}
        }
    }

    /// Word of a ticket that has ended already.
    pub(super) fn done_late(&mut self, connection: ConnectionId, peer: Peer, ticket: Option<u64>, status: Option<i32>) {
        let (Some(ticket), Some(status)) = (ticket, status) else { return };
        let is_its_own = self.key_of(ticket).is_some_and(|record| record.name.uid == peer.uid);
        if is_its_own && self.index(ticket).is_none() {
            self.key_learned(ticket, status, vec![connection]);
        }
    }

    /// Where a key is free again for which somebody waits, the first of those is the next to ask.
    pub(super) fn fill_vacant_keys(&mut self) {
        while let Some(name) = self.vacant.iter().min().cloned() {
            self.vacant.retain(|vacant| *vacant != name);
            while !self.record_of(&name).is_some_and(is_under_way) {
                let Some(Follower { number, mut ask, deadline }) = self.followers_of(&name).into_iter().next() else {
                    break;
                };
                self.followers.retain(|follower| follower.number != number);
                ask.max_wait = deadline.map(|deadline| deadline.since(self.now));
                // A line may have fallen idle since the input came.
                self.forget_pasts();
                let before = self.out.len();
                self.sequence(ask);
                let mut admitted = self.out[before..].iter_mut().filter_map(|effect| match effect {
                    Effect::Admitted { follower, .. } => Some(follower),
                    _ => None,
                });
                if let Some(follower) = admitted.next() {
                    *follower = Some(number);
                } else {
                    self.out.push(Effect::Unfollowed { follower: number });
                }
            }
            for follower in self.followers_of(&name) {
                let ticket = self.record_of(&name).unwrap().ticket;
                self.tell_following(&follower.ask, ticket);
            }
            self.break_circles();
        }
    }

    pub(super) fn follower_due(&mut self, number: u64) {
        let Follower { ask, .. } = self.followers.iter().find(|follower| follower.number == number).unwrap().clone();
        self.unfollow(number);
        let ticket = self.record_of(&name_of(&ask).unwrap()).unwrap().ticket;
        self.refuse(&ask, ErrorCode::TimedOut, Some(ticket));
    }

    pub(super) fn followers_gone(&mut self, connection: ConnectionId) {
        for follower in self.followers.clone().into_iter().filter(|follower| follower.ask.connection == connection) {
            self.unfollow(follower.number);
        }
    }

    pub(super) fn dismiss_followers(&mut self, code: ErrorCode) {
        for follower in self.followers.clone() {
            self.unfollow(follower.number);
            self.refuse(&follower.ask, code, None);
        }
    }

    /// The followers within a turn, and the tickets that they wait for.
    pub(super) fn followed_within(&self, index: usize) -> Vec<(u64, u64)> {
        let within = |follower: &&Follower| self.parent(follower.ask.peer.uid, follower.ask.wishes.within);
        let followers = self.followers.iter().filter(|follower| within(follower) == Some(index));
        let ticket = |follower: &Follower| Some(self.record_of(&name_of(&follower.ask)?)?.ticket.0);
        followers.filter_map(|follower| Some((follower.number, ticket(follower)?))).collect()
    }

    pub(super) fn has_nested_followers(&self) -> bool {
        self.followers.iter().any(|follower| follower.ask.wishes.within.is_some())
    }

    /// Refuses the newest of those who wait for somebody of `stuck` within a turn of `stuck`, if there is one.
    pub(super) fn refuse_stuck_follower(&mut self, stuck: &[Request]) -> bool {
        let is_stuck = |ticket: u64| stuck.iter().any(|request| request.ticket == ticket);
        let turns = (0..self.requests.len()).filter(|index| is_stuck(self.requests[*index].ticket));
        let followers = turns.flat_map(|index| self.followed_within(index));
        let newest = followers.filter(|(_, ticket)| is_stuck(*ticket)).max();
        if let Some((number, ticket)) = newest {
            let follower = self.followers.iter().find(|follower| follower.number == number).unwrap().clone();
            self.unfollow(number);
            self.refuse(&follower.ask, ErrorCode::WouldDeadlock, Some(Ticket(ticket)));
        }
        newest.is_some()
    }

    pub(super) fn forget_key(
        &mut self,
        (connection, peer): (ConnectionId, Peer),
        (uid, domain): (Option<u32>, Option<Domain>),
        key: &Key,
        request_id: Option<String>,
    ) {
        if uid.is_some_and(|uid| uid != peer.uid) && !peer.is_operator {
            return self.error(connection, ErrorCode::Forbidden, domain, request_id, None);
        }
        let is_named = |record: &KeyRecord| {
            record.name.key == *key && domain.as_ref().is_none_or(|domain| record.name.domain == *domain)
        };
        let mut named: Vec<KeyRecord> = self.keys_seen().into_iter().map(|(record, _)| record).collect();
        named.retain(is_named);
        let has_own = named.iter().any(|record| record.name.uid == peer.uid);
        match uid {
            Some(uid) => named.retain(|record| record.name.uid == uid),
            None => named.retain(|record| record.name.uid == peer.uid || peer.is_operator && !has_own),
        }
        let code = match &named[..] {
            [] => ErrorCode::NotFound,
            [record] if is_under_way(record) => ErrorCode::KeyInUse,
            [record] => {
                let KeyName { domain, key, .. } = record.name.clone();
                self.forget(&record.name, vec![connection]);
                return self.tell(connection, Reply::KeyForgotten(KeyForgotten { request_id, domain, key }));
            }
            _ => ErrorCode::SeveralKeys,
        };
        self.error(connection, code, domain, request_id, None);
    }

    pub(super) fn past_key(&mut self, past: KeyRecord) {
        let ticket = past.ticket.0;
        let mut record = past.clone();
        if self.record_of(&past.name).is_some() {
            return;
        }
        if is_over(&past.state) {
            if is_expired(&past, self.now) {
                self.out.push(Effect::Key(KeyChange { name: past.name, record: None, hold: Vec::new() }));
            } else {
                self.keys.push(past);
            }
            return;
        }
        let lives = self.requests.iter().find(|request| request.ticket == ticket).cloned();
        if self.key_of(ticket).is_some() {
            return;
        }
        match (past.state, lives) {
            (KeyState::Unknown { .. }, None) if is_expired(&past, self.now) => {
                self.out.push(Effect::Key(KeyChange { name: past.name, record: None, hold: Vec::new() }));
                return;
            }
            (KeyState::Unknown { .. }, None) => {}
            (KeyState::Unknown { .. }, Some(_)) => return,
            (_, Some(request)) if (request.uid, &request.domain) != (past.name.uid, &past.name.domain) => return,
            (_, Some(request)) => {
                if request.turn.is_some() {
                    record.displaced = None;
                }
                record.state = match request.turn {
                    None => KeyState::Reserved,
                    Some((token, at)) => KeyState::Running { token: Token(token), started_at: at.into() },
                };
            }
            (KeyState::Running { token, started_at }, None) => {
                let over = self.how_it_ended(&past, (token.0, started_at), past.learned, self.now.into());
                conclude(&mut record, over, self.now);
            }
            (_, None) => {
                match unknown_before(&past, self.now).filter(|unknown| self.key_of(unknown.ticket.0).is_none()) {
                    Some(unknown) => self.write(unknown, Vec::new()),
                    None => self.out.push(Effect::Key(KeyChange { name: past.name, record: None, hold: Vec::new() })),
                }
                return;
            }
        }
        if record == past { self.keys.push(record) } else { self.write(record, Vec::new()) }
    }

    /// When keys that have expired are looked for: at whole minutes, and a second apart.
    pub(super) fn prune_due(&self) -> Option<Time> {
        let first = self.keys.iter().filter_map(|record| record.expires_at).min()?;
        let minute = SECOND.as_nanos() * 60;
        let minutes = u128::from(first.as_nanos()).div_ceil(minute);
        let whole = Time::from_nanos(u64::try_from(minutes * minute).unwrap());
        Some(whole.max(self.prune_from))
    }

    /// At most a thousand go at once.
    pub(super) fn prune_keys(&mut self) {
        let mut expired: Vec<KeyRecord> = self.keys.clone();
        expired.retain(|record| is_expired(record, self.now));
        expired.sort_by(|one, other| (one.expires_at, &one.name).cmp(&(other.expires_at, &other.name)));
        for record in expired.iter().take(1_000) {
            self.forget(&record.name, Vec::new());
        }
        self.prune_from = self.now + SECOND;
    }
}

/// What is free again counts for those who have waited, for a minute; all else for as long as was said.
fn conclude(record: &mut KeyRecord, over: KeyState, now: Time) {
    let kept = if matches!(over, KeyState::Freed(_)) { Duration::from_mins(1) } else { record.ttl };
    record.expires_at = Some(now + kept);
    record.learned = None;
    record.state = over;
}

/// What is known of a key that was to be run again, and has not been.
fn unknown_before(record: &KeyRecord, now: Time) -> Option<KeyRecord> {
    let mut unknown = *record.displaced.clone()?;
    unknown.conflicts = record.conflicts;
    unknown.conflicting.clone_from(&record.conflicting);
    (!is_expired(&unknown, now)).then_some(unknown)
}

fn name_of(ask: &Enqueue) -> Option<KeyName> {
    let key = ask.key.as_ref()?.key.clone();
    Some(KeyName { uid: ask.peer.uid, domain: ask.domain.clone(), key })
}

fn is_over(state: &KeyState) -> bool {
    matches!(state, KeyState::Completed(_) | KeyState::Freed(_))
}

fn is_under_way(record: &KeyRecord) -> bool {
    matches!(record.state, KeyState::Reserved | KeyState::Running { .. })
}

fn is_expired(record: &KeyRecord, now: Time) -> bool {
    record.expires_at.is_some_and(|at| now >= at)
}
