//! Which processes this one can see: those of its own pid namespace, and of those below it (`pid_namespaces(7)`).

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::LazyLock;

use super::process;

/// The namespace that shows every process of the machine (`PID_NS_INIT_INO`, `linux/nsfs.h`).
const FIRST_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The pid namespace of this process, by the inode of its file (`namespaces(7)`). While it is in use no other has
/// that, and one that is not in use any more has no process. Zero when it cannot be told.
pub(super) fn namespace() -> u64 {
    static NAMESPACE: LazyLock<u64> = LazyLock::new(|| inode_of_namespace("self").unwrap_or(0));
    *NAMESPACE
}

/// Whether `/proc` numbers processes as this one does, and not as a namespace around this one does.
pub(super) fn is_proc_our_own() -> bool {
    static IS_OUR_OWN: LazyLock<bool> = LazyLock::new(|| {
        let shown = fs::read_link("/proc/self").ok().and_then(|pid| pid.to_str()?.parse::<u32>().ok());
        shown == Some(std::process::id())
    });
    *IS_OUR_OWN
}

/// What can be seen from here.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// Looked up once somebody asks for a process that another namespace has numbered.
    all: OnceCell<All>,
}

/// All processes in sight.
#[derive(Debug, Default)]
struct All {
    /// Their numbers here, by the inodes of their pidfds.
    pids: HashMap<u64, u32>,
    /// The namespaces that they are in. What is in one of these is in sight too, for this one is around it.
    namespaces: HashSet<u64>,
    /// Whether these are all that there are on the machine.
    is_whole_machine: bool,
}

impl Sight {
    /// Whether every process that shows in this namespace shows here as well.
    pub(super) fn covers(&self, namespace: u64) -> bool {
        (namespace != 0 && namespace == self::namespace()) || {
            let all = self.all();
            all.is_whole_machine || all.namespaces.contains(&namespace)
        }
    }

    /// Whether every process of the machine shows here.
    pub(super) fn is_whole_machine(&self) -> bool {
        self.all().is_whole_machine
    }

    /// The process whose pidfd has this inode, if it shows here.
    pub(super) fn find(&self, inode: u64) -> Option<OwnedFd> {
        process::open(*self.all().pids.get(&inode)?).ok()
    }

    fn all(&self) -> &All {
        self.all.get_or_init(All::look)
    }
}

impl All {
    fn look() -> All {
        let mut all = All::default();
        let is_hidden = !Path::new("/proc/1").exists();
        if !is_proc_our_own() || is_hidden {
            return all;
        }
        all.is_whole_machine = namespace() == FIRST_NAMESPACE;
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            // Of another user's process it cannot be told; then fewer are proven gone.
            all.namespaces.extend(inode_of_namespace(&pid.to_string()));
            let inode = process::open(pid).ok().and_then(|pidfd| process::inode_of(&pidfd));
            all.pids.extend(inode.map(|inode| (inode, pid)));
        }
        all
    }
}

fn inode_of_namespace(process: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{process}/ns/pid")).ok().map(|found| found.ino())
}
