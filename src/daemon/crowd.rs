//! More clients than there may be connections: who asks for nothing makes room, and short errands get through.

use std::rc::Rc;

use super::link::Link;
use super::owner::Owner;
use super::wake::{Ask, Other};
use crate::protocol::limits::CONNECTION_IDLE_MIN;
use crate::protocol::{ErrorCode, ErrorReply, Reply};
use crate::sequencer::ConnectionId;

impl Owner {
    /// A client has come. If it is one too many, the one that has asked for nothing for the longest time goes; if none
    /// can, the newcomer may run errands only.
    pub(super) fn let_in(&mut self, link: Rc<Link>) {
        if self.clients.len() >= self.facts.connections_max && !self.make_room() {
            link.is_extra.set(true);
        }
        self.clients.insert(link.id, link);
    }

    /// Sends the client away that has asked for nothing for the longest time; says whether there was one.
    pub(super) fn make_room(&mut self) -> bool {
        let Some(idlest) = self.idlest() else { return false };
        self.send_away(&idlest, "this connection made room for another: it asked for nothing");
        true
    }

    /// Whether what is asked would keep an extra connection for long. It is refused then, and its connection closed.
    pub(super) fn refuses(&mut self, connection: ConnectionId, ask: &Ask) -> bool {
        let Some(link) = self.clients.get(&connection).filter(|link| link.is_extra.get() && stays(ask)) else {
            return false;
        };
        let link = Rc::clone(link);
        self.send_away(&link, &too_many(self.facts.connections_max));
        true
    }

    fn idlest(&self) -> Option<Rc<Link>> {
        let idle = self.clients.values().filter(|link| self.is_idle(link));
        idle.min_by_key(|link| (link.heard_at.get(), link.id)).cloned()
    }

    fn is_idle(&self, link: &Link) -> bool {
        let is_quiet = link.heard_at.get() + CONNECTION_IDLE_MIN <= self.batch.now && link.has_been_answered();
        is_quiet && !self.sequencer.is_in_use(link.id) && !self.audience.has(link.id)
    }

    fn send_away(&mut self, link: &Rc<Link>, why: &str) {
        let (code, message) = (ErrorCode::TooManyConnections, why.to_owned());
        self.reply_at_once(
            link,
            &Reply::Error(ErrorReply { code, message, domain: None, request_id: None, ticket: None }),
        );
        link.close();
    }
}

/// What a client is told that finds no place.
pub(super) fn too_many(connections: usize) -> String {
    format!("{connections} connections are open already: try again later")
}

/// Whether the connection is needed for longer than the answer takes. Whoever comes back to a turn or a place had it
/// before there were too many.
fn stays(ask: &Ask) -> bool {
    match ask {
        Ask::Sequence(enqueue, _) => enqueue.resume.is_none(),
        Ask::Input(input) => matches!(input, crate::sequencer::Input::Wait { .. }),
        Ask::Other(other) => matches!(**other, Other::Watch(..)),
        Ask::Started(..) => false,
    }
}
