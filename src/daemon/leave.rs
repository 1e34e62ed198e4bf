//! Leaving: nobody is let in any more, everybody is told, and what goes on without a daemon is written down.

use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::link::Link;
use super::owner::Owner;
use super::wake::Leaving;
use crate::error::Error;
use crate::protocol::{ErrorCode, ErrorReply, Reply, Ticket};
use crate::sequencer::Input;
use crate::words::counted;

/// How long clients may take to read the last replies.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl Owner {
    /// The ticket that comes next.
    pub(super) fn next_ticket(&self) -> Ticket {
        self.sequencer.next_numbers().0
    }

    /// Ends what the daemon does. Unless it is stopped for good, everybody keeps turn and place for the next daemon.
    ///
    /// # Errors
    ///
    /// When something could not be written down. If it was what happened last, nobody is told of that.
    pub(super) async fn leave(mut self, reason: Leaving) -> Result<(), Error> {
        info!("leaving: {reason}");
        self.begin_batch();
        self.try_at_once();
        let is_for_good = reason == Leaving::Client;
        self.input(Input::Leave { keep_places: !is_for_good });
        self.tell_the_rest(is_for_good);
        self.end_batch()?;
        self.end_unwritten()?;
        self.sync_now()?;
        let counts = self.sequencer.counts();
        let lasting = counts.holders + counts.waiters;
        if lasting > 0 {
            let (turns, places) = (counted(counts.holders, "turn"), counted(counts.waiters, "place"));
            info!("{turns} and {places} in line outlive this daemon");
        }
        let (ticket, token) = self.sequencer.next_numbers();
        let closed = if reason == Leaving::Usurped { Ok(()) } else { self.numbers.close(ticket, token, lasting == 0) };
        let links: Vec<Rc<Link>> = self.clients.into_values().collect();
        tokio::select! {
            () = flush(&links) => {}
            () = tokio::time::sleep(FLUSH_TIMEOUT) => warn!("some clients do not read: left without them"),
            () = asked_again() => warn!("asked to leave again: left at once"),
        }
        // What is at its path then is the other daemon's.
        if reason != Leaving::Usurped {
            self.ledger.close();
        }
        closed
    }

    /// Tells those, too, who have no turn and no place, but for whoever has just been answered. Watchers hear of others
    /// as well.
    fn tell_the_rest(&mut self, is_for_good: bool) {
        let (code, what) =
            if is_for_good { (ErrorCode::Leaving, "leaving") } else { (ErrorCode::Restarting, "restarting") };
        let message = format!("the daemon is {what}: connect again to reach the next one");
        let reply = Reply::Error(ErrorReply { code, message, domain: None, request_id: None, ticket: None });
        let rest = self.clients.values().filter(|link| !link.is_dirty.get() || self.audience.has(link.id));
        for link in rest.cloned().collect::<Vec<_>>() {
            self.reply(&link, &reply);
        }
    }
}

/// Waits until all is written. Each connection's own task writes too, so that a slow one holds up no other.
async fn flush(links: &[Rc<Link>]) {
    for link in links {
        while link.outbox_bytes() > 0 && link.room().await.is_ok() {
            link.write_on();
        }
    }
}

/// Waits for one more signal to leave.
async fn asked_again() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
