//! How single values are read and completed, and the longer notes of the help.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use std::time::Duration;

use clap::builder::TypedValueParser;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::Global;
use crate::protocol::limits::{CONCURRENCY_MAX, KEY_LIST_MAX, LOG_TURNS_MAX, PRIORITY_MAX, REASON_BYTES_MAX};
use crate::protocol::{Domain, Key, RequestId};
use crate::sequencer::Rate;

use super::parse_duration;

/// How long a command has between TERM and KILL unless another time is asked for: the `10s` of the help.
pub(super) const KILL_GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// Shortest lease: the protocol counts milliseconds.
const LEASE_MIN: Duration = Duration::from_millis(1);

/// Largest process number of the system: `PID_MAX_LIMIT` of 64-bit Linux (`proc_sys_kernel(5)`).
const PID_MAX: u32 = 4_194_304;

/// Below `seq --help`.
pub(super) const COREUTILS_NOTE: &str = "\
Called with numbers, as 'seq 1 10', it hands over to the seq of coreutils.";

/// Below `seq run --help`.
pub(super) const RUN_STATUS: &str = "\
Exit status:
  the command's own; 128+n if signal n ended it
  65   not run: --key was used for another command, or nobody knows how its last one ended
  75   no turn: busy with --no-wait, line full, --max-wait over, or the request id has its turn already
  76   no turn: cancelled, or replaced by a newer request; or stopped by one with --cancel-running
  124  stopped: it ran longer than --max-run
  125  seq itself failed
  126  the command cannot be executed
  127  the command was not found";

/// Below `seq sequence --help`.
pub(super) const SEQUENCE_NOTE: &str = "\
The turn belongs to the process that calls seq: it ends with 'seq done', or with that process. In a pipe, or behind
timeout, sudo or bash -c, that is not the shell of the script: name it with --for-pid $$.
Exit status: 0 the turn is there; 75 no turn: --max-wait is over, the line is full, or the request id has a turn
already that is bound to something else; 76 no turn: cancelled, or replaced by a newer request.";

/// What stands for a value that is to be none.
const NONE: &str = "none";

/// Turns that `seq log` shows unless another number is asked for.
pub(super) const LOG_TURNS_SHOWN: usize = 50;

/// Below `seq log --help`.
pub(super) const LOG_NOTE: &str = "\
The newest is the last. WHEN is a duration such as 2h, a date such as 2026-03-01, a date and time such as
'2026-03-01 09:30' by this machine's clock, or one with its zone such as 2026-03-01T09:30:00Z.";

/// Below `seq policy set --help`.
pub(super) const POLICY_NOTE: &str = "\
In a pattern '*' stands for any run of characters and '?' for one. Each value of a domain comes from the most
specific pattern that sets it. 'none', for each but --concurrency, sets that there is none, whatever less specific
patterns set. Those who have a turn keep it; whoever waits is looked at anew at once.";

/// Below `seq restart --help`.
pub(super) const RESTART_NOTE: &str = "\
Commands run on, and whoever waits keeps the place. The next daemon is started from this very program, unless a
service manager keeps the daemon running: then that one does it. Use it after an upgrade.";

/// Keeps a domain as it was typed, once it is known to be one.
pub(super) fn domain() -> impl TypedValueParser<Value = String> {
    // The empty text reaches Domain::parse too, which says it better than clap.
    clap::builder::StringValueParser::new().try_map(|text| Domain::parse(&text).map(|_| text))
}

/// A duration that is worth a lease.
pub(super) fn lease(text: &str) -> Result<Duration, String> {
    let lease = parse_duration(text)?;
    if lease < LEASE_MIN {
        return Err(format!("'{text}' is too short for a turn: give it at least 1ms"));
    }
    Ok(lease)
}

/// An exit status of one's own choice.
pub(super) fn exit_status(text: &str) -> Result<u8, String> {
    text.parse().map_err(|_| format!("'{text}' is no exit status: give a number from 0 to 255"))
}

/// A ticket by its number.
pub(super) fn ticket(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("'{text}' is no ticket: give a number, as 'seq status' shows it"))
}

/// A process by its number.
pub(super) fn pid(text: &str) -> Result<u32, String> {
    let pid = text.parse().ok().filter(|pid| (1..=PID_MAX).contains(pid));
    pid.ok_or_else(|| format!("'{text}' is no process: give its number, as ps shows it"))
}

/// How many turns to show.
pub(super) fn turns(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| format!("'{text}' is no number of turns: give 0 or more"))?;
    if number > LOG_TURNS_MAX {
        return Err(format!("'{text}' is too many turns: give {LOG_TURNS_MAX} at most, or look at one domain"));
    }
    Ok(number)
}

/// Keeps a request id, once it is known to be one.
pub(super) fn request_id(text: &str) -> Result<String, crate::protocol::NameError> {
    RequestId::parse(text).map(|_| text.to_owned())
}

/// Keeps a key, without the white space around it, once it is known to be one.
pub(super) fn key(text: &str) -> Result<String, crate::protocol::NameError> {
    Key::parse(text).map(|key| key.to_string())
}

/// How long a key is remembered.
pub(super) fn key_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text)?;
    if ttl < Duration::from_millis(1) {
        return Err(format!("'{text}' is too short: nothing would be remembered, so leave out --key or give more"));
    }
    Ok(ttl)
}

/// How many keys to list.
pub(super) fn keys(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| format!("'{text}' is no number of keys: give 0 or more"))?;
    if number > KEY_LIST_MAX {
        return Err(format!("'{text}' is too many keys: give {KEY_LIST_MAX} at most, or list those of one domain"));
    }
    Ok(number)
}

/// A priority in its bounds.
pub(super) fn priority(text: &str) -> Result<i8, String> {
    let priority = text.parse().ok().filter(|priority: &i8| priority.unsigned_abs() <= PRIORITY_MAX.unsigned_abs());
    priority.ok_or_else(|| format!("'{text}' is no priority: give a number from -{PRIORITY_MAX} to {PRIORITY_MAX}"))
}

/// What to set a value of a policy to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit<T> {
    /// This.
    Of(T),
    /// That there is to be none, whatever a less specific pattern sets.
    None,
}

impl<T> Limit<T> {
    /// Reads `none`, or what `read` reads.
    fn parse(text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Limit<T>, String> {
        if text.trim().eq_ignore_ascii_case(NONE) { Ok(Limit::None) } else { read(text).map(Limit::Of) }
    }

    /// This, if it is not none.
    pub fn get(self) -> Option<T> {
        if let Limit::Of(value) = self { Some(value) } else { None }
    }
}

/// A number of slots.
pub(super) fn slots(text: &str) -> Result<u32, String> {
    let slots = text.parse().ok().filter(|slots| *slots <= CONCURRENCY_MAX);
    slots.ok_or_else(|| format!("'{text}' is no number of slots: give one from 1 to {CONCURRENCY_MAX}"))
}

/// Slots that a request takes; at least one.
pub(super) fn take(text: &str) -> Result<u32, String> {
    let slots = slots(text)?;
    if slots == 0 { Err(format!("nobody can take no slot: give 1 to {CONCURRENCY_MAX}")) } else { Ok(slots) }
}

/// How many may wait.
pub(super) fn waiters(text: &str) -> Result<Limit<u32>, String> {
    let wrong = || format!("'{text}' is no number of waiters: give 0 or more, or none");
    Limit::parse(text, |text| text.parse().map_err(|_| wrong()))
}

/// A duration of a policy.
pub(super) fn limit(text: &str) -> Result<Limit<Duration>, String> {
    Limit::parse(text, parse_duration)
}

/// A rate such as `10/1m`.
pub(super) fn rate(text: &str) -> Result<Limit<Rate>, String> {
    Limit::parse(text, |text| Rate::parse(text, parse_duration))
}

/// A reason that is not too long.
pub(super) fn reason(text: &str) -> Result<String, String> {
    match text.len() {
        0..=REASON_BYTES_MAX => Ok(text.to_owned()),
        bytes => Err(format!("a reason of {bytes} bytes is too long: use at most {REASON_BYTES_MAX}")),
    }
}

/// Completes the domains that the daemon knows. It never starts a daemon, and says nothing when there is none.
pub(super) fn domain_completer() -> ArgValueCompleter {
    completer(crate::client::known_domains)
}

/// Completes the patterns for which something is set.
pub(super) fn pattern_completer() -> ArgValueCompleter {
    completer(crate::client::known_patterns)
}

/// Completes the keys of the user.
pub(super) fn key_completer() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let typed = typed.to_string_lossy();
        let known = crate::client::known_keys(&global_so_far()).into_iter();
        known.filter(|key| key.starts_with(&*typed)).map(CompletionCandidate::new).collect()
    })
}

/// Completes the domains that are paused.
pub(super) fn paused_completer() -> ArgValueCompleter {
    completer(crate::client::paused_domains)
}

fn completer(known: fn(&Global) -> Vec<String>) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let typed = typed.to_string_lossy().to_ascii_lowercase();
        let known = known(&global_so_far()).into_iter();
        known.filter(|name| name.starts_with(&typed)).map(CompletionCandidate::new).collect()
    })
}

/// The global options on the command line that is being completed: it follows the first `--` of this program's own.
fn global_so_far() -> Global {
    let mut words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let mut global = Global::default();
    while let Some(word) = words.next() {
        if word == "--socket" {
            global.socket = words.next().map(Into::into);
        } else if let Some(path) = word.as_bytes().strip_prefix(b"--socket=") {
            global.socket = Some(OsStr::from_bytes(path).into());
        }
    }
    global
}
