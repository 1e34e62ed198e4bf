//! Recording what the command writes, while it goes where it would go without that.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::error::{Error, with_limit};
use crate::protocol::limits::{KEY_OUTPUT_BYTES_MAX, KEY_OUTPUT_PARTS_MAX};
use crate::protocol::{KeyOutput, OutputPart, Stream};
use crate::sys::was_closed;

use super::super::errand::Errand;
use super::super::signals::Signals;

/// Bytes that are read at once; as many as a pipe has by default.
const READ_BYTES: usize = 64 * 1024;

/// Bytes in one part of what is sent: with what is around it a line has room for it in base 64.
const PART_BYTES_MAX: usize = 32 * 1024;

/// What stands between the command's standard output and error and seq's own.
pub(super) struct Recorder {
    record: Arc<Mutex<Record>>,
    /// The command's ends, until it is started.
    command: Vec<(i32, PipeWriter)>,
    copiers: Vec<Errand<()>>,
    /// Closed when the command has ended: what others still write is not waited for.
    until: Option<PipeWriter>,
}

#[derive(Default)]
struct Record {
    parts: Vec<(Stream, Vec<u8>)>,
    bytes: usize,
    truncated: bool,
}

impl Recorder {
    /// Begins. A stream that seq was started without stays closed.
    ///
    /// # Errors
    ///
    /// When the system gives no more descriptors, or threads.
    pub(super) fn start() -> Result<Recorder, Error> {
        Recorder::try_start().map_err(|error| {
            Error::failure(format_args!("cannot record what the command writes: {}", with_limit(&error)))
        })
    }

    fn try_start() -> io::Result<Recorder> {
        let record = Arc::new(Mutex::new(Record::default()));
        let (ended, until) = io::pipe()?;
        let mut recorder = Recorder { record, command: Vec::new(), copiers: Vec::new(), until: Some(until) };
        let own = [(1, Stream::Stdout, io::stdout().as_fd()), (2, Stream::Stderr, io::stderr().as_fd())]
            .map(|(number, stream, own)| (number, stream, own.try_clone_to_owned()));
        for (number, stream, own) in own {
            if was_closed(usize::try_from(number).unwrap_or_default()) {
                continue;
            }
            let (from, commands) = io::pipe()?;
            let (to, ended, record) = (File::from(own?), ended.try_clone()?, Arc::clone(&recorder.record));
            recorder.copiers.push(Errand::start(move || copy((from, to), &ended, stream, &record))?);
            recorder.command.push((number, commands));
        }
        Ok(recorder)
    }

    /// What the command is to have under these numbers.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = (i32, &PipeWriter)> {
        self.command.iter().map(|(number, commands)| (*number, commands))
    }

    /// The command has them, and nobody else is to.
    pub(super) fn close_commands_ends(&mut self) {
        self.command.clear();
    }

    /// The command has ended: copies what is left, and gives all that was recorded. A signal that is to end seq ends the
    /// wait for a reader who does not read.
    pub(super) fn end(mut self, signals: &Signals) -> KeyOutput {
        self.until = None;
        self.command.clear();
        for copier in &self.copiers {
            while !copier.is_done() && signals.next_ending().is_none() {
                let mut ready =
                    [PollFd::from_borrowed_fd(copier.as_fd(), PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
                _ = poll(&mut ready, None);
            }
        }
        let record = std::mem::take(&mut *self.record.lock().unwrap_or_else(PoisonError::into_inner));
        let parts = record
            .parts
            .iter()
            .flat_map(|(stream, bytes)| bytes.chunks(PART_BYTES_MAX).map(|bytes| OutputPart::new(*stream, bytes)));
        KeyOutput { parts: parts.collect(), truncated: record.truncated }
    }
}

impl Record {
    fn add(&mut self, stream: Stream, bytes: &[u8]) {
        if self.truncated {
            return;
        }
        let room = if self.has_room_for(stream) { KEY_OUTPUT_BYTES_MAX - self.bytes } else { 0 };
        let kept = &bytes[..bytes.len().min(room)];
        self.truncated = kept.len() < bytes.len();
        self.bytes += kept.len();
        match self.parts.last_mut() {
            _ if kept.is_empty() => {}
            Some((last, before)) if *last == stream => before.extend_from_slice(kept),
            _ => self.parts.push((stream, kept.to_vec())),
        }
    }

    /// Whether one more part may begin, if one has to. Long ones are sent in pieces.
    fn has_room_for(&self, stream: Stream) -> bool {
        let pieces = KEY_OUTPUT_BYTES_MAX / PART_BYTES_MAX;
        self.parts.len() < KEY_OUTPUT_PARTS_MAX - pieces || self.parts.last().is_some_and(|(last, _)| *last == stream)
    }
}

/// Copies until the command's end of the pipe is closed, or until nobody reads, so that the command learns that; and once
/// the command has `ended`, until nothing more is there.
fn copy((mut from, mut to): (PipeReader, File), ended: &PipeReader, stream: Stream, record: &Mutex<Record>) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let mut ready = [PollFd::new(&from, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) if !ready[0].revents().is_empty() => {}
            Ok(_) | Err(Errno::INTR) if ready[1].revents().is_empty() => continue,
            _ => return,
        }
        let read = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => &buffer[..read],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        record.lock().unwrap_or_else(PoisonError::into_inner).add(stream, read);
        if write_all(&mut to, read).is_err() {
            return;
        }
    }
}

/// Waits where `to` is one that does not block: others may have made it so, who have it too.
fn write_all(to: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                _ = poll(&mut [PollFd::new(to, PollFlags::OUT)], None);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Several of these to a request: each line has room for one part.
pub(super) fn pieces(output: KeyOutput) -> impl Iterator<Item = KeyOutput> {
    let KeyOutput { parts, truncated } = output;
    let last = KeyOutput { parts: Vec::new(), truncated };
    // That nothing was written is recorded as well.
    let has_last = truncated || parts.is_empty();
    let pieces = parts.into_iter().map(|part| KeyOutput { parts: vec![part], truncated: false });
    pieces.chain(has_last.then_some(last))
}
