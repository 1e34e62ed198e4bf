//! Faults made on purpose, for the tests: a debug build reads `SEQD_FAULT` once, a release build never.
//!
//! | value | what happens |
//! |---|---|
//! | `kill:N` | the process kills itself at the Nth point: before and after each commit, and before each send |
//! | `full:N` | the Nth write of the database finds the disk full |
//! | `io:N` | the Nth write of the database fails with an error of the disk |
//! | `quota:FILE` | the disk is full while this file is there |
//! | `fsync:N` | the Nth write of the database fails, and nobody knows what is on disk |
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
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rusqlite::ffi;
    use rustix::process::{Signal, getpid, kill_process};

    /// What is to happen, and when.
    #[derive(PartialEq, Eq)]
    enum Fault {
        Kill(u64),
        Fail(i32, u64),
        Quota(PathBuf),
    }

    static COUNT: AtomicU64 = AtomicU64::new(0);

    fn plan() -> Option<&'static Fault> {
        static PLAN: OnceLock<Option<Fault>> = OnceLock::new();
        let plan = PLAN.get_or_init(|| {
            let text = std::env::var("SEQD_FAULT").ok()?;
            let (kind, number) = text.split_once(':')?;
            if kind == "quota" {
                return Some(Fault::Quota(number.into()));
            }
            let number = number.split('@').next()?.parse().ok()?;
            match kind {
                "kill" => Some(Fault::Kill(number)),
                "full" => Some(Fault::Fail(ffi::SQLITE_FULL, number)),
                "fsync" => Some(Fault::Fail(ffi::SQLITE_IOERR_FSYNC, number)),
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
}
