//! The history: what was when, for those who ask, and for the estimates of the next daemon.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tracing::error;

use super::aside::aside;
use super::report::{WallClock, wall_text};
use super::wake::Wake;
use crate::clock::Time;
use crate::error::{Error, with_limit};
use crate::protocol::limits::{IDLE_DOMAINS_MAX, KNOWN_STARTS, PAST_RUNS_MAX};
use crate::protocol::{Domain, EndedTurn, ErrorCode, ErrorReply, KeyDone, KeyOutput, LogReply, Outcome, Reply, Ticket};
use crate::sequencer::{ConnectionId, Input, RestoredTurn};
use crate::store::{DoneNote, History, LeftTicket, SavedTicket};

/// Tickets of before that a new daemon looks at.
const PAST_TURNS_MAX: u32 = 2_000;

/// What a client wants to know of the past.
#[derive(Clone, Debug)]
pub(super) struct LogAsk {
    pub(super) domain: Option<Domain>,
    /// How far back.
    pub(super) since: Option<Duration>,
    /// Only those that did not end well.
    pub(super) failed: bool,
    pub(super) turns_max: usize,
    /// Repeated in the reply.
    pub(super) request_id: Option<String>,
}

/// What there is to be seen of the past. What is more is only not removed yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// How long ago a turn ended, in milliseconds.
    pub(super) age_ms: i64,
    /// So many turns, if there are more.
    pub(super) turns_max: Option<u64>,
}

/// Reads for those who ask, one after the other, on a thread beside the loop.
pub(super) struct Librarian {
    owner: Sender<Wake>,
    desk: Rc<Semaphore>,
}

impl Librarian {
    /// `owner` is given what was read.
    pub(super) fn new(owner: Sender<Wake>) -> Librarian {
        Librarian { owner, desk: Rc::new(Semaphore::new(1)) }
    }

    /// Tells an outcome together with what the command wrote, which the database at `path` has under the id of its key's
    /// `record`, by and by.
    pub(super) fn read_output(&self, connection: ConnectionId, path: PathBuf, mut done: Box<KeyDone>, record: String) {
        let (owner, desk) = (self.owner.clone(), Rc::clone(&self.desk));
        tokio::task::spawn_local(async move {
            let Ok(_turn) = desk.acquire().await else { return };
            let read = aside(move || output(&path, &record)).await;
            done.output = read.inspect_err(|why| error!("cannot read what a command wrote: {why}")).ok().flatten();
            // The owner is gone only when the whole daemon is.
            let _ = owner.send(Wake::Read(connection, Box::new(Reply::KeyDone(*done)))).await;
        });
    }

    /// Answers `ask` out of the database at `path`, by and by.
    pub(super) fn look_up(&self, connection: ConnectionId, path: PathBuf, shown: Shown, ask: LogAsk) {
        let (owner, desk) = (self.owner.clone(), Rc::clone(&self.desk));
        tokio::task::spawn_local(async move {
            let Ok(_turn) = desk.acquire().await else { return };
            let (domain, request_id) = (ask.domain.clone(), ask.request_id.clone());
            let read = aside(move || answer(&path, shown, ask)).await;
            let reply = read.unwrap_or_else(|why| {
                cannot_answer(format!("cannot read the history: {}", with_limit(&why)), domain, request_id)
            });
            // The owner is gone only when the whole daemon is.
            let _ = owner.send(Wake::Read(connection, Box::new(reply))).await;
        });
    }
}

/// What the command of a key wrote; nothing where that cannot be read.
fn output(path: &Path, record: &str) -> Option<KeyOutput> {
    let read = History::open(path).and_then(|history| history.output(record));
    let body = read.inspect_err(|why| error!("{why}")).ok()??;
    serde_json::from_slice(&body).ok()
}

/// The answer, out of the database at `path`. Takes time for each turn that is there: not for the owner's loop.
fn answer(path: &Path, shown: Shown, ask: LogAsk) -> Reply {
    let LogAsk { domain, since, failed, turns_max, request_id } = ask;
    let back = since.map_or(i64::MAX, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    let since_ms = Timestamp::now().as_millisecond().saturating_sub(back.min(shown.age_ms));
    let mut turns = Vec::new();
    let read = History::open(path).and_then(|history| {
        history.read(domain.as_ref(), since_ms, shown.turns_max, |body| {
            // What a later version wrote, and an earlier one does not understand, is left out.
            let turn: Option<EndedTurn> = serde_json::from_slice(body).ok();
            let is_asked_for = |turn: &EndedTurn| {
                let is_of_domain =
                    domain.as_ref().is_none_or(|asked| turn.domain == *asked || turn.also.contains(asked));
                turns_max > 0 && is_of_domain && (!failed || has_failed(turn))
            };
            turns.extend(turn.filter(is_asked_for));
            turns.len() < turns_max
        })
    });
    match read {
        Ok(()) => {
            turns.reverse();
            Reply::Log(LogReply { request_id, turns })
        }
        Err(error) => cannot_answer(error.to_string(), domain, request_id),
    }
}

fn cannot_answer(message: String, domain: Option<Domain>, request_id: Option<String>) -> Reply {
    error!("{message}");
    Reply::Error(ErrorReply { code: ErrorCode::Storage, message, domain, request_id, ticket: None })
}

fn has_failed(turn: &EndedTurn) -> bool {
    turn.outcome != Outcome::Done || turn.exit_status.is_some_and(|status| status != 0)
}

/// What a new daemon wants to know of the past.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// How long the last turns of each domain took that ended by `done`, oldest first; none of one where none did.
    pub(super) runs: HashMap<Domain, Vec<Duration>>,
    /// When the last turns of each domain began and ended.
    pub(super) moments: HashMap<Domain, Moments>,
    /// How the last tickets ended, oldest first: ticket, user, whether it had its turn, and how.
    pub(super) ends: Vec<(Ticket, u32, bool, Outcome)>,
}

/// The last starts of a domain, and the last end, in milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Moments {
    pub(super) starts: Vec<i64>,
    pub(super) end: Option<i64>,
}

/// Reads the newest of the history in the database at `path`.
///
/// # Errors
///
/// When it cannot be read.
pub(super) fn past(path: &Path) -> Result<Past, Error> {
    let mut past = Past::default();
    History::open(path)?.newest(PAST_TURNS_MAX, |ticket, had_turn, body| {
        if had_turn {
            past.add_turn(serde_json::from_slice(body).ok());
        } else if let Ok(LeftTicket { uid, outcome }) = serde_json::from_slice(body) {
            past.ends.push((ticket, uid, false, outcome));
        }
    })?;
    for of_domain in past.runs.values_mut() {
        of_domain.reverse();
    }
    past.ends.reverse();
    Ok(past)
}

impl Moments {
    /// What the sequencer is to be told where no policy made the daemon write it down, for one that is set later. What
    /// was before the machine was started is left out: how long ago nobody knows.
    pub(super) fn past_starts(self, domain: Domain, clock: &WallClock) -> Input {
        let started = clock.milliseconds(Time::ZERO);
        let time = |at: i64| (at > started).then(|| clock.time(at));
        let starts = self.starts.into_iter().filter_map(time).collect();
        Input::PastStarts { domain, starts, last_end: self.end.and_then(time) }
    }
}

impl Past {
    /// A turn that has not ended began, too.
    pub(super) fn add_holder(&mut self, saved: &SavedTicket) {
        let Some(turn) = saved.ticket.turn else { return };
        let up = i64::try_from(turn.active_at.as_nanos() / 1_000_000).unwrap_or(i64::MAX);
        for domain in saved.ticket.lines_of_its_own() {
            self.runs.entry(domain.clone()).or_default();
            self.moments.entry(domain.clone()).or_default().starts.push(saved.up_since_ms.saturating_add(up));
        }
    }

    /// What a later version wrote, and this one does not understand, is passed over.
    fn add_turn(&mut self, turn: Option<EndedTurn>) {
        let Some(turn) = turn else { return };
        self.ends.push((turn.ticket, turn.uid, true, turn.outcome));
        let run = (turn.outcome == Outcome::Done).then(|| Duration::from_millis(turn.run_ms));
        let at = |text: &str| text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond);
        let (start, end) = (at(&turn.started_at), at(&turn.ended_at));
        let had_already = turn.had_already;
        let lines = std::iter::once(turn.domain).chain(turn.also);
        for domain in lines.filter(|line| !had_already.contains(line)) {
            if self.runs.contains_key(&domain) || self.runs.len() < IDLE_DOMAINS_MAX {
                let moments = self.moments.entry(domain.clone()).or_default();
                moments.end = moments.end.max(end);
                if moments.starts.len() < KNOWN_STARTS {
                    moments.starts.extend(start);
                }
                let of_domain = self.runs.entry(domain).or_default();
                if of_domain.len() < PAST_RUNS_MAX {
                    of_domain.extend(run);
                }
            }
        }
    }
}

/// The history's line of a turn whose daemon was gone when it ended, at `ended_at_ms` since 1970 but not before it
/// began, and when that was; nothing for a ticket that never had its turn.
pub(super) fn ended_turn(
    saved: &SavedTicket,
    ended_at_ms: i64,
    outcome: Outcome,
    exit_status: Option<i32>,
) -> Option<(i64, EndedTurn)> {
    let ticket = &saved.ticket;
    let RestoredTurn { token, active_at, superseded, .. } = ticket.turn?;
    let at =
        |nanoseconds: u64| saved.up_since_ms.saturating_add(i64::try_from(nanoseconds / 1_000_000).unwrap_or(i64::MAX));
    let (queued_ms, started_ms) = (at(ticket.queued_at.as_nanos()), at(active_at.as_nanos()));
    let ended_ms = ended_at_ms.max(started_ms);
    let between = |from: i64, to: i64| u64::try_from(to.saturating_sub(from)).unwrap_or(0);
    let turn = EndedTurn {
        domain: ticket.domain.clone(),
        also: ticket.wishes.also.clone(),
        had_already: ticket.guests.iter().map(|guest| guest.domain.clone()).collect(),
        request_id: ticket.request_id.clone(),
        ticket: ticket.ticket,
        token,
        uid: ticket.uid,
        pid: ticket.pid,
        command: ticket.command.as_deref().map(str::to_owned),
        queued_at: wall_text(queued_ms),
        started_at: wall_text(started_ms),
        ended_at: wall_text(ended_ms),
        wait_ms: between(queued_ms, started_ms),
        run_ms: between(started_ms, ended_ms),
        outcome: if superseded.is_some() { outcome.of_one_to_make_way(exit_status) } else { outcome },
        exit_status,
        superseded_by: superseded.map(|by| by.ticket),
    };
    Some((ended_ms, turn))
}

/// A turn that was seen to end at `ended_at`, in milliseconds since 1970, and nobody had told how, or the same as the
/// note tells, by a note of user `writer` about that; with when it ended by that note, which cannot be later. Nothing if
/// the note is not believed.
pub(super) fn amended(turn: EndedTurn, ended_at: i64, writer: u32, note: &DoneNote) -> Option<(EndedTurn, i64)> {
    let me = rustix::process::geteuid().as_raw();
    let is_believed = [turn.uid, me, 0].contains(&writer) && turn.ticket.0 == note.ticket;
    let is_open = match turn.outcome {
        Outcome::Gone => turn.exit_status.is_none(),
        Outcome::Superseded => turn.exit_status.is_none() || turn.exit_status == note.exit_status,
        // It was sent while the daemon did not run, and its client did not wait for the answer.
        Outcome::Done => turn.exit_status.is_some() && turn.exit_status == note.exit_status,
        _ => false,
    };
    if !is_believed || !is_open {
        return None;
    }
    let started_at = turn.started_at.parse::<Timestamp>().map_or(ended_at, Timestamp::as_millisecond);
    let ended_at = note.ended_at_ms.max(started_at).min(ended_at);
    let run_ms = u64::try_from(ended_at - started_at).unwrap_or(0);
    let (makes_way, exit_status) = (turn.superseded_by.is_some(), note.exit_status);
    let outcome = if makes_way { Outcome::Done.of_one_to_make_way(exit_status) } else { Outcome::Done };
    Some((EndedTurn { ended_at: wall_text(ended_at), run_ms, outcome, exit_status, ..turn }, ended_at))
}
