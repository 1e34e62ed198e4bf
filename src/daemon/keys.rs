//! Run-once keys: as they are written down and found again, as they are shown, and what their commands wrote.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::ledger::form;
use super::owner::Owner;
use super::report::{WallClock, wall_text};
use crate::clock::{Moment, Time};
use crate::protocol::limits::{KEY_OUTPUT_BYTES_MAX, KEY_OUTPUT_PARTS_MAX};
use crate::protocol::{
    Domain, ErrorCode, ErrorReply, Key, KeyDone, KeyListReply, KeyOutput, KeyStateName, KeyStatus, OutputPart, Reply,
    Ticket, key_record_id,
};
use crate::sequencer::{
    ConnectionId, Input, KeyChange, KeyName, KeyOutcome, KeyRecord, KeyState, KeyTold, Peer, Sequencer,
};
use crate::store::{self, Setting, SettingKind, find_note};

/// What commands wrote whose keys record that.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    /// Of those whose turn has not ended, as far as it was sent, by their connections.
    coming: HashMap<Ticket, (ConnectionId, Sent), FixedState>,
    /// Of the one whose turn has just ended.
    ended: Option<(Ticket, KeyOutput)>,
    /// The records that have one, by id.
    written: HashSet<String>,
    /// Where nothing is written down, all of them.
    kept: HashMap<String, KeyOutput>,
}

#[derive(Debug, Default)]
struct Sent {
    output: KeyOutput,
    bytes: usize,
}

/// A key, as it is written down.
#[derive(Debug, Serialize, Deserialize)]
struct SavedKey {
    /// The run of the machine whose clock its moments are by.
    boot_id: String,
    /// When the machine started, in milliseconds since 1970.
    up_since_ms: i64,
    record: KeyRecord,
}

/// Which keys somebody asks for.
#[derive(Clone, Debug)]
pub(super) struct KeyAsked {
    /// Whose; only operators may ask for those of others.
    pub(super) uid: Option<u32>,
    pub(super) domain: Option<Domain>,
    pub(super) key: Option<Key>,
    pub(super) keys_max: usize,
    /// Repeated in the reply.
    pub(super) request_id: Option<String>,
}

impl Outputs {
    /// Those of an earlier daemon.
    pub(super) fn found(written: Vec<String>) -> Outputs {
        Outputs { written: written.into_iter().collect(), ..Outputs::default() }
    }

    /// What the command of a ticket wrote comes by a connection, piece by piece; another connection begins anew.
    fn add(&mut self, ticket: Ticket, connection: ConnectionId, more: KeyOutput) {
        let (from, sent) = self.coming.entry(ticket).or_insert_with(|| (connection, Sent::default()));
        if *from != connection {
            (*from, *sent) = (connection, Sent::default());
        }
        for part in more.parts {
            if sent.output.truncated {
                return;
            }
            let bytes = part.bytes().unwrap_or_default();
            let room = KEY_OUTPUT_BYTES_MAX - sent.bytes;
            sent.output.truncated = bytes.len() > room || sent.output.parts.len() == KEY_OUTPUT_PARTS_MAX;
            let kept = &bytes[..bytes.len().min(room)];
            if kept.is_empty() || sent.output.parts.len() == KEY_OUTPUT_PARTS_MAX {
                continue;
            }
            sent.bytes += kept.len();
            sent.output.parts.push(if kept.len() < bytes.len() { OutputPart::new(part.stream, kept) } else { part });
        }
        sent.output.truncated |= more.truncated;
    }

    /// The turn of a ticket has ended.
    pub(super) fn end(&mut self, ticket: Ticket) {
        self.ended = self.coming.remove(&ticket).map(|(_, sent)| (ticket, sent.output));
    }

    fn take(&mut self, ticket: Ticket) -> Option<KeyOutput> {
        self.ended.take().filter(|(ended, _)| *ended == ticket).map(|(_, output)| output)
    }
}

/// What an earlier daemon knew of keys, by the clock of this run of the machine; and what is to be removed, since it has
/// expired.
pub(super) fn restore(
    rows: Vec<Setting>,
    boot_id: &str,
    now: Time,
    clock: &WallClock,
) -> (Vec<KeyRecord>, Vec<store::Change>) {
    let (mut records, mut expired) = (Vec::new(), Vec::new());
    for Setting { kind, name, body } in rows {
        let saved = serde_json::from_slice::<SavedKey>(&body);
        let Ok(saved) = saved.inspect_err(|why| warn!("key record {name} is not understood by this version: {why}"))
        else {
            continue;
        };
        match saved.here(boot_id, clock) {
            Some(record) if record.expires_at.is_none_or(|at| at > now) => records.push(record),
            _ => {
                expired.push(store::Change::Output { name: name.clone(), body: None });
                expired.push(store::Change::Setting { kind, name, body: None });
            }
        }
    }
    (records, expired)
}

impl SavedKey {
    /// The record, its moments by the clock of this run of the machine; nothing of one that expired before that began.
    /// Only across a restart of the machine the wall clock decides.
    fn here(self, boot_id: &str, clock: &WallClock) -> Option<KeyRecord> {
        let SavedKey { boot_id: then, up_since_ms, record } = self;
        if then == boot_id {
            return Some(record);
        }
        moved_record(record, up_since_ms.saturating_sub(clock.milliseconds(Time::ZERO)))
    }
}

/// The same, its moments so many milliseconds later; nothing of one that would have expired before the first.
fn moved_record(mut record: KeyRecord, later: i64) -> Option<KeyRecord> {
    let moved = |moment: Moment| Moment::from_millis(moment.as_millis().saturating_add(later));
    record.reserved_at = moved(record.reserved_at);
    record.state = match record.state {
        KeyState::Reserved => KeyState::Reserved,
        KeyState::Running { token, started_at } => KeyState::Running { token, started_at: moved(started_at) },
        KeyState::Completed(outcome) => KeyState::Completed(moved_outcome(outcome, moved)),
        KeyState::Freed(outcome) => KeyState::Freed(moved_outcome(outcome, moved)),
        KeyState::Unknown { token, started_at, ended_at } => {
            KeyState::Unknown { token, started_at: moved(started_at), ended_at: moved(ended_at) }
        }
    };
    if let Some(at) = record.expires_at {
        let at = u64::try_from(moved(at.into()).as_millis()).ok()?;
        record.expires_at = Some(Time::from_nanos(at.saturating_mul(1_000_000)));
    }
    let displaced = record.displaced.take().and_then(|before| moved_record(*before, later));
    record.displaced = displaced.map(Box::new);
    Some(record)
}

fn moved_outcome(outcome: KeyOutcome, moved: impl Fn(Moment) -> Moment) -> KeyOutcome {
    KeyOutcome { started_at: moved(outcome.started_at), ended_at: moved(outcome.ended_at), ..outcome }
}

fn id(name: &KeyName) -> String {
    key_record_id(name.uid, &name.domain, &name.key)
}

/// What a client is told of the outcome of its key, but for what was written.
pub(super) fn key_done(told: &KeyTold, clock: &WallClock) -> Option<KeyDone> {
    let (KeyState::Completed(outcome) | KeyState::Freed(outcome)) = told.record.state else { return None };
    let KeyName { domain, key, .. } = told.record.name.clone();
    Some(KeyDone {
        domain,
        request_id: told.request_id.clone(),
        key,
        exit_status: outcome.exit_status,
        ticket: told.record.ticket,
        token: outcome.token,
        pid: told.record.pid,
        started_at: text(outcome.started_at, clock),
        ended_at: text(outcome.ended_at, clock),
        ended_ago_ms: age_ms(outcome.ended_at, clock),
        followed: told.followed,
        output: None,
    })
}

fn key_status(record: &KeyRecord, followers: u64, clock: &WallClock) -> KeyStatus {
    let (state, token, started_at, ended_at, exit_status) = match record.state {
        KeyState::Reserved => (KeyStateName::Reserved, None, None, None, None),
        KeyState::Running { token, started_at } => (KeyStateName::Running, Some(token), Some(started_at), None, None),
        KeyState::Completed(it) | KeyState::Freed(it) => {
            (KeyStateName::Completed, Some(it.token), Some(it.started_at), Some(it.ended_at), Some(it.exit_status))
        }
        KeyState::Unknown { token, started_at, ended_at } => {
            (KeyStateName::Unknown, Some(token), Some(started_at), Some(ended_at), None)
        }
    };
    let KeyName { uid, domain, key } = record.name.clone();
    KeyStatus {
        id: id(&record.name),
        uid,
        domain,
        key,
        state,
        fingerprint: record.fingerprint,
        ticket: record.ticket,
        pid: record.pid,
        reserved_at: text(record.reserved_at, clock),
        token,
        started_at: started_at.map(|at| text(at, clock)),
        ended_at: ended_at.map(|at| text(at, clock)),
        ended_ago_ms: ended_at.map(|at| age_ms(at, clock)),
        exit_status,
        ttl_ms: crate::clock::milliseconds(record.ttl),
        expires_at: record.expires_at.map(|at| text(at.into(), clock)),
        expires_in_ms: record.expires_at.map(|at| crate::clock::milliseconds(at.since(clock.now()))),
        keep_failures: record.keep_failures,
        records_output: record.records_output,
        followers,
        conflicts: record.conflicts,
        conflicting: record.conflicting.clone(),
    }
}

fn text(moment: Moment, clock: &WallClock) -> String {
    wall_text(clock.milliseconds(Time::ZERO).saturating_add(moment.as_millis()))
}

fn age_ms(moment: Moment, clock: &WallClock) -> u64 {
    u64::try_from(Moment::from(clock.now()).as_millis().saturating_sub(moment.as_millis())).unwrap_or(0)
}

/// The reply to `key_list`: a user's own keys, and for an operator those of all.
fn key_list(sequencer: &Sequencer, peer: Peer, asked: &KeyAsked, clock: &WallClock) -> Reply {
    let uid = asked.uid.or((!peer.is_operator).then_some(peer.uid));
    let (mut keys, mut more) = (Vec::new(), 0);
    for record in sequencer.keys(uid, asked.domain.as_ref(), asked.key.as_ref()) {
        if keys.len() < asked.keys_max {
            keys.push(key_status(record, sequencer.followers(&record.name), clock));
        } else {
            more += 1;
        }
    }
    Reply::KeyList(KeyListReply { request_id: asked.request_id.clone(), keys, more })
}

impl Owner {
    pub(super) fn key_list(&mut self, peer: Peer, asked: &KeyAsked) -> Reply {
        if asked.uid.is_some_and(|uid| uid != peer.uid) && !peer.is_operator {
            let message =
                "keys of other users are for root and the daemon's own user: name your own, or none".to_owned();
            let (code, request_id) = (ErrorCode::Forbidden, asked.request_id.clone());
            return Reply::Error(ErrorReply { code, message, domain: None, request_id, ticket: None });
        }
        // What is due by now has happened, for whoever looks.
        self.input(Input::Tick);
        let clock = self.wall_clock().clone();
        key_list(&self.sequencer, peer, asked, &clock)
    }

    /// What a command wrote comes. Refused unless it is this connection's, and its key records it.
    pub(super) fn take_output(&mut self, ticket: Ticket, connection: ConnectionId, output: KeyOutput) {
        if self.sequencer.recorded_key(ticket, connection).is_some() {
            return self.outputs.add(ticket, connection, output);
        }
        let (code, message) = (
            ErrorCode::NotActive,
            format!("this connection has no turn of ticket {ticket} with a key that records what is written"),
        );
        let error = ErrorReply { code, message, domain: None, request_id: None, ticket: Some(ticket) };
        self.tell(connection, &Reply::Error(error));
    }

    /// A key has changed.
    pub(super) fn note_key(&mut self, change: KeyChange) {
        let KeyChange { name, record, hold } = change;
        let id = id(&name);
        let has_ended = |record: &KeyRecord| matches!(record.state, KeyState::Completed(_) | KeyState::Freed(_));
        let ended = record.as_deref().filter(|record| has_ended(record));
        let output = ended.and_then(|record| self.outputs.take(record.ticket));
        // That of an earlier use of the key goes when the next one begins.
        let is_stale = ended.is_none();
        if self.ledger.path().is_none() {
            if is_stale {
                self.outputs.kept.remove(&id);
            }
            self.outputs.kept.extend(output.map(|output| (id, output)));
            return;
        }
        if let Some(output) = output {
            self.outputs.written.insert(id.clone());
            self.ledger.set(store::Change::Output { name: id.clone(), body: Some(form(&output)) });
        } else if is_stale && self.outputs.written.remove(&id) {
            self.ledger.set(store::Change::Output { name: id.clone(), body: None });
        }
        let up_since_ms = self.wall_clock().milliseconds(Time::ZERO);
        let boot_id = self.rests.boot_id().to_owned();
        let body = record.map(|record| form(&SavedKey { boot_id, up_since_ms, record: *record }));
        self.ledger.set(store::Change::Setting { kind: SettingKind::Key, name: id, body });
        self.hold(&hold);
    }

    /// What keeps a turn is gone: if it is to do something once, its client may have left word how that ended.
    pub(super) fn learn(&mut self, ticket: Ticket) {
        let Some(uid) = self.sequencer.key_of(ticket).map(|name| name.uid) else { return };
        let Some(found) = find_note(&self.facts.place.done, ticket) else { return };
        let me = rustix::process::geteuid().as_raw();
        if [uid, me, 0].contains(&found.uid)
            && let Some(exit_status) = found.note.exit_status
        {
            self.input(Input::KeyLearned { ticket, exit_status });
        }
    }

    /// Tells a client the outcome of its key; what was written is read beside the loop.
    pub(super) fn tell_outcome(&mut self, connection: ConnectionId, told: &KeyTold) {
        let Some(mut done) = key_done(told, self.wall_clock()) else { return };
        let id = id(&told.record.name);
        // Another may have been told it just now, or be about to be.
        self.hold_back(connection);
        if told.replay && self.outputs.written.contains(&id) {
            if let Some(link) = self.clients.get(&connection).cloned() {
                self.batch.outputs.push((link, Box::new(done), id));
            }
            return;
        }
        done.output = self.outputs.kept.get(&id).filter(|_| told.replay).cloned();
        self.tell(connection, &Reply::KeyDone(done));
    }

    /// Restores what an earlier daemon knew of keys. How the turns of their tickets ended while there was no daemon
    /// is what their clients have `told`, or what the history says.
    pub(super) fn restore_keys(&mut self, rows: Vec<Setting>, told: &[(Ticket, i32)]) {
        let (now, clock) = (self.batch.now, self.wall_clock().clone());
        let (records, expired) = restore(rows, self.rests.boot_id(), now, &clock);
        self.ledger.set_all(expired);
        if !records.is_empty() {
            // The daemon that wrote them may have been killed before they were on the disk, and this one tells of them.
            self.hold(&[]);
        }
        for record in records {
            let ticket = record.ticket;
            let is_completed = matches!(record.state, KeyState::Completed(_) | KeyState::Freed(_));
            self.input(Input::PastKey(Box::new(record)));
            if is_completed || self.sequencer.saved(ticket).is_some() {
                continue;
            }
            let by_word = told.iter().find(|(ended, _)| *ended == ticket).map(|(_, exit_status)| *exit_status);
            if let Some(exit_status) = by_word.or_else(|| self.ledger.exit_status(ticket)) {
                self.input(Input::KeyLearned { ticket, exit_status });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::protocol::{Fingerprint, Token};

    const HOUR: Duration = Duration::from_hours(1);

    /// A key whose command ran from 1 s to 2 s after the machine had started, and that expires an hour later.
    fn record() -> KeyRecord {
        let at = |seconds: i64| Moment::from_millis(seconds * 1_000);
        KeyRecord {
            name: KeyName { uid: 1, domain: Domain::parse("a").unwrap(), key: Key::parse("k").unwrap() },
            fingerprint: Fingerprint::of([]),
            ttl: HOUR,
            keep_failures: false,
            records_output: false,
            ticket: Ticket(1),
            pid: 2,
            reserved_at: at(1),
            state: KeyState::Completed(KeyOutcome {
                exit_status: 0,
                token: Token(1),
                started_at: at(1),
                ended_at: at(2),
            }),
            expires_at: Some(Time::ZERO + Duration::from_secs(2) + HOUR),
            learned: None,
            displaced: None,
            conflicts: 0,
            conflicting: Vec::new(),
        }
    }

    /// What is found when the machine, started at `up_since_ms`, has been up for so long.
    fn found(boot_id: &str, up_since_ms: i64, up: Duration) -> Option<KeyRecord> {
        let saved = SavedKey { boot_id: "before".to_owned(), up_since_ms: 1_000_000, record: record() };
        let row = Setting { kind: SettingKind::Key, name: id(&saved.record.name), body: form(&saved) };
        let now = Time::ZERO + up;
        let wall = Timestamp::from_millisecond(up_since_ms + i64::try_from(up.as_millis()).unwrap()).unwrap();
        let (records, changes) = restore(vec![row], boot_id, now, &WallClock::of(now, wall));
        assert_eq!(records.is_empty(), changes.len() == 2, "what has expired is removed, with what was written");
        records.into_iter().next()
    }

    #[test]
    fn in_the_same_run_of_the_machine_the_wall_clock_says_nothing() {
        assert_eq!(found("before", 9_000_000_000, HOUR), Some(record()));
        assert_eq!(found("before", 1_000_000, HOUR + Duration::from_secs(2)), None);
    }

    #[test]
    fn time_that_the_machine_was_off_counts() {
        let half = HOUR / 2;
        let off_ms = i64::try_from(half.as_millis()).unwrap();
        let expires = half + Duration::from_secs(2);
        let record = found("after", 1_000_000 + off_ms, Duration::from_secs(5)).unwrap();
        assert_eq!(record.expires_at, Some(Time::ZERO + expires));
        let KeyState::Completed(outcome) = record.state else { panic!("{record:?}") };
        assert_eq!(outcome.ended_at, Moment::from_millis(2_000 - off_ms), "before the machine was started");
        assert_eq!(found("after", 1_000_000 + off_ms, expires), None);
        assert_eq!(found("after", 1_000_000 + 3 * off_ms, Duration::from_secs(5)), None);
    }

    #[test]
    fn what_was_written_is_kept_up_to_its_limit_and_another_connection_begins_anew() {
        let mut outputs = Outputs::default();
        let part = |bytes: usize| KeyOutput {
            parts: vec![OutputPart::new(crate::protocol::Stream::Stdout, &vec![b'x'; bytes])],
            truncated: false,
        };
        for bytes in [KEY_OUTPUT_BYTES_MAX - 2, 0, 3, 1] {
            outputs.add(Ticket(1), ConnectionId(1), part(bytes));
        }
        outputs.end(Ticket(1));
        let output = outputs.take(Ticket(1)).unwrap();
        let lengths: Vec<usize> = output.parts.iter().map(|part| part.bytes().unwrap().len()).collect();
        assert_eq!((lengths, output.truncated), (vec![KEY_OUTPUT_BYTES_MAX - 2, 2], true));
        for _ in 0..=KEY_OUTPUT_PARTS_MAX {
            outputs.add(Ticket(1), ConnectionId(1), part(1));
        }
        outputs.end(Ticket(1));
        let output = outputs.take(Ticket(1)).unwrap();
        assert_eq!((output.parts.len(), output.truncated), (KEY_OUTPUT_PARTS_MAX, true));
        outputs.add(Ticket(2), ConnectionId(1), part(5));
        outputs.add(Ticket(2), ConnectionId(2), part(7));
        outputs.end(Ticket(2));
        assert_eq!(outputs.take(Ticket(2)).unwrap().parts, part(7).parts);
        assert!(outputs.take(Ticket(2)).is_none());
    }
}
