//! Every limit of the protocol and of the daemon, by name, with its unit in it.

use std::time::Duration;

/// Bytes of a domain's name after normalisation.
pub const DOMAIN_BYTES_MAX: usize = 255;

/// Bytes of a request id.
pub const REQUEST_ID_BYTES_MAX: usize = 255;

/// Bytes of a request's line, its newline not counted. A longer line is answered `line_too_long` and skipped.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a command as it is shown to people; the client cuts a longer one.
pub const COMMAND_BYTES_MAX: usize = 4 * 1024;

/// Descriptors that one connection may have sent without having named them in a request. More are closed.
pub const DESCRIPTORS_PENDING_MAX: usize = 16;

/// Descriptors that one request may name.
pub const DESCRIPTORS_PER_REQUEST_MAX: usize = 1;

/// Open connections; further ones are answered `too_many_connections`. The daemon's limit on open files may set a
/// lower one.
pub const CONNECTIONS_MAX: usize = 65_536;

/// Connections beyond those, for short errands: on one of them a new turn, a `wait` and a `watch` wait until an idle
/// connection has made room, for about [`CONNECTION_IDLE_MIN`] at most, and are answered `too_many_connections` if none
/// does; the connection is closed then.
pub const CONNECTIONS_EXTRA: usize = 8;

/// Connections beyond those, for errands of root and of the daemon's user, where it serves others, too.
pub const CONNECTIONS_EXTRA_OPERATORS: usize = 4;

/// How long a connection must have asked for nothing, while nothing hangs on it, to be closed when a newcomer has no
/// place.
pub const CONNECTION_IDLE_MIN: Duration = Duration::from_secs(1);

/// The same for a connection on which nothing has ever been said, and for all when the extra ones are taken, too.
pub const CONNECTION_IDLE_MIN_CROWDED: Duration = Duration::from_millis(100);

/// Tickets that one connection may have at once; a further request is answered `too_many_requests`.
pub const TICKETS_PER_CONNECTION_MAX: usize = 65_536;

/// Waiters in one domain; a further request is answered `queue_full`.
pub const WAITERS_PER_DOMAIN_MAX: usize = 1 << 20;

/// Domains in use at once; a request for a further one is answered `too_many_domains`.
pub const DOMAINS_MAX: usize = 1 << 20;

/// Domains that one request may name.
pub const DOMAINS_PER_REQUEST_MAX: usize = 16;

/// Policies that may be set by `policy_set`; a further one is answered `too_many_policies`.
pub const POLICIES_MAX: usize = 1_024;

/// Turns at once that a policy may allow in one domain.
pub const CONCURRENCY_MAX: u32 = 65_536;

/// Bytes of the reason of a pause.
pub const REASON_BYTES_MAX: usize = 1024;

/// Bytes of the name of a group that supersedes.
pub const GROUP_BYTES_MAX: usize = 255;

/// Bytes of a run-once key, without the white space around it.
pub const KEY_BYTES_MAX: usize = 255;

/// How long a run-once key is remembered after its command has ended, unless its first use says otherwise.
pub const KEY_TTL_DEFAULT: Duration = Duration::from_hours(24);

/// How long it may be remembered at most.
pub const KEY_TTL_MAX: Duration = Duration::from_hours(24 * 10_000);

/// Run-once keys that are remembered, those of all users together; a further one is answered `too_many_keys`.
pub const KEYS_MAX: usize = 1_000_000;

/// Of these, how many may be of one user.
pub const KEYS_PER_USER_MAX: usize = 500_000;

/// Fingerprints of conflicting uses that are kept of a key, the last ones; all are counted.
pub const KEY_CONFLICTS_KEPT: usize = 16;

/// How long the outcome of a run that freed its key is kept for those who waited for it and lost their connection.
pub const KEY_FREED_KEPT: Duration = AWAY_MAX;

/// Bytes of standard output and standard error together that are recorded of a command.
pub const KEY_OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// Parts of that: as often as one follows the other.
pub const KEY_OUTPUT_PARTS_MAX: usize = 4_096;

/// Keys in one `key_list` reply unless it asks for another number.
pub const KEY_LIST_DEFAULT: usize = 1_000;

/// Keys in one `key_list` reply at most.
pub const KEY_LIST_MAX: usize = 20_000;

/// Largest priority of a request, and with a minus the smallest.
pub const PRIORITY_MAX: i8 = 100;

/// Starts that the rate of a policy may count.
pub const RATE_STARTS_MAX: u32 = 10_000;

/// Starts of a domain that are known at least, for a rate that is set later.
pub const KNOWN_STARTS: usize = 32;

/// For how much longer than a rate says a start counts, at most.
pub const RATE_SLACK_MAX: Duration = Duration::from_millis(50);

/// Idle domains that are remembered for completions and estimates; the one idle longest is forgotten first.
pub const IDLE_DOMAINS_MAX: usize = 1_024;

/// Past runs of a domain that its estimate goes by.
pub const PAST_RUNS_MAX: usize = 8;

/// Bytes waiting to be read by one client. Past this a watcher gets `lagged`, queue positions are dropped, and no
/// further request of that client is read until it catches up.
pub const OUTBOX_BYTES_MAX: usize = 1024 * 1024;

/// Waiters listed for each domain in one `status` reply unless it asks for another number.
pub const STATUS_WAITERS_DEFAULT: usize = 1_000;

/// Waiters listed in one `status` reply, those of all domains together. There may be as many clients.
pub const STATUS_WAITERS_MAX: usize = 65_536;

/// Turns in one `log` reply unless it asks for another number.
pub const LOG_TURNS_DEFAULT: usize = 1_000;

/// Turns in one `log` reply at most: a few megabytes.
pub const LOG_TURNS_MAX: usize = 20_000;

/// Bytes of a request's secret.
pub const SECRET_BYTES_MAX: usize = 255;

/// How long a place in line is kept, after a restart of the daemon, for a client that has not come back. Each one that
/// comes back gives the others as long again.
pub const AWAY_GRACE: Duration = Duration::from_secs(10);

/// How long after a restart of the daemon a place is kept at most for a client that has not come back.
pub const AWAY_MAX: Duration = Duration::from_mins(1);

/// Tickets that ended by `cancel`, `release` or a deadline that are remembered, so that a client that could not be
/// told learns it when it comes back; the one that ended first is forgotten first.
pub const PAST_ENDS_MAX: usize = 1_000;

/// Least time between two `queue_position` messages to one waiter.
pub const POSITION_INTERVAL: Duration = Duration::from_secs(1);

/// How long a client waits for any answer that should come at once.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
