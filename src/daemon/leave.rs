//! Leaving: nobody is let in any more, everybody is told, and what goes on without a daemon is written down.

use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::link::Link;
use super::owner::Owner;
use super::process;
use crate::error::Error;
use crate::sequencer::Input;
use crate::store::save_turns;

/// How long clients may take to read the last replies.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl Owner {
    /// Ends what the daemon does, for `reason`.
    ///
    /// # Errors
    ///
    /// When something could not be written down; all the rest is done nevertheless.
    pub(super) async fn leave(mut self, reason: &str) -> Result<(), Error> {
        info!("leaving: {reason}");
        self.begin_batch();
        self.input(Input::Leave { keep_places: false });
        let peer_pid = |connection| self.clients.get(&connection).map(|link| link.peer.pid);
        let held: Vec<_> = {
            let turns = self.kept.tickets().into_iter().filter_map(|ticket| self.sequencer.saved(ticket));
            turns.filter(|saved| saved.turn.is_some()).map(|turn| self.kept.held_turn(turn, peer_pid)).collect()
        };
        if !held.is_empty() {
            info!("{} turns outlive this daemon", held.len());
        }
        let saved = save_turns(&self.facts.place.turns, &process::boot_id(), held);
        let told = self.end_batch();
        let (ticket, token) = self.sequencer.next_numbers();
        let closed = self.numbers.close(ticket, token);
        let links: Vec<Rc<Link>> = self.clients.into_values().collect();
        tokio::select! {
            () = flush(&links) => {}
            () = tokio::time::sleep(FLUSH_TIMEOUT) => warn!("some clients do not read: left without them"),
            () = asked_again() => warn!("asked to leave again: left at once"),
        }
        saved.and(told).and(closed)
    }
}

/// Waits until all is written. Each connection's own task writes too, so that a slow one holds up no other.
async fn flush(links: &[Rc<Link>]) {
    for link in links {
        while link.outbox_bytes() > 0 && link.ready(false).await.is_ok() {
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
