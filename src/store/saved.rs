//! What the next daemon must know of a ticket.

use serde::{Deserialize, Serialize};

use crate::protocol::Outcome;
use crate::sequencer::Restored;

/// One ticket that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTicket {
    /// The ticket, as the sequencer knew it.
    pub ticket: Restored,
    /// The process that asked, while it hangs on that: a waiter, or a turn that its client keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asker: Option<ProcessIdentity>,
    /// The processes that keep the turn besides: its command, or the one it is bound to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<ProcessIdentity>,
    /// The inodes of the pipes that keep it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pipes: Vec<u64>,
    /// The pid namespace, by its inode, in which every process shows that may have one of these pipes; zero when they
    /// are not known to be in sight of each other. Nothing in rows of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipes_namespace: Option<u64>,
    /// When the machine started, in milliseconds since 1970, by the wall clock as it was set then: across a restart
    /// of the machine the other clock says nothing.
    pub up_since_ms: i64,
}

/// Why a waiter left its line, for its client when that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftTicket {
    /// The user who asked.
    pub uid: u32,
    /// How.
    pub outcome: Outcome,
}

/// Who a process is, for as long as the machine is up. A pid alone proves nothing: it may be another's by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its number; zero when the daemon's pid namespace does not show it.
    pub pid: u32,
    /// The pid namespace of the daemon that wrote this, by its inode: in another one the number means nothing. Nothing
    /// in rows of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<u64>,
    /// The inode of its pidfd, never used twice (Linux 6.9 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// When it started, in ticks since boot (field 22 of `/proc/PID/stat`, `proc(5)`): what there is before 6.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
}

impl ProcessIdentity {
    /// A process whose pidfd has this inode.
    pub fn by_inode(pid: u32, namespace: u64, inode: u64) -> ProcessIdentity {
        ProcessIdentity { pid, namespace: Some(namespace), inode: Some(inode), started: None }
    }
}
