//! The terminal that the command runs at.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::getpgrp;
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
        if let Some(settings) = self.settings.as_ref().filter(|_| self.is_ours()) {
            _ = tcsetattr(&self.tty, OptionalActions::Now, settings);
        }
    }

    /// Whether this process is in the foreground: whoever else sets the terminal is stopped.
    fn is_ours(&self) -> bool {
        tcgetpgrp(&self.tty).is_ok_and(|group| group == getpgrp())
    }
}
