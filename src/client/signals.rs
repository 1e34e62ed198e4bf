//! Signals as events: blocked from the first moment on, so that none comes in between, and read like messages.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::{Error, with_limit};
use crate::sys::{default_sigchld, is_ignored};

/// What is passed on to the command, and ends the wait for a turn.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// A signal that came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caught {
    pub(super) signal: Signal,
    /// Whether the kernel sent it, as the terminal does for Ctrl-C: then the whole foreground group has it already.
    pub(super) by_kernel: bool,
}

/// The signals that this process takes as events. Those that it was started with as ignored stay ignored, as `nohup`
/// and shells want it; the command starts with none blocked.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Blocks them and begins to collect.
    pub(super) fn block() -> Result<Signals, Error> {
        default_sigchld();
        let mut set = SigSet::empty();
        // What is blocked is collected even if it is ignored, so an ignored one is left alone.
        for signal in PASSED_ON.into_iter().filter(|signal| !is_ignored(*signal)) {
            set.add(signal);
        }
        set.add(Signal::SIGCHLD);
        set.add(Signal::SIGCONT);
        let collect = || {
            set.thread_block()?;
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        };
        collect()
            .map(Signals)
            .map_err(|errno| Error::failure(format_args!("cannot take signals: {}", with_limit(&errno.into()))))
    }

    /// The next signal that has come; nothing when none has.
    pub(super) fn next(&self) -> Option<Caught> {
        loop {
            let info = self.0.read_signal().ok()??;
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            if let Ok(signal) = Signal::try_from(number) {
                return Some(Caught { signal, by_kernel: info.ssi_code > 0 });
            }
        }
    }

    /// The next signal that asks this process to end, or would.
    pub(super) fn next_ending(&self) -> Option<Signal> {
        std::iter::from_fn(|| self.next()).map(|caught| caught.signal).find(|signal| PASSED_ON.contains(signal))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
