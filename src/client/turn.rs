//! Asking for a turn, and waiting for it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::cli;
use crate::clock::{Time, milliseconds, show_duration, show_wait};
use crate::error::{Cure, Error, status};
use crate::protocol::limits::ANSWER_TIMEOUT;
use crate::protocol::{
    Active, Confirm, Domain, ErrorCode, ErrorReply, HolderState, Reply, Request, RequestId, Sequence, Status,
    StatusReply, Ticket,
};

use super::connect::{Daemon, MAX_WAIT_GRACE};
use super::deliver::give_back;
use super::errand::reports;
use super::link::{Link, LinkError, check_version, timespec};
use super::nested::outer_turn;
use super::pause::RETURN_TIMEOUT;
use super::process::ancestry;
use super::refusal::{is_full, is_restarting, no_room, told_to_leave, unless_sent_away};
use super::rejoin::{Known, Rejoin, copies, is_no_ticket_of_ours};
use super::signals::Signals;
use super::table::ordinal;
use super::waiting::Waiting;

/// How long a request waits before it is looked for whether it runs under the turn that it waits for.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// What the status for that is called.
const LOOK_ID: &str = "around";

/// How waiting for a turn ended.
pub(super) enum Outcome {
    /// The turn is there, and lives on this connection; one that had to be confirmed is.
    Turn(Link, Active),
    /// This signal came first, and is to end the process.
    Signal(Signal),
}

/// How waiting over one connection after the other ended.
type Waited = Result<Active, Signal>;

/// What the wait woke up for.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it lives for a moment")]
enum Wake {
    Reply(Reply),
    Signal(Signal),
    Tick,
    /// The daemon has gone.
    Lost,
}

/// A request that waits for its turn.
struct Asker<'a> {
    daemon: &'a Daemon,
    /// What to ask for, also of the next daemon.
    sequence: &'a Sequence,
    descriptors: &'a [BorrowedFd<'a>],
    signals: &'a Signals,
    waiting: &'a mut Waiting,
    asked: Time,
    /// What the daemon calls it, once it has said so.
    known: Option<(Ticket, RequestId)>,
    /// Whether it was just taken up again, and the next reply says what became of it.
    is_resuming: bool,
    /// Whether its place was lost, and the user does not know yet.
    has_lost_place: bool,
    /// Why the daemon counts its wait from later than its user does, if it does.
    is_late: Option<&'static str>,
    /// Whether it has no connection because the daemon has no room.
    has_been_sent_away: bool,
    /// Why the daemon can neither write nor tell anything at present.
    stalled: Option<String>,
    /// When to look whether this process runs under the turn that it waits for; none once that is done.
    look_at: Option<Time>,
    /// The turn, while the daemon has not said that it heard the confirmation; and when it must have, if it can.
    unconfirmed: Option<(Active, Time)>,
}

/// Asks for a turn and waits for it, as long as it takes, and whatever becomes of the daemon. A signal ends the wait:
/// the place in line goes with the connection, and a turn that came in the same instant is given back.
///
/// # Errors
///
/// When there is no turn: why, in words, with the status for it.
pub(super) fn take_turn(
    daemon: &Daemon,
    sequence: &Sequence,
    descriptors: &[BorrowedFd<'_>],
    signals: &Signals,
    waiting: &mut Waiting,
) -> Result<Outcome, Error> {
    let mut request = Asker {
        daemon,
        sequence,
        descriptors,
        signals,
        waiting,
        asked: Time::now(),
        known: None,
        is_resuming: false,
        has_lost_place: false,
        is_late: None,
        has_been_sent_away: false,
        stalled: None,
        look_at: Some(Time::now() + LOOK_AFTER),
        unconfirmed: None,
    };
    let outcome = request.until_end();
    waiting.end();
    outcome
}

impl Asker<'_> {
    fn until_end(&mut self) -> Result<Outcome, Error> {
        let (mut link, wake) = match self.ask() {
            Ok(asked) => asked,
            Err(error) if error.cure() == Cure::Room && !self.sequence.no_wait => {
                match self.await_room(&error.to_string())? {
                    Rejoining::Back(link, reply) => (link, Wake::Reply(reply)),
                    Rejoining::Signal(signal) => return Ok(Outcome::Signal(signal)),
                }
            }
            Err(error) => return Err(error),
        };
        let ended = self.until_turn(&mut link, wake);
        // The daemon may have heard the confirmation, so that the turn would stay though its owner is told of none.
        if let Some((turn, _)) = self.unconfirmed.take()
            && let Err(error) = give_back(&self.daemon.for_at_most(None), &mut link, turn.ticket)
        {
            self.waiting.warn(&error.to_string());
        }
        Ok(match ended? {
            Ok(turn) => Outcome::Turn(link, turn),
            Err(signal) => Outcome::Signal(signal),
        })
    }

    /// Waits for the turn over `link`, which leads to the next daemon when the last has gone.
    fn until_turn(&mut self, link: &mut Link, mut wake: Wake) -> Result<Waited, Error> {
        loop {
            if let Wake::Reply(reply) = &wake
                && is_confirmation(reply)
                && let Some((active, _)) = self.unconfirmed.take()
            {
                return Ok(Ok(active));
            }
            let is_resuming = std::mem::take(&mut self.is_resuming);
            match wake {
                Wake::Signal(signal) => return Ok(Err(signal)),
                Wake::Reply(Reply::Active(active)) => {
                    // One that its owner knew of before needs no word, and is nobody's to give back.
                    let is_old = active.resumed && self.known.is_none() && !is_resuming;
                    self.learn(active.ticket, active.request_id.clone());
                    self.own_up(|| "and has the turn now".to_owned());
                    if is_old || !self.sequence.confirm {
                        return Ok(Ok(active));
                    }
                    self.confirm(active, link)?;
                }
                Wake::Reply(Reply::Error(error)) if is_resuming && is_no_ticket_of_ours(error.code) => {
                    self.ask_anew(link)?;
                }
                // The daemon counts from when it was asked.
                Wake::Reply(Reply::Error(ErrorReply { code: ErrorCode::TimedOut, message, .. })) => {
                    return Err(self
                        .is_late
                        .map_or_else(|| Error::new(status::NO_TURN, message), |why| self.timed_out(why)));
                }
                Wake::Reply(reply) if is_full(&reply) => {
                    self.has_been_sent_away = true;
                    wake = Wake::Lost;
                    continue;
                }
                Wake::Reply(Reply::Error(error)) => return Err(no_turn(&error)),
                // Who would not wait at all does not wait for this either.
                Wake::Reply(Reply::Stalled(stalled)) if self.sequence.no_wait => {
                    return Err(Error::failure(stalled.message));
                }
                Wake::Reply(Reply::Stalled(stalled)) => {
                    // What became of it is told when there is room again.
                    self.is_resuming = is_resuming;
                    self.waiting.warn_of_trouble(&stalled.message);
                    self.stalled = Some(stalled.message);
                }
                Wake::Reply(reply) => self.hear(reply, link)?,
                Wake::Tick if self.unconfirmed.as_ref().is_some_and(|(_, by)| *by <= Time::now()) => {
                    return Err(self.daemon.explain(LinkError::Silent));
                }
                Wake::Tick if self.left_to_daemon().is_some_and(|left| left.is_zero()) => {
                    return Err(match &self.stalled {
                        Some(why) => self.timed_out(why),
                        None => self.daemon.explain(LinkError::Silent),
                    });
                }
                Wake::Tick => {
                    if self.waiting.tick() {
                        self.ask_who_holds(link)?;
                    }
                    if self.look_at.is_some_and(|at| at <= Time::now()) {
                        self.look_at = None;
                        ask_status(link, &look_request(self.sequence))?;
                    }
                }
                Wake::Lost => match self.rejoin()? {
                    Rejoining::Back(next, reply) => {
                        (*link, wake) = (next, Wake::Reply(reply));
                        continue;
                    }
                    Rejoining::Signal(signal) => return Ok(Err(signal)),
                },
            }
            let look_in = self.look_at.map(|at| at.since(Time::now()));
            let patience = [self.waiting.next_tick(), self.left_to_daemon(), look_in].into_iter().flatten().min();
            wake = next(link, self.signals, patience).or_else(|error| self.lost(error))?;
        }
    }

    /// Asks, and hears the first answer, which must come at once.
    fn ask(&self) -> Result<(Link, Wake), Error> {
        let request = Request::Sequence(self.sequence.clone());
        self.daemon.talk(|link| {
            link.open_with(&request, self.descriptors)?;
            match first_answer(link, self.signals, self.daemon.patience()) {
                // It was sent, so it may have been heard.
                Err(LinkError::Closed) => Ok(Wake::Lost),
                Ok(Wake::Reply(reply)) => unless_sent_away(reply).map(Wake::Reply),
                other => other,
            }
        })
    }

    /// Asks for a new place, since the old one is lost.
    fn ask_anew(&mut self, link: &Link) -> Result<(), Error> {
        self.known = None;
        self.unconfirmed = None;
        self.has_lost_place = true;
        self.is_late = Some("its first place in line was lost");
        let left = self.left(Duration::ZERO).map(milliseconds);
        let sequence = Sequence { max_wait_ms: left, ..self.sequence.clone() };
        match link.send(&Request::Sequence(sequence), self.descriptors) {
            // A daemon that has gone is noticed when it is listened to.
            Ok(()) | Err(LinkError::Closed) => Ok(()),
            Err(error) => Err(self.daemon.explain(error)),
        }
    }

    fn hear(&mut self, reply: Reply, link: &Link) -> Result<(), Error> {
        self.stalled = None;
        self.waiting.forget_trouble();
        match reply {
            Reply::Queued(queued) => {
                self.learn(queued.ticket, queued.request_id);
                let (position, total_ahead) = (queued.position, queued.total_ahead);
                self.own_up(|| format!("and is {} in line now, {total_ahead} ahead", ordinal(position)));
                self.waiting.position(position, total_ahead);
                self.ask_who_holds(link)
            }
            Reply::QueuePosition(place) => {
                self.waiting.position(place.position, place.total_ahead);
                self.ask_who_holds(link)
            }
            Reply::Status(status) if status.request_id.as_deref() == Some(LOOK_ID) => {
                let under = turn_around(&status, self.sequence);
                if let Some(why) = under {
                    self.waiting.warn(&why);
                }
                Ok(())
            }
            Reply::Status(status) => {
                self.waiting.status(status.domains.first());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A daemon from before there was `resume` gives a new place in line instead.
    fn learn(&mut self, ticket: Ticket, request_id: RequestId) {
        if self.known.as_ref().is_some_and(|(known, _)| *known != ticket) {
            self.has_lost_place = true;
        }
        self.known = Some((ticket, request_id));
    }

    /// Says that the place was lost, once it is known what came instead.
    fn own_up(&mut self, instead: impl Fn() -> String) {
        if std::mem::take(&mut self.has_lost_place) {
            let instead = instead();
            self.waiting.warn(&format!("the daemon has lost the place of this request: it asked again, {instead}"));
        }
    }

    /// How long until the longest wait is over, and `grace` with it; none when there is no longest wait.
    fn left(&self, grace: Duration) -> Option<Duration> {
        let longest = Duration::from_millis(self.sequence.max_wait_ms?);
        Some((self.asked + longest + grace).since(Time::now()))
    }

    /// How long the daemon has for the word that is due next; none when it has all the time there is.
    fn left_to_daemon(&self) -> Option<Duration> {
        match &self.unconfirmed {
            Some(_) if self.stalled.is_some() => None,
            Some((_, by)) => Some(by.since(Time::now())),
            None => self.left(self.grace()),
        }
    }

    /// Says that the turn is known of: without that it ends with the connection.
    fn confirm(&mut self, active: Active, link: &Link) -> Result<(), Error> {
        let request = Request::Confirm(Confirm { ticket: active.ticket.0 });
        self.unconfirmed = Some((active, Time::now() + ANSWER_TIMEOUT));
        match link.send(&request, &[]) {
            // A daemon that has gone is noticed when it is listened to.
            Ok(()) | Err(LinkError::Closed) => Ok(()),
            Err(error) => Err(self.daemon.explain(error)),
        }
    }

    /// How long the daemon may take to say that the longest wait is over.
    fn grace(&self) -> Duration {
        if self.stalled.is_some() { Duration::ZERO } else { MAX_WAIT_GRACE }
    }

    fn lost(&self, error: LinkError) -> Result<Wake, Error> {
        match error {
            LinkError::Closed => Ok(Wake::Lost),
            error => Err(self.daemon.explain(error)),
        }
    }

    /// Finds the next daemon, and takes the place in line up again there.
    fn rejoin(&mut self) -> Result<Rejoining, Error> {
        let known = self.known.clone().map_or(Known::Unheard, |(ticket, request_id)| Known::Ticket(ticket, request_id));
        if std::mem::take(&mut self.has_been_sent_away) {
            return self.come_back(known, true);
        }
        self.waiting.tell("the daemon has gone: taking the place in line up again with the next one");
        self.come_back(known, false)
    }

    /// Waits until the daemon has room for this request, which it has not heard yet.
    fn await_room(&mut self, why: &str) -> Result<Rejoining, Error> {
        self.is_late = Some("the daemon had no room for one more connection at first");
        self.waiting.tell_of_crowd(&no_room(why));
        self.come_back(Known::Unsent, true)
    }

    /// Asks again, as long as it takes, if need be of the next daemon.
    fn come_back(&mut self, known: Known, was_sent_away: bool) -> Result<Rejoining, Error> {
        // Who would not wait at all does not wait for a daemon either; nor does who was told of no place, where only
        // somebody else can start one.
        let has_place = matches!(known, Known::Ticket(..));
        let is_brief = self.sequence.no_wait || (!has_place && !self.daemon.may_start());
        let patience = if is_brief { ANSWER_TIMEOUT } else { RETURN_TIMEOUT };
        let cannot =
            |error: std::io::Error| Error::failure(format_args!("cannot connect to the daemon again: {error}"));
        let descriptors = copies(self.descriptors).map_err(cannot)?;
        let (reporter, mut troubles) = reports().map_err(cannot)?;
        let is_heard = known != Known::Unsent;
        let errand = Rejoin {
            daemon: self.daemon.clone(),
            sequence: self.sequence.clone(),
            descriptors,
            known,
            is_waiting: true,
            until: self.sequence.max_wait_ms.map(|longest| self.asked + Duration::from_millis(longest)),
            started: None,
            patience: Some(patience),
            was_sent_away,
            has_said_it_waits: self.stalled.is_some(),
            reporter: Some(reporter),
        }
        .start()?;
        let mut why = if was_sent_away { no_room("") } else { "the daemon has gone".to_owned() };
        loop {
            while let Some(trouble) = troubles.next() {
                why = trouble.to_string();
                if trouble.cure() == Cure::Room {
                    why = no_room(&why);
                }
                match trouble.cure() {
                    Cure::Room => self.waiting.tell_of_crowd(&why),
                    _ => self.waiting.warn_of_trouble(&why),
                }
            }
            if let Some(signal) = self.signals.next_ending() {
                return Ok(Rejoining::Signal(signal));
            }
            if errand.is_done() {
                break;
            }
            if self.left(Duration::ZERO).is_some_and(|left| left.is_zero()) {
                return Err(self.timed_out(&why));
            }
            _ = self.waiting.tick();
            let patience = [self.waiting.next_tick(), self.left(Duration::ZERO)].into_iter().flatten().min();
            let sources = [errand.as_fd(), self.signals.as_fd(), troubles.as_fd()];
            let mut ready = sources.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN));
            _ = poll(&mut ready, patience.map(timespec).as_ref());
        }
        match errand.result() {
            Some(Ok((link, reply))) => {
                self.is_resuming = is_heard;
                Ok(Rejoining::Back(link, reply))
            }
            Some(Err(error)) if error.cure() == Cure::Person || !has_place => Err(error),
            Some(Err(error)) => Err(Error::failure(format_args!(
                "the daemon ended while this request waited, and none came back within {}: {error}",
                show_duration(patience)
            ))),
            None => Err(self.daemon.explain(LinkError::Closed)),
        }
    }

    fn timed_out(&self, why: &str) -> Error {
        let waited = show_wait(Time::now().since(self.asked), self.sequence.max_wait_ms.map(Duration::from_millis));
        let domain = &self.sequence.domain;
        Error::new(status::NO_TURN, format_args!("no turn in {domain} after {waited}: {why}"))
    }

    /// Asks who has the turn, if somebody will be shown the answer.
    fn ask_who_holds(&self, link: &Link) -> Result<(), Error> {
        if !self.waiting.is_shown() {
            return Ok(());
        }
        let domain = Some(self.sequence.domain.clone());
        ask_status(link, &Request::Status(Status { domain, waiters_max: Some(0), ..Status::default() }))
    }
}

/// Asks for a status; the answer is heard like all that comes.
fn ask_status(link: &Link, request: &Request) -> Result<(), Error> {
    match link.send(request, &[]) {
        // A daemon that has gone is noticed when it is listened to.
        Ok(()) | Err(LinkError::Closed) => Ok(()),
        Err(_) => Err(Error::failure("cannot ask the daemon who has the turn")),
    }
}

/// What [`turn_around`] is to look at.
fn look_request(sequence: &Sequence) -> Request {
    // One that stands in several lines looks at all there are.
    let domain = Some(sequence.domain.clone()).filter(|_| sequence.also.is_empty());
    Request::Status(Status { domain, waiters_max: Some(0), request_id: Some(LOOK_ID.to_owned()), ..Status::default() })
}

/// What there is to say when this process runs under the very turn that it waits for, and the daemon cannot know: its
/// environment was cleaned, or it is a shell's by `seq sequence`.
fn turn_around(status: &StatusReply, sequence: &Sequence) -> Option<String> {
    let wanted: Vec<Domain> =
        std::iter::once(&sequence.domain).chain(&sequence.also).filter_map(|name| Domain::parse(name).ok()).collect();
    let lines = status.domains.iter().filter(|line| wanted.contains(&line.domain));
    let ancestors = ancestry();
    let holder = lines
        .flat_map(|line| &line.holders)
        .find(|holder| !holder.unseen && holder.state != HolderState::Lease && ancestors.contains(&holder.pid))?;
    let way_out = if holder.state == HolderState::Process {
        "'seq done' must give it back first"
    } else {
        "with SEQ_TICKET, SEQ_TOKEN and SEQ_TURN_SOCKET of that turn in its environment it would go on within it"
    };
    Some(format!("pid {}, which this runs under, has the turn, so this may wait for ever: {way_out}", holder.pid))
}

/// How it went to find the next daemon.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it lives for a moment")]
enum Rejoining {
    /// It is there, and said this.
    Back(Link, Reply),
    /// This signal came first.
    Signal(Signal),
}

/// A request for these domains that wants to be treated so, and says nothing else yet.
pub(super) fn wishes(daemon: &Daemon, domains: &[String], wishes: &cli::Wishes) -> Sequence {
    Sequence {
        domain: domains.first().cloned().unwrap_or_default(),
        also: domains.iter().skip(1).cloned().collect(),
        take: wishes.take,
        shared: wishes.shared,
        priority: wishes.priority,
        supersede: wishes.supersede.clone(),
        cancel_running: wishes.cancel_running,
        within: outer_turn(&daemon.place().socket),
        ..Sequence::default()
    }
}

/// Whether the turn stands by now; with a daemon from before there was `confirm` it did at once.
fn is_confirmation(reply: &Reply) -> bool {
    match reply {
        Reply::Confirmed(_) => true,
        Reply::Error(error) => error.code == ErrorCode::UnknownOperation,
        _ => false,
    }
}

/// The first answer, which must come at once. The daemon's `hello` is checked on the way.
fn first_answer(link: &mut Link, signals: &Signals, patience: Duration) -> Result<Wake, LinkError> {
    loop {
        match next(link, signals, Some(patience))? {
            Wake::Tick => return Err(LinkError::Silent),
            Wake::Reply(Reply::Hello(hello)) => check_version(&hello)?,
            wake => return Ok(wake),
        }
    }
}

fn next(link: &mut Link, signals: &Signals, patience: Option<Duration>) -> Result<Wake, LinkError> {
    let deadline = patience.map(|patience| Time::now() + patience);
    loop {
        // A signal goes before a turn that came in the same instant: what did not start need not be stopped.
        if let Some(signal) = signals.next_ending() {
            return Ok(Wake::Signal(signal));
        }
        match link.try_receive()? {
            Some(reply) if is_restarting(&reply) => return Ok(Wake::Lost),
            Some(reply) => return Ok(Wake::Reply(reply)),
            None => {}
        }
        let left = deadline.map(|deadline| timespec(deadline.since(Time::now())));
        let mut ready = [PollFd::new(&*link, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut ready, left.as_ref()) {
            Ok(0) => return Ok(Wake::Tick),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn no_turn(error: &ErrorReply) -> Error {
    let exit_status = match error.code {
        ErrorCode::Busy | ErrorCode::TimedOut | ErrorCode::QueueFull | ErrorCode::AlreadyActive => status::NO_TURN,
        ErrorCode::Cancelled | ErrorCode::TakenOver | ErrorCode::Superseded => status::CANCELLED,
        _ => status::FAILURE,
    };
    if matches!(error.code, ErrorCode::Leaving | ErrorCode::Stopped) {
        return told_to_leave();
    }
    Error::new(exit_status, &error.message)
}
