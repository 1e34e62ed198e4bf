//! Bringing what is committed to the disk, so that not even a power cut takes it.

use std::fs::File;
use std::io;
use std::path::Path;

use super::fault;
use super::inspect::log_of;
use super::problem::Problem;
use crate::error::Cure;

/// Waits until all that is committed in the database at `path` survives a power cut: what `PRAGMA synchronous = FULL` does
/// in each transaction, for as many of them as there are since. Made to be called beside the one who commits.
///
/// # Errors
///
/// When it cannot be done, also where there is no room: nobody knows then what is on the disk, and it must not be tried
/// again by this process.
pub fn sync(path: &Path) -> Result<(), Problem> {
    let sync = |file: &Path| File::open(file).and_then(|file| file.sync_data());
    let log = log_of(path);
    fault::point();
    let synced = match fault::sync().and_then(|()| sync(&log)) {
        // Somebody has removed it, or it is being put back: what it held is in the database.
        Err(error) if error.kind() == io::ErrorKind::NotFound => sync(path),
        synced => synced,
    };
    // The names as well: the log may be new.
    let synced = synced.and_then(|()| path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all()));
    fault::point();
    match synced {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Problem::file("write", &log, &error).with_cure(Cure::Unknown))
        }
        _ => Ok(()),
    }
}
