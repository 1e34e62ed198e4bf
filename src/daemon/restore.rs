//! Taking up the turns that an earlier daemon left: each stays taken until what keeps it is gone.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use tracing::{error, info};

use super::owner::Owner;
use super::process;
use crate::protocol::Ticket;
use crate::sequencer::Input;
use crate::store::HeldTurn;

/// What still keeps a turn.
struct Found {
    pidfds: Vec<OwnedFd>,
    pipes: Vec<OwnedFd>,
}

impl Owner {
    /// Restores these turns, before any client is let in. A turn whose keepers are all gone has ended meanwhile.
    pub(super) fn restore(&mut self, turns: Vec<HeldTurn>) {
        let wanted: HashSet<u64> = turns.iter().flat_map(|turn| turn.pipes.iter().copied()).collect();
        let paths = find_pipes(&wanted);
        for HeldTurn { mut turn, processes, pipes } in turns {
            let found = Found {
                pidfds: processes.iter().filter_map(process::find).collect(),
                pipes: pipes.iter().filter_map(|inode| open_pipe(*inode, paths.get(inode)?)).collect(),
            };
            turn.pipes = u32::try_from(found.pipes.len()).unwrap_or(u32::MAX);
            turn.processes = u32::try_from(found.pidfds.len()).unwrap_or(u32::MAX);
            let (ticket, keepers) = (turn.ticket, found.pidfds.len() + found.pipes.len());
            let is_kept = keepers > 0 || turn.turn.is_some_and(|turn| turn.lease_until.is_some());
            info!("ticket {ticket} had the turn in {}: {keepers} processes and pipes still keep it", turn.domain);
            // The sequencer is told in any case, so that the numbers of this turn are never used again.
            self.input(Input::Restore(turn));
            if is_kept {
                self.keep(ticket, found);
            }
        }
    }

    fn keep(&mut self, ticket: Ticket, found: Found) {
        self.kept.activate(ticket);
        let mut lost = Vec::new();
        for pidfd in found.pidfds {
            match self.watcher.process(pidfd, ticket) {
                Ok(watch) => self.kept.watch(ticket, watch),
                Err(error) => lost.push((Input::ProcessGone { ticket }, error)),
            }
        }
        for pipe in found.pipes {
            match self.watcher.pipe(pipe, ticket, true) {
                Ok(watch) => self.kept.watch(ticket, watch),
                Err(error) => lost.push((Input::PipeClosed { ticket }, error)),
            }
        }
        for (input, error) in lost {
            error!("cannot watch what keeps ticket {ticket}: {error}");
            self.input(input);
        }
    }
}

/// Where in `/proc` the wanted pipes can be opened: some process that this user may look at still has each.
fn find_pipes(wanted: &HashSet<u64>) -> HashMap<u64, PathBuf> {
    let mut paths = HashMap::new();
    if wanted.is_empty() {
        return paths;
    }
    let is_pid = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    for process in fs::read_dir("/proc").into_iter().flatten().flatten().filter(|entry| is_pid(&entry.file_name())) {
        // Another user's processes, and those that have just ended, cannot be looked at.
        for descriptor in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            let inode = target.to_str().and_then(|target| target.strip_prefix("pipe:[")?.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()).filter(|inode| wanted.contains(inode)) {
                paths.entry(inode).or_insert_with(|| descriptor.path());
            }
        }
    }
    paths
}

/// The reading end of a pipe of which some process has the writing end. A closed one is gone.
fn open_pipe(inode: u64, path: &PathBuf) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let pipe = fs::File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    (pipe.metadata().ok()?.ino() == inode).then(|| pipe.into())
}
