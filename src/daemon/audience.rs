//! Those who watch: each hears what happens in its lines, or is told how much it missed.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::link::Link;
use crate::protocol::limits::{OUTBOX_BYTES_MAX, TICKETS_PER_CONNECTION_MAX};
use crate::protocol::{Domain, Reply, encode};
use crate::sequencer::{ConnectionId, Pattern};

/// All watchers.
#[derive(Debug, Default)]
pub(super) struct Audience {
    watchers: BTreeMap<ConnectionId, Watching>,
    /// Where an event is encoded, once for all of them.
    line: Vec<u8>,
}

/// What one connection watches.
#[derive(Debug)]
struct Watching {
    link: Rc<Link>,
    scope: Scope,
    /// Events that it was not told since it became too slow.
    missed: u64,
}

/// The lines that somebody watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// All of them, whatever is in `domains`.
    pub(super) all: bool,
    /// These.
    pub(super) domains: BTreeSet<Domain>,
}

/// The lines that an event is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Concerned<'a> {
    /// These.
    Lines(&'a [&'a Domain]),
    /// All that the pattern is for, whether they are in use or not.
    Matching(&'a Pattern),
    /// Each there is.
    All,
}

impl Audience {
    /// Whether nobody watches anything.
    pub(super) fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// Lets a connection watch one line more, or all; says whether it may.
    pub(super) fn join(&mut self, link: &Rc<Link>, domain: Option<Domain>) -> bool {
        let new = || Watching { link: Rc::clone(link), scope: Scope::default(), missed: 0 };
        let scope = &mut self.watchers.entry(link.id).or_insert_with(new).scope;
        match domain {
            None => scope.all = true,
            Some(_) if scope.domains.len() >= TICKETS_PER_CONNECTION_MAX => return false,
            Some(domain) => _ = scope.domains.insert(domain),
        }
        true
    }

    /// Whether this connection watches anything.
    pub(super) fn has(&self, connection: ConnectionId) -> bool {
        self.watchers.contains_key(&connection)
    }

    /// This connection watches nothing any more.
    pub(super) fn leave(&mut self, connection: ConnectionId) {
        self.watchers.remove(&connection);
    }

    /// Tells an event to all who watch one of the lines that it is about. `reached` is called for each connection that has
    /// something to send now.
    pub(super) fn hear(&mut self, concerned: Concerned<'_>, event: &Reply, mut reached: impl FnMut(&Rc<Link>)) {
        self.line.clear();
        for watching in self.watchers.values_mut().filter(|watching| watching.scope.includes(concerned)) {
            if watching.missed > 0 || watching.link.outbox_bytes() > OUTBOX_BYTES_MAX {
                watching.missed += 1;
                watching.link.is_lagging.set(true);
            } else {
                if self.line.is_empty() {
                    encode(event, &mut self.line);
                }
                watching.link.push_line(&self.line);
            }
            reached(&watching.link);
        }
    }

    /// How many events a watcher missed that has caught up now, and what it watches; nothing if it missed none.
    pub(super) fn caught_up(&mut self, connection: ConnectionId) -> Option<(u64, Scope)> {
        let watching = self.watchers.get_mut(&connection)?;
        let missed = std::mem::take(&mut watching.missed);
        (missed > 0).then(|| (missed, watching.scope.clone()))
    }
}

impl Scope {
    fn includes(&self, concerned: Concerned<'_>) -> bool {
        self.all
            || match concerned {
                Concerned::Lines(lines) => lines.iter().any(|line| self.domains.contains(*line)),
                Concerned::Matching(pattern) => self.domains.iter().any(|domain| pattern.matches(domain)),
                Concerned::All => true,
            }
    }
}
