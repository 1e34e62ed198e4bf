//! One framed line: JSON, then a newline.

use serde::Serialize;

use super::limits::LINE_BYTES_MAX;

/// What a reader finds next.
#[derive(Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A whole line, without its newline.
    Line(&'a [u8]),
    /// A line longer than it may be has begun; it is skipped up to its newline. Said once for each such line.
    TooLong,
}

/// Bytes as they come, lines as they go. Both ends use it.
#[derive(Debug)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// No newline is before this place.
    searched: usize,
    /// Whether what comes belongs to a line that was too long.
    skipping: bool,
    line_bytes_max: usize,
}

impl Default for LineBuffer {
    fn default() -> LineBuffer {
        LineBuffer::new(LINE_BYTES_MAX)
    }
}

impl LineBuffer {
    /// An empty buffer for lines of at most `line_bytes_max` bytes. It takes no memory until bytes come.
    pub fn new(line_bytes_max: usize) -> LineBuffer {
        LineBuffer { bytes: Vec::new(), start: 0, searched: 0, skipping: false, line_bytes_max }
    }

    /// Adds what was read from the other end.
    pub fn extend(&mut self, read: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(read);
    }

    /// The next line, or nothing before more is read. Empty lines are passed over.
    pub fn next_line(&mut self) -> Option<Framed<'_>> {
        loop {
            let Some(length) = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') else {
                return self.unfinished();
            };
            let (start, end) = (self.start, self.searched + length);
            self.start = end + 1;
            self.searched = end + 1;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if end - start > self.line_bytes_max {
                return Some(Framed::TooLong);
            }
            let line = self.bytes[start..end].trim_ascii();
            if !line.is_empty() {
                // The borrow checker does not see that a returned borrow ends the loop, hence the second slice.
                return Some(Framed::Line(self.bytes[start..end].trim_ascii()));
            }
        }
    }

    /// Whether the other end has begun a line and not ended it.
    pub fn is_mid_line(&self) -> bool {
        self.skipping || self.start < self.bytes.len()
    }

    /// Whether a line has begun that is not too long, and has not ended.
    pub fn is_unfinished(&self) -> bool {
        !self.skipping && self.start < self.bytes.len()
    }

    /// Gives memory back when nothing is in it.
    pub fn shrink(&mut self) {
        if self.start == self.bytes.len() {
            (self.bytes, self.start, self.searched) = (Vec::new(), 0, 0);
        }
    }

    fn unfinished(&mut self) -> Option<Framed<'_>> {
        self.searched = self.bytes.len();
        let too_long = self.bytes.len() - self.start > self.line_bytes_max;
        if self.skipping || too_long {
            self.bytes.clear();
            (self.start, self.searched) = (0, 0);
        }
        if too_long && !self.skipping {
            self.skipping = true;
            return Some(Framed::TooLong);
        }
        None
    }
}

/// Appends `message` to `out` as one line.
///
/// # Panics
///
/// Never: the types of this protocol have only string keys and cannot fail to serialise.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) {
    let length = out.len();
    if serde_json::to_writer(&mut *out, message).is_err() {
        out.truncate(length);
        unreachable!("a message of the protocol is always valid JSON");
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that comes out when `input` is read in pieces of `size` bytes.
    fn lines(input: &[u8], size: usize, line_bytes_max: usize) -> Vec<String> {
        let mut buffer = LineBuffer::new(line_bytes_max);
        let mut found = Vec::new();
        for piece in input.chunks(size) {
            buffer.extend(piece);
            while let Some(framed) = buffer.next_line() {
                found.push(match framed {
                    Framed::Line(line) => String::from_utf8_lossy(line).into_owned(),
                    Framed::TooLong => "<too long>".to_owned(),
                });
            }
        }
        found
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let input = b"one\n\n  two \r\nseventeen bytes!!\nthree\nleft over";
        for size in 1..=input.len() {
            assert_eq!(lines(input, size, 16), ["one", "two", "<too long>", "three"], "pieces of {size}");
        }
    }

    #[test]
    fn a_line_that_never_ends_takes_no_memory() {
        let mut buffer = LineBuffer::new(1_000);
        let mut said = 0;
        for _ in 0..10_000 {
            buffer.extend(&[b'x'; 1_000]);
            while let Some(framed) = buffer.next_line() {
                assert_eq!(framed, Framed::TooLong);
                said += 1;
            }
            assert!(buffer.bytes.capacity() < 10_000);
        }
        assert_eq!(said, 1);
        buffer.extend(b"\nback\n");
        assert_eq!(buffer.next_line(), Some(Framed::Line(b"back")));
    }
}
