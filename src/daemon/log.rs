//! The log: a few lines, to a file that can be opened again, or to standard error.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, way_to_write};

/// Where log lines go.
#[derive(Debug)]
pub(super) struct Log {
    /// Nothing stands for standard error.
    path: Option<PathBuf>,
    /// Whether somebody chose it, with `--log`.
    is_chosen: bool,
    /// Open while `path` is there. The lock serves the panic hook, which may run on any thread.
    file: Mutex<Option<File>>,
}

impl Log {
    /// Sends every log line of this process to the file at `path`, or to standard error. To be called once.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub(super) fn start(path: Option<PathBuf>, is_chosen: bool) -> Result<Arc<Log>, Error> {
        let file = path.as_deref().map(|path| open(path, is_chosen)).transpose()?;
        let log = Arc::new(Log { path, is_chosen, file: Mutex::new(file) });
        let subscriber = tracing_subscriber::fmt().with_writer(Arc::clone(&log)).with_ansi(false).with_target(false);
        // Of a line that cannot be written it would speak on standard error, and panic where nobody reads that.
        let subscriber = subscriber.log_internal_errors(false).finish();
        // It fails when the process has a subscriber already, as a test may; then the lines go there.
        let _ = tracing::subscriber::set_global_default(subscriber);
        Ok(log)
    }

    /// The file, unless it is standard error.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether somebody removed the file, so that nobody will ever read what is written to it. One that was moved away
    /// is another matter: see [`reopen`](Log::reopen).
    pub(super) fn is_removed(&self) -> bool {
        self.lock().as_ref().is_some_and(|file| file.metadata().is_ok_and(|found| found.nlink() == 0))
    }

    /// Whether there is a file at its path, if it has one.
    pub(super) fn is_there(&self) -> bool {
        self.path.as_ref().is_none_or(|path| path.exists())
    }

    /// Opens the file again, after somebody moved it away.
    ///
    /// # Errors
    ///
    /// When it cannot be opened; the lines go on to the old file then.
    pub(super) fn reopen(&self) -> Result<(), Error> {
        if let Some(path) = &self.path {
            let file = open(path, self.is_chosen)?;
            *self.lock() = Some(file);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for &Log {
    /// Writes a whole line: a line is handed over in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.lock() {
            Some(file) => file.write(line),
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a log could be kept at `path`.
///
/// # Errors
///
/// When the file cannot be opened.
pub(super) fn check(path: &Path, is_chosen: bool) -> Result<(), Error> {
    open(path, is_chosen).map(drop)
}

fn open(path: &Path, is_chosen: bool) -> Result<File, Error> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    opened.map_err(|error| {
        let way_out = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => None,
            _ => is_chosen.then(|| "name another file with --log".to_owned()),
        };
        let way_out = way_out.unwrap_or_else(|| way_to_write(&error, path));
        Error::failure(format_args!("cannot write the log {}: {error}: {way_out}", path.display()))
    })
}
