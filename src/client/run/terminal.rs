//! The terminal that the command runs at.

use std::os::fd::OwnedFd;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{getpgrp, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// The controlling terminal, and how it was set before the command started.
#[derive(Debug)]
pub(super) struct Terminal {
    tty: OwnedFd,
    /// None when the terminal was another job's then.
    settings: Option<Termios>,
}

impl Terminal {
    /// The terminal of this process, if it has one.
    pub(super) fn of_this_process() -> Option<Terminal> {
        let tty = open("/dev/tty", OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut terminal = Terminal { tty, settings: None };
        terminal.settings = if terminal.is_ours() { tcgetattr(&terminal.tty).ok() } else { None };
        Some(terminal)
    }

    /// Sets it as it was. A shell does so when its job was killed, as an editor that could not tidy up; seq ends by
    /// itself, so that the shell does not see a need.
    pub(super) fn set_back(&self) {
        let Some(settings) = self.settings.as_ref().filter(|_| self.is_ours() || self.is_nobodys()) else { return };
        // Where it was a job of the command's that is gone, this process would be stopped for it.
        let mut ttou = SigSet::empty();
        ttou.add(Signal::SIGTTOU);
        let before = ttou.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        _ = tcsetattr(&self.tty, OptionalActions::Now, settings);
        _ = before.and_then(|before| before.thread_set_mask());
    }

    /// Whether this process is in the foreground: whoever else sets the terminal is stopped.
    fn is_ours(&self) -> bool {
        tcgetpgrp(&self.tty).is_ok_and(|group| group == getpgrp())
    }

    /// Whether the job in the foreground is gone: a shell with jobs of its own was the command.
    fn is_nobodys(&self) -> bool {
        tcgetpgrp(&self.tty).is_ok_and(|group| test_kill_process_group(group) == Err(Errno::SRCH))
    }
}
