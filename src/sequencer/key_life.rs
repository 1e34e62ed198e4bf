//! What happens to a key: it is reserved, runs, and ends, or is found again by the next daemon.

use crate::clock::Time;
use crate::protocol::{Fingerprint, Outcome, Ticket};

use super::key::{KeyAsk, KeyChange, KeyName, KeyRecord, KeyState};
use super::ticket::{Entry, Turn};
use super::{Change, ConnectionId, Effect, Sequencer};

impl Sequencer {
    pub(super) fn put_key(&mut self, record: KeyRecord, hold: Vec<ConnectionId>, out: &mut Vec<Effect>) {
        let (name, written) = (record.name.clone(), Some(Box::new(record.clone())));
        self.keys.put(record, &mut self.timers);
        out.push(Effect::Key(KeyChange { name, record: written, hold }));
    }

    pub(super) fn forget_key(&mut self, name: &KeyName, hold: Vec<ConnectionId>, out: &mut Vec<Effect>) {
        if self.keys.take(name, &mut self.timers).is_some() {
            out.push(Effect::Key(KeyChange { name: name.clone(), record: None, hold }));
        }
    }

    /// A request is the first to use its key.
    pub(super) fn reserve(&mut self, entry: &Entry, ask: KeyAsk, out: &mut Vec<Effect>) {
        let name = KeyName { uid: entry.uid, domain: entry.domain.clone(), key: ask.key };
        let before = self.keys.records.get(&name).filter(|before| matches!(before.state, KeyState::Unknown { .. }));
        let displaced = before.cloned().map(Box::new);
        let record = KeyRecord {
            name,
            fingerprint: ask.fingerprint,
            ttl: ask.ttl,
            keep_failures: ask.keep_failures,
            records_output: ask.replay,
            ticket: entry.ticket,
            pid: entry.pid,
            reserved_at: entry.queued_at.into(),
            state: KeyState::Reserved,
            expires_at: None,
            learned: None,
            conflicts: displaced.as_ref().map_or(0, |before| before.conflicts),
            conflicting: displaced.as_ref().map(|before| before.conflicting.clone()).unwrap_or_default(),
            displaced,
        };
        self.put_key(record, entry.connection.into_iter().collect(), out);
    }

    /// The turn of a ticket has come, which may have used a key.
    pub(super) fn key_started(&mut self, entry: &Entry, turn: Turn, out: &mut Vec<Effect>) {
        let Some(mut record) = self.keys.of_ticket(entry.ticket).cloned() else { return };
        record.state = KeyState::Running { token: turn.token, started_at: turn.active_at.into() };
        record.displaced = None;
        self.put_key(record, entry.connection.into_iter().collect(), out);
    }

    /// A ticket has ended, which may have used a key: those who wait for its outcome are told, or one of them is the next
    /// to use the key.
    pub(super) fn key_ended(
        &mut self,
        now: Time,
        entry: &Entry,
        (how, change): (Outcome, Change),
        out: &mut Vec<Effect>,
    ) {
        let Some(mut record) = self.keys.of_ticket(entry.ticket).cloned() else { return };
        record.pid = entry.pid;
        let hold: Vec<ConnectionId> = entry.connection.into_iter().collect();
        let (Some(turn), Change::Ended { outcome, exit_status, .. }) = (entry.turn(), change) else {
            return self.free_key(now, entry, (record, hold), out);
        };
        // Who gives a turn back without a command has done what it was for, unless it was told to stop.
        let is_stopped = outcome == Outcome::Superseded;
        let known = if how == Outcome::Done { Some(exit_status) } else { record.learned.map(Some) };
        let known = known.map(|status| status.or((!is_stopped).then_some(0)));
        if is_stopped && known.is_some_and(|status| status != Some(0)) {
            return self.free_key(now, entry, (record, hold), out);
        }
        let state = record.after((turn.token, turn.active_at.into()), known.flatten(), now.into());
        self.end_key(now, record, (state, hold), out);
    }

    /// A ticket has ended so that its key is as if it had not used it.
    fn free_key(
        &mut self,
        now: Time,
        entry: &Entry,
        (record, mut hold): (KeyRecord, Vec<ConnectionId>),
        out: &mut Vec<Effect>,
    ) {
        let name = record.name.clone();
        let before = record.without_turn(now);
        match &before {
            Some(before) => {
                hold.extend(self.connections_following(&name));
                self.put_key(before.clone(), hold, out);
            }
            None => self.forget_key(&name, hold, out),
        }
        match (entry.superseded(), before) {
            (Some(by), _) => self.replace_followers(&name, (entry.ticket, by), out),
            (None, Some(before)) => self.tell_followers(&before, out),
            (None, None) => _ = self.keys.vacant.insert(name),
        }
    }

    /// Records how the turn of a key ended, and tells those who wait for that.
    fn end_key(
        &mut self,
        now: Time,
        mut record: KeyRecord,
        (state, mut hold): (KeyState, Vec<ConnectionId>),
        out: &mut Vec<Effect>,
    ) {
        record.end(state, now);
        hold.extend(self.connections_following(&record.name));
        self.put_key(record.clone(), hold, out);
        self.tell_followers(&record, out);
    }

    /// How the command of a ticket ended is known only now that the ticket has ended; or will be known when it does.
    pub(super) fn key_learned(
        &mut self,
        now: Time,
        ticket: Ticket,
        (exit_status, hold): (i32, Vec<ConnectionId>),
        out: &mut Vec<Effect>,
    ) {
        let Some(mut record) = self.keys.of_ticket(ticket).cloned() else { return };
        match record.state {
            KeyState::Unknown { token, started_at, ended_at } => {
                let state = record.after((token, started_at), Some(exit_status), ended_at);
                self.end_key(now, record, (state, hold), out);
            }
            KeyState::Running { .. } => {
                record.learned = Some(exit_status);
                self.put_key(record, hold, out);
            }
            KeyState::Reserved | KeyState::Completed(_) | KeyState::Freed(_) => {}
        }
    }

    /// Somebody used a key for another command.
    pub(super) fn note_conflict(&mut self, name: &KeyName, fingerprint: Fingerprint, out: &mut Vec<Effect>) {
        let Some(mut record) = self.keys.records.get(name).cloned() else { return };
        record.conflict(fingerprint);
        self.put_key(record, Vec::new(), out);
    }

    /// What an earlier daemon knew of a key. What became of its ticket is known by now.
    pub(super) fn past_key(&mut self, now: Time, mut record: KeyRecord, out: &mut Vec<Effect>) {
        let ticket = record.ticket;
        let entry = self.tickets.get(&ticket);
        let is_over = matches!(record.state, KeyState::Completed(_) | KeyState::Freed(_));
        let is_its_own =
            |entry: &Entry| record.is_under_way() && entry.uid == record.name.uid && entry.domain == record.name.domain;
        let is_known = self.keys.records.contains_key(&record.name);
        if is_known || !is_over && (self.keys.of_ticket(ticket).is_some() || !entry.is_none_or(is_its_own)) {
            return;
        }
        let before = record.clone();
        match (record.state, entry.map(Entry::turn)) {
            (KeyState::Reserved, None) => {
                let name = record.name.clone();
                let known = record.without_turn(now).filter(|known| self.keys.of_ticket(known.ticket).is_none());
                match known {
                    Some(known) => self.put_key(known, Vec::new(), out),
                    None => out.push(Effect::Key(KeyChange { name, record: None, hold: Vec::new() })),
                }
                return;
            }
            (KeyState::Running { token, started_at }, None) => {
                record.end(record.after((token, started_at), None, now.into()), now);
            }
            (KeyState::Reserved | KeyState::Running { .. }, Some(Some(turn))) => {
                record.state = KeyState::Running { token: turn.token, started_at: turn.active_at.into() };
                record.displaced = None;
            }
            (KeyState::Running { .. }, Some(None)) => record.state = KeyState::Reserved,
            (KeyState::Reserved, Some(None)) => {}
            (KeyState::Unknown { .. } | KeyState::Completed(_) | KeyState::Freed(_), _) => {
                if record.expires_at.is_none() {
                    record.expires_at = Some(now + record.ttl);
                }
                if record.is_expired(now) {
                    out.push(Effect::Key(KeyChange { name: record.name, record: None, hold: Vec::new() }));
                    return;
                }
            }
        }
        if record == before {
            self.keys.put(record, &mut self.timers);
        } else {
            self.put_key(record, Vec::new(), out);
        }
    }

    /// Lets go of keys that have expired, some at a time.
    pub(super) fn prune_keys(&mut self, now: Time, out: &mut Vec<Effect>) {
        for name in self.keys.pop_expired(now) {
            self.forget_key(&name, Vec::new(), out);
        }
        self.keys.plan_prune(&mut self.timers);
    }
}
