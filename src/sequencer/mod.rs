//! The pure core: who stands in which line, and who has a turn.
//!
//! Time and inputs go in, effects come out, in order. There is no clock, socket, file, thread or randomness in here,
//! and it cannot fail: a refusal is an effect. The same inputs at the same times always give the same effects.
//!
//! What one input brings about always comes in this order: what ended is recorded, those whom that concerns are told,
//! the asker is answered, and only then the next turn is recorded and told.

mod input;
mod enqueue;
mod restored;
mod effect;
mod view;
mod limits;
mod pattern;
mod policy;
mod policies;
mod setting;
mod pause;
mod obstacle;
mod sequence;
mod again;
mod turn;
mod give_back;
mod keep;
mod wait;
mod succession;
mod away;
mod ends;
mod leaving;
mod rounds;
mod line;
mod order;
mod lanes;
mod ticket;
mod tickets;
mod by_ticket;
mod stretch;
mod connections;
mod timers;
mod idle;
mod supersede;
mod rest;
mod key;
mod keys;
mod key_life;
mod follow;
mod nested;
mod cycle;
mod reach;
mod stuck;
mod refusal;
mod key_refusal;
mod check;
#[cfg(test)]
mod tests;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasherDefault;

use serde::{Deserialize, Serialize};

pub(crate) use by_ticket::ByTicket;
pub use effect::{Change, Effect, PastChange, PolicyChange, Record};
pub use enqueue::{Enqueue, Wishes};
pub use follow::KeyTold;
pub use input::{ConnectionId, Input, Peer, Secret, Which};
pub use key::{KeyAsk, KeyChange, KeyName, KeyOutcome, KeyRecord, KeyState};
pub use limits::Limits;
pub use nested::{Guest, Within};
pub use obstacle::Obstacle;
pub use pattern::{Glob, Pattern};
pub use pause::Pause;
pub use policies::{FilePolicy, Policies, PolicySource};
pub use policy::{Policy, PolicyError, PolicyValue, Rate};
pub use rest::Rest;
pub use restored::{Restored, RestoredTurn};
pub use supersede::Successor;
pub use view::{LineView, TicketView};

use crate::clock::Time;
use crate::protocol::{Domain, Ticket, Token};

use away::Away;
use connections::Connections;
use cycle::Wide;
use ends::PastEnds;
use give_back::Done;
use idle::IdleDomains;
use keys::Keys;
use leaving::{Leaving, refuse_after_all};
use line::Line;
use nested::Families;
use rest::Resting;
use rounds::Rounds;
use supersede::Groups;
use tickets::Tickets;
use timers::{Timer, Timers};
use wait::PendingWait;

/// Hashes alike in every process. Where an order would show, maps are not iterated, or sorted first.
type FixedHasher = BuildHasherDefault<DefaultHasher>;

/// The same for numbers that nobody but the daemon chooses.
type NumberHasher = foldhash::fast::FixedState;

/// The lines of all domains.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sequencer {
    limits: Limits,
    next_ticket: Ticket,
    next_token: Token,
    next_wait: u64,
    /// The latest moment that was heard of.
    now: Time,
    /// The moment of the input at hand: later than `now` while deadlines are done that were due before it.
    present: Time,
    leaving: Leaving,
    /// Turns given.
    turns: u64,
    /// Tickets that wait.
    waiting: usize,
    /// Every ticket that waits or has a turn.
    tickets: Tickets,
    /// Every domain in use: those with a holder or with waiters. Boxed, for half of a table may be empty.
    lines: HashMap<Domain, Box<Line>, FixedHasher>,
    policies: Policies,
    /// The domains that are paused, in use or not.
    pauses: BTreeMap<Domain, Pause>,
    resting: Resting,
    waits: BTreeMap<u64, PendingWait>,
    connections: Connections,
    timers: Timers,
    rounds: Rounds,
    idle: IdleDomains,
    away: Away,
    groups: Groups,
    families: Families,
    keys: Keys,
    wide: Wide,
    /// Tickets without a connection, by what their clients prove themselves with.
    unclaimed: BTreeSet<(Secret, Ticket)>,
    ends: PastEnds,
}

impl Sequencer {
    /// Lines without anybody in them. The first ticket and token given out are the ones given here.
    pub fn new(next_ticket: Ticket, next_token: Token) -> Sequencer {
        Sequencer::with_limits(next_ticket, next_token, Limits::default())
    }

    /// Like [`new`](Sequencer::new), with other limits.
    pub fn with_limits(next_ticket: Ticket, next_token: Token, limits: Limits) -> Sequencer {
        Sequencer {
            limits,
            next_ticket,
            next_token,
            next_wait: 0,
            now: Time::ZERO,
            present: Time::ZERO,
            leaving: Leaving::Not,
            turns: 0,
            waiting: 0,
            tickets: Tickets::default(),
            lines: HashMap::default(),
            policies: Policies::default(),
            pauses: BTreeMap::new(),
            resting: Resting::default(),
            waits: BTreeMap::new(),
            connections: Connections::default(),
            timers: Timers::default(),
            rounds: Rounds::default(),
            idle: IdleDomains::default(),
            away: Away::default(),
            groups: Groups::default(),
            families: Families::default(),
            keys: Keys::default(),
            wide: Wide::new(),
            unclaimed: BTreeSet::new(),
            ends: PastEnds::default(),
        }
    }

    /// Takes one input at `now` and appends what follows from it to `effects`, in order.
    ///
    /// Every deadline up to and including `now` is done first, as if a [`Input::Tick`] had come at its time; but a turn
    /// that comes of it begins, and its lease with it, when its client can be told, at `now`. Then comes the input, and
    /// then at most one small step of the `queue_position` messages that are due: whatever is left of those makes
    /// [`next_timeout`](Sequencer::next_timeout) answer a moment that has come already.
    ///
    /// `now` must never be earlier than in an earlier call; if it is, the later moment counts.
    ///
    /// # Panics
    ///
    /// When it finds its own state wrong, before anything comes of that: end the process then, and start again from
    /// what was recorded.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        let now = now.max(self.now);
        self.present = now;
        if self.leaving == Leaving::Frozen {
            refuse_after_all(input, effects);
            return;
        }
        if let Input::Overslept { by } = input {
            self.away.give_more_time(by, &mut self.timers);
        }
        while let Some((due, timer)) = self.timers.pop_due(now) {
            // A restored lease may have been over before this sequencer began.
            self.now = self.now.max(due);
            match timer {
                Timer::Ticket(ticket) => self.ticket_due(self.now, ticket, effects),
                Timer::Wait(wait) => self.wait_due(self.now, wait, effects),
                Timer::Away => self.away_due(self.now, effects),
                Timer::Line(domain) => self.rest_due(&domain, effects),
                Timer::Follower(follower) => self.follower_due(self.now, follower, effects),
                Timer::Keys => self.prune_keys(self.now, effects),
            }
            self.fill_vacant_keys(self.now, effects);
        }
        self.now = now;
        self.rests_over(now);
        self.take(now, input, effects);
        self.fill_vacant_keys(now, effects);
        self.tell_positions(now, effects);
    }

    fn take(&mut self, now: Time, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Sequence(request) => self.sequence(now, request, out),
            Input::Started { connection, ticket, pid, watched } => {
                self.started(connection, ticket, (pid, watched), out);
            }
            Input::Confirm { connection, ticket } => self.confirm(connection, ticket, out),
            Input::BeginsNow { ticket } => self.begins_now(ticket, out),
            Input::Done { connection, peer, which, exit_status, processes, request_id } => {
                let done = Done { connection, peer, which, exit_status, processes, request_id };
                self.done(now, &done, out);
            }
            Input::Cancel { connection, peer, which } => self.cancel(now, connection, peer, which, out),
            Input::Release { connection, peer, which, request_id } => {
                self.release(now, connection, peer, (which, request_id), out);
            }
            Input::Wait { connection, peer, domain, max_wait, within, request_id } => {
                let deadline = max_wait.map(|max_wait| now + max_wait);
                let wait = PendingWait { connection, domain, request_id, since: now, deadline, parent: None };
                self.wait(wait, (peer.uid, within), out);
            }
            Input::Found { ticket, pid } => self.found(ticket, pid, out),
            Input::Disconnected { connection } => self.disconnected(now, connection, out),
            Input::PipeClosed { ticket } => self.pipe_closed(now, ticket, out),
            Input::ProcessGone { ticket } => self.process_gone(now, ticket, out),
            Input::Restore(restored) => self.restore(now, restored, out),
            Input::PastEnd { ticket, uid, had_turn, outcome } => self.past_end(ticket, uid, (had_turn, outcome)),
            Input::PastRuns { domain, runs } => self.past_runs(&domain, runs),
            Input::PastStarts { domain, starts, last_end } => self.past_starts(&domain, (starts, last_end), out),
            Input::SetPolicy { connection, peer, pattern, policy, request_id } => {
                self.set_policy((connection, peer), (pattern, &policy), request_id, out);
            }
            Input::UnsetPolicy { connection, peer, pattern, request_id } => {
                self.unset_policy((connection, peer), &pattern, request_id, out);
            }
            Input::FilePolicies(entries) => self.file_policies(entries, out),
            Input::Pause { connection, peer, domain, reason, request_id } => {
                self.pause(now, (connection, peer), domain, (reason, request_id), out);
            }
            Input::Resume { connection, peer, domain, request_id } => {
                self.resume_domain((connection, peer), domain, request_id, out);
            }
            Input::PastPolicy { pattern, policy } => self.past_policy(&pattern, &policy, out),
            Input::PastPause { domain, pause } => self.past_pause(&domain, pause, out),
            Input::ForgetKey { connection, peer, uid, domain, key, request_id } => {
                self.forget_key_for((connection, peer), (uid, domain, key), request_id, out);
            }
            Input::PastKey(record) => self.past_key(now, *record, out),
            Input::KeyLearned { ticket, exit_status } => self.key_learned(now, ticket, (exit_status, Vec::new()), out),
            Input::Leave { keep_places: true } => self.freeze(out),
            Input::Leave { keep_places: false } => self.leave(now, out),
            Input::Overslept { .. } | Input::Tick => {}
        }
    }

    /// Whether a ticket or a `Wait` hangs on this connection.
    pub fn is_in_use(&self, connection: ConnectionId) -> bool {
        self.connections.count(connection) > 0
    }

    /// Whether a ticket hangs on this connection.
    pub fn has_ticket(&self, connection: ConnectionId) -> bool {
        self.connections.has_ticket(connection)
    }

    /// How many connections there are on which a ticket hangs.
    pub fn connections_with_tickets(&self) -> usize {
        self.connections.with_tickets()
    }

    /// Whether a turn hangs on this connection.
    pub fn has_turn(&self, connection: ConnectionId) -> bool {
        let is_turn =
            |attached| matches!(attached, connections::Attached::Ticket(ticket) if self.holder(ticket).is_some());
        self.connections.of(connection).into_iter().any(is_turn)
    }

    /// Whether this ticket has its turn, and hangs on this connection.
    pub fn has_turn_on(&self, ticket: Ticket, connection: ConnectionId) -> bool {
        self.holder(ticket).is_some_and(|(entry, _)| entry.connection == Some(connection))
    }

    /// When to call [`handle`](Sequencer::handle) with [`Input::Tick`] if no other input comes before. A moment that
    /// has come already means: at once, after whatever else is ready.
    pub fn next_timeout(&self) -> Option<Time> {
        if self.leaving == Leaving::Frozen {
            return None;
        }
        self.timers.next().into_iter().chain(self.rounds.next()).min()
    }

    /// The next ticket and token to be given out: what must be below the store's high-water mark.
    pub fn next_numbers(&self) -> (Ticket, Token) {
        (self.next_ticket, self.next_token)
    }
}
