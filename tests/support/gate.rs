//! Something that commands wait at.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// How many may pass an open gate: a byte for each, and a pipe takes 4,096 without anybody reading.
const PASSES: usize = 4_000;

/// A FIFO: who reads a line of it waits until the gate is opened, and once it is open nobody waits.
///
/// In a shell: `read -r line <"$HOME/gate"`.
#[derive(Debug)]
pub struct Gate {
    path: PathBuf,
    /// Kept open both ways, so that opening it never blocks and a reader never sees its end.
    file: File,
}

impl Gate {
    pub fn new(path: PathBuf) -> Gate {
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a FIFO");
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("the FIFO opens");
        Gate { path, file }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets all pass who are there and who come.
    pub fn open(&self) {
        (&self.file).write_all(&[b'\n'; PASSES]).expect("the FIFO takes it");
    }

    /// Lets one pass.
    pub fn let_one_pass(&self) {
        (&self.file).write_all(b"\n").expect("the FIFO takes it");
    }
}
