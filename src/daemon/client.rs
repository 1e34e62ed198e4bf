//! The task of one connection: reads lines, hands them to the owner as requests, writes what the owner could not.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use super::descriptors::{Budget, Pending};
use super::link::{Events, Link};
use super::understand::{understand, unfinished};
use super::wake::Wake;
use crate::protocol::LineBuffer;

/// How long a client that has closed its sending side, or is refused, may take to read the last replies.
const LINGER: Duration = Duration::from_secs(5);

/// Bytes read after which a line buffer gives its memory back when it is empty.
const KEPT_BYTES_MAX: usize = 1024;

/// The one buffer that all connections read into.
pub(super) type ReadBuffer = Rc<RefCell<Box<[u8]>>>;

/// Serves one connection until it ends.
pub(super) async fn serve(link: Rc<Link>, owner: Sender<Wake>, buffer: ReadBuffer, budget: Budget) {
    let descriptors = Pending::new(budget);
    let mut reader = Reader { lines: LineBuffer::default(), descriptors, buffer, bytes_kept: 0 };
    let mut events = Events::of(&link);
    if let Ok(events) = &mut events {
        // An error of the socket and the end of what the client says are the same: it asks for nothing more.
        let _ = reader.run(&link, events, &owner).await;
    }
    drop(reader);
    // The owner is gone only when the whole daemon is.
    let _ = owner.send(Wake::Closed(link.id)).await;
    if let Ok(mut events) = events {
        let _ = tokio::time::timeout(LINGER, drain(&link, &mut events)).await;
    }
}

/// Writes until the outbox is empty and nothing more will come.
async fn drain(link: &Link, events: &mut Events) -> io::Result<()> {
    while !link.is_closing() || link.outbox_bytes() > 0 {
        events.ready(false).await?;
        link.write_on();
    }
    Ok(())
}

struct Reader {
    lines: LineBuffer,
    /// Those that no request has named yet.
    descriptors: Pending,
    buffer: ReadBuffer,
    /// Bytes read since the line buffer last gave its memory back.
    bytes_kept: usize,
}

impl Reader {
    async fn run(&mut self, link: &Link, events: &mut Events, owner: &Sender<Wake>) -> io::Result<()> {
        while !link.is_closing() {
            while !link.must_pause() {
                let Some(framed) = self.lines.next_line() else { break };
                let ask = understand(&framed, &link.peer, link.id, &mut self.descriptors);
                link.is_owed_snapshot.set(ask.is_for_snapshot());
                if owner.send(Wake::Asked(link.id, ask)).await.is_err() {
                    return Ok(());
                }
            }
            self.shrink();
            let reads = !link.must_pause();
            events.ready(reads).await?;
            link.write_on();
            if link.is_lagging.get() && link.outbox_bytes() == 0 {
                link.is_lagging.set(false);
                let _ = owner.send(Wake::CaughtUp(link.id)).await;
            }
            if reads && self.read(events)? == Some(0) {
                if self.lines.is_unfinished() {
                    let _ = owner.send(Wake::Asked(link.id, unfinished())).await;
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// How many bytes were read; nothing when none are there yet.
    fn read(&mut self, events: &Events) -> io::Result<Option<usize>> {
        let mut buffer = self.buffer.borrow_mut();
        let count = match events.read(&mut buffer, &mut self.descriptors) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
            result => result?,
        };
        self.lines.extend(&buffer[..count]);
        self.bytes_kept += count;
        Ok(Some(count))
    }

    /// Keeps an idle connection small, and a busy one from asking for memory at every line.
    fn shrink(&mut self) {
        if self.bytes_kept > KEPT_BYTES_MAX && !self.lines.is_mid_line() {
            self.lines.shrink();
            self.bytes_kept = 0;
        }
    }
}
