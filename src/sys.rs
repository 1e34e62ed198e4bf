//! System calls that no safe library offers, each with the reason why it is sound here.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};

/// Closes every descriptor from `first` on (`close_range(2)`).
///
/// For the start of a program only: whatever still uses one of them finds it closed, or another in its place.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the call touches no memory. The caller runs before anything has opened a descriptor that it keeps.
    if unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } == 0 {
        return Ok(());
    }
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| u32::try_from(*descriptor).is_ok_and(|descriptor| descriptor >= first))
        .collect();
    for descriptor in open {
        // SAFETY: as above. The directory's own descriptor is closed already, closing it again only fails.
        unsafe { libc::close(descriptor) };
    }
    Ok(())
}

/// Takes over a descriptor that the service manager passed by its number (`sd_listen_fds(3)`).
pub fn take_passed(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call only asks whether the descriptor is open.
    if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, it was opened for this process by its parent, and nothing else here knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Puts `SIGCHLD` back to its default, in case the parent ignores it: with `SIGCHLD` ignored the kernel throws a
/// child's exit status away (`wait(2)`, NOTES).
pub fn default_sigchld() {
    // SAFETY: no handler is installed, and none that other code relies on is replaced: this runs first thing.
    // It can only fail for a signal that does not exist.
    _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}
