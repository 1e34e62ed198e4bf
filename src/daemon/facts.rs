//! What is true of this daemon from its start to its end, and what it says of itself when it breaks.

use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use super::descriptors::Budget;
use super::log::Log;
use super::place::Place;
use super::report::WallClock;
use crate::clock::{Time, milliseconds};
use crate::protocol::limits::{DOMAINS_MAX, LINE_BYTES_MAX, TICKETS_PER_CONNECTION_MAX, WAITERS_PER_DOMAIN_MAX};
use crate::protocol::{Counts, IN_MEMORY, InfoReply, Limits, PROTOCOL_VERSION, Ticket};
use crate::words::counted;

/// What does not change while the daemon runs.
pub(super) struct Facts {
    pub(super) place: Place,
    pub(super) log: Arc<Log>,
    /// When it started.
    pub(super) started: Time,
    pub(super) connections_max: usize,
    pub(super) budget: Budget,
    /// Whether it serves others than its own user.
    pub(super) is_shared: bool,
    /// How long it stays when nothing uses it.
    pub(super) idle_exit: Option<Duration>,
}

/// How things stood at the end of the last batch.
#[derive(Clone, Copy, Debug, Default)]
struct Summary {
    now: Time,
    connections: usize,
    next_ticket: u64,
}

thread_local! {
    static SUMMARY: Cell<Summary> = const { Cell::new(Summary { now: Time::ZERO, connections: 0, next_ticket: 0 }) };
}

impl Facts {
    /// Body of the reply to `info`.
    pub(super) fn info(
        &self,
        now: Time,
        counts: Counts,
        (clock, storage): (&WallClock, Option<&Path>),
        request_id: Option<String>,
    ) -> InfoReply {
        InfoReply {
            request_id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION,
            pid: std::process::id(),
            uid: rustix::process::geteuid().as_raw(),
            socket: self.place.socket.display().to_string(),
            log: self.log.path().map(|path| path.display().to_string()),
            storage: storage.map_or_else(|| IN_MEMORY.to_owned(), |path| path.display().to_string()),
            uptime_ms: milliseconds(now.since(self.started)),
            since: clock.text(self.started),
            counts,
            limits: Limits {
                line_bytes: LINE_BYTES_MAX as u64,
                connections: self.connections_max as u64,
                tickets_per_connection: TICKETS_PER_CONNECTION_MAX as u64,
                waiters_per_domain: WAITERS_PER_DOMAIN_MAX as u64,
                domains: DOMAINS_MAX as u64,
            },
        }
    }

    /// Notes how things stand, for [`say_and_abort`].
    #[expect(clippy::unused_self, reason = "what is noted is about this daemon")]
    pub(super) fn note(&self, now: Time, connections: usize, next_ticket: Ticket) {
        SUMMARY.set(Summary { now, connections, next_ticket: next_ticket.0 });
    }

    /// Opens the log again, as SIGHUP asks.
    pub(super) fn reopen_log(&self) {
        match self.log.reopen() {
            Ok(()) => info!("opened the log again"),
            Err(error) => error!("{error}"),
        }
    }
}

/// The panic hook: an assertion that failed means that the state is wrong, so nothing may be given out any more.
pub(super) fn say_and_abort(panic: &PanicHookInfo<'_>) {
    let Summary { now, connections, next_ticket } = SUMMARY.get();
    let connections = counted(connections as u64, "connection");
    error!("{panic}; at {now} clients had {connections}, and the next ticket was {next_ticket}");
    std::process::abort();
}
