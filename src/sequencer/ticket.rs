//! One ticket: what is known of a request while it lives.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::protocol::{Active, Binding, Domain, HolderState, Key, Outcome, Reply, RequestId, Ticket, Token};

use super::nested::is_guest_in;
use super::policy::milliseconds_up;
use super::refusal::About;
use super::{Change, ConnectionId, Effect, Enqueue, Guest, Peer, Record, Secret, Successor, TicketView, Wishes};

/// A request that waits or has a turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) ticket: Ticket,
    pub(super) domain: Domain,
    pub(super) request_id: RequestId,
    /// The user who asked first; nobody else can take the request up again.
    pub(super) uid: u32,
    pub(super) pid: u32,
    pub(super) command: Option<Arc<str>>,
    pub(super) queued_at: Time,
    /// What its client proves itself with when it comes back.
    pub(super) secret: Option<Secret>,
    /// The client's connection. Without one a waiter is away, and a holder is left to what else keeps its turn.
    pub(super) connection: Option<ConnectionId>,
    pub(super) keepers: Keepers,
    /// What only few have.
    pub(super) extra: Option<Box<Extra>>,
    pub(super) state: State,
}

/// What only few tickets have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extra {
    pub(super) wishes: Wishes,
    /// Who made its client be told `superseded`.
    pub(super) superseded: Option<Successor>,
    /// The lines that it has by a turn that it was made within.
    pub(super) guests: Vec<Guest>,
    /// How long the turn lasts, if its binding is a lease.
    pub(super) lease: Option<Duration>,
    /// How long its turn may take by the policy with which that began.
    pub(super) max_run: Option<Duration>,
}

/// What keeps a ticket besides its connection.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Keepers {
    pub(super) binding: Binding,
    pub(super) named_process: bool,
    /// Whether its client, too, keeps the turn until it has confirmed it.
    pub(super) unconfirmed: bool,
    /// Whether its client says when what it has the turn for begins.
    pub(super) says_started: bool,
    /// Pipes that are watched and not closed. More than one when the request was taken up again.
    pub(super) pipes: u32,
    /// Processes that are watched and not gone.
    pub(super) processes: u32,
}

/// A ticket is in one of two states, and each has what only it needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum State {
    Waiting(Waiting),
    Active(Turn),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// When it is refused with `timed_out`.
    pub(super) deadline: Option<Time>,
    /// What its client was told last.
    pub(super) told: Place,
    /// When it was last told by `queue_position`.
    pub(super) told_at: Option<Time>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) token: Token,
    pub(super) active_at: Time,
    pub(super) lease_until: Option<Time>,
    /// Whether its client has not said yet that it goes on.
    pub(super) is_fresh: bool,
}

/// Where a waiter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) position: u32,
    pub(super) total_ahead: u32,
}

impl Entry {
    /// How it wants to be treated.
    pub(super) fn wishes(&self) -> &Wishes {
        self.extra.as_ref().map_or(Wishes::plain(), |extra| &extra.wishes)
    }

    /// Every line that it is for.
    pub(super) fn names(&self) -> impl Iterator<Item = &Domain> + Clone {
        std::iter::once(&self.domain).chain(&self.wishes().also)
    }

    /// Those that it stands in, or has slots of its own in.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Domain> + Clone {
        let guests = self.guests();
        self.names().filter(|domain| guests.is_empty() || !is_guest_in(guests, domain))
    }

    /// Those that it has by a turn that it was made within.
    pub(super) fn guests(&self) -> &[Guest] {
        self.extra.as_ref().map_or(&[], |extra| &extra.guests)
    }

    /// Whether `request` is for the same lines.
    pub(super) fn is_for_same_lines(&self, request: &Enqueue) -> bool {
        self.wishes().are_lines(&self.domain, &request.wishes, &request.domain)
    }

    pub(super) fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// How long the turn lasts, if its binding is a lease.
    pub(super) fn lease(&self) -> Option<Duration> {
        self.extra.as_ref()?.lease
    }

    pub(super) fn set_lease(&mut self, lease: Option<Duration>) {
        if lease != self.lease() {
            self.extra_mut().lease = lease;
        }
    }

    /// How long its turn may take by the policy with which that began.
    pub(super) fn max_run(&self) -> Option<Duration> {
        self.extra.as_ref()?.max_run
    }

    /// Who made its client be told `superseded`.
    pub(super) fn superseded(&self) -> Option<Successor> {
        self.extra.as_ref()?.superseded
    }

    /// The turn it has, if it has one.
    pub(super) fn turn(&self) -> Option<Turn> {
        match self.state {
            State::Waiting(_) => None,
            State::Active(turn) => Some(turn),
        }
    }

    /// The moment at which it ends by itself.
    pub(super) fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Waiting(waiting) => waiting.deadline,
            State::Active(turn) => turn.lease_until,
        }
    }

    /// How long it waits at most, from when it came.
    pub(super) fn longest_wait(&self) -> Option<Duration> {
        Some(self.deadline()?.since(self.queued_at))
    }

    /// How long it waited, or has waited by `now`.
    pub(super) fn waited(&self, now: Time) -> Duration {
        self.turn().map_or(now, |turn| turn.active_at).since(self.queued_at)
    }

    /// Whether it has its turn, and its client has still to say that what that is for begins.
    pub(super) fn is_to_begin(&self) -> bool {
        self.keepers.says_started && self.turn().is_some_and(|turn| turn.is_fresh)
    }

    /// Whether its client may still come back after a restart to say so.
    pub(super) fn may_say_started(&self) -> bool {
        let is_waited_for = self.keepers.binding == Binding::Connection || self.keepers.unconfirmed;
        self.secret.is_some() && is_waited_for
    }

    /// Whether a holder still has what keeps its turn.
    pub(super) fn is_kept(&self) -> bool {
        match self.keepers.binding {
            Binding::Connection => self.connection.is_some() || self.keepers.outlive_the_client(),
            Binding::Process => self.keepers.outlive_the_client(),
            // After a restart the processes stand for the client.
            Binding::Lease => !self.hangs_on_its_client() || self.keepers.outlive_the_client(),
        }
    }

    /// Whether an unconfirmed turn is without its client: then whatever else of it goes, it goes.
    pub(super) fn hangs_on_its_client(&self) -> bool {
        self.keepers.unconfirmed && self.connection.is_none()
    }

    /// Whether a holder's turn would go on without this daemon and without its client.
    pub(super) fn outlives_the_daemon(&self) -> bool {
        let is_bound = self.keepers.binding == Binding::Lease || self.keepers.outlive_the_client();
        is_bound && !self.keepers.unconfirmed
    }

    /// Whether it waits for its client to come back.
    pub(super) fn is_away(&self) -> bool {
        self.connection.is_none() && matches!(self.state, State::Waiting(_))
    }

    /// Whether a waiter's client can still be there to wait: of one that is away its processes say so.
    pub(super) fn may_wait(&self) -> bool {
        let by_process = self.is_away() || self.keepers.binding == Binding::Process;
        !by_process || self.keepers.processes > 0
    }

    /// Whether `peer` may end it.
    pub(super) fn is_of(&self, peer: Peer) -> bool {
        self.uid == peer.uid || peer.is_operator
    }

    pub(super) fn holder_state(&self) -> HolderState {
        match self.keepers.binding {
            Binding::Connection if self.connection.is_some() => HolderState::Attached,
            Binding::Connection => HolderState::Orphaned,
            Binding::Process => HolderState::Process,
            Binding::Lease => HolderState::Lease,
        }
    }

    pub(super) fn about(&self) -> About {
        About {
            domain: Some(self.domain.clone()),
            request_id: Some(self.request_id.to_string()),
            ticket: Some(self.ticket),
        }
    }

    pub(super) fn record(&self, at: Time, change: Change) -> Effect {
        Effect::Record(Record {
            at,
            domain: self.domain.clone(),
            also: self.wishes().also.clone(),
            had_already: self.guests().iter().map(|guest| guest.domain.clone()).collect(),
            request_id: self.request_id.clone(),
            ticket: self.ticket,
            uid: self.uid,
            pid: self.pid,
            command: self.command.clone(),
            superseded_by: self.superseded().map(|by| by.ticket),
            change,
        })
    }

    /// What a holder is told when its turn comes, or when it takes it up again.
    pub(super) fn active(&self, turn: Turn, key: Option<Key>, resumed: bool) -> Reply {
        Reply::Active(Active {
            domain: self.domain.clone(),
            request_id: self.request_id.clone(),
            ticket: self.ticket,
            token: turn.token,
            resumed,
            max_run_ms: self.max_run().map(milliseconds_up),
            key,
        })
    }

    /// What becomes of its turn.
    pub(super) fn ended(&self, now: Time, turn: Turn, outcome: Outcome, exit_status: Option<i32>) -> Change {
        let (waited, held) = (self.waited(now), now.since(turn.active_at));
        let makes_way = self.superseded().is_some();
        let outcome = if makes_way { outcome.of_one_to_make_way(exit_status) } else { outcome };
        Change::Ended { token: turn.token, outcome, exit_status, waited, held }
    }

    pub(super) fn view(&self) -> TicketView<'_> {
        TicketView {
            domain: &self.domain,
            request_id: &self.request_id,
            ticket: self.ticket,
            uid: self.uid,
            pid: self.pid,
            command: self.command.as_deref(),
            queued_at: self.queued_at,
            active_at: self.turn().map(|turn| turn.active_at),
            wishes: self.wishes(),
            superseded: self.superseded(),
            max_run: self.max_run(),
            lease_until: self.turn().and_then(|turn| turn.lease_until),
            is_away: self.is_away(),
            guests: self.guests(),
        }
    }
}

impl Extra {
    /// Nothing, where there is nothing of it.
    pub(super) fn boxed(self) -> Option<Box<Extra>> {
        (self != Extra::default()).then(|| Box::new(self))
    }
}

impl Keepers {
    /// Whether something that the client started, or named, is still there.
    pub(super) fn outlive_the_client(self) -> bool {
        self.pipes > 0 || self.processes > 0
    }
}
