//! Which machine this is, and which run of it: what lived under another one lives no more, or lives elsewhere.

/// A machine that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Names this run of it: another one means that every process of before is gone.
    pub boot_id: String,
    /// Names it, whatever it is called: a directory on a network is used by several.
    pub host: String,
    /// What people call it.
    pub host_name: String,
}

impl Machine {
    /// This one (`machine-id(5)`, else the host's name).
    pub fn this() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let id = read("/etc/machine-id");
        let host = if id.is_empty() { host_name.clone() } else { id };
        Machine { boot_id: read("/proc/sys/kernel/random/boot_id"), host, host_name }
    }
}
