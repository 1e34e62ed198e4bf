//! Coming back to a daemon with a request that waits: to the next one, or to this one once it has room.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};

use super::{Asker, Question};
use crate::client::errand::reports;
use crate::client::link::{Link, LinkError, timespec};
use crate::client::pause::RETURN_TIMEOUT;
use crate::client::refusal::no_room;
use crate::client::rejoin::{Known, Rejoin, copies};
use crate::clock::show_duration;
use crate::error::{Cure, Error};
use crate::protocol::Reply;
use crate::protocol::limits::ANSWER_TIMEOUT;

/// How it went to find the next daemon.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it lives for a moment")]
pub(super) enum Rejoining {
    /// It is there, and said this.
    Back(Link, Reply),
    /// This signal came first.
    Signal(Signal),
}

impl Asker<'_> {
    /// Finds the next daemon, and takes the place in line up again there.
    pub(super) fn rejoin(&mut self) -> Result<Rejoining, Error> {
        let known = match (self.known.clone(), self.follows) {
            (Some((ticket, request_id)), _) => Known::Ticket(ticket, request_id),
            (None, Some(ticket)) => Known::Follows(ticket),
            (None, None) => Known::Unheard,
        };
        if std::mem::take(&mut self.has_been_sent_away) {
            return self.come_back(known, true);
        }
        self.waiting.tell("the daemon has gone: taking the place in line up again with the next one");
        self.come_back(known, false)
    }

    /// Waits until the daemon has room for this request, which it has not heard yet.
    pub(super) fn await_room(&mut self, why: &str) -> Result<Rejoining, Error> {
        self.is_late = Some("the daemon had no room for one more connection at first");
        self.waiting.tell_of_crowd(&no_room(why));
        self.come_back(Known::Unsent, true)
    }

    /// Asks again, as long as it takes, if need be of the next daemon.
    fn come_back(&mut self, known: Known, was_sent_away: bool) -> Result<Rejoining, Error> {
        // Who would not wait at all does not wait for a daemon either; nor does who was told of no place, where only
        // somebody else can start one.
        let has_place = matches!(known, Known::Ticket(..) | Known::Follows(_));
        let is_brief = self.sequence.no_wait || (!has_place && !self.daemon.may_start());
        let patience = if is_brief { ANSWER_TIMEOUT } else { RETURN_TIMEOUT };
        let cannot =
            |error: std::io::Error| Error::failure(format_args!("cannot connect to the daemon again: {error}"));
        let descriptors = copies(self.descriptors).map_err(cannot)?;
        let (reporter, mut troubles) = reports().map_err(cannot)?;
        let is_heard = !matches!(known, Known::Unsent | Known::Follows(_));
        self.question = Question::None;
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
                    self.waiting.tell_of_crowd(&why);
                } else {
                    self.waiting.warn_of_trouble(&why);
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
}
