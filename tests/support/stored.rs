//! The files of a store, as they are copied and compared.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::path::Path;

pub(crate) const NAMES: [&str; 3] = ["seq.db", "seq.db-wal", "seq.mark"];

/// All files in a directory, with what is in them.
pub(crate) fn contents(directory: &Path) -> std::collections::BTreeMap<String, Option<Vec<u8>>> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).ok())).collect()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    for name in NAMES {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}
