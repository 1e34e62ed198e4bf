//! Short stories with exact effects. `c1:` is what connection 1 is told, `#1` is ticket 1.

mod turns;
mod keeping;
mod again;
mod giving_back;
mod positions;
mod limits;
mod succession;
mod away;
mod resuming;
mod beginning;
mod confirming;
mod crash;
mod growth;
mod jumps;
mod policies;
mod slots;
mod pausing;
mod priorities;
mod superseding;
mod resting;
mod together;
mod within;
mod deadlocks;
mod keys;

use std::time::Duration;

use crate::clock::Time;
use crate::protocol::{Binding, Domain, Outcome, PolicyValues, Reply, RequestId, Ticket, Token};

use super::{
    Change, ConnectionId, Effect, Enqueue, Input, Limits, PastChange, Pattern, Peer, Policy, PolicyChange, Record,
    Restored, RestoredTurn, Secret, Sequencer, Which, Wishes,
};

/// A sequencer, a moment, and what has happened since it was last looked at.
struct Story {
    sequencer: Sequencer,
    now: Time,
}

impl Story {
    fn new() -> Story {
        Story::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Story {
        Story { sequencer: Sequencer::with_limits(Ticket(1), Token(1), limits), now: Time::ZERO }
    }

    fn take(&mut self, input: Input) -> Vec<String> {
        let mut effects = Vec::new();
        self.sequencer.handle(self.now, input, &mut effects);
        self.sequencer.check_invariants();
        effects.iter().map(words).collect()
    }

    /// Lets time pass, and takes a tick then.
    fn later(&mut self, milliseconds: u64) -> Vec<String> {
        self.pass(milliseconds);
        self.take(Input::Tick)
    }

    /// Lets time pass unnoticed.
    fn pass(&mut self, milliseconds: u64) {
        self.now = self.now + Duration::from_millis(milliseconds);
    }

    fn ask(&mut self, connection: u64, id: &str) -> Vec<String> {
        self.take(Input::Sequence(request(connection, id)))
    }

    fn ask_with(&mut self, connection: u64, id: &str, change: impl FnOnce(&mut Enqueue)) -> Vec<String> {
        let mut request = request(connection, id);
        change(&mut request);
        self.take(Input::Sequence(request))
    }

    fn done(&mut self, connection: u64, which: Which) -> Vec<String> {
        self.done_as(connection, user(1_000), which, Vec::new())
    }

    fn done_as(&mut self, connection: u64, peer: Peer, which: Which, processes: Vec<u32>) -> Vec<String> {
        let connection = ConnectionId(connection);
        let request_id = Some("d".to_owned());
        self.take(Input::Done { connection, peer, which, exit_status: Some(0), processes, request_id })
    }

    fn disconnect(&mut self, connection: u64) -> Vec<String> {
        self.take(Input::Disconnected { connection: ConnectionId(connection) })
    }

    /// Sets values for a pattern; connection 0 is the operator's.
    fn set(&mut self, pattern: &str, policy: Policy) -> Vec<String> {
        let (connection, pattern) = (ConnectionId(0), Pattern::parse(pattern).unwrap());
        self.take(Input::SetPolicy { connection, peer: operator(), pattern, policy, request_id: None })
    }

    fn wait(&mut self, connection: u64, max_wait: Option<Duration>) -> Vec<String> {
        let (connection, peer) = (ConnectionId(connection), operator());
        self.take(Input::Wait { connection, peer, domain: foo(), max_wait, within: None, request_id: None })
    }

    /// Milliseconds until the next time-out.
    fn timeout(&self) -> Option<u128> {
        self.sequencer.next_timeout().map(|due| due.since(self.now).as_millis())
    }
}

fn foo() -> Domain {
    domain("foo.com")
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn id(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

fn user(uid: u32) -> Peer {
    Peer { uid, pid: 1, is_operator: false }
}

fn operator() -> Peer {
    Peer { uid: 0, pid: 1, is_operator: true }
}

/// User 1000 asks for a turn in foo.com; its process has 100 and the number of its connection.
fn request(connection: u64, request_id: &str) -> Enqueue {
    Enqueue {
        connection: ConnectionId(connection),
        peer: user(1_000),
        domain: foo(),
        request_id: Some(id(request_id)),
        positions: false,
        no_wait: false,
        max_wait: None,
        binding: Binding::Connection,
        lease: None,
        fresh: false,
        secret: None,
        resume: None,
        pid: 100 + u32::try_from(connection).unwrap(),
        command: None,
        pipe: false,
        named_process: false,
        wishes: Wishes::default(),
        confirm: false,
        says_started: false,
        key: None,
    }
}

/// Like [`request`], from a client that can prove who it is.
fn secretly(connection: u64, request_id: &str, secret: u8) -> Enqueue {
    Enqueue { secret: Some(Secret([secret; 32])), ..request(connection, request_id) }
}

/// The same request, after its client has lost its connection.
fn resuming(ticket: u64, request: Enqueue) -> Input {
    Input::Sequence(Enqueue { resume: Some(Ticket(ticket)), ..request })
}

/// A waiter of foo.com from before, whose client lives; its secret is the number of its ticket.
fn waiter(ticket: u64, request_id: &str) -> Restored {
    Restored {
        ticket: Ticket(ticket),
        domain: foo(),
        request_id: id(request_id),
        uid: 1_000,
        pid: 55,
        command: Some("make".into()),
        queued_at: Time::ZERO,
        binding: Binding::Connection,
        lease: None,
        named_process: false,
        unconfirmed: false,
        says_started: false,
        wait_until: None,
        secret: Some(Secret([u8::try_from(ticket).unwrap(); 32])),
        turn: None,
        pipes: 0,
        processes: 1,
        wishes: Wishes::default(),
        guests: Vec::new(),
    }
}

/// A turn from before with this token.
fn turn(token: u64) -> RestoredTurn {
    let active_at = Time::ZERO;
    RestoredTurn { token: Token(token), active_at, lease_until: None, max_run: None, is_fresh: false, superseded: None }
}

fn words(effect: &Effect) -> String {
    match effect {
        Effect::Admitted { ticket, follower: None } => format!("#{ticket} admitted"),
        Effect::Admitted { ticket, follower: Some(follower) } => format!("#{ticket} admitted, follower {follower}"),
        Effect::Follows { follower } => format!("follower {follower}"),
        Effect::Unfollowed { follower } => format!("follower {follower} no more"),
        Effect::Changed { ticket } => format!("#{ticket} changed"),
        Effect::Record(record) => recorded(record),
        Effect::Policy(change) => policy_changed(change),
        Effect::Past(PastChange::Forgotten { domain }) => format!("{domain} told anew"),
        Effect::Past(PastChange::Started { domain, at }) => {
            format!("{domain} began at {}ms", at.as_nanos() / 1_000_000)
        }
        Effect::Past(PastChange::Moved { domain, to, .. }) => {
            format!("{domain} began only at {}ms", to.as_nanos() / 1_000_000)
        }
        Effect::Past(PastChange::Ended { domain, at }) => format!("{domain} ended at {}ms", at.as_nanos() / 1_000_000),
        Effect::Key(change) => keys::changed(change),
        Effect::TellOutcome { connection, told } => format!("c{}: {}", connection.0, keys::outcome(told)),
        Effect::Tell { connection, reply } => format!("c{}: {}", connection.0, told(reply)),
    }
}

fn policy_changed(change: &PolicyChange) -> String {
    match change {
        PolicyChange::Set { pattern, policy, uid } => {
            format!(
                "{pattern} has {} by {uid}",
                serde_json::to_string(&PolicyValues::from(policy)).unwrap().replace('"', "")
            )
        }
        PolicyChange::Unset { pattern, uid } => format!("{pattern} has nothing by {uid}"),
        PolicyChange::Paused { domain, pause } => {
            format!("{domain} paused by {}: {}", pause.uid, pause.reason.as_deref().unwrap_or("-"))
        }
        PolicyChange::Resumed { domain, uid } => format!("{domain} resumed by {uid}"),
    }
}

fn recorded(record: &Record) -> String {
    let by = record.superseded_by.map(|by| format!(" by #{by}")).unwrap_or_default();
    let change = match record.change {
        Change::Queued => "queued".to_owned(),
        Change::Active { token, waited } => format!("active, token {token}, waited {waited:?}"),
        Change::Orphaned { token } => format!("orphaned, token {token}"),
        Change::Ended { token, outcome, exit_status, waited, held } => {
            let status = exit_status.map(|status| format!(" {status}")).unwrap_or_default();
            format!("ended {outcome:?}{by}{status}, token {token}, waited {waited:?}, held {held:?}")
        }
        Change::Left { outcome, waited } => format!("left {outcome:?}{by}, waited {waited:?}"),
    };
    format!("#{} {change}", record.ticket)
}

fn told(reply: &Reply) -> String {
    match reply {
        Reply::Queued(at) => format!("queued #{}, position {}, ahead {}", at.ticket, at.position, at.total_ahead),
        Reply::QueuePosition(at) => format!("#{} is at {}, ahead {}", at.ticket, at.position, at.total_ahead),
        Reply::Active(turn) => {
            let max_run = turn.max_run_ms.map(|max_run| format!(", at most {max_run}ms")).unwrap_or_default();
            let again = if turn.resumed { " again" } else { "" };
            format!("active{again} #{}, token {}{max_run}", turn.ticket, turn.token)
        }
        Reply::Done(done) if done.released => format!("done #{}", done.ticket.unwrap()),
        Reply::Done(_) => "done, nothing released".to_owned(),
        Reply::Confirmed(confirmed) => format!("confirmed #{}", confirmed.ticket),
        Reply::Cancelled(cancelled) => format!("cancelled #{}", cancelled.ticket),
        Reply::Released(released) => format!("released #{}", released.ticket),
        Reply::Idle(idle) => format!("{} is idle", idle.domain),
        Reply::PolicySet(reply) => format!("set for {}", reply.pattern),
        Reply::PolicyUnset(reply) => format!("unset for {}, {}", reply.pattern, reply.was_set),
        Reply::Paused(reply) => format!("paused {}: {}", reply.domain, reply.reason.as_deref().unwrap_or("-")),
        Reply::Following(reply) => format!("following #{}", reply.ticket),
        Reply::KeyForgotten(reply) => format!("{} of {} forgotten", reply.key, reply.domain),
        Reply::Resumed(reply) => format!("resumed {}, {}", reply.domain, reply.was_paused),
        Reply::Error(error) => format!("{}: {}", serde_json::to_string(&error.code).unwrap(), error.message),
        other => format!("{other:?}"),
    }
    .replace('"', "")
}
