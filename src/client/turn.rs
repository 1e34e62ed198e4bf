//! Asking for a turn, and waiting for it.

mod come_back;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::sys::signal::Signal;

use self::come_back::Rejoining;
use super::around::{LOOK_AFTER, LOOK_ID, look_request, turn_around};
use super::connect::{Daemon, MAX_WAIT_GRACE};
use super::deliver::give_back;
use super::key::too_old;
use super::link::{Link, LinkError};
use super::refusal::{is_full, told_to_leave, unless_sent_away};
use super::rejoin::is_no_ticket_of_ours;
use super::signals::Signals;
use super::table::ordinal;
use super::waiting::Waiting;
use super::wake::{Wake, first_answer, next};
use crate::clock::{Time, milliseconds, show_wait};
use crate::error::{Cure, Error, status};
use crate::protocol::limits::ANSWER_TIMEOUT;
use crate::protocol::{
    Active, Confirm, ErrorCode, ErrorReply, KeyDone, Reply, Request, RequestId, Sequence, Status, Ticket,
};

/// How waiting for a turn ended.
pub(super) enum Outcome {
    /// The turn is there, and lives on this connection; one that had to be confirmed is.
    Turn(Link, Active),
    /// There is none, for what is to be done once is done.
    Recorded(Box<KeyDone>),
    /// This signal came first, and is to end the process.
    Signal(Signal),
}

/// How waiting over one connection after the other ended.
enum Waited {
    Turn(Active),
    Recorded(Box<KeyDone>),
    Signal(Signal),
}

/// The question who has the turn.
#[derive(Clone, Copy)]
enum Question {
    None,
    /// The answer is due then.
    Asked {
        due: Time,
    },
    /// There is no answer, and the user knows why.
    Overdue,
}

impl Question {
    fn due(self) -> Option<Time> {
        match self {
            Question::Asked { due } => Some(due),
            Question::None | Question::Overdue => None,
        }
    }
}

/// A request that waits for its turn.
struct Asker<'a> {
    daemon: &'a Daemon,
    /// What to ask for, also of the next daemon.
    sequence: &'a Sequence,
    descriptors: &'a [BorrowedFd<'a>],
    signals: &'a Signals,
    waiting: &'a mut Waiting,
    /// What there is time for while the daemon answers; it may be done more than once.
    meanwhile: &'a dyn Fn(),
    asked: Time,
    /// What the daemon calls it, once it has said so.
    known: Option<(Ticket, RequestId)>,
    /// The ticket whose outcome it waits for instead of a turn of its own.
    follows: Option<Ticket>,
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
    question: Question,
    /// When to look whether this process runs under the turn that it waits for; none once that is done.
    look_at: Option<Time>,
    /// The turn, while the daemon has not said that it heard the confirmation; and when it must have, if it can.
    unconfirmed: Option<(Active, Time)>,
}

/// Asks for a turn and waits for it, as long as it takes, and whatever becomes of the daemon. A signal ends the wait:
/// the place in line goes with the connection, and a turn that came in the same instant is given back. `meanwhile` is done
/// once the daemon was asked, while it has not answered.
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
    meanwhile: &dyn Fn(),
) -> Result<Outcome, Error> {
    let mut request = Asker {
        daemon,
        sequence,
        descriptors,
        signals,
        waiting,
        meanwhile,
        asked: Time::now(),
        known: None,
        follows: None,
        is_resuming: false,
        has_lost_place: false,
        is_late: None,
        has_been_sent_away: false,
        stalled: None,
        question: Question::None,
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
            Waited::Turn(turn) => Outcome::Turn(link, turn),
            Waited::Recorded(done) => Outcome::Recorded(done),
            Waited::Signal(signal) => Outcome::Signal(signal),
        })
    }

    /// Waits for the turn over `link`, which leads to the next daemon when the last has gone.
    fn until_turn(&mut self, link: &mut Link, mut wake: Wake) -> Result<Waited, Error> {
        loop {
            let is_resuming = std::mem::take(&mut self.is_resuming);
            match wake {
                Wake::Signal(signal) => return Ok(Waited::Signal(signal)),
                Wake::Reply(reply) if is_full(&reply) => {
                    self.has_been_sent_away = true;
                    wake = Wake::Lost;
                    continue;
                }
                Wake::Reply(Reply::KeyDone(done)) => return Ok(Waited::Recorded(Box::new(done))),
                Wake::Reply(reply) => {
                    if let Some(turn) = self.take(reply, is_resuming, link)? {
                        return Ok(Waited::Turn(turn));
                    }
                }
                Wake::Tick => self.tick(link)?,
                Wake::Lost => match self.rejoin()? {
                    Rejoining::Back(next, reply) => {
                        (*link, wake) = (next, Wake::Reply(reply));
                        continue;
                    }
                    Rejoining::Signal(signal) => return Ok(Waited::Signal(signal)),
                },
            }
            let next_look = self.look_at.into_iter().chain(self.question.due()).min().map(|at| at.since(Time::now()));
            let patience = [self.waiting.next_tick(), self.left_to_daemon(), next_look].into_iter().flatten().min();
            wake = next(link, self.signals, patience).or_else(|error| self.lost(error))?;
        }
    }

    /// What a reply says of the wait; with it the turn may be there.
    fn take(&mut self, reply: Reply, is_resuming: bool, link: &Link) -> Result<Option<Active>, Error> {
        if is_confirmation(&reply)
            && let Some((active, _)) = self.unconfirmed.take()
        {
            return Ok(Some(active));
        }
        match reply {
            // Nothing keeps another from doing the same again.
            Reply::Active(active) if self.sequence.key.is_some() && active.key.is_none() => {
                self.unconfirmed = Some((active, Time::now()));
                return Err(too_old());
            }
            Reply::Active(active) => {
                // One that its owner knew of before needs no word, and is nobody's to give back.
                let is_old = active.resumed && self.known.is_none() && !is_resuming;
                self.learn(active.ticket, active.request_id.clone());
                self.own_up(|| "and has the turn now".to_owned());
                if is_old || !self.sequence.confirm {
                    return Ok(Some(active));
                }
                self.confirm(active, link)?;
            }
            Reply::Error(error) if is_resuming && is_no_ticket_of_ours(error.code) => {
                // A name of one's own is given again only to who comes by that name.
                if let (ErrorCode::Forbidden, Some(name), Some(_)) =
                    (error.code, &self.sequence.request_id, &self.known)
                {
                    let words =
                        format_args!("request {name} came again by another connection, which has its place now");
                    return Err(Error::new(status::CANCELLED, words));
                }
                self.ask_anew(link)?;
            }
            // The daemon counts from when it was asked.
            Reply::Error(ErrorReply { code: ErrorCode::TimedOut, message, .. }) => {
                let no_turn = Error::new(status::NO_TURN, message);
                return Err(self.is_late.map_or(no_turn, |why| self.timed_out(why)));
            }
            Reply::Error(error) => return Err(no_turn(&error)),
            // Who would not wait at all does not wait for this either.
            Reply::Stalled(stalled) if self.sequence.no_wait => return Err(Error::failure(stalled.message)),
            Reply::Stalled(stalled) => {
                // What became of it is told when there is room again.
                self.is_resuming = is_resuming;
                if let Question::Asked { .. } = self.question {
                    self.question = Question::Overdue;
                }
                self.waiting.warn_of_trouble(&stalled.message);
                self.stalled = Some(stalled.message);
            }
            reply => self.hear(reply, link)?,
        }
        Ok(None)
    }

    /// Nothing was heard for a while: whether that is too long, and what is due meanwhile.
    fn tick(&mut self, link: &Link) -> Result<(), Error> {
        if self.unconfirmed.as_ref().is_some_and(|(_, by)| *by <= Time::now()) {
            return Err(self.daemon.explain(LinkError::Silent));
        }
        if self.left_to_daemon().is_some_and(|left| left.is_zero()) {
            return Err(match &self.stalled {
                Some(why) => self.timed_out(why),
                None => self.daemon.explain(LinkError::Silent),
            });
        }
        if self.question.due().is_some_and(|due| due <= Time::now()) {
            self.question = Question::Overdue;
            self.waiting.warn_of_trouble(&self.daemon.silence());
        }
        // Who does not answer is not asked again and again.
        if self.waiting.tick() && matches!(self.question, Question::None) {
            self.ask_who_holds(link)?;
        }
        if self.look_at.is_some_and(|at| at <= Time::now()) {
            self.look_at = None;
            ask_status(link, &look_request(self.sequence))?;
        }
        Ok(())
    }

    /// Asks, and hears the first answer, which must come at once.
    fn ask(&self) -> Result<(Link, Wake), Error> {
        let request = Request::Sequence(self.sequence.clone());
        self.daemon.talk(|link| {
            link.open_with(&request, self.descriptors)?;
            (self.meanwhile)();
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
        self.question = Question::None;
        self.stalled = None;
        self.waiting.forget_trouble();
        match reply {
            Reply::Following(following) => {
                if self.follows.replace(following.ticket) != Some(following.ticket) {
                    self.waiting.follow(following.ticket);
                }
                Ok(())
            }
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
                let own = self.known.as_ref().map(|(ticket, _)| *ticket);
                if let Some(why) = turn_around(&status, self.sequence, own) {
                    self.waiting.warn(&why);
                }
                Ok(())
            }
            Reply::Status(status) => {
                self.waiting.status(status.domains.into_iter().next());
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
        self.follows = None;
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
            None => self.left(MAX_WAIT_GRACE),
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

    fn lost(&self, error: LinkError) -> Result<Wake, Error> {
        match error {
            LinkError::Closed => Ok(Wake::Lost),
            error => Err(self.daemon.explain(error)),
        }
    }

    fn timed_out(&self, why: &str) -> Error {
        let waited = show_wait(Time::now().since(self.asked), self.sequence.max_wait_ms.map(Duration::from_millis));
        let domains = self.domains().collect::<Vec<_>>().join(", ");
        Error::new(status::NO_TURN, format_args!("no turn in {domains} after {waited}: {why}"))
    }

    /// Asks who has the turn, if somebody will be shown the answer.
    fn ask_who_holds(&mut self, link: &Link) -> Result<(), Error> {
        if !self.waiting.is_shown() {
            return Ok(());
        }
        if matches!(self.question, Question::None) {
            let due = Time::now() + ANSWER_TIMEOUT;
            self.question = if self.stalled.is_none() { Question::Asked { due } } else { Question::Overdue };
        }
        self.domains().try_for_each(|domain| {
            let domain = Some(domain.to_owned());
            ask_status(link, &Request::Status(Status { domain, waiters_max: Some(0), ..Status::default() }))
        })
    }

    fn domains(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.sequence.domain).chain(&self.sequence.also).map(String::as_str)
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

/// Whether the turn stands by now; with a daemon from before there was `confirm` it did at once.
fn is_confirmation(reply: &Reply) -> bool {
    match reply {
        Reply::Confirmed(_) => true,
        Reply::Error(error) => error.code == ErrorCode::UnknownOperation,
        _ => false,
    }
}

fn no_turn(error: &ErrorReply) -> Error {
    let exit_status = match error.code {
        ErrorCode::Busy
        | ErrorCode::TimedOut
        | ErrorCode::QueueFull
        | ErrorCode::AlreadyActive
        | ErrorCode::TooManyKeys => status::NO_TURN,
        ErrorCode::KeyConflict | ErrorCode::KeyUnknown => status::CONFLICT,
        ErrorCode::Cancelled | ErrorCode::TakenOver | ErrorCode::Superseded => status::CANCELLED,
        _ => status::FAILURE,
    };
    if matches!(error.code, ErrorCode::Leaving | ErrorCode::Stopped) {
        return told_to_leave();
    }
    Error::new(exit_status, &error.message)
}
