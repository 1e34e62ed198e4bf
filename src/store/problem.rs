//! What can be wrong with the store, in words: the file's name, why, and the way out.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_WRITE;

use super::inspect::log_of;
use crate::error::{Cure, Error, way_past_limit};
use crate::protocol::Ticket;

/// Something is wrong with the store: the daemon ends, and says this.
pub type Problem = Error;

impl Problem {
    /// A file beside the database that cannot be used.
    pub(super) fn file(what: &str, path: &Path, error: &io::Error) -> Problem {
        let (shown, directory) = (path.display(), path.parent().unwrap_or(path).display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::failure(format_args!("the disk is full: {shown} cannot be written: make room in {directory}"))
                    .with_cure(Cure::Write)
            }
            io::ErrorKind::IsADirectory => Error::failure(format_args!(
                "{shown} is a directory: move it away, and restore the file that was there as it was last"
            )),
            _ => {
                let make_writable = || format!("make {directory} and the files in it writable");
                let way_out = way_past_limit(error).map_or_else(make_writable, str::to_owned);
                Error::failure(format_args!("cannot {what} {shown}: {error}: {way_out}"))
            }
        }
    }

    /// The database is a link, and its log would be beside what that leads to.
    pub(super) fn link(path: &Path) -> Problem {
        let log = name_beside(path, "", "-wal");
        Error::failure(format_args!(
            "the database {} is a symbolic link: put the file there that it leads to, and {log} from beside that with \
             it, or let the whole directory be a link",
            path.display()
        ))
    }

    /// The database holds something that was never written.
    pub(super) fn damaged(path: &Path, what: &str) -> Problem {
        Problem::broken(path, &format!("{what} has a wrong checksum"))
    }

    /// SQLite finds the file itself in disorder.
    pub(super) fn broken(path: &Path, what: &str) -> Problem {
        let what = what.replace('\n', " ");
        Error::failure(format_args!("the database {} is damaged ({what}): {}", path.display(), way_out(path)))
    }

    /// The database does not hold what it held last.
    pub(super) fn lost(path: &Path, mark: &Path, has_mark: bool) -> Problem {
        let (shown, mark) = (path.display(), mark.display());
        let log = name_beside(path, "", "-wal");
        if has_mark {
            return Error::failure(format_args!(
                "the database {shown} is not what {mark} says: a part of it, or of {log} beside it, is lost: \
                 restore both as they were last, or, once no command runs under seq any more, move both away and \
                 empty {mark}"
            ));
        }
        Error::failure(format_args!(
            "{mark} is missing, which says what the database {shown} held last: restore it as it was last, or, once no \
             command runs under seq any more, move the database and {log} beside it away and make an empty file {mark}"
        ))
    }

    /// The mark says what nobody wrote.
    pub(super) fn damaged_mark(path: &Path, mark: &Path) -> Problem {
        let log = name_beside(path, "", "-wal");
        let (path, mark) = (path.display(), mark.display());
        Error::failure(format_args!(
            "{mark} is damaged, which says what the database {path} held last: restore it as it was last, or, once no \
             command runs under seq any more, move the database and {log} beside it away and empty {mark}"
        ))
    }

    /// There is no database, but there was one.
    pub(super) fn missing(path: &Path, mark: &Path) -> Problem {
        let log = name_beside(path, "", "-wal");
        let (path, mark) = (path.display(), mark.display());
        Error::failure(format_args!(
            "the database {path} is missing or empty, and {mark} says that it was not: restore it and {log} beside it \
             as they were last, or, once no command runs under seq any more, move away what is left of both and empty \
             {mark}"
        ))
    }

    /// There is a database, but what was in it is in its log, and that is not there.
    pub(super) fn log_missing(path: &Path, mark: &Path) -> Problem {
        let log = log_of(path);
        let (path, mark, log) = (path.display(), mark.display(), log.display());
        Error::failure(format_args!(
            "{log}, the log of the database {path}, is missing or damaged, and {mark} says that there was more in it: \
             restore it as it was last, or, once no command runs under seq any more, move what is left of both away \
             and empty {mark}"
        ))
    }

    /// There is neither a database nor a mark, but there was a daemon which did not end with nothing to keep.
    pub(super) fn all_missing(path: &Path, mark: &Path, numbers: &Path) -> Problem {
        let log = name_beside(path, "", "-wal");
        let (path, mark, numbers) = (path.display(), mark.display(), numbers.display());
        Error::failure(format_args!(
            "the database {path} and {mark} are missing or empty, and {numbers} says that somebody may have a turn: \
             restore them and {log} beside them as they were last, or, once no command runs under seq any more, move \
             away what is left of {log} and make an empty file {mark}"
        ))
    }

    /// There is no database, but a log of one.
    pub(super) fn without_database(path: &Path, log: &Path) -> Problem {
        Error::failure(format_args!(
            "the database {} is missing or empty, and its log {} is there: restore the former as it was last, or, once \
             no command runs under seq any more, move the latter away too",
            path.display(),
            log.display()
        ))
    }

    /// The numbers are not what was written.
    pub(super) fn damaged_numbers(path: &Path, reason: &str) -> Problem {
        let way_out = without_numbers(path);
        Error::failure(format_args!(
            "the number file {} is damaged ({reason}): restore it as it was last, or {way_out}",
            path.display()
        ))
    }

    /// A later version has written the numbers.
    pub(super) fn newer_numbers(path: &Path, found: u32, known: u32) -> Problem {
        let way_out = without_numbers(path);
        Error::failure(format_args!(
            "the number file {} has format {found}, and this seqd knows formats up to {known}: use the newer seq, or \
             {way_out}",
            path.display()
        ))
    }

    /// It is all there, but not what was there last.
    pub(super) fn older(path: &Path, mark: &Path, numbers: &Path) -> Problem {
        let log = log_of(path);
        let (path, mark, numbers, log) = (path.display(), mark.display(), numbers.display(), log.display());
        Error::failure(format_args!(
            "the database {path} and {mark} are copies of an earlier time than {numbers}, and turns were given since \
             then: restore them and {log} as they were last, or, once no command runs under seq any more, move the \
             database and {log} away and empty {mark}"
        ))
    }

    /// What lives in it may live on another machine, where nobody can look from here.
    pub(super) fn elsewhere(path: &Path, host: &str) -> Problem {
        Error::failure(format_args!(
            "the database {} was last used on the host {host}, where commands may still run under it: run seq there, \
             or name a socket on a disk of this machine with --socket",
            path.display()
        ))
    }

    /// A daemon that keeps everything in memory would not know what lives.
    pub fn left_for_memory(path: &Path) -> Problem {
        let path = path.display();
        Error::failure(format_args!(
            "by {path} and the files beside it somebody may have a turn, wait, or have paused a domain, and a daemon \
             that keeps everything in memory would not know: start seqd without --in-memory, or name another socket \
             with --socket"
        ))
    }

    /// A row says nothing that this version understands.
    pub fn not_understood(path: &Path, ticket: Ticket, why: &serde_json::Error) -> Problem {
        Error::failure(format_args!(
            "the database {} says of ticket {ticket} what this seqd does not understand ({why}): {}",
            path.display(),
            way_out(path)
        ))
    }

    /// A later version has been here.
    pub(super) fn newer(path: &Path, found: i32, known: i32) -> Problem {
        Error::failure(format_args!(
            "the database {} has version {found}, and this seqd knows versions up to {known}: \
             use the newer seq, or, {}",
            path.display(),
            way_on(path)
        ))
    }

    /// Somebody else's database.
    pub(super) fn foreign(path: &Path) -> Problem {
        Error::failure(format_args!(
            "{} is a database, but not one of seqd: move it away, or name another socket with --socket",
            path.display()
        ))
    }
}

/// What to do about a database that cannot be trusted.
fn way_out(path: &Path) -> String {
    let log = name_beside(path, "", "-wal");
    format!("restore it and {log} beside it as they were last, or, {}", way_on(path))
}

/// How to go on without the database. Nobody but the user knows whether old commands still run.
fn way_on(path: &Path) -> String {
    let (log, mark) = (name_beside(path, "", "-wal"), name_beside(path, "seq.db", "seq.mark"));
    format!("once no command runs under seq any more, move it and {log} beside it away and empty {mark}")
}

/// How to go on without the numbers at `path`.
fn without_numbers(path: &Path) -> String {
    let beside = |name| name_beside(path, "numbers", name);
    format!("move it away: the numbers go on above those in {} and {} beside it", beside("seq.db"), beside("seq.mark"))
}

/// What a file beside the one at `path`, whose name ends with `from`, is called that has `to` there.
fn name_beside(path: &Path, from: &str, to: &str) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("{}{to}", name.strip_suffix(from).unwrap_or_default())
}

/// What SQLite has to say of a write of the daemon that has the database to itself (`unix-excl`). Only its own thread
/// can be in the way then, which holds on while the disk takes its time.
pub(super) fn write_problem(path: &Path, error: rusqlite::Error) -> Problem {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::failure(format_args!(
            "the disk takes very long over the database {}: see what is wrong with the disk of {}",
            path.display(),
            path.parent().unwrap_or(path).display()
        ))
        .with_cure(Cure::Write),
        _ => problem(path, error),
    }
}

/// What SQLite has to say.
pub(super) fn problem(path: &Path, error: rusqlite::Error) -> Problem {
    let shown = path.display();
    let directory = path.parent().unwrap_or(path).display();
    let is_odd = matches!(
        error,
        rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
    );
    if is_odd {
        return Problem::broken(path, &error.to_string());
    }
    let code = error.sqlite_error_code();
    let extended_code = error.sqlite_error().map(|error| error.extended_code);
    // Without the statement, which says nothing to anybody.
    let error = match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg,
        error => error.to_string(),
    };
    match code {
        Some(ErrorCode::DiskFull) => Error::failure(format_args!(
            "the disk is full: the database {shown} cannot be written: make room in {directory}"
        ))
        .with_cure(Cure::Write),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            Error::failure(format_args!(
                "the database {shown} cannot be written ({error}): make {directory} and the files in it writable"
            ))
        }
        // A table that should be there is not, or the other way round.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => {
            Problem::broken(path, &error)
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            Error::failure(format_args!("another program uses the database {shown}: end it"))
        }
        // What one write did not take, another may. A failed `fsync` is another matter.
        Some(ErrorCode::SystemIoFailure) if extended_code == Some(SQLITE_IOERR_WRITE) => Error::failure(format_args!(
            "the disk does not take what is written to the database {shown} ({error}): see what is wrong with it, \
                 or with the size and the room that its owner may take in {directory}"
        ))
        .with_cure(Cure::Write),
        Some(ErrorCode::SystemIoFailure) => Error::failure(format_args!(
            "the database {shown} cannot be read or written ({error}): see what is wrong with the disk of {directory}, \
             or with what its owner may do there"
        )),
        _ => Error::failure(format_args!("cannot use the database {shown}: {error}")),
    }
}
