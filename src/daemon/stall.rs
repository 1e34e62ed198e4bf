//! The disk is full: nothing is told that is not written, everybody is told why, and all goes on when there is room.
//!
//! Meanwhile the lines go on in memory, so that a turn that ends has its right end in the history, and who comes now
//! has the place that is due. What follows from that waits in the outboxes.

use std::time::Duration;

use tracing::{error, info, warn};

use super::owner::Owner;
use crate::clock::Time;
use crate::error::{Cure, Error};
use crate::protocol::{ErrorCode, ErrorReply, Reply, Stalled};
use crate::sequencer::{Change, ConnectionId, Input, Record};

/// Between two tries to write.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A batch, or some, that could not be written.
#[derive(Debug)]
pub(super) struct Stall {
    /// Why, in words.
    why: String,
    /// When to try again.
    pub(super) retry_at: Time,
}

impl Owner {
    /// Whether it is too early to try again to write.
    pub(super) fn must_wait_for_room(&self) -> bool {
        self.stall.as_ref().is_some_and(|stall| stall.retry_at > self.batch.now)
    }

    /// The batch could not be written: everybody is told, and it is kept for the next try if there may be one.
    ///
    /// # Errors
    ///
    /// With the problem, when only the next daemon can go on from what is on disk.
    pub(super) fn stall(&mut self, problem: Error) -> Result<(), Error> {
        let why = problem.to_string();
        let is_news = self.stall.as_ref().is_none_or(|stall| stall.why != why);
        if is_news {
            for link in self.clients.values() {
                let is_done = self.batch.done.contains(&link.id);
                link.push_now(&stalled(&why, is_done.then_some(true)));
            }
        }
        if problem.cure() != Cure::Write {
            return Err(problem);
        }
        if is_news {
            error!("{why}; nothing is told or given until then");
        }
        self.stall = Some(Stall { why, retry_at: self.batch.now + RETRY_PAUSE });
        Ok(())
    }

    /// Who was given a turn meanwhile, and will be told so if the next try succeeds, has it from now on.
    pub(super) fn begin_given_turns_now(&mut self) {
        for ticket in self.batch.given.clone() {
            self.input(Input::BeginsNow { ticket });
        }
    }

    /// A turn that ends before anybody could be told of it was none: nothing was done under it.
    pub(super) fn correct_untold(&mut self, record: &mut Record) {
        if let Change::Ended { outcome, waited, held, .. } = record.change
            && self.stall.is_some()
            && self.batch.given.contains(&record.ticket)
        {
            record.change = Change::Left { outcome, waited: waited + held };
        }
    }

    /// All is written again, and may be told.
    pub(super) fn end_stall(&mut self) {
        if self.stall.take().is_some() {
            info!("there is room on the disk again: all is written");
            // Some read nothing more while so much waited for them.
            for link in self.clients.values() {
                link.wake();
            }
        }
    }

    /// The next try is the last.
    pub(super) fn try_at_once(&mut self) {
        if let Some(stall) = &mut self.stall {
            stall.retry_at = self.batch.now;
        }
    }

    /// Who asks for something now is told at once why the answer takes its time; for `done` also whether it was done.
    pub(super) fn tell_of_stall(&self, connection: ConnectionId, is_for_done: bool) {
        if let (Some(stall), Some(link)) = (&self.stall, self.clients.get(&connection)) {
            let counts = is_for_done.then(|| self.batch.done.contains(&connection));
            link.push_now(&stalled(&stall.why, counts));
        }
    }

    /// Why the daemon does not make room for the next one now, if it does not.
    pub(super) fn restart_would_lose(&self, request_id: Option<String>) -> Option<Reply> {
        let why = &self.stall.as_ref()?.why;
        let message = format!("{why}: until then nobody can take over what is not written");
        let code = ErrorCode::Storage;
        Some(Reply::Error(ErrorReply { code, message, domain: None, request_id, ticket: None }))
    }

    /// The daemon must end without having written what happened last.
    ///
    /// # Errors
    ///
    /// With what is wrong, if anything is.
    pub(super) fn end_unwritten(&mut self) -> Result<(), Error> {
        let Some(stall) = self.stall.take() else { return Ok(()) };
        warn!("what happened last is not written down: the next daemon finds out what it can");
        Err(Error::failure(stall.why))
    }
}

fn stalled(why: &str, counts: Option<bool>) -> Reply {
    Reply::Stalled(Stalled { message: why.to_owned(), counts })
}
