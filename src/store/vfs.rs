//! How SQLite writes its log: all frames of a transaction with one system call, not two for each of them.
//!
//! SQLite writes the header of a frame, and then the page (<https://sqlite.org/fileformat2.html#walformat>). Between its
//! log and the file stands a [`Log`] that holds both back until the frame is there that ends its transaction. That
//! is before SQLite says that the transaction is written, so the others who have the log open, and whoever comes after
//! a kill, never miss anything. Whatever else is done with the log comes after what was held back. All other files,
//! and the locks, are left to the system's own functions (<https://sqlite.org/vfs.html>).

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

/// The name to open a database with.
pub(super) const NAME: &CStr = c"seqd";

/// How the files are opened, read and locked: by this process alone, but with several connections of its own, and
/// without a file for shared memory.
const SYSTEM: &CStr = c"unix-excl";

const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// A frame's header says how long the database is after the transaction that it ends, and zero if it ends none.
const LENGTH_AFTER: std::ops::Range<usize> = 4..8;

/// Bytes that are held back at most.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// Makes [`NAME`] known to SQLite.
///
/// # Errors
///
/// When SQLite has not been built for this system, or there is no memory.
pub(super) fn register() -> rusqlite::Result<()> {
    static RESULT: OnceLock<c_int> = OnceLock::new();
    let result = *RESULT.get_or_init(|| {
        let Some(system) = system() else { return ffi::SQLITE_NOTFOUND };
        // SAFETY: what SQLite has registered stays where it is, and is not changed.
        let system = unsafe { system.as_ref() };
        let Ok(of_system) = usize::try_from(system.szOsFile) else { return ffi::SQLITE_MISUSE };
        let Ok(bytes) = c_int::try_from(size_of::<Log>() + of_system) else { return ffi::SQLITE_MISUSE };
        let ours =
            sqlite3_vfs { szOsFile: bytes, pNext: ptr::null_mut(), zName: NAME.as_ptr(), xOpen: Some(open), ..*system };
        // SAFETY: it is never freed, and nobody but SQLite has it.
        unsafe { ffi::sqlite3_vfs_register(Box::into_raw(Box::new(ours)), 0) }
    });
    if result == ffi::SQLITE_OK { Ok(()) } else { Err(rusqlite::Error::SqliteFailure(ffi::Error::new(result), None)) }
}

fn system() -> Option<NonNull<sqlite3_vfs>> {
    // SAFETY: the name ends with a zero.
    NonNull::new(unsafe { ffi::sqlite3_vfs_find(SYSTEM.as_ptr()) })
}

/// What has been given to be written to a log, and has not been.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    /// Where they belong.
    start: u64,
    /// Whether the last header among them is that of a frame which ends its transaction.
    is_last: bool,
    /// Where the log ends. A header is held back only here: a page always follows it. One that is written over an
    /// earlier one may be the last of its transaction.
    end: u64,
}

/// What is to be done with bytes that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// They are held back.
    Held,
    /// They are held back, and all that is held is to be written.
    Whole,
    /// They are to be written after all that is held.
    Past,
}

impl Held {
    fn give(&mut self, bytes: &[u8], at: u64) -> Given {
        let is_header = bytes.len() == FRAME_HEADER_BYTES;
        let end = at + bytes.len() as u64;
        if at != self.end || (self.bytes.is_empty() && !is_header) {
            let is_new_log = at == 0 && bytes.len() == LOG_HEADER_BYTES;
            self.end = if is_new_log { end } else { self.end.max(end) };
            return Given::Past;
        }
        if self.bytes.is_empty() {
            self.start = at;
        }
        self.bytes.extend_from_slice(bytes);
        self.end = end;
        if is_header {
            self.is_last = bytes[LENGTH_AFTER] != [0; 4];
            return Given::Held;
        }
        if self.is_last || self.bytes.len() >= HELD_BYTES_MAX { Given::Whole } else { Given::Held }
    }
}

/// An open log, as SQLite has it: SQLite made room for it and for the system's own file behind it, knows the first
/// field, and hands the whole to each of the functions below.
#[repr(C)]
struct Log {
    file: sqlite3_file,
    held: Held,
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    // A log is never locked, its database is; and SQLite has nothing else to ask of it.
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: None,
    xFileControl: Some(file_control),
    xSectorSize: None,
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let Some(system) = system() else { return ffi::SQLITE_CANTOPEN };
    // SAFETY: as in `register`.
    let Some(open) = (unsafe { system.as_ref() }).xOpen else { return ffi::SQLITE_CANTOPEN };
    if flags & ffi::SQLITE_OPEN_WAL == 0 {
        // SAFETY: SQLite's own arguments; its room is more than the system's file needs.
        return unsafe { open(system.as_ptr(), name, file, flags, flags_out) };
    }
    let log = file.cast::<Log>();
    // SAFETY: SQLite made room for both, at an address that is a multiple of 8, as both are in size, and reads nothing
    // of it before this returns. It closes the file only if the first field says how.
    unsafe {
        log.write(Log { file: sqlite3_file { pMethods: ptr::null() }, held: Held::default() });
        let result = open(system.as_ptr(), name, log.add(1).cast(), flags, flags_out);
        if result == ffi::SQLITE_OK {
            (*log).file.pMethods = &raw const METHODS;
        }
        result
    }
}

/// The log that SQLite means, the system's file behind it, and what the system does with that.
///
/// # Safety
///
/// `file` is one that [`open`] opened as a log, and nothing else refers to it: SQLite uses a connection's files from
/// one thread at a time.
unsafe fn parts<'a>(file: *mut sqlite3_file) -> (&'a mut Held, *mut sqlite3_file, &'a sqlite3_io_methods) {
    let log = file.cast::<Log>();
    // SAFETY: `open` has made both, and the system's file says by which functions it is used.
    unsafe {
        let system = log.add(1).cast::<sqlite3_file>();
        (&mut (*log).held, system, &*(*system).pMethods)
    }
}

/// Writes what is held back. If that fails it is let go of: the transaction has failed.
///
/// # Safety
///
/// As [`parts`].
unsafe fn write_held(file: *mut sqlite3_file) -> c_int {
    // SAFETY: as this function's.
    let (held, system, methods) = unsafe { parts(file) };
    if held.bytes.is_empty() {
        return ffi::SQLITE_OK;
    }
    let (Some(write), Ok(count), Ok(at)) = (methods.xWrite, held.bytes.len().try_into(), held.start.try_into()) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: the system's own function and file; the bytes stay until it returns.
    let result = unsafe { write(system, held.bytes.as_ptr().cast(), count, at) };
    held.bytes.clear();
    held.is_last = false;
    result
}

/// Writes what is held back, and then lets the system do the same with its file as SQLite wanted of ours.
macro_rules! settled {
    ($file:ident, $method:ident, $($argument:expr),*) => {
        // SAFETY: SQLite means a log, and the other arguments are its own.
        unsafe {
            match (write_held($file), parts($file)) {
                (ffi::SQLITE_OK, (_, system, sqlite3_io_methods { $method: Some(call), .. })) => {
                    call(system, $($argument),*)
                }
                (ffi::SQLITE_OK, _) => ffi::SQLITE_IOERR,
                (failed, _) => failed,
            }
        }
    };
}

unsafe extern "C" fn write(file: *mut sqlite3_file, bytes: *const c_void, count: c_int, at: sqlite3_int64) -> c_int {
    let (Ok(length), Ok(start)) = (usize::try_from(count), u64::try_from(at)) else { return ffi::SQLITE_IOERR_WRITE };
    // SAFETY: SQLite means a log, and gives that many bytes, which it leaves alone until this returns.
    let given = unsafe { parts(file).0.give(std::slice::from_raw_parts(bytes.cast(), length), start) };
    match given {
        Given::Held => ffi::SQLITE_OK,
        // SAFETY: SQLite means a log.
        Given::Whole => unsafe { write_held(file) },
        Given::Past => settled!(file, xWrite, bytes, count, at),
    }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, into: *mut c_void, count: c_int, at: sqlite3_int64) -> c_int {
    settled!(file, xRead, into, count, at)
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: sqlite3_int64) -> c_int {
    settled!(file, xTruncate, length)
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    settled!(file, xSync, flags)
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, length: *mut sqlite3_int64) -> c_int {
    settled!(file, xFileSize, length)
}

/// What is held back now is of a transaction that never came to its end.
unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite means a log, and uses it no more.
    unsafe {
        let (held, system, methods) = parts(file);
        ptr::drop_in_place(held);
        methods.xClose.map_or(ffi::SQLITE_IOERR_CLOSE, |close| close(system))
    }
}

unsafe extern "C" fn lock(_: *mut sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn device_characteristics(_: *mut sqlite3_file) -> c_int {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of a frame, and its page.
    fn frame(is_last: bool) -> [Vec<u8>; 2] {
        let mut header = vec![7; FRAME_HEADER_BYTES];
        header[LENGTH_AFTER].copy_from_slice(&u32::from(is_last).to_be_bytes());
        [header, vec![1; 1_024]]
    }

    /// Gives frames one after the other, from `at` on; what became of each part.
    fn give(held: &mut Held, mut at: u64, frames: &[bool]) -> Vec<Given> {
        let parts = frames.iter().copied().flat_map(frame);
        let mut give = |part: Vec<u8>| {
            let given = held.give(&part, at);
            at += part.len() as u64;
            if given != Given::Held {
                held.bytes.clear();
            }
            given
        };
        parts.map(&mut give).collect()
    }

    #[test]
    fn all_frames_of_a_transaction_are_written_at_once() {
        use Given::{Held as Kept, Past, Whole};
        let mut held = Held::default();
        assert_eq!(held.give(&[0; LOG_HEADER_BYTES], 0), Past);
        assert_eq!(give(&mut held, 32, &[false, false, true]), [Kept, Kept, Kept, Kept, Kept, Whole]);
        assert_eq!(give(&mut held, 32 + 3 * 1_048, &[true, true]), [Kept, Whole, Kept, Whole]);
    }

    #[test]
    fn nothing_is_held_back_that_is_written_over_something_earlier() {
        let mut held = Held::default();
        held.give(&[0; LOG_HEADER_BYTES], 0);
        give(&mut held, 32, &[false, false, true]);
        assert_eq!(give(&mut held, 32, &[false, true]), [Given::Past; 4]);
        // It ends where it ended before, until it begins again.
        assert_eq!(held.end, 32 + 3 * 1_048);
        held.give(&[0; LOG_HEADER_BYTES], 0);
        assert_eq!(give(&mut held, 32, &[true]), [Given::Held, Given::Whole]);
    }

    #[test]
    fn a_log_that_was_there_before_is_gone_on_with() {
        let mut held = Held::default();
        assert_eq!(give(&mut held, 32 + 1_048, &[true, true]), [Given::Past, Given::Past, Given::Held, Given::Whole]);
    }
}
