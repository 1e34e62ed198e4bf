//! What can be seen of the lines, without changing them.

use std::time::Duration;

use crate::clock::Time;
use crate::protocol::{Domain, HolderState, RequestId, Ticket, Token};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineView<'a> {
    /// Its name.
    pub domain: &'a Domain,
    /// Those who have a turn, oldest first, each with its fencing number.
    pub holders: Vec<(TicketView<'a>, Token, HolderState)>,
    /// The first of those who wait, in order.
    pub waiters: Vec<TicketView<'a>>,
    /// How many wait in all.
    pub waiting: u64,
    /// The median of the last runs that ended by `done`.
    pub usual_run: Option<Duration>,
}

/// One ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketView<'a> {
    /// Its request.
    pub request_id: &'a RequestId,
    /// Its number.
    pub ticket: Ticket,
    /// The user who asked.
    pub uid: u32,
    /// The process to show.
    pub pid: u32,
    /// The command to show.
    pub command: Option<&'a str>,
    /// When it took its place.
    pub queued_at: Time,
    /// When its turn came.
    pub active_at: Option<Time>,
}
