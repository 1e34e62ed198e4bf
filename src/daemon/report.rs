//! What people are told about the lines: status and events, with the time of day.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::TimeZone;

use super::config::Config;
use super::kept::Kept;
use super::process;
use crate::clock::{Time, milliseconds};
use crate::estimate::Waits;
use crate::protocol::{
    Domain, DomainStatus, EndedTurn, Event, EventKind, HeadStatus, HeadWait, HolderState, HolderStatus, PausedStatus,
    PolicyEvent, PolicyEventKind, PolicyShowReply, PolicyStatus, PolicyValueSource, PolicyValues, Reply, StatusReply,
    Ticket, Token, ValueSet, WaiterStatus,
};
use crate::sequencer::{Change, LineView, Obstacle, Pause, Policies, PolicyChange, PolicySource, Record, TicketView};

/// The time of day, by which people go, beside the clock that the sequencer goes by.
#[derive(Clone, Debug)]
pub(super) struct WallClock {
    now: Time,
    wall: Timestamp,
    zone: TimeZone,
}

/// How far apart two readings of the wall clock may be for them to mean the same.
const DRIFT_MAX: Duration = Duration::from_millis(1);

impl WallClock {
    /// What the wall clock says at `now`, which is a moment ago at most.
    ///
    /// As long as nobody sets the clock, what is shown of any moment is the same whenever it is shown: what came later is
    /// never shown as earlier.
    pub(super) fn at(now: Time) -> WallClock {
        static WHEN_UP: Mutex<Option<Timestamp>> = Mutex::new(None);
        let read = Timestamp::now();
        let up = Duration::from_nanos(Time::now().as_nanos());
        let when_up = read.checked_sub(up).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut shown = WHEN_UP.lock().unwrap_or_else(PoisonError::into_inner);
        let when_up = match *shown {
            Some(before) if before.duration_since(when_up).unsigned_abs() <= DRIFT_MAX => before,
            _ => when_up,
        };
        *shown = Some(when_up);
        WallClock::of(now, when_up.checked_add(Duration::from_nanos(now.as_nanos())).unwrap_or(read))
    }

    /// One that says `wall` at `now`.
    pub(super) fn of(now: Time, wall: Timestamp) -> WallClock {
        WallClock { now, wall, zone: TimeZone::system() }
    }

    /// What it said, or would have said as it is set now, at `time`: RFC 3339 in local time.
    pub(super) fn text(&self, time: Time) -> String {
        let wall = self.wall.checked_sub(self.now.since(time)).unwrap_or(Timestamp::UNIX_EPOCH);
        text(wall, &self.zone)
    }

    /// When it said so, by the clock of this run of the machine; none is before that.
    pub(super) fn time(&self, milliseconds: i64) -> Time {
        let up = milliseconds.saturating_sub(self.milliseconds(Time::ZERO));
        Time::from_nanos(u64::try_from(up).unwrap_or(0).saturating_mul(1_000_000))
    }

    /// What it will say at `time`, if nobody sets it.
    fn text_after(&self, time: Time) -> String {
        let wall = self.wall.checked_add(time.since(self.now)).unwrap_or(self.wall);
        text(wall, &self.zone)
    }

    /// Milliseconds since 1970 at `time`.
    pub(super) fn milliseconds(&self, time: Time) -> i64 {
        let age = i64::try_from(self.now.since(time).as_millis()).unwrap_or(i64::MAX);
        self.wall.as_millisecond().saturating_sub(age)
    }

    /// The present moment.
    pub(super) fn now(&self) -> Time {
        self.now
    }

    fn age(&self, time: Time) -> Duration {
        self.now.since(time)
    }

    /// The moment so long before now.
    fn before(&self, age: Duration) -> Time {
        Time::from_nanos(self.now.as_nanos().saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)))
    }

    fn left(&self, until: Time) -> Duration {
        until.since(self.now)
    }
}

/// A moment in milliseconds since 1970: RFC 3339 in local time.
pub(super) fn wall_text(milliseconds: i64) -> String {
    text(Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH), &TimeZone::system())
}

fn text(wall: Timestamp, zone: &TimeZone) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
    PRINTER.timestamp_with_offset_to_string(&wall, zone.to_offset(wall))
}

/// The reply to `status`.
pub(super) fn status(lines: &[LineView<'_>], kept: &Kept, clock: &WallClock, request_id: Option<String>) -> Reply {
    let mut domains: Vec<DomainStatus> = lines.iter().map(|line| line_status(line, clock)).collect();
    for holder in domains.iter_mut().flat_map(|line| &mut line.holders) {
        // Since the daemon was started anew it has not come back yet, but it is there.
        if holder.state == HolderState::Orphaned && kept.has_asker(holder.ticket) {
            holder.state = HolderState::Attached;
        }
        holder.unseen = kept.is_unseen(holder.ticket);
        holder.is_left = holder.state == HolderState::Lease
            && !process::is_there_since(holder.pid, clock.before(Duration::from_millis(holder.held_ms)));
    }
    Reply::Status(StatusReply { request_id, domains })
}

fn line_status(line: &LineView<'_>, clock: &WallClock) -> DomainStatus {
    let held = |holder: &TicketView<'_>| clock.age(holder.active_at.unwrap_or(holder.queued_at));
    let left = |holder: &TicketView<'_>| match holder.lease_until {
        // How long others ran says nothing of it.
        Some(until) => Some(clock.left(until)),
        None => line.usual_run.map(|usual| usual.saturating_sub(held(holder))),
    };
    // What has the slots of another turn makes no room of its own.
    let is_alone = |holder: &TicketView<'_>| {
        let host = host(holder, line.domain);
        host.is_none_or(|host| !line.holders.iter().any(|(holder, ..)| holder.ticket == host))
    };
    let own = line.holders.iter().filter(|(holder, ..)| is_alone(holder));
    let lefts = own.filter_map(|(holder, ..)| left(holder)).collect();
    let mut waits = Waits::new(lefts, line.concurrency, line.usual_run);
    let holders = line.holders.iter();
    let waiters = (1..).zip(&line.waiters);
    DomainStatus {
        domain: line.domain.clone(),
        holders: holders
            .map(|(holder, token, state)| holder_status(holder, line.domain, (*token, *state), left(holder), clock))
            .collect(),
        waiters: waiters
            .map(|(position, waiter)| waiter_status(waiter, line.domain, position, waits.next(), clock))
            .collect(),
        waiting: line.waiting,
        awaited_ms: line.awaited_until.map(|until| milliseconds(clock.left(until))),
        usual_run_ms: line.usual_run.map(milliseconds),
        concurrency: line.concurrency,
        policy: PolicyValues { none: ValueSet::default(), ..PolicyValues::from(&line.policy) },
        paused: line.pause.map(|pause| paused_status(pause, clock)),
        rest: line.rest.map(|rest| head_status(Obstacle::Rest(rest), None, clock)),
        head: line.obstacle.map(|obstacle| head_status(obstacle, line.other_line, clock)),
    }
}

/// The lines besides `domain` in which a ticket stands.
fn other_lines(ticket: &TicketView<'_>, domain: &Domain) -> Vec<Domain> {
    let lines = std::iter::once(ticket.domain).chain(&ticket.wishes.also);
    lines.filter(|line| *line != domain).cloned().collect()
}

/// The ticket whose slots in `domain` another one has.
fn host(ticket: &TicketView<'_>, domain: &Domain) -> Option<Ticket> {
    ticket.guests.iter().find(|guest| guest.domain == *domain).map(|guest| guest.host)
}

/// The group of a ticket that replaces others, or is replaced.
fn group(ticket: &TicketView<'_>) -> Option<String> {
    ticket.wishes.supersede.as_deref().map(str::to_owned)
}

fn cancels_running(ticket: &TicketView<'_>) -> bool {
    ticket.wishes.cancel_running && ticket.wishes.supersede.is_some()
}

fn head_status(obstacle: Obstacle, other: Option<(&Domain, Option<Obstacle>)>, clock: &WallClock) -> HeadStatus {
    let there = other.and_then(|(_, there)| there);
    let until = there.unwrap_or(obstacle).until();
    HeadStatus {
        waits_for: HeadWait::from(obstacle),
        line: other.map(|(line, _)| line.clone()),
        line_waits_for: other.map(|(_, there)| there.map_or(HeadWait::Ahead, HeadWait::from)),
        left_ms: until.map(|until| milliseconds(clock.left(until))),
        until: until.map(|until| clock.text_after(until)),
    }
}

fn holder_status(
    holder: &TicketView<'_>,
    domain: &Domain,
    (token, state): (Token, HolderState),
    left: Option<Duration>,
    clock: &WallClock,
) -> HolderStatus {
    let active_at = holder.active_at.unwrap_or(holder.queued_at);
    HolderStatus {
        request_id: holder.request_id.clone(),
        ticket: holder.ticket,
        token,
        uid: holder.uid,
        pid: holder.pid,
        command: holder.command.map(str::to_owned),
        state,
        since: clock.text(active_at),
        held_ms: milliseconds(clock.age(active_at)),
        waited_ms: milliseconds(active_at.since(holder.queued_at)),
        left_ms: left.map(milliseconds),
        take: holder.wishes.take,
        also: other_lines(holder, domain),
        within: host(holder, domain),
        shared: holder.wishes.shared,
        priority: holder.wishes.priority,
        supersede: group(holder),
        cancel_running: cancels_running(holder),
        superseded_by: holder.superseded.map(|by| by.ticket),
        max_run_ms: holder.max_run.map(milliseconds),
        is_over: holder.max_run.is_some_and(|max_run| clock.age(active_at) > max_run),
        is_left: false,
        unseen: false,
    }
}

fn waiter_status(
    waiter: &TicketView<'_>,
    domain: &Domain,
    position: u64,
    left: Option<Duration>,
    clock: &WallClock,
) -> WaiterStatus {
    WaiterStatus {
        request_id: waiter.request_id.clone(),
        ticket: waiter.ticket,
        uid: waiter.uid,
        pid: waiter.pid,
        command: waiter.command.map(str::to_owned),
        position,
        since: clock.text(waiter.queued_at),
        away: waiter.is_away,
        waited_ms: milliseconds(clock.age(waiter.queued_at)),
        left_ms: left.map(milliseconds),
        take: waiter.wishes.take,
        also: other_lines(waiter, domain),
        shared: waiter.wishes.shared,
        priority: waiter.wishes.priority,
        supersede: group(waiter),
        cancel_running: cancels_running(waiter),
    }
}

fn paused_status(pause: &Pause, clock: &WallClock) -> PausedStatus {
    let reason = pause.reason.as_deref().map(str::to_owned);
    PausedStatus { reason, uid: pause.uid, since: clock.text(pause.at) }
}

/// The reply to `policy_show`.
pub(super) fn policies(
    policies: &Policies,
    config: &Config,
    domain: Option<Domain>,
    request_id: Option<String>,
) -> Reply {
    let line = |source| if let PolicySource::File { line } = source { Some(line) } else { None };
    let mut reply = PolicyShowReply {
        request_id,
        config: None,
        mistake: None,
        domain: None,
        policy: None,
        sources: Vec::new(),
        policies: Vec::new(),
    };
    reply.config = config.path().map(|path| path.display().to_string());
    reply.mistake = config.mistake().map(ToString::to_string);
    if let Some(domain) = domain {
        reply.policy = Some(PolicyValues::from(&policies.resolve(&domain)));
        let sources = policies.explain(&domain).into_iter();
        let sources = sources.map(|(value, pattern, source)| PolicyValueSource {
            value: value.to_string(),
            pattern: pattern.to_string(),
            line: line(source),
        });
        reply.sources = sources.collect();
        reply.domain = Some(domain);
    } else {
        let entries = policies.iter().map(|(pattern, source, policy)| PolicyStatus {
            pattern: pattern.to_string(),
            line: line(source),
            policy: PolicyValues::from(policy),
        });
        reply.policies = entries.collect();
    }
    Reply::PolicyShow(reply)
}

/// What watchers hear of a change.
pub(super) fn event(record: &Record, clock: &WallClock) -> Reply {
    let mut event = Event {
        event: EventKind::Queued,
        at: clock.text(record.at),
        domain: record.domain.clone(),
        also: record.also.clone(),
        request_id: record.request_id.clone(),
        ticket: record.ticket,
        uid: record.uid,
        pid: record.pid,
        token: None,
        command: record.command.as_deref().map(str::to_owned),
        outcome: None,
        exit_status: None,
        superseded_by: record.superseded_by,
        waited_ms: None,
        held_ms: None,
    };
    match record.change {
        Change::Queued => {}
        Change::Active { token, waited } => {
            event.event = EventKind::Active;
            (event.token, event.waited_ms) = (Some(token), Some(milliseconds(waited)));
        }
        Change::Orphaned { token } => {
            event.event = EventKind::Orphaned;
            event.token = Some(token);
        }
        Change::Ended { token, outcome, exit_status, waited, held } => {
            event.event = EventKind::Ended;
            (event.token, event.outcome, event.exit_status) = (Some(token), Some(outcome), exit_status);
            (event.waited_ms, event.held_ms) = (Some(milliseconds(waited)), Some(milliseconds(held)));
        }
        Change::Left { outcome, waited } => {
            event.event = EventKind::Left;
            (event.outcome, event.waited_ms) = (Some(outcome), Some(milliseconds(waited)));
        }
    }
    Reply::Event(event)
}

/// What watchers hear of a policy or a pause.
pub(super) fn policy_event(change: &PolicyChange, clock: &WallClock) -> Reply {
    let event = |event, uid| event_without_details(event, clock.text(clock.now), Some(uid));
    Reply::PolicyEvent(match change {
        PolicyChange::Paused { domain, pause } => PolicyEvent {
            domain: Some(domain.clone()),
            reason: pause.reason.as_deref().map(str::to_owned),
            ..event(PolicyEventKind::Paused, pause.uid)
        },
        PolicyChange::Resumed { domain, uid } => {
            PolicyEvent { domain: Some(domain.clone()), ..event(PolicyEventKind::Resumed, *uid) }
        }
        PolicyChange::Set { pattern, policy, uid } => PolicyEvent {
            pattern: Some(pattern.to_string()),
            policy: Some(PolicyValues::from(policy)),
            ..event(PolicyEventKind::PolicySet, *uid)
        },
        PolicyChange::Unset { pattern, uid } => {
            PolicyEvent { pattern: Some(pattern.to_string()), ..event(PolicyEventKind::PolicyUnset, *uid) }
        }
    })
}

/// What watchers hear when the config file was read again.
pub(super) fn reloaded(config: &Config, clock: &WallClock) -> Reply {
    Reply::PolicyEvent(PolicyEvent {
        config: config.path().map(|path| path.display().to_string()),
        mistake: config.mistake().map(ToString::to_string),
        ..event_without_details(PolicyEventKind::Reloaded, clock.text(clock.now), None)
    })
}

fn event_without_details(event: PolicyEventKind, at: String, uid: Option<u32>) -> PolicyEvent {
    PolicyEvent { event, at, uid, domain: None, reason: None, pattern: None, policy: None, config: None, mistake: None }
}

/// The history's line of a turn that has ended; nothing for one that never began.
pub(super) fn ended_turn(record: &Record, clock: &WallClock) -> Option<EndedTurn> {
    let Change::Ended { token, outcome, exit_status, waited, held } = record.change else { return None };
    let before = |time: Time, age: Duration| Time::from_nanos(time.as_nanos().saturating_sub(nanoseconds(age)));
    let started_at = before(record.at, held);
    Some(EndedTurn {
        domain: record.domain.clone(),
        also: record.also.clone(),
        had_already: record.had_already.clone(),
        request_id: record.request_id.clone(),
        ticket: record.ticket,
        token,
        uid: record.uid,
        pid: record.pid,
        command: record.command.as_deref().map(str::to_owned),
        queued_at: clock.text(before(started_at, waited)),
        started_at: clock.text(started_at),
        ended_at: clock.text(record.at),
        wait_ms: milliseconds(waited),
        run_ms: milliseconds(held),
        outcome,
        exit_status,
        superseded_by: record.superseded_by,
    })
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
