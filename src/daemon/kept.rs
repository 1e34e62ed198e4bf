//! Who asked for a ticket, and what keeps its turn besides the connection.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::pipes::Heir;
use super::report::WallClock;
use super::wake::WatchEnd;
use super::watch::{Identity, Role, Watch};
use crate::clock::Time;
use crate::protocol::Ticket;
use crate::sequencer::{ByTicket, Input, Restored};
use crate::store::{ProcessIdentity, SavedTicket};

/// All live tickets.
#[derive(Debug, Default)]
pub(super) struct Kept {
    tickets: ByTicket<Keeper>,
}

/// One ticket.
#[derive(Debug, Default)]
struct Keeper {
    /// Whose it is.
    uid: u32,
    /// Whether it has its turn.
    is_active: bool,
    /// The process that asked last, under this daemon or an earlier one.
    asker: Option<Rc<ProcessIdentity>>,
    /// See [`SavedTicket::pipes_namespace`].
    pipes_namespace: Option<u64>,
    /// Of most waiters nothing: boxed, so that those are small.
    besides: Option<Box<Besides>>,
}

/// What keeps a ticket besides its connection.
#[derive(Debug, Default)]
struct Besides {
    /// What is watched for it.
    watches: Vec<Watch>,
    /// What works under the turn, if its client died without naming it.
    heir: Option<Heir>,
    /// What may keep it, and cannot be watched.
    unseen: Vec<Unseen>,
}

/// What is taken to be there, since nobody can see whether it is.
#[derive(Debug)]
struct Unseen {
    role: Role,
    identity: Option<Identity>,
    /// Whether the sequencer counts it as a pipe; as a process otherwise.
    is_pipe: bool,
}

impl Kept {
    /// How many descriptors are watched for tickets of this user.
    pub(super) fn descriptors_of(&self, uid: u32) -> usize {
        self.tickets.values().filter(|keeper| keeper.uid == uid).map(|keeper| keeper.watches().len()).sum()
    }

    /// This user has got this ticket, or taken it up again, by a client whose processes show in this pid
    /// `namespace`, zero if they are out of sight. What was watched for a waiter is watched no more, what
    /// keeps a turn goes on keeping it; but what stood for this client while it was away does so no more. Gives what
    /// the sequencer is to be told of that.
    pub(super) fn admit(
        &mut self,
        ticket: Ticket,
        uid: u32,
        asker: Option<Rc<ProcessIdentity>>,
        namespace: u64,
    ) -> Vec<Input> {
        let keeper = self.tickets.or_default(ticket);
        keeper.uid = uid;
        keeper.asker = asker;
        let mut besides = keeper.besides.take();
        let unseen = besides.as_mut().map(|besides| {
            besides.heir = None;
            std::mem::take(&mut besides.unseen)
        });
        keeper.besides = besides.filter(|besides| keeper.is_active && !besides.watches.is_empty());
        // Pipes of clients that do not see each other are in sight of nobody.
        let has_pipe = keeper.watches().iter().any(|watch| watch.role == Role::Pipe);
        let is_same = keeper.pipes_namespace.is_none_or(|before| before == namespace);
        keeper.pipes_namespace = Some(if has_pipe && !is_same { 0 } else { namespace });
        if !keeper.is_active {
            return Vec::new();
        }
        let watches = keeper.besides.iter_mut().map(|besides| &mut besides.watches);
        let askers = watches.flat_map(|watches| watches.extract_if(.., |watch| watch.role == Role::Asker));
        let askers = askers.map(|_| false);
        unseen
            .iter()
            .flatten()
            .map(|unseen| unseen.is_pipe)
            .chain(askers)
            .map(|is_pipe| gone(ticket, is_pipe))
            .collect()
    }

    /// This ticket is one of an earlier daemon. What keeps it `unseen`, the sequencer counts as processes.
    pub(super) fn restore(&mut self, saved: &SavedTicket, unseen: Vec<(Role, Identity)>) {
        let as_process = |(role, identity)| Unseen { role, identity: Some(identity), is_pipe: false };
        let unseen: Vec<Unseen> = unseen.into_iter().map(as_process).collect();
        let besides = (!unseen.is_empty()).then(|| Box::new(Besides { unseen, ..Besides::default() }));
        let is_active = saved.ticket.turn.is_some();
        let pipes_namespace = saved.pipes_namespace;
        let uid = saved.ticket.uid;
        let asker = saved.asker.map(Rc::new);
        self.tickets.insert(saved.ticket.ticket, Keeper { uid, is_active, asker, pipes_namespace, besides });
    }

    /// This ticket has its turn now.
    pub(super) fn activate(&mut self, ticket: Ticket) {
        self.tickets.or_default(ticket).is_active = true;
    }

    /// Whether the same is watched for this ticket already, for the same reason.
    pub(super) fn watches(&self, ticket: Ticket, role: Role, identity: Option<Identity>) -> bool {
        let is_same = |watch: &Watch| watch.role == role && watch.identity == identity;
        let keeper = self.tickets.get(&ticket).filter(|_| identity.is_some());
        keeper.is_some_and(|keeper| keeper.watches().iter().any(is_same))
    }

    /// Something is watched for this ticket, until it ends.
    pub(super) fn watch(&mut self, ticket: Ticket, watch: Watch) {
        if let Some(keeper) = self.tickets.get_mut(&ticket) {
            keeper.besides().watches.push(watch);
        }
    }

    /// Whether the process that asked for this ticket under an earlier daemon is there still.
    pub(super) fn has_asker(&self, ticket: Ticket) -> bool {
        let keeper = self.tickets.get(&ticket);
        keeper.is_some_and(|keeper| keeper.watches().iter().any(|watch| watch.role == Role::Asker))
    }

    /// A pipe that keeps the turn of this ticket, if there is nothing else by which people could find what runs.
    pub(super) fn only_pipe(&self, ticket: Ticket) -> Option<u64> {
        let keeper = self.tickets.get(&ticket).filter(|keeper| keeper.is_active)?;
        let has_process = keeper.watches().iter().any(|watch| watch.role != Role::Pipe);
        keeper.watches().iter().filter(|_| !has_process).find_map(|watch| match watch.identity {
            Some(Identity::Pipe(inode)) => Some(inode),
            _ => None,
        })
    }

    /// This process has the pipe that keeps the ticket.
    pub(super) fn inherit(&mut self, ticket: Ticket, heir: Heir) {
        if let Some(keeper) = self.tickets.get_mut(&ticket) {
            keeper.besides().heir = Some(heir);
        }
    }

    /// Whether such a process is known already: what is found later may be what that has left.
    pub(super) fn has_heir(&self, ticket: Ticket) -> bool {
        let besides = self.tickets.get(&ticket).and_then(|keeper| keeper.besides.as_ref());
        besides.is_some_and(|besides| besides.heir.is_some())
    }

    /// The process that had it, once.
    pub(super) fn take_heir(&mut self, ticket: Ticket) -> Option<Heir> {
        self.tickets.get_mut(&ticket)?.besides.as_mut()?.heir.take()
    }

    /// Something keeps this ticket that cannot be watched.
    pub(super) fn lose_sight(&mut self, ticket: Ticket, role: Role, identity: Option<Identity>) {
        if let Some(keeper) = self.tickets.get_mut(&ticket) {
            keeper.besides().unseen.push(Unseen { role, identity, is_pipe: role == Role::Pipe });
        }
    }

    /// Whether all that keeps this ticket is out of sight.
    pub(super) fn is_unseen(&self, ticket: Ticket) -> bool {
        let keeper = self.tickets.get(&ticket);
        keeper.is_some_and(|keeper| keeper.watches().is_empty() && !keeper.unseen().is_empty())
    }

    /// The client of this ticket is gone.
    pub(super) fn orphan(&mut self, ticket: Ticket) {
        if let Some(keeper) = self.tickets.get_mut(&ticket) {
            keeper.asker = None;
        }
    }

    /// Whether the end of a watch still matters: not when the watch was replaced or its ticket has ended. It is
    /// forgotten either way.
    pub(super) fn take_end(&mut self, end: WatchEnd) -> bool {
        self.take_watch(end).is_some()
    }

    /// What this watch watched cannot be watched any more, and keeps its ticket; false if that was over.
    pub(super) fn take_blinded(&mut self, end: WatchEnd) -> bool {
        let Some(watch) = self.take_watch(end) else { return false };
        self.lose_sight(end.ticket, watch.role, watch.identity);
        true
    }

    fn take_watch(&mut self, end: WatchEnd) -> Option<Watch> {
        let watches = &mut self.tickets.get_mut(&end.ticket)?.besides.as_mut()?.watches;
        let index = watches.iter().position(|watch| watch.number == end.watch)?;
        Some(watches.remove(index))
    }

    /// This ticket has ended: nothing is watched for it any more.
    pub(super) fn end(&mut self, ticket: Ticket) {
        self.tickets.remove(&ticket);
    }

    /// What the next daemon must know of a ticket.
    pub(super) fn saved(&self, ticket: Restored, clock: &WallClock) -> SavedTicket {
        let up_since_ms = clock.milliseconds(Time::ZERO);
        let (workers, pipes) = (Vec::new(), Vec::new());
        let mut saved = SavedTicket { ticket, asker: None, workers, pipes, pipes_namespace: None, up_since_ms };
        let Some(keeper) = self.tickets.get(&saved.ticket.ticket) else { return saved };
        saved.asker = keeper.asker.as_deref().copied().filter(|_| saved.ticket.hangs_on_its_client());
        let watched = keeper.watches().iter().filter_map(|watch| Some((watch.role, watch.identity?)));
        let mut pipes = BTreeSet::new();
        let unseen = keeper.unseen().iter().filter_map(|unseen| Some((unseen.role, unseen.identity?)));
        for (role, identity) in watched.chain(unseen) {
            match identity {
                // After a restart it is watched as it was found, and again as its client has told.
                Identity::Process(process) if role == Role::Worker && !saved.workers.contains(&process) => {
                    saved.workers.push(process);
                }
                Identity::Pipe(inode) => _ = pipes.insert(inode),
                // The asker has its own place.
                Identity::Process(_) => {}
            }
        }
        saved.pipes = pipes.into_iter().collect();
        saved.pipes_namespace = keeper.pipes_namespace.filter(|_| !saved.pipes.is_empty());
        saved
    }
}

impl Keeper {
    fn watches(&self) -> &[Watch] {
        self.besides.as_ref().map_or(&[], |besides| &besides.watches)
    }

    fn unseen(&self) -> &[Unseen] {
        self.besides.as_ref().map_or(&[], |besides| &besides.unseen)
    }

    fn besides(&mut self) -> &mut Besides {
        self.besides.get_or_insert_default()
    }
}

/// What the sequencer is told of a pipe or a process that keeps this ticket no more.
pub(super) fn gone(ticket: Ticket, is_pipe: bool) -> Input {
    if is_pipe { Input::PipeClosed { ticket } } else { Input::ProcessGone { ticket } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_out_of_sight_is_given_back_as_it_was_counted() {
        let (mut kept, ticket) = (Kept::default(), Ticket(1));
        kept.admit(ticket, 0, None, 0);
        kept.activate(ticket);
        kept.lose_sight(ticket, Role::Pipe, Some(Identity::Pipe(7)));
        kept.lose_sight(ticket, Role::Worker, None);
        assert!(kept.is_unseen(ticket));
        let given_back = kept.admit(ticket, 0, None, 0);
        assert_eq!(given_back, [Input::PipeClosed { ticket }, Input::ProcessGone { ticket }]);
        assert!(!kept.is_unseen(ticket));
        assert_eq!(kept.admit(ticket, 0, None, 0), []);
    }
}
