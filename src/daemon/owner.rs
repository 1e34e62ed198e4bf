//! The owner: the one loop that the lines belong to.
//!
//! It takes every input that is ready, hands each to the sequencer, does what follows in order, and then writes once
//! to each client concerned. It never waits for anything but the next input.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::sync::mpsc::Receiver;
use tracing::{error, info};

use super::audience::Audience;
use super::facts::Facts;
use super::kept::Kept;
use super::link::Link;
use super::log::Log;
use super::report::{self, WallClock};
use super::timer::Timer;
use super::wake::{Ask, Signal, Wake, WatchEnd};
use super::watch::Watcher;
use crate::clock::Time;
use crate::error::Error;
use crate::protocol::limits::OUTBOX_BYTES_MAX;
use crate::protocol::{Binding, ErrorCode, Reply, Ticket};
use crate::sequencer::{Change, ConnectionId, Effect, Enqueue, Input, Record, Sequencer};
use crate::store::Numbers;

/// Inputs that are handled before clients are written to.
const BATCH_MAX: usize = 256;

/// Everything that the lines consist of, and everybody who is told.
pub(super) struct Owner {
    pub(super) sequencer: Sequencer,
    pub(super) numbers: Numbers,
    pub(super) timer: Timer,
    pub(super) watcher: Watcher,
    pub(super) facts: Facts,
    pub(super) log: &'static Log,
    pub(super) state: State,
}

/// What of it begins empty.
#[derive(Default)]
pub(super) struct State {
    pub(super) clients: HashMap<ConnectionId, Rc<Link>>,
    pub(super) kept: Kept,
    pub(super) audience: Audience,
    /// Those with something in their outbox since the last flush.
    dirty: Vec<Rc<Link>>,
    /// What followed from the input at hand; empty between inputs, here only to be used again.
    effects: Vec<Effect>,
    /// The present moment, the same for a whole batch.
    pub(super) now: Time,
    /// The wall clock in this batch, once somebody needs it.
    wall_clock: Option<WallClock>,
    /// Since when nothing uses the daemon.
    idle_since: Option<Time>,
    /// Whether the batch at hand is the last.
    pub(super) is_leaving: bool,
}

/// What an input brings along for a ticket.
struct Brought {
    connection: ConnectionId,
    binding: Binding,
    descriptor: Option<OwnedFd>,
}

impl Owner {
    /// Serves until it is time to leave.
    ///
    /// # Errors
    ///
    /// When numbers can no more be written down: nothing may be given out then.
    pub(super) async fn run(&mut self, wakes: &mut Receiver<Wake>) -> Result<(), Error> {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while !self.state.is_leaving {
            self.set_timer()?;
            tokio::select! {
                biased;
                _ = wakes.recv_many(&mut batch, BATCH_MAX) => self.begin_batch(),
                gone_off = self.timer.gone_off() => {
                    gone_off.map_err(timer_failed)?;
                    self.begin_batch();
                    self.input(Input::Tick, None);
                }
            }
            for wake in batch.drain(..) {
                self.take(wake);
            }
            self.end_batch()?;
        }
        Ok(())
    }

    pub(super) fn begin_batch(&mut self) {
        self.state.now = Time::now();
        self.state.wall_clock = None;
    }

    /// Writes down what must be, and only then tells.
    pub(super) fn end_batch(&mut self) -> Result<(), Error> {
        let (ticket, token) = self.sequencer.next_numbers();
        self.numbers.cover(ticket, token)?;
        for link in self.state.dirty.drain(..) {
            link.flush();
        }
        self.facts.note(self.state.clients.len(), self.state.now);
        Ok(())
    }

    /// Lets the sequencer handle an input, and does what follows.
    pub(super) fn input(&mut self, input: Input, mut brought: Option<(ConnectionId, Option<OwnedFd>)>) {
        let mut effects = std::mem::take(&mut self.state.effects);
        self.sequencer.handle(self.state.now, input, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Admitted { ticket } => {
                    let (connection, descriptor) = brought.take().unzip();
                    self.state.kept.admit(ticket, connection);
                    self.watch(ticket, descriptor.flatten());
                }
                Effect::Record(record) => self.hear(&record),
                Effect::Tell { connection, reply } => self.tell(connection, &reply),
            }
        }
        self.state.effects = effects;
    }
}
