//! The pure core: who stands in which line, and who has a turn.
//!
//! Time and inputs go in, effects come out, in order. There is no clock, socket, file, thread or randomness in here,
//! and it cannot fail: a refusal is an effect. The same inputs at the same times always give the same effects.

mod input;
mod effect;
mod view;

pub use effect::{Change, Effect, Record};
pub use input::{ConnectionId, Enqueue, Input, Peer, Restored, Which};
pub use view::{LineView, TicketView};

use crate::clock::Time;
use crate::protocol::{Counts, Domain, Ticket, Token};

/// The lines of all domains.
#[derive(Debug)]
pub struct Sequencer {}

impl Sequencer {
    /// Lines without anybody in them. The first ticket and token given out are the ones given here.
    pub fn new(next_ticket: Ticket, next_token: Token) -> Sequencer {
        let _ = (next_ticket, next_token);
        todo!()
    }

    /// Takes one input at `now` and appends what follows from it to `effects`, in order.
    ///
    /// Everything that was due before `now` is done first, as if a [`Input::Tick`] had come at its time. `now` must
    /// never be earlier than in an earlier call.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        let _ = (now, input, effects);
        todo!()
    }

    /// When to call [`handle`](Sequencer::handle) with [`Input::Tick`] if no other input comes before.
    pub fn next_timeout(&self) -> Option<Time> {
        todo!()
    }

    /// The next ticket and token to be given out: what must be below the store's high-water mark.
    pub fn next_numbers(&self) -> (Ticket, Token) {
        todo!()
    }

    /// Lines in alphabetical order: one, or all that are in use, or with `idle` also those remembered. Each has up to
    /// `waiters_max` waiters.
    pub fn view(&self, domain: Option<&Domain>, waiters_max: usize, idle: bool) -> Vec<LineView<'_>> {
        let _ = (domain, waiters_max, idle);
        todo!()
    }

    /// Every turn that would outlive this process, for the next daemon: those not kept by a connection alone.
    pub fn held(&self) -> Vec<Restored> {
        todo!()
    }

    /// What there is now; `connections` is for the caller to fill.
    pub fn counts(&self) -> Counts {
        todo!()
    }
}
