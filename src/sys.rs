//! System calls that no safe library offers, each with the reason why it is sound here.

use nix::sys::signal::{SigHandler, Signal, signal};

/// Puts `SIGCHLD` back to its default, in case the parent ignores it: with `SIGCHLD` ignored the kernel throws a
/// child's exit status away (`wait(2)`, NOTES).
pub fn default_sigchld() {
    // SAFETY: no handler is installed, and none that other code relies on is replaced: this runs first thing.
    // It can only fail for a signal that does not exist.
    _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}
