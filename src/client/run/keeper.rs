//! The descriptor that keeps a turn as long as its work lives, whatever happens to its wrapper.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::Error;

/// Lowest number of the writing end: scripts use 3 to 9 themselves, and bash those from 10 on and 255.
const DESCRIPTOR_MIN: i32 = 512;

/// The same, where the limit on open files is lower. Where it is lower still, any number must do.
const DESCRIPTOR_MIN_LOW: i32 = 16;

/// A pipe that nobody writes to. The command and all it starts inherit the writing end; the daemon holds the reading
/// end, and sees the end of file when the last of them is gone.
#[derive(Debug)]
pub(super) struct Keeper {
    reading: OwnedFd,
    writing: OwnedFd,
}

impl Keeper {
    pub(super) fn new() -> Result<Keeper, Error> {
        let make = || {
            let (reading, low) = pipe_with(PipeFlags::CLOEXEC)?;
            let writing = match fcntl_dupfd_cloexec(&low, DESCRIPTOR_MIN) {
                Err(Errno::INVAL) => fcntl_dupfd_cloexec(&low, DESCRIPTOR_MIN_LOW).unwrap_or(low),
                made => made?,
            };
            Ok(Keeper { reading, writing })
        };
        make()
            .map_err(|errno: Errno| Error::failure(format_args!("cannot make a pipe: {}", std::io::Error::from(errno))))
    }

    /// What the daemon is handed.
    pub(super) fn reading_end(&self) -> BorrowedFd<'_> {
        self.reading.as_fd()
    }

    /// From now on whatever is started inherits the writing end.
    pub(super) fn let_inherit(&self) -> Result<(), Errno> {
        fcntl_setfd(&self.writing, FdFlags::empty())
    }

    /// Gives up the own writing end and keeps the reading one: its end of file says that all others are gone.
    pub(super) fn into_reading_end(self) -> OwnedFd {
        self.reading
    }
}
