//! Taking a place in line, or a turn, up again after the daemon has gone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::clock::Time;
use crate::error::{Cure, Error};
use crate::protocol::limits::WAITERS_PER_DOMAIN_MAX;
use crate::protocol::{ErrorCode, Reply, Request, RequestId, Sequence, Started, Status, Ticket};

use super::connect::Daemon;
use super::errand::{Errand, Reporter};
use super::link::{Link, LinkError};
use super::pause::Pause;
use super::refusal::unless_leaving;

/// Bytes of a secret, as many again when it is written in hexadecimal digits.
const SECRET_BYTES: usize = 16;

/// What is known of the request on the lost connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Its ticket, and the name that the daemon has for it.
    Ticket(Ticket, RequestId),
    /// Nothing: it was sent, but the answer was lost. The daemon may have given it a ticket, even a turn.
    Unheard,
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
    /// What to say once the turn is there again: the command, with its pidfd.
    pub(super) started: Option<(Started, Vec<OwnedFd>)>,
    /// How long to look for a daemon; without end if there is none.
    pub(super) patience: Option<Duration>,
    /// Who wants to hear what somebody has to do before a daemon can start, or write.
    pub(super) reporter: Option<Reporter<String>>,
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

    /// Without end, too, while the daemon says what somebody must do before it can start: nobody loses a place by that.
    /// Who was told of no place has none to lose.
    fn run(mut self) -> Rejoined {
        let mut reporter = self.reporter.take();
        let mut give_up = self.patience.map(|patience| Time::now() + patience);
        let mut pause = Pause::new();
        let mut last = String::new();
        loop {
            let error = match self.attempt(&mut reporter) {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let is_refusal = error.cure() == Cure::Person;
            if is_refusal && self.known == Known::Unheard {
                return Err(error);
            }
            if is_refusal {
                give_up = self.patience.map(|patience| Time::now() + patience);
            } else if give_up.is_some_and(|give_up| Time::now() >= give_up) {
                return Err(error);
            }
            if is_refusal
                && last != error.to_string()
                && let Some(reporter) = &mut reporter
            {
                last = error.to_string();
                reporter.say(last.clone());
            }
            thread::sleep(if is_refusal { pause.next_after_refusal() } else { pause.next() });
        }
    }

    /// A daemon that is there but hangs is waited for without end: what it has of this request it keeps.
    fn attempt(&self, reporter: &mut Option<Reporter<String>>) -> Rejoined {
        let mut link = self.daemon.connect()?;
        let reply = self.ask(&mut link, reporter).map_err(|error| self.daemon.explain(error))?;
        if let (Some((started, pidfd)), Reply::Active(active)) = (&self.started, &reply)
            && active.ticket.0 == started.ticket
        {
            let request = Request::Started(started.clone());
            link.send(&request, &borrowed(pidfd)).map_err(|error| self.daemon.explain(error))?;
        }
        Ok((link, reply))
    }

    fn ask(&self, link: &mut Link, reporter: &mut Option<Reporter<String>>) -> Result<Reply, LinkError> {
        match &self.known {
            Known::Ticket(ticket, request_id) => self.resume(link, *ticket, request_id, reporter),
            Known::Unheard => {
                for (ticket, request_id) in self.candidates(link, reporter)? {
                    match self.resume(link, ticket, &request_id, reporter)? {
                        Reply::Error(error) if is_no_ticket_of_ours(error.code) => {}
                        reply => return Ok(reply),
                    }
                }
                link.open_with(&Request::Sequence(self.sequence.clone()), &borrowed(&self.descriptors))?;
                first_reply(link, reporter)
            }
        }
    }

    fn resume(
        &self,
        link: &mut Link,
        ticket: Ticket,
        request_id: &RequestId,
        reporter: &mut Option<Reporter<String>>,
    ) -> Result<Reply, LinkError> {
        let request_id = Some(request_id.to_string());
        let sequence = Sequence { resume: Some(ticket.0), request_id, ..self.sequence.clone() };
        link.open_with(&Request::Sequence(sequence), &borrowed(&self.descriptors))?;
        first_reply(link, reporter)
    }

    /// The tickets that may be this request's: those that its process asked for.
    fn candidates(
        &self,
        link: &mut Link,
        reporter: &mut Option<Reporter<String>>,
    ) -> Result<Vec<(Ticket, RequestId)>, LinkError> {
        let domain = Some(self.sequence.domain.clone());
        let status = Status { domain, waiters_max: Some(WAITERS_PER_DOMAIN_MAX), ..Status::default() };
        link.open_with(&Request::Status(status), &[])?;
        let Reply::Status(status) = first_reply(link, reporter)? else { return Ok(Vec::new()) };
        let whose = (geteuid().as_raw(), self.sequence.pid.unwrap_or_else(std::process::id));
        let found = status.domains.into_iter().next();
        let (holders, waiters) = found.map(|found| (found.holders, found.waiters)).unwrap_or_default();
        let holders = holders.into_iter().map(|holder| ((holder.uid, holder.pid), (holder.ticket, holder.request_id)));
        let waiters = waiters.into_iter().map(|waiter| ((waiter.uid, waiter.pid), (waiter.ticket, waiter.request_id)));
        Ok(holders.chain(waiters).filter(|(process, _)| *process == whose).map(|(_, request)| request).collect())
    }
}

/// Whether a `resume` was refused because there is nothing to take up: the ticket is not known, or is another's; or
/// the daemon is one from before there was `resume`.
pub(super) fn is_no_ticket_of_ours(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotFound | ErrorCode::Forbidden | ErrorCode::BadRequest)
}

fn first_reply(link: &mut Link, reporter: &mut Option<Reporter<String>>) -> Result<Reply, LinkError> {
    loop {
        match unless_leaving(link.answer(None)?)? {
            Reply::Stalled(stalled) => {
                if let Some(reporter) = reporter {
                    reporter.say(stalled.message);
                }
            }
            reply => return Ok(reply),
        }
    }
}

fn borrowed(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}
