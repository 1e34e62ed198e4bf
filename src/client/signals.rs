//! Signals as events: blocked from the first moment on, so that none comes in between, and read like messages.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::prctl::set_dumpable;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::{Error, status, with_limit};
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
/// and shells want it; the command starts with those blocked that this process was started with.
#[derive(Debug)]
pub(super) struct Signals {
    source: SignalFd,
    /// Those that were blocked before.
    blocked_at_start: SigSet,
    /// Those that have come so far.
    come: Cell<SigSet>,
}

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
            let blocked_at_start = SigSet::thread_get_mask()?;
            set.thread_block()?;
            let source = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
            Ok(Signals { source, blocked_at_start, come: Cell::new(SigSet::empty()) })
        };
        collect()
            .map_err(|errno: Errno| Error::failure(format_args!("cannot take signals: {}", with_limit(&errno.into()))))
    }

    /// Those that were blocked when this process was started.
    pub(super) fn blocked_at_start(&self) -> SigSet {
        self.blocked_at_start
    }

    /// The next signal that has come; nothing when none has.
    pub(super) fn next(&self) -> Option<Caught> {
        loop {
            let info = self.source.read_signal().ok()??;
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            if let Ok(signal) = Signal::try_from(number) {
                let mut come = self.come.get();
                come.add(signal);
                self.come.set(come);
                return Some(Caught { signal, by_kernel: info.ssi_code > 0 });
            }
        }
    }

    /// The next signal that asks this process to end, or would.
    pub(super) fn next_ending(&self) -> Option<Signal> {
        std::iter::from_fn(|| self.next()).map(|caught| caught.signal).find(|signal| PASSED_ON.contains(signal))
    }

    /// Whether the signal of this number has come to this process, as well as to whom it may have ended. Nobody asks
    /// for the others that have come by then.
    pub(super) fn has_come(&self, number: i32) -> Option<Signal> {
        while self.next().is_some() {}
        Signal::try_from(number).ok().filter(|signal| self.come.get().contains(*signal))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

/// Ends this process by `signal`, which it was blocked for: a shell goes on with its script after a program that only
/// exits, as if it had dealt with Ctrl-C itself. No core is dumped: nothing has gone wrong here.
///
/// The first process of a pid namespace cannot end so (`pid_namespaces(7)`): for it, gives the status to exit with.
pub(super) fn die_of(signal: Signal) -> u8 {
    _ = set_dumpable(false);
    _ = raise(signal);
    _ = SigSet::from(signal).thread_unblock();
    signal_status(signal as i32)
}

/// The status of a process that signal `number` ended, as shells have it.
pub(super) fn signal_status(number: i32) -> u8 {
    status::SIGNAL_BASE.saturating_add(u8::try_from(number).unwrap_or(u8::MAX))
}
