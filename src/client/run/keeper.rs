//! The descriptor that keeps a turn as long as its work lives, whatever happens to its wrapper.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{Error, with_limit};

/// Lowest number of the writing end: scripts use 3 to 9 themselves, and bash those from 10 on and 255.
const DESCRIPTOR_MIN: i32 = 512;

/// The same, where the limit on open files is lower. Where it is lower still, any number must do.
const DESCRIPTOR_MIN_LOW: i32 = 16;

/// A pipe that nobody writes to. The command and all it starts inherit the writing end; the daemon holds the reading
/// end, and sees the end of file when the last of them is gone.
#[derive(Debug)]
pub(super) struct Keeper {
    reading: OwnedFd,
    /// None once it is given up.
    writing: Option<OwnedFd>,
}

impl Keeper {
    pub(super) fn new() -> Result<Keeper, Error> {
        let make = || {
            let (reading, low) = pipe_with(PipeFlags::CLOEXEC)?;
            let writing = match fcntl_dupfd_cloexec(&low, DESCRIPTOR_MIN) {
                Err(Errno::INVAL) => fcntl_dupfd_cloexec(&low, DESCRIPTOR_MIN_LOW).unwrap_or(low),
                made => made?,
            };
            Ok(Keeper { reading, writing: Some(writing) })
        };
        make().map_err(|errno: Errno| Error::failure(format_args!("cannot make a pipe: {}", with_limit(&errno.into()))))
    }

    /// What the daemon is handed.
    pub(super) fn reading_end(&self) -> BorrowedFd<'_> {
        self.reading.as_fd()
    }

    /// From now on whatever is started inherits the writing end.
    pub(super) fn let_inherit(&self) -> Result<(), Errno> {
        self.writing.as_ref().map_or(Ok(()), |writing| fcntl_setfd(writing, FdFlags::empty()))
    }

    /// From now on nothing that is started inherits it; what has it keeps it.
    pub(super) fn let_nobody_inherit(&self) {
        if let Some(writing) = &self.writing {
            // It is open, so it cannot fail.
            _ = fcntl_setfd(writing, FdFlags::CLOEXEC);
        }
    }

    /// Gives up the own writing end: from now on the end of file on the reading one says that all others are gone.
    pub(super) fn close_writing_end(&mut self) {
        self.writing = None;
    }
}
