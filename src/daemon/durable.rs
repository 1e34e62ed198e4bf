//! What must survive a power cut is brought to the disk beside the loop, many changes at once, and only those wait for
//! it who are told of them.

use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::Sender;

use super::aside::aside;
use super::link::Link;
use super::owner::Owner;
use super::tell::mark;
use super::wake::Wake;
use crate::error::Error;
use crate::sequencer::ConnectionId;
use crate::store;

/// Which changes are on the disk, and who waits for that.
pub(super) struct Durable {
    owner: Sender<Wake>,
    /// The number of the batch at hand, if it is the next to be brought to the disk; numbers rise.
    next: u64,
    /// Whether the batch at hand has something that must survive a power cut.
    is_needed: bool,
    /// The last batch that has.
    asked: u64,
    /// All up to this one survive one.
    done: u64,
    /// Whether it is being done.
    is_running: bool,
    /// Those who are told nothing before the batch of their [`held_for`](Link::held_for) survives.
    held: Vec<Rc<Link>>,
    failed: Option<Error>,
    /// Whether it failed once, known to the thread that does it; taken while it does.
    has_failed: Arc<Mutex<bool>>,
}

impl Durable {
    pub(super) fn new(owner: Sender<Wake>) -> Durable {
        Durable {
            owner,
            next: 1,
            is_needed: false,
            asked: 0,
            done: 0,
            is_running: false,
            held: Vec::new(),
            failed: None,
            has_failed: Arc::default(),
        }
    }

    /// Whether this client may be told what is written down.
    pub(super) fn lets_tell(&self, link: &Link) -> bool {
        link.held_for.get() <= self.done
    }

    /// What went wrong, if anything did: nobody knows what is on the disk then.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

impl Owner {
    /// What is told to these clients from now on in this batch waits until the batch survives a power cut.
    pub(super) fn hold(&mut self, connections: &[ConnectionId]) {
        self.durable.is_needed = true;
        for connection in connections {
            let Some(link) = self.clients.get(connection) else { continue };
            if link.held_for.replace(self.durable.next) == 0 {
                self.durable.held.push(Rc::clone(link));
            }
        }
    }

    /// What is told to this client from now on waits until all that is known by now survives a power cut.
    pub(super) fn hold_back(&mut self, connection: ConnectionId) {
        let number = if self.durable.is_needed { self.durable.next } else { self.durable.asked };
        let Some(link) = self.clients.get(&connection).filter(|_| number > self.durable.done) else { return };
        if link.held_for.replace(number.max(link.held_for.get())) == 0 {
            self.durable.held.push(Rc::clone(link));
        }
    }

    /// The batch is written: it is to survive a power cut, too, if it must.
    pub(super) fn make_durable(&mut self) {
        if std::mem::take(&mut self.durable.is_needed) {
            self.durable.asked = self.durable.next;
            self.durable.next += 1;
        }
        let Some(path) = self.ledger.path().filter(|_| self.durable.asked > self.durable.done) else { return };
        if std::mem::replace(&mut self.durable.is_running, true) {
            return;
        }
        let (path, owner, number) = (path.to_owned(), self.durable.owner.clone(), self.durable.asked);
        let has_failed = Arc::clone(&self.durable.has_failed);
        let sync = move || sync(&path, &has_failed);
        tokio::task::spawn_local(async move {
            let again = sync.clone();
            // Where there can be no further thread the loop waits for the disk itself.
            let synced = aside(sync).await.unwrap_or_else(|_| again());
            // The owner is gone only when the whole daemon is.
            _ = owner.send(Wake::Synced(number, synced)).await;
        });
    }

    /// All up to a batch survives a power cut now: who waited for that may be told.
    pub(super) fn synced(&mut self, number: u64, synced: Result<(), Error>) {
        self.durable.is_running = false;
        match synced {
            Ok(()) => self.durable.done = self.durable.done.max(number),
            Err(error) => self.durable.failed = Some(error),
        }
        let done = self.durable.done;
        let (free, held) = self.durable.held.drain(..).partition(|link| link.held_for.get() <= done);
        self.durable.held = held;
        let free: Vec<Rc<Link>> = free;
        for link in free {
            link.held_for.set(0);
            link.is_dirty.set(false);
            mark(&mut self.batch.dirty, &link);
        }
    }

    /// Brings to the disk at once what is not there yet, and tells all who wait for that.
    ///
    /// # Errors
    ///
    /// When that cannot be done: nobody knows what is on the disk then.
    pub(super) fn sync_now(&mut self) -> Result<(), Error> {
        let Some(path) = self.ledger.path().filter(|_| self.durable.asked > self.durable.done) else { return Ok(()) };
        sync(path, &self.durable.has_failed)?;
        self.durable.done = self.durable.asked;
        for link in self.durable.held.drain(..) {
            link.held_for.set(0);
            link.flush();
        }
        Ok(())
    }
}

/// Waits for whoever does the same, and does it, unless it failed before: that is never tried again.
fn sync(path: &Path, has_failed: &Mutex<bool>) -> Result<(), Error> {
    let mut has_failed = has_failed.lock().unwrap_or_else(PoisonError::into_inner);
    if *has_failed {
        return Err(Error::failure("what was written could not be brought to the disk"));
    }
    let synced = store::sync(path);
    *has_failed = synced.is_err();
    synced
}
