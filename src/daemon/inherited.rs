//! What a process has from whoever starts it, and a daemon must not keep: it serves everybody.

use rustix::process::{Resource, Rlimit, getpriority_process, getrlimit, setpriority_process, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::descriptors::Budget;
use crate::error::Error;
use crate::protocol::limits::{CONNECTIONS_EXTRA, CONNECTIONS_EXTRA_OPERATORS, CONNECTIONS_MAX};

/// Descriptors that the daemon needs besides those of its clients, with those of [`CONNECTIONS_EXTRA`]
/// and [`CONNECTIONS_EXTRA_OPERATORS`].
const DESCRIPTORS_RESERVED: u64 = 64;

/// Descriptors that a client may need: its connection, a pipe, and its command's pidfd.
const DESCRIPTORS_PER_CONNECTION: u64 = 3;

/// With fewer than these there are not even connections enough for the jobs of one person.
const DESCRIPTORS_MIN: u64 = DESCRIPTORS_RESERVED + 16 * DESCRIPTORS_PER_CONNECTION;

const _: () = assert!(((CONNECTIONS_EXTRA + CONNECTIONS_EXTRA_OPERATORS) as u64) < DESCRIPTORS_RESERVED / 2);

/// Bytes that a file of the daemon must be able to have: its database, that one's journal, and the log.
const FILE_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// Limits that are no daemon's concern, with what people call them. A shell's core limit is left alone: it is no
/// hindrance.
const LIMITS: [(Resource, &str); 4] = [
    (Resource::Fsize, "size of files (ulimit -f)"),
    (Resource::Cpu, "processor time (ulimit -t)"),
    (Resource::As, "memory (ulimit -v)"),
    (Resource::Data, "data (ulimit -d)"),
];

/// What is left of it.
#[derive(Debug)]
pub(super) struct Inherited {
    /// How many connections there may be.
    pub(super) connections_max: usize,
    /// How many descriptors there may be.
    pub(super) budget: Budget,
    /// What could not be shaken off, in words.
    pub(super) remarks: Vec<String>,
}

/// Shakes off what can be: limits up to the hard ones, and, of a client that happens to be the one that starts it, its
/// priority and its choice of processors. A service manager gives those on purpose.
///
/// # Errors
///
/// When the hard limit on open files is too low to serve anybody, or that on the size of files, of a client that
/// happens to start it, too low for the database.
pub(super) fn shake_off(is_started_by_client: bool) -> Result<Inherited, Error> {
    let mut remarks: Vec<String> = LIMITS.iter().filter_map(|(resource, name)| raise(*resource, name)).collect();
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let is_raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let descriptors = if is_raised { maximum } else { current }.unwrap_or(u64::MAX);
    if descriptors < DESCRIPTORS_MIN {
        return Err(Error::failure(format_args!(
            "a process may have {descriptors} open files here (ulimit -Hn), and the daemon needs {DESCRIPTORS_MIN}: \
             start it where 'ulimit -n {DESCRIPTORS_MIN}' works, as by 'seq run -d any -- true' in another shell"
        )));
    }
    if let Some(bytes) = getrlimit(Resource::Fsize).maximum.filter(|bytes| *bytes < FILE_BYTES_MIN)
        && is_started_by_client
    {
        return Err(Error::failure(format_args!(
            "a file may have {bytes} bytes here (ulimit -f), and the daemon's database needs {FILE_BYTES_MIN}: start it \
             in a shell without that limit, as by 'seq run -d any -- true'"
        )));
    }
    if is_started_by_client {
        remarks.extend(reset_priority());
        // Those that there are not, or that it may not have, are left out by the system (`sched_setaffinity(2)`).
        let mut all = CpuSet::new();
        (0..CpuSet::MAX_CPU).for_each(|processor| all.set(processor));
        _ = sched_setaffinity(None, &all);
    }
    let enough = (descriptors - DESCRIPTORS_RESERVED) / DESCRIPTORS_PER_CONNECTION;
    let connections_max = usize::try_from(enough).unwrap_or(usize::MAX).min(CONNECTIONS_MAX);
    Ok(Inherited { connections_max, budget: Budget { open_files: descriptors }, remarks })
}

/// What there is to say when even the hard limit is one.
fn raise(resource: Resource, name: &str) -> Option<String> {
    let Rlimit { maximum, .. } = getrlimit(resource);
    _ = setrlimit(resource, Rlimit { current: maximum, maximum });
    maximum.map(|maximum| format!("whoever started this daemon set a hard limit on {name}, which it keeps: {maximum}"))
}

fn reset_priority() -> Option<String> {
    let nice = getpriority_process(None).unwrap_or(0);
    let is_reset = nice == 0 || setpriority_process(None, 0).is_ok();
    (!is_reset).then(|| format!("whoever started this daemon set its priority to nice {nice}, which it has to keep"))
}
