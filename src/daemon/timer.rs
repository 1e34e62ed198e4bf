//! The one timer: it goes by the same clock as the sequencer, so a suspend counts.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::clock::Time;

/// A timer on `CLOCK_BOOTTIME` (`timerfd_create(2)`).
#[derive(Debug)]
pub(super) struct Timer {
    descriptor: AsyncFd<OwnedFd>,
    /// What it is set to.
    at: Option<Time>,
}

impl Timer {
    /// A timer that is not set. Only within the runtime.
    ///
    /// # Errors
    ///
    /// When the system has no more descriptors.
    pub(super) fn new() -> io::Result<Timer> {
        let descriptor = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Timer { descriptor: crate::sys::readable(descriptor)?, at: None })
    }

    /// Sets it to go off at `at`, or never.
    ///
    /// # Errors
    ///
    /// When the system refuses, which it has no reason to.
    pub(super) fn set(&mut self, at: Option<Time>) -> io::Result<()> {
        if self.at == at {
            return Ok(());
        }
        // All zero would switch it off; the machine's first nanosecond is over anyway.
        let nanoseconds = at.map_or(0, |at| at.on_own_clock().max(1));
        let it_value = Timespec {
            tv_sec: (nanoseconds / 1_000_000_000).try_into().unwrap_or(i64::MAX),
            tv_nsec: (nanoseconds % 1_000_000_000).try_into().unwrap_or(0),
        };
        let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(self.descriptor.get_ref(), TimerfdTimerFlags::ABSTIME, &spec)?;
        self.at = at;
        Ok(())
    }

    /// Waits until it goes off. It is not set any more then.
    ///
    /// # Errors
    ///
    /// When the runtime is gone.
    pub(super) async fn gone_off(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.descriptor.readable().await?;
            let mut count = [0; 8];
            match ready.try_io(|descriptor| Ok(rustix::io::read(descriptor.get_ref(), &mut count)?)) {
                Ok(result) => {
                    result?;
                    self.at = None;
                    return Ok(());
                }
                Err(_not_yet) => {}
            }
        }
    }
}
