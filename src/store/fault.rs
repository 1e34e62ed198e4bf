//! Faults made on purpose, for the tests: a debug build reads `SEQD_FAULT` once, a release build never.
//!
//! | value | what happens |
//! |---|---|
//! | `kill:N` | the process kills itself at the Nth point: before and after each commit, before each send, and before and after what is written is brought to the disk |
//! | `full:N` | the Nth write of the database finds the disk full |
//! | `io:N` | the Nth write of the database fails with an error of the disk |
//! | `quota:FILE` | the disk is full while this file is there |
//! | `fsync:N` | the Nth write of the database fails, and nobody knows what is on disk |
//! | `sync:N` | the Nth time that what is written is brought to the disk fails |
//! | `sync-full:N` | the same, as where there is no room for it (`fsync(2)`: `ENOSPC`) |
//! | `hold-sync:FIFO` | before it is brought to the disk a line is read from this file, each time |
//!
//! With `@M` after the number the journal has room for M records only, so that the database takes it in that often.
//! A test goes through N = 1, 2, 3, … until nothing happens any more, so it meets every point there is.

/// A moment at which the process may be killed.
#[inline]
pub(crate) fn point() {
    #[cfg(debug_assertions)]
    plan::point();
}

/// A write that may fail.
#[inline]
pub(super) fn write() -> rusqlite::Result<()> {
    #[cfg(debug_assertions)]
    plan::write()?;
    Ok(())
}

/// What is written is about to be brought to the disk, which may fail.
#[inline]
pub(super) fn sync() -> std::io::Result<()> {
    #[cfg(debug_assertions)]
    plan::sync()?;
    Ok(())
}

/// How many records the journal has room for.
#[inline]
pub(super) fn records_max() -> usize {
    #[cfg(debug_assertions)]
    return plan::records_max();
    #[cfg(not(debug_assertions))]
    usize::MAX
}

#[cfg(debug_assertions)]
mod plan {
    use std::io::Read;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rusqlite::ffi;
    use rustix::io::Errno;
    use rustix::process::{Signal, getpid, kill_process};

    /// What is to happen, and when.
    #[derive(PartialEq, Eq)]
    enum Fault {
        Kill(u64),
        Fail(i32, u64),
        Quota(PathBuf),
        Sync(Errno, u64),
        HoldSync(PathBuf),
    }

    static COUNT: AtomicU64 = AtomicU64::new(0);

    fn plan() -> Option<&'static Fault> {
        static PLAN: OnceLock<Option<Fault>> = OnceLock::new();
        let plan = PLAN.get_or_init(|| {
            let text = std::env::var("SEQD_FAULT").ok()?;
            let (kind, number) = text.split_once(':')?;
            match kind {
                "quota" => return Some(Fault::Quota(number.into())),
                "hold-sync" => return Some(Fault::HoldSync(number.into())),
                _ => {}
            }
            let number = number.split('@').next()?.parse().ok()?;
            match kind {
                "kill" => Some(Fault::Kill(number)),
                "full" => Some(Fault::Fail(ffi::SQLITE_FULL, number)),
                "fsync" => Some(Fault::Fail(ffi::SQLITE_IOERR_FSYNC, number)),
                "sync" => Some(Fault::Sync(Errno::IO, number)),
                "sync-full" => Some(Fault::Sync(Errno::NOSPC, number)),
                "io" => Some(Fault::Fail(ffi::SQLITE_IOERR_WRITE, number)),
                _ => None,
            }
        });
        plan.as_ref()
    }

    pub(super) fn records_max() -> usize {
        static RECORDS_MAX: OnceLock<usize> = OnceLock::new();
        *RECORDS_MAX.get_or_init(|| {
            let text = std::env::var("SEQD_FAULT").ok();
            text.and_then(|text| text.rsplit_once('@')?.1.parse().ok()).unwrap_or(usize::MAX)
        })
    }

    fn is_now(number: u64) -> bool {
        COUNT.fetch_add(1, Ordering::Relaxed) + 1 == number
    }

    pub(super) fn point() {
        if let Some(Fault::Kill(number)) = plan()
            && is_now(*number)
        {
            _ = kill_process(getpid(), Signal::KILL);
        }
    }

    pub(super) fn write() -> rusqlite::Result<()> {
        match plan() {
            Some(Fault::Fail(code, number)) if is_now(*number) => {
                Err(rusqlite::Error::SqliteFailure(ffi::Error::new(*code), None))
            }
            Some(Fault::Quota(file)) if file.exists() => {
                Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None))
            }
            _ => Ok(()),
        }
    }
    pub(super) fn sync() -> std::io::Result<()> {
        match plan() {
            Some(Fault::Sync(error, number)) if is_now(*number) => Err((*error).into()),
            Some(Fault::HoldSync(file)) => {
                // One byte at a time, so that each line lets one go on.
                std::fs::File::open(file)?.read_exact(&mut [0])
            }
            _ => Ok(()),
        }
    }
}
