//! What clients are told: it goes into their outboxes, and out when the batch is written down.

use std::rc::Rc;

use super::audience::Concerned;
use super::link::Link;
use super::owner::Owner;
use super::report;
use crate::protocol::Reply;
use crate::protocol::limits::OUTBOX_BYTES_MAX;
use crate::sequencer::{ConnectionId, PolicyChange};

impl Owner {
    /// Tells watchers of a policy or a pause.
    pub(super) fn announce(&mut self, change: &PolicyChange) {
        if self.audience.is_empty() {
            return;
        }
        let event = report::policy_event(change, self.wall_clock());
        match change {
            PolicyChange::Set { pattern, .. } | PolicyChange::Unset { pattern, .. } => {
                self.tell_audience(Concerned::Matching(pattern), &event);
            }
            PolicyChange::Paused { domain, .. } | PolicyChange::Resumed { domain, .. } => {
                self.tell_audience(Concerned::Lines(&[domain]), &event);
            }
        }
    }

    pub(super) fn tell_audience(&mut self, concerned: Concerned<'_>, event: &Reply) {
        let dirty = &mut self.batch.dirty;
        self.audience.hear(concerned, event, |link| mark(dirty, link));
    }

    pub(super) fn tell(&mut self, connection: ConnectionId, reply: &Reply) {
        let Some(link) = self.clients.get(&connection) else { return };
        if matches!(reply, Reply::Done(_)) {
            self.batch.done.push(connection);
        }
        // The next one says the same and more; whoever is slow misses nothing.
        let is_dispensable = matches!(reply, Reply::QueuePosition(_));
        if !is_dispensable || link.outbox_bytes() <= OUTBOX_BYTES_MAX / 2 {
            link.push(reply);
            if !is_dispensable {
                mark(&mut self.batch.dirty, link);
            } else if !link.is_dirty.replace(true) {
                link.is_placed.set(true);
                self.batch.placed.push(Rc::clone(link));
            }
        }
    }

    /// Puts a reply into a client's outbox.
    pub(super) fn reply(&mut self, link: &Rc<Link>, reply: &Reply) {
        link.push(reply);
        mark(&mut self.batch.dirty, link);
    }

    /// As [`reply`](Owner::reply), also while nothing can be written: it says nothing that has to be.
    pub(super) fn reply_at_once(&mut self, link: &Rc<Link>, reply: &Reply) {
        if self.stall.is_some() {
            link.push_now(reply);
        } else {
            self.reply(link, reply);
        }
    }
}

/// Sees to it that a link with something in its outbox is written to, and not only after all others.
pub(super) fn mark(dirty: &mut Vec<Rc<Link>>, link: &Rc<Link>) {
    if !link.is_dirty.replace(true) || link.is_placed.replace(false) {
        dirty.push(Rc::clone(link));
    }
}
