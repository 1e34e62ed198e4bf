//! What the user typed, as data. Nothing in here asks, prints or exits.

mod duration;
mod since;
mod values;
mod plain;
mod parse;
mod handover;

pub use duration::parse_duration;
pub use handover::is_for_coreutils;
pub use parse::{UsageError, lines, parse};
pub use since::{Since, parse_since};
pub use values::Limit;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::sequencer::Rate;

/// Run commands one after the other, in the order they came.
///
/// Commands in one domain take turns; different domains run side by side. The daemon that keeps the lines, seqd,
/// starts by itself.
#[derive(Clone, Debug, Parser)]
#[command(name = "seq", version, propagate_version = true, max_term_width = 100, after_help = values::COREUTILS_NOTE)]
pub struct Cli {
    /// Options that every subcommand takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every subcommand takes.
#[derive(Clone, Debug, Default, Args)]
#[expect(clippy::doc_markdown, reason = "it is the help, where a backtick would be seen")]
pub struct Global {
    /// Talk to the daemon at this socket
    ///
    /// Without it: $SEQ_SOCKET, then /run/seqd/seqd.sock if a system-wide daemon is there, then the user's own,
    /// ~/.local/state/seq/seqd.sock.
    #[arg(long, global = true, value_name = "PATH", help_heading = "Global options")]
    pub socket: Option<PathBuf>,
    /// Do not start a daemon when there is none
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_start: bool,
}

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Wait for a turn, run a command, pass the turn on
    Run(Run),
    /// Take a turn for the calling shell and return
    Sequence(Sequence),
    /// Give a turn back
    Done(Done),
    /// Show who has a turn and who waits
    Status(Status),
    /// Show what happens, as it happens
    Watch(Watch),
    /// Show the turns that have ended
    Log(Log),
    /// Wait until a domain is idle, without taking a turn
    Wait(Wait),
    /// Take a waiting request out of the line
    Cancel(Cancel),
    /// Take the turn from a holder that will not give it up
    Release(Release),
    /// Set, show or unset how a domain gives out turns
    Policy(PolicyArgs),
    /// Show or forget keys, by which commands run once
    Key(KeyArgs),
    /// Give out no more turns in a domain; those running end in peace
    Pause(PauseArgs),
    /// Give out turns again in a domain that was paused
    Resume(Resume),
    /// Show the daemon's socket, version, limits and counts
    Info(Info),
    /// Put a new daemon in the place of the present one, with all turns and places in line
    #[command(after_help = values::RESTART_NOTE)]
    Restart,
    /// Ask the daemon to leave
    Stop,
}

/// How a request wants to be treated in its line.
#[derive(Clone, Debug, Default, Args)]
pub struct Wishes {
    /// Take so many of the domain's slots; see 'seq policy set --concurrency'
    #[arg(long, value_name = "K", value_parser = values::take, allow_negative_numbers = true, conflicts_with = "shared")]
    pub take: Option<u32>,
    /// Have the turn together with others that are shared too, as readers; never with one that is not
    #[arg(long)]
    pub shared: bool,
    /// Stand ahead of all with a lower number, -100 to 100, 0 by default; nobody who has a turn is interrupted
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = values::priority)]
    pub priority: Option<i8>,
    /// Replace those of this user that wait in this domain with --supersede, and the same GROUP if one is named; they
    /// end with status 76
    #[arg(long, value_name = "GROUP", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub supersede: Option<String>,
    /// Stop those that run with the same --supersede as well; they end with status 76
    #[arg(long, requires = "supersede")]
    pub cancel_running: bool,
}

/// What is to be done once.
#[derive(Clone, Debug, Default, Args)]
pub struct Once {
    /// Run the command once: where this key was used before in this domain by this user, its outcome is given back
    #[arg(long, value_name = "KEY", value_parser = values::key, add = values::key_completer())]
    pub key: Option<String>,
    /// Remember the key so long after the command has ended; 24h by default
    #[arg(long, value_name = "DURATION", value_parser = values::key_ttl, allow_negative_numbers = true, requires = "key")]
    pub key_ttl: Option<Duration>,
    /// Remember a failure, too; otherwise it frees the key, and the next use runs again
    #[arg(long, requires = "key")]
    pub keep_failures: bool,
    /// Tell by TEXT, instead of the command's arguments, whether the key is used for the same again
    #[arg(
        long,
        value_name = "TEXT",
        requires = "key",
        conflicts_with = "fingerprint_file",
        allow_hyphen_values = true
    )]
    pub fingerprint: Option<OsString>,
    /// Tell by what is in FILE, instead of the command's arguments
    #[arg(long, value_name = "FILE", requires = "key", value_hint = clap::ValueHint::FilePath)]
    pub fingerprint_file: Option<PathBuf>,
    /// Record what the command writes, and write what was recorded when it is not run again
    #[arg(long, requires = "key")]
    pub replay: bool,
    /// Run again where nobody knows how the last command of this key ended
    #[arg(long, requires = "key")]
    pub retry_unknown: bool,
}

/// `seq run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = values::RUN_STATUS)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub struct Run {
    /// The line to stand in; several times to have the turn in all of these domains at once, or in none
    #[arg(short, long, required = true, value_name = "DOMAIN")]
    #[arg(value_parser = values::domain(), add = values::domain_completer())]
    pub domain: Vec<String>,
    /// Name this request; the same name again takes up the same place in line
    #[arg(long, value_name = "ID", value_parser = values::request_id)]
    pub request_id: Option<String>,
    /// Fail at once, with status 75, when somebody else has the turn
    #[arg(short, long, conflicts_with = "max_wait")]
    pub no_wait: bool,
    /// Wait at most this long for the turn, then fail with status 75
    #[arg(short = 'w', long, value_name = "DURATION", value_parser = parse_duration, allow_negative_numbers = true)]
    pub max_wait: Option<Duration>,
    /// How the request wants to be treated.
    #[command(flatten)]
    pub wishes: Wishes,
    /// What is to be done once.
    #[command(flatten)]
    pub once: Once,
    /// Stop the command, with status 124, when it has run this long; 0 sets no limit
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_negative_numbers = true)]
    pub max_run: Option<Duration>,
    /// How long the command has between TERM and KILL when it is stopped
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_negative_numbers = true, default_value = "10s")]
    pub kill_grace: Duration,
    /// Exit with this status, instead of 75, when there is no turn
    #[arg(short = 'E', long, value_name = "STATUS", value_parser = values::exit_status, allow_negative_numbers = true)]
    pub conflict_exit_code: Option<u8>,
    /// Do not let the command inherit the descriptor that keeps the turn when seq is killed
    #[arg(long, conflicts_with = "until_all_exit")]
    pub close: bool,
    /// Keep the turn until everything the command started has ended, too
    #[arg(long)]
    pub until_all_exit: bool,
    /// Say nothing on standard error, errors excepted
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say on standard error when it waits, runs and ends
    #[arg(short, long)]
    pub verbose: bool,
    /// The command to run, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    #[arg(value_hint = clap::ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// `seq sequence`.
#[derive(Clone, Debug, Args)]
#[command(after_help = values::SEQUENCE_NOTE)]
pub struct Sequence {
    /// The line to stand in; several times to have the turn in all of these domains at once, or in none
    #[arg(short, long, required = true, value_name = "DOMAIN")]
    #[arg(value_parser = values::domain(), add = values::domain_completer())]
    pub domain: Vec<String>,
    /// Name this request; the same name again takes up the same place in line
    #[arg(long, value_name = "ID", value_parser = values::request_id)]
    pub request_id: Option<String>,
    /// Wait at most this long for the turn, then fail with status 75
    #[arg(short = 'w', long, value_name = "DURATION", value_parser = parse_duration, allow_negative_numbers = true)]
    pub max_wait: Option<Duration>,
    /// How the request wants to be treated.
    #[command(flatten)]
    pub wishes: Wishes,
    /// Keep the turn until this process ends, instead of the calling shell
    #[arg(long, value_name = "PID", conflicts_with = "lease", value_parser = values::pid, allow_negative_numbers = true)]
    pub for_pid: Option<u32>,
    /// Keep the turn for this long, instead of until the calling shell ends
    #[arg(long, value_name = "DURATION", value_parser = values::lease, allow_negative_numbers = true)]
    pub lease: Option<Duration>,
    /// Print the turn as JSON
    #[arg(long)]
    pub json: bool,
    /// Say on standard error when it waits, and what the turn is bound to
    #[arg(short, long)]
    pub verbose: bool,
}

/// `seq done`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["domain", "ticket"]))]
pub struct Done {
    /// The line whose turn to give back
    #[arg(short, long, value_name = "DOMAIN", value_parser = values::domain(), add = values::domain_completer())]
    pub domain: Option<String>,
    /// The request to end
    #[arg(long, value_name = "ID", value_parser = values::request_id, requires = "domain")]
    pub request_id: Option<String>,
    /// The ticket to end
    #[arg(long, value_name = "TICKET", value_parser = values::ticket, allow_negative_numbers = true)]
    pub ticket: Option<u64>,
}

/// `seq status`.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Show this line only
    #[arg(short, long, value_name = "DOMAIN", value_parser = values::domain(), add = values::domain_completer())]
    pub domain: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `seq watch`.
#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// Watch this line only
    #[arg(short, long, value_name = "DOMAIN", value_parser = values::domain(), add = values::domain_completer())]
    pub domain: Option<String>,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `seq log`.
#[derive(Clone, Debug, Args)]
#[command(after_help = values::LOG_NOTE)]
pub struct Log {
    /// Show the turns of this line only
    #[arg(short, long, value_name = "DOMAIN", value_parser = values::domain(), add = values::domain_completer())]
    pub domain: Option<String>,
    /// Show those only that ended since then: 2h for two hours ago, or a date and time
    #[arg(long, value_name = "WHEN", value_parser = parse_since, allow_negative_numbers = true)]
    pub since: Option<Since>,
    /// Show those only that did not end well: with another status than 0, or without one
    #[arg(long)]
    pub failed: bool,
    /// Show so many at most, the newest of them
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = values::LOG_TURNS_SHOWN)]
    #[arg(value_parser = values::turns, allow_negative_numbers = true)]
    pub turns: usize,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `seq wait`.
#[derive(Clone, Debug, Args)]
pub struct Wait {
    /// The line to wait for
    #[arg(short, long, value_name = "DOMAIN", value_parser = values::domain(), add = values::domain_completer())]
    pub domain: String,
    /// Wait at most this long, then fail with status 75
    #[arg(short = 'w', long, value_name = "DURATION", value_parser = parse_duration, allow_negative_numbers = true)]
    pub max_wait: Option<Duration>,
}

/// `seq cancel`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["ticket", "domain"]))]
pub struct Cancel {
    /// The ticket to take out of its line
    #[arg(value_name = "TICKET", value_parser = values::ticket, allow_negative_numbers = true)]
    pub ticket: Option<u64>,
    /// The line in which the request waits
    #[arg(short, long, value_name = "DOMAIN", value_parser = values::domain(), add = values::domain_completer())]
    #[arg(requires = "request_id")]
    pub domain: Option<String>,
    /// The request to take out of the line
    #[arg(long, value_name = "ID", value_parser = values::request_id, requires = "domain")]
    pub request_id: Option<String>,
}

/// `seq release`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["ticket", "domain"]))]
pub struct Release {
    /// The ticket whose turn to take away
    #[arg(value_name = "TICKET", value_parser = values::ticket, allow_negative_numbers = true)]
    pub ticket: Option<u64>,
    /// The line whose turn to take away
    #[arg(short, long, value_name = "DOMAIN", value_parser = values::domain(), add = values::domain_completer())]
    pub domain: Option<String>,
}

/// `seq policy`.
#[derive(Clone, Debug, Args)]
pub struct PolicyArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// The subcommands of `seq policy`.
#[derive(Clone, Debug, Subcommand)]
pub enum PolicyCommand {
    /// Set values for a domain, or for all that a pattern matches; those that are not named stay
    Set(PolicySet),
    /// Show what holds for a domain and where each value comes from, or every policy there is
    Show(PolicyShow),
    /// Forget what was set for this very domain or pattern
    Unset(PolicyUnset),
}

/// `seq policy set`.
#[derive(Clone, Debug, Args)]
#[command(after_help = values::POLICY_NOTE)]
#[command(group = clap::ArgGroup::new("values").required(true).multiple(true).args([
    "concurrency", "max_queue", "min_interval", "cooldown", "rate", "max_run", "default_max_wait",
]))]
pub struct PolicySet {
    /// A domain, or a pattern such as 'deploy/*'
    #[arg(value_name = "DOMAIN-OR-PATTERN", value_parser = values::domain(), add = values::domain_completer())]
    pub pattern: String,
    /// Give out so many turns at once
    #[arg(long, value_name = "N", value_parser = values::slots, allow_negative_numbers = true)]
    pub concurrency: Option<u32>,
    /// Let so many wait; further requests fail at once, with status 75
    #[arg(long, value_name = "N", value_parser = values::waiters, allow_negative_numbers = true)]
    pub max_queue: Option<Limit<u32>>,
    /// Let starts be at least so far apart
    #[arg(long, value_name = "DURATION", value_parser = values::limit, allow_negative_numbers = true)]
    pub min_interval: Option<Limit<Duration>>,
    /// Let so much time pass between an end and the next start
    #[arg(long, value_name = "DURATION", value_parser = values::limit, allow_negative_numbers = true)]
    pub cooldown: Option<Limit<Duration>>,
    /// Let at most so many start in any so long a time, such as 10/1m
    #[arg(long, value_name = "N/DURATION", value_parser = values::rate, allow_hyphen_values = true)]
    pub rate: Option<Limit<Rate>>,
    /// Let no command run longer than this, whatever its request says; 0 sets no limit
    #[arg(long, value_name = "DURATION", value_parser = values::limit, allow_negative_numbers = true)]
    pub max_run: Option<Limit<Duration>>,
    /// Let requests wait so long that do not say how long they wait
    #[arg(long, value_name = "DURATION", value_parser = values::limit, allow_negative_numbers = true)]
    pub default_max_wait: Option<Limit<Duration>>,
}

/// `seq policy show`.
#[derive(Clone, Debug, Args)]
pub struct PolicyShow {
    /// The domain; without it every policy is shown
    #[arg(value_name = "DOMAIN", value_parser = values::domain(), add = values::domain_completer())]
    pub domain: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `seq policy unset`.
#[derive(Clone, Debug, Args)]
pub struct PolicyUnset {
    /// The domain or pattern, as it was set
    #[arg(value_name = "DOMAIN-OR-PATTERN", value_parser = values::domain(), add = values::pattern_completer())]
    pub pattern: String,
}

/// `seq key`.
#[derive(Clone, Debug, Args)]
pub struct KeyArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// The subcommands of `seq key`.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys that are in use or remembered
    List(KeyList),
    /// Show all that is recorded of a key
    Show(KeyShow),
    /// Let a key be as if never used
    Forget(KeyForget),
}

/// `seq key list`.
#[derive(Clone, Debug, Args)]
pub struct KeyList {
    /// List the keys of this domain only
    #[arg(short, long, value_name = "DOMAIN", value_parser = values::domain(), add = values::domain_completer())]
    pub domain: Option<String>,
    /// List so many at most
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = crate::protocol::limits::KEY_LIST_DEFAULT)]
    #[arg(value_parser = values::keys, allow_negative_numbers = true)]
    pub keys: usize,
    /// Those of this user; for root and the daemon's own user
    #[arg(long, value_name = "UID")]
    pub uid: Option<u32>,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `seq key show`.
#[derive(Clone, Debug, Args)]
pub struct KeyShow {
    /// The key
    #[arg(value_name = "KEY", value_parser = values::key, add = values::key_completer())]
    pub key: String,
    /// Its domain, where several have a key of this name
    #[arg(short, long, value_name = "DOMAIN", value_parser = values::domain(), add = values::domain_completer())]
    pub domain: Option<String>,
    /// Those of this user; for root and the daemon's own user
    #[arg(long, value_name = "UID")]
    pub uid: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `seq key forget`.
#[derive(Clone, Debug, Args)]
pub struct KeyForget {
    /// The key
    #[arg(value_name = "KEY", value_parser = values::key, add = values::key_completer())]
    pub key: String,
    /// Its domain, where several have a key of this name
    #[arg(short, long, value_name = "DOMAIN", value_parser = values::domain(), add = values::domain_completer())]
    pub domain: Option<String>,
    /// Those of this user; for root and the daemon's own user
    #[arg(long, value_name = "UID")]
    pub uid: Option<u32>,
}

/// `seq pause`.
#[derive(Clone, Debug, Args)]
pub struct PauseArgs {
    /// The domain
    #[arg(value_name = "DOMAIN", value_parser = values::domain(), add = values::domain_completer())]
    pub domain: String,
    /// Why, for those who wait and for 'seq status'; without it an earlier reason stays, and '' removes that
    #[arg(long, value_name = "TEXT", value_parser = values::reason)]
    pub reason: Option<String>,
}

/// `seq resume`.
#[derive(Clone, Debug, Args)]
pub struct Resume {
    /// The domain
    #[arg(value_name = "DOMAIN", value_parser = values::domain(), add = values::paused_completer())]
    pub domain: String,
}

/// `seq info`.
#[derive(Clone, Debug, Args)]
pub struct Info {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
