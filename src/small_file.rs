//! Files of a few words, as the system tells them in `/proc`, read in one piece.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{read, retry_on_intr};
use rustix::path::Arg;

/// Bytes that such a file may have.
const BYTES_MAX: usize = 1024;

/// What `read_text` finds in the text at `path`; nothing when that cannot be read, or is longer than [`BYTES_MAX`].
/// Characters that the system has cut, as it does in the names of processes, are replaced.
///
/// The system makes such a text when it is read, as much of it as there is room for: what leaves room is all of it.
pub(crate) fn parse<T>(path: impl Arg, read_text: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0; BYTES_MAX];
    let length = retry_on_intr(|| read(&file, &mut text)).ok().filter(|length| *length < BYTES_MAX)?;
    read_text(&String::from_utf8_lossy(&text[..length]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_and_there_is_read_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let length = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            parse(&path, |text| Some(text.len()))
        };
        assert_eq!(length(b""), Some(0));
        assert_eq!(length(&[b'x'; BYTES_MAX - 1]), Some(BYTES_MAX - 1));
        assert_eq!(length(&[b'x'; BYTES_MAX]), None);
        assert_eq!(length(b"a\xd0"), Some("a\u{fffd}".len()));
        assert_eq!(parse(directory.path().join("none"), |_| Some(())), None);
        assert_eq!(parse("/proc/self/comm", |name| name.strip_suffix('\n').map(str::is_empty)), Some(false));
    }
}
