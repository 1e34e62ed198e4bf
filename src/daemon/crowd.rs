//! More clients than there may be connections: who asks for nothing makes room, and short errands get through.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::link::Link;
use super::owner::Owner;
use super::wake::{Ask, Other};
use crate::clock::Time;
use crate::protocol::limits::{CONNECTION_IDLE_MIN, CONNECTION_IDLE_MIN_CROWDED};
use crate::protocol::{ErrorCode, ErrorReply, Reply};
use crate::sequencer::{ConnectionId, Input, Peer};
use crate::words::counted;

/// What a client needs room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seeks {
    /// To be let in at all: the extra places are taken, too.
    Entry,
    /// To have a place that is not extra.
    Place,
}

/// When somebody makes room. Nobody does where everybody is in the middle of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Somebody does right now.
    Made,
    /// Somebody will from then on, if it asks for nothing until then.
    At(Time),
}

/// What extra connections have asked for that must have a place of its own, in the order in which they asked. Nothing
/// more is read from them meanwhile.
#[derive(Debug, Default)]
pub(super) struct Placeless {
    asks: VecDeque<(ConnectionId, Ask)>,
    /// When somebody may have made room for the first of them.
    pub(super) retry_at: Option<Time>,
}

impl Placeless {
    /// Nobody is there any more to be told.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.asks.retain(|(asker, _)| *asker != connection);
        if self.asks.is_empty() {
            self.retry_at = None;
        }
    }
}

impl Owner {
    /// A client has come. If it is one too many, the one that has asked for nothing for the longest time goes; if none
    /// can, the newcomer may run errands only, for the time being.
    pub(super) fn let_in(&mut self, link: Rc<Link>) {
        if self.has_no_place() && self.make_room(Seeks::Place) != Some(Room::Made) {
            link.is_extra.set(true);
        }
        self.clients.insert(link.id, link);
    }

    /// Gives back what is asked if it can be done now. What would keep an extra connection for long waits until
    /// somebody has made room; if nobody will, it is refused and its connection closed.
    pub(super) fn find_place(&mut self, connection: ConnectionId, ask: Ask) -> Option<Ask> {
        let Some(link) = self.clients.get(&connection).filter(|_| stays(&ask)) else { return Some(ask) };
        let link = Rc::clone(link);
        if let Some(why) = self.beyond_share(&link, &ask) {
            self.send_away(&link, &why);
            return None;
        }
        if !link.is_extra.get() {
            return Some(ask);
        }
        link.is_owed_snapshot.set(true);
        if self.has_no_place() {
            match self.make_room_for(link.peer, Seeks::Place) {
                Some(Room::Made) => {}
                Some(Room::At(time)) => {
                    self.placeless.retry_at = Some(self.placeless.retry_at.map_or(time, |other| other.min(time)));
                    self.placeless.asks.push_back((connection, ask));
                    return None;
                }
                None => {
                    self.send_away(&link, &self.crowded(link.peer));
                    return None;
                }
            }
        }
        link.is_extra.set(false);
        link.is_owed_snapshot.set(ask.is_for_snapshot());
        link.wake();
        Some(ask)
    }

    /// Those who wait for a place and may have one now: they are to be asked again.
    pub(super) fn take_placeless(&mut self) -> VecDeque<(ConnectionId, Ask)> {
        let is_due = self.placeless.retry_at.is_some_and(|at| at <= self.batch.now);
        if !is_due && (self.placeless.asks.is_empty() || self.has_no_place()) {
            return VecDeque::new();
        }
        std::mem::take(&mut self.placeless).asks
    }

    /// What this connection has waited to ask is not asked any more: it is read on, to its end.
    pub(super) fn stop_owing(&self, connection: ConnectionId) {
        if let Some(link) = self.clients.get(&connection) {
            link.is_owed_snapshot.set(false);
            link.wake();
        }
    }

    /// Makes room at the door, for this newcomer if it is known; gives what to say where nobody will.
    pub(super) fn make_entry(&mut self, newcomer: Option<Peer>) -> Result<Room, String> {
        match newcomer {
            Some(peer) => self.make_room_for(peer, Seeks::Entry).ok_or_else(|| self.crowded(peer)),
            None => self.make_room(Seeks::Entry).ok_or_else(|| too_many(self.facts.connections_max)),
        }
    }

    /// Makes room for this newcomer: if nobody idle can go, one goes of the user who has the most connections, as long
    /// as that user keeps more than the newcomer's. Who has more than half of them is not waited for at the door, for
    /// others stand behind.
    pub(super) fn make_room_for(&mut self, newcomer: Peer, seeks: Seeks) -> Option<Room> {
        let mut users: HashMap<u32, usize> = HashMap::new();
        for link in self.clients.values().filter(|link| !link.is_closing()) {
            // Operators can see to themselves.
            if !link.peer.is_operator || link.peer.uid == newcomer.uid {
                *users.entry(link.peer.uid).or_default() += 1;
            }
        }
        let own = users.remove(&newcomer.uid).unwrap_or(0);
        if seeks == Seeks::Entry && !newcomer.is_operator && own > self.facts.connections_max / 2 {
            return None;
        }
        let room = self.make_room(seeks);
        let greedy = users.into_iter().max_by_key(|(uid, count)| (*count, *uid)).filter(|(_, count)| *count > own + 1);
        match greedy.filter(|_| room.is_none()).and_then(|(uid, _)| self.least_needed(uid, seeks)) {
            Some(link) => {
                self.send_away(&link, "this connection made room for another user: this user has the most of them");
                // It is told no turn after that.
                self.input(Input::Disconnected { connection: link.id });
                Some(Room::Made)
            }
            None => room,
        }
    }

    /// The connection of this user that is missed least: the newest on which nothing hangs but a watch, or else on which
    /// nothing does that has its turn.
    fn least_needed(&self, uid: u32, seeks: Seeks) -> Option<Rc<Link>> {
        let is_sought = |link: &&Rc<Link>| link.peer.uid == uid && !link.is_closing() && gives(link, seeks);
        let mut all: Vec<&Rc<Link>> = self.clients.values().filter(is_sought).collect();
        all.sort_by_key(|link| (self.sequencer.is_in_use(link.id), Reverse(link.id)));
        all.into_iter().find(|link| !self.sequencer.has_turn(link.id)).cloned()
    }

    /// Lets the connection go that has asked for nothing for the longest time.
    pub(super) fn make_room(&mut self, seeks: Seeks) -> Option<Room> {
        loop {
            let idle = self.clients.values().filter(|link| gives(link, seeks) && self.is_idle(link));
            let link = idle.min_by_key(|link| (may_go_at(link, seeks), link.id)).cloned()?;
            if may_go_at(&link, seeks) > self.batch.now {
                return Some(Room::At(may_go_at(&link, seeks)));
            }
            if !link.has_unread() {
                self.send_away(&link, "this connection made room for another: it asked for nothing");
                return Some(Room::Made);
            }
            // It is about to be heard.
            link.has_spoken.set(true);
            link.heard_at.set(self.batch.now);
        }
    }

    /// Whether as many connections are open as there may be, without the extra ones and those that are being closed.
    fn has_no_place(&self) -> bool {
        let connections_max = self.facts.connections_max;
        let has_place = |link: &&Rc<Link>| !link.is_extra.get() && !link.is_closing();
        self.clients.len() >= connections_max && self.clients.values().filter(has_place).count() >= connections_max
    }

    fn is_idle(&self, link: &Link) -> bool {
        link.has_been_answered() && !self.sequencer.is_in_use(link.id) && !self.audience.has(link.id)
    }

    fn send_away(&mut self, link: &Rc<Link>, why: &str) {
        // That is the last that it hears.
        self.audience.leave(link.id);
        let (code, message) = (ErrorCode::TooManyConnections, why.to_owned());
        self.reply_at_once(
            link,
            &Reply::Error(ErrorReply { code, message, domain: None, request_id: None, ticket: None }),
        );
        link.close();
    }
}

/// Whether the end of this connection makes room for what is sought.
fn gives(link: &Link, seeks: Seeks) -> bool {
    seeks == Seeks::Entry || !link.is_extra.get()
}

/// When a connection that is idle may be closed for another.
fn may_go_at(link: &Link, seeks: Seeks) -> Time {
    let may_think = seeks == Seeks::Place && link.has_spoken.get();
    link.heard_at.get() + if may_think { CONNECTION_IDLE_MIN } else { CONNECTION_IDLE_MIN_CROWDED }
}

/// What a client is told that finds no place.
pub(super) fn too_many(connections: usize) -> String {
    format!("{}: try again later", all_open(connections))
}

/// As many connections are open as there may be.
pub(super) fn all_open(connections: usize) -> String {
    let are_open = if connections == 1 { "is open" } else { "are open" };
    format!("{} {are_open} already", counted(connections as u64, "connection"))
}

/// Whether the connection is needed for longer than the answer takes. Whoever comes back to a turn or a place had it
/// before there were too many.
fn stays(ask: &Ask) -> bool {
    match ask {
        Ask::Sequence(enqueue, _) => enqueue.resume.is_none(),
        Ask::Input(input) => matches!(input, Input::Wait { .. }),
        Ask::Other(other) => matches!(**other, Other::Watch(..)),
        Ask::Started(..) | Ask::Output(..) => false,
    }
}
