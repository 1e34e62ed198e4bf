//! Taking a place in line, or a turn, up again after the daemon has gone; or asking again for one where it had no room.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::clock::{Time, milliseconds};
use crate::error::{Cure, Error};
use crate::protocol::{ErrorCode, Reply, Request, RequestId, Sequence, Started, Ticket};

use super::connect::Daemon;
use super::errand::{Errand, Reporter};
use super::link::{Link, LinkError};
use super::pause::Pause;
use super::refusal::{told_to_leave, unless_sent_away};

/// Bytes of a secret, as many again when it is written in hexadecimal digits.
const SECRET_BYTES: usize = 16;

/// What is known of the request on the lost connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Its ticket, and the name that the daemon has for it.
    Ticket(Ticket, RequestId),
    /// That it waits for the outcome of this ticket, and has none of its own.
    Follows(Ticket),
    /// Nothing: it was sent, but the answer was lost. The daemon may have given it a ticket, even a turn.
    Unheard,
    /// That no daemon has heard it: there was no room for one more connection.
    Unsent,
}

/// All that it takes to come back.
#[derive(Debug)]
pub(super) struct Rejoin {
    pub(super) daemon: Daemon,
    /// As it was asked for at first, with the secret.
    pub(super) sequence: Sequence,
    /// Those that belong to `sequence`.
    pub(super) descriptors: Vec<OwnedFd>,
    pub(super) known: Known,
    /// Whether it waits, so that its place went with a daemon that was told to leave for good.
    pub(super) is_waiting: bool,
    /// When the longest wait is over.
    pub(super) until: Option<Time>,
    /// What to say once the turn is there again: the command, with its pidfd.
    pub(super) started: Option<(Started, Vec<OwnedFd>)>,
    /// How long to look for a daemon; without end if there is none.
    pub(super) patience: Option<Duration>,
    /// Whether the last one has just sent it away, so that there is no hurry.
    pub(super) was_sent_away: bool,
    /// Whether the user knows already that it waits for something to be done.
    pub(super) has_said_it_waits: bool,
    /// Who wants to hear what has to be done before a daemon can start, write, or let it in.
    pub(super) reporter: Option<Reporter<Error>>,
}

/// Says what is waited for.
#[derive(Debug)]
struct Voice {
    reporter: Option<Reporter<Error>>,
    /// What was said last.
    last: String,
    /// Whether anything was said.
    has_spoken: bool,
}

impl Voice {
    /// Not twice in a row.
    fn say(&mut self, trouble: Error) {
        self.has_spoken = true;
        let words = trouble.to_string();
        if let Some(reporter) = &mut self.reporter
            && self.last != words
        {
            self.last = words;
            reporter.say(trouble);
        }
    }
}

/// The connection to the next daemon, and what it said to the request.
pub(super) type Rejoined = Result<(Link, Reply), Error>;

/// A fresh secret; none on a system without random numbers, where nothing can be taken up again.
pub(super) fn secret() -> Option<String> {
    let mut bytes = [0; SECRET_BYTES];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty()).ok()?;
    (filled == SECRET_BYTES).then(|| format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// Copies of descriptors, to be sent once more.
pub(super) fn copies(descriptors: &[BorrowedFd<'_>]) -> std::io::Result<Vec<OwnedFd>> {
    descriptors.iter().map(BorrowedFd::try_clone_to_owned).collect()
}

impl Rejoin {
    /// Begins, on the side.
    pub(super) fn start(self) -> Result<Errand<Rejoined>, Error> {
        Errand::start(move || self.run())
            .map_err(|error| Error::failure(format_args!("cannot connect to the daemon again: {error}")))
    }

    /// Without end, too, while the daemon has no room, or says what somebody must do before it can start: nobody loses a
    /// place by that. Who has neither heard of a place nor said that it waits has none to lose when it cannot start.
    fn run(mut self) -> Rejoined {
        let has_spoken = self.has_said_it_waits;
        let mut voice = Voice { reporter: self.reporter.take(), last: String::new(), has_spoken };
        let mut give_up = self.patience.map(|patience| Time::now() + patience);
        let mut pause = Pause::new();
        if self.was_sent_away {
            thread::sleep(pause.next());
        }
        loop {
            let error = match self.attempt(&mut voice) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => return Err(told_to_leave()),
                Err(error) => error,
            };
            let cure = error.cure();
            if cure == Cure::Person && self.known == Known::Unheard && !voice.has_spoken {
                return Err(error);
            }
            if cure != Cure::Unknown {
                give_up = self.patience.map(|patience| Time::now() + patience);
            } else if give_up.is_some_and(|give_up| Time::now() >= give_up) {
                return Err(error);
            }
            if cure != Cure::Unknown {
                voice.say(error);
            }
            thread::sleep(if cure == Cure::Person { pause.next_after_refusal() } else { pause.next() });
        }
    }

    /// A daemon that is there but hangs is waited for without end: what it has of this request it keeps. Nothing as
    /// [`connect`](Rejoin::connect).
    fn attempt(&self, voice: &mut Voice) -> Result<Option<(Link, Reply)>, Error> {
        let Some(mut link) = self.connect()? else { return Ok(None) };
        let reply = self.ask(&mut link, voice).map_err(|error| self.daemon.explain(error))?;
        if let (Some((started, pidfd)), Reply::Active(active)) = (&self.started, &reply)
            && active.ticket.0 == started.ticket
        {
            let request = Request::Started(started.clone());
            link.send(&request, &borrowed(pidfd)).map_err(|error| self.daemon.explain(error))?;
        }
        Ok(Some((link, reply)))
    }

    /// Nothing when the last daemon was told to leave for good while this waited. Who has a turn then starts none either,
    /// and joins the next one that there is.
    fn connect(&self) -> Result<Option<Link>, Error> {
        let (Known::Ticket(ticket, _) | Known::Follows(ticket)) = &self.known else {
            return self.daemon.connect().map(Some);
        };
        match self.daemon.connect_for(*ticket)? {
            None if !self.is_waiting => Err(self.daemon.absent()),
            found => Ok(found),
        }
    }

    fn ask(&self, link: &mut Link, voice: &mut Voice) -> Result<Reply, LinkError> {
        match &self.known {
            Known::Ticket(ticket, request_id) => self.resume(link, *ticket, request_id, voice),
            // If the last daemon gave it a ticket that nobody has told, this one knows it by the secret.
            Known::Unheard | Known::Unsent | Known::Follows(_) => self.ask_anew(link, voice),
        }
    }

    fn ask_anew(&self, link: &mut Link, voice: &mut Voice) -> Result<Reply, LinkError> {
        let max_wait_ms = self.until.map(|until| milliseconds(until.since(Time::now())));
        let mut sequence = Sequence { max_wait_ms, ..self.sequence.clone() };
        if let (Some(key), Known::Follows(ticket)) = (&mut sequence.key, &self.known) {
            key.follows = Some(ticket.0);
        }
        link.open_with(&Request::Sequence(sequence), &borrowed(&self.descriptors))?;
        first_reply(link, voice)
    }

    fn resume(
        &self,
        link: &mut Link,
        ticket: Ticket,
        request_id: &RequestId,
        voice: &mut Voice,
    ) -> Result<Reply, LinkError> {
        let request_id = Some(request_id.to_string());
        let sequence = Sequence { resume: Some(ticket.0), request_id, ..self.sequence.clone() };
        link.open_with(&Request::Sequence(sequence), &borrowed(&self.descriptors))?;
        first_reply(link, voice)
    }
}

/// Whether a `resume` was refused because there is nothing to take up: the ticket is not known, or is another's; or
/// the daemon is one from before there was `resume`.
pub(super) fn is_no_ticket_of_ours(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotFound | ErrorCode::Forbidden | ErrorCode::BadRequest)
}

fn first_reply(link: &mut Link, voice: &mut Voice) -> Result<Reply, LinkError> {
    loop {
        match unless_sent_away(link.answer(None)?)? {
            Reply::Stalled(stalled) => {
                voice.say(Error::failure(stalled.message).with_cure(Cure::Write));
            }
            reply => return Ok(reply),
        }
    }
}

fn borrowed(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}
