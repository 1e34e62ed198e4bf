//! Answers that need no sequencer, or only a look at it.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use super::audience::Scope;
use super::link::Link;
use super::owner::Owner;
use super::report;
use super::wake::{Leaving, Other};
use crate::protocol::limits::{STATUS_WAITERS_DEFAULT, TICKETS_PER_CONNECTION_MAX};
use crate::protocol::{
    Domain, ErrorCode, ErrorReply, HelloReply, Lagged, LogReply, PROTOCOL_VERSION, Reply, Restarting, Stopping,
    Watching,
};
use crate::sequencer::{ConnectionId, Input};

/// Why a daemon without a database is not restarted.
fn restart_forgets(request_id: Option<String>) -> Reply {
    let message = "this daemon keeps everything in memory, so a restart would forget who has a turn and who waits: \
                   end it with seq stop when it is idle";
    let (code, message) = (ErrorCode::CannotRestart, message.to_owned());
    Reply::Error(ErrorReply { code, message, domain: None, request_id, ticket: None })
}

impl Owner {
    /// Answers what does not change the lines.
    pub(super) fn answer_other(&mut self, link: &Rc<Link>, ask: Other) {
        let now = self.batch.now;
        match ask {
            Other::Refused(error) => self.reply(link, &Reply::Error(error)),
            Other::Hello(request_id) => {
                let (version, pid) = (env!("CARGO_PKG_VERSION").to_owned(), std::process::id());
                let hello = HelloReply { protocol: PROTOCOL_VERSION, version, pid, request_id };
                self.reply_at_once(link, &Reply::Hello(hello));
            }
            Other::Status { domain, waiters_max, idle, request_id } => {
                // What is due by now has happened, for whoever looks.
                self.input(Input::Tick);
                let clock = self.wall_clock().clone();
                let mut lines = self.sequencer.view(domain.as_ref(), waiters_max, idle);
                if let Some(domain) = domain.as_ref().filter(|_| idle && lines.is_empty()) {
                    lines.extend(self.sequencer.view_unused(domain));
                }
                let status = report::status(&lines, &self.kept, &clock, request_id);
                self.reply(link, &status);
                self.settle_debt(link);
            }
            Other::Watch(domain, request_id) => {
                self.watch_lines(link, domain, request_id);
                self.settle_debt(link);
            }
            Other::Info(request_id) => {
                self.input(Input::Tick);
                let counts = self.sequencer.counts();
                let counts = crate::protocol::Counts { connections: self.clients.len() as u64, ..counts };
                let clock = self.wall_clock().clone();
                let storage = self.ledger.path().map(Path::to_owned);
                let info = self.facts.info(now, counts, (&clock, storage.as_deref()), request_id);
                self.reply(link, &Reply::Info(info));
            }
            Other::Log(ask) if self.ledger.path().is_some() => self.batch.logs.push((Rc::clone(link), ask)),
            Other::Log(ask) => {
                self.reply(link, &Reply::Log(LogReply { request_id: ask.request_id, turns: Vec::new() }));
                self.settle_debt(link);
            }
            Other::Keys(asked) => {
                let keys = self.key_list(link.peer, &asked);
                self.reply(link, &keys);
                self.settle_debt(link);
            }
            Other::Policies(domain, request_id) => {
                let policies = report::policies(self.sequencer.policies(), &self.config, domain, request_id);
                self.reply(link, &policies);
                self.settle_debt(link);
            }
            Other::Stop(request_id) => {
                let stopping = Reply::Stopping(Stopping { pid: std::process::id(), request_id: request_id.clone() });
                self.leave_for(link, &stopping, Leaving::Client, request_id);
            }
            Other::Restart(request_id) => {
                if !link.peer.is_operator {
                    return self.refuse_to_leave(link, request_id);
                }
                let pid = std::process::id();
                // Nobody could take over what cannot be written.
                if let Some(refusal) = self.restart_would_lose(request_id.clone()) {
                    return link.push_now(&refusal);
                }
                if self.ledger.path().is_none() {
                    return self.reply(link, &restart_forgets(request_id));
                }
                if let Some(mistake) = self.would_not_start() {
                    let (code, message) = (
                        ErrorCode::CannotRestart,
                        format!("the next daemon could not start, so this one stays: {mistake}"),
                    );
                    let error = ErrorReply { code, message, domain: None, request_id, ticket: None };
                    return self.reply(link, &Reply::Error(error));
                }
                let restarting = Reply::Restarting(Restarting { pid, request_id: request_id.clone() });
                self.leave_for(link, &restarting, Leaving::Restart, request_id);
            }
        }
    }

    /// Gives a watcher that missed something the present state instead.
    pub(super) fn refresh(&mut self, connection: ConnectionId) {
        let Some(link) = self.clients.get(&connection).cloned() else { return };
        let Some((missed, scope)) = self.audience.caught_up(connection) else { return };
        self.reply(&link, &Reply::Lagged(Lagged { missed }));
        self.status_of(&link, &scope);
    }

    fn watch_lines(&mut self, link: &Rc<Link>, domain: Option<Domain>, request_id: Option<String>) {
        // What is due by now comes before what this watcher is told.
        self.input(Input::Tick);
        if !self.audience.join(link, domain.clone()) {
            let message =
                format!("this connection watches {TICKETS_PER_CONNECTION_MAX} domains already: watch them all");
            let code = ErrorCode::TooManyRequests;
            return self.reply(link, &Reply::Error(ErrorReply { code, message, domain, request_id, ticket: None }));
        }
        self.reply(link, &Reply::Watching(Watching { request_id, domain: domain.clone() }));
        let scope = Scope { all: domain.is_none(), domains: BTreeSet::from_iter(domain) };
        self.status_of(link, &scope);
    }

    fn status_of(&mut self, link: &Rc<Link>, scope: &Scope) {
        let clock = self.wall_clock().clone();
        let lines = if scope.all {
            self.sequencer.view(None, STATUS_WAITERS_DEFAULT, false)
        } else {
            let view = |domain| self.sequencer.view(Some(domain), STATUS_WAITERS_DEFAULT, false);
            scope.domains.iter().flat_map(view).collect()
        };
        let status = report::status(&lines, &self.kept, &clock, None);
        self.reply(link, &status);
    }

    fn leave_for(&mut self, link: &Rc<Link>, reply: &Reply, leaving: Leaving, request_id: Option<String>) {
        if !link.peer.is_operator {
            return self.refuse_to_leave(link, request_id);
        }
        self.reply_at_once(link, reply);
        self.batch.leaving = Some(leaving);
    }

    fn refuse_to_leave(&mut self, link: &Rc<Link>, request_id: Option<String>) {
        let message = "only root and the daemon's own user may stop or restart it".to_owned();
        let code = ErrorCode::Forbidden;
        self.reply(link, &Reply::Error(ErrorReply { code, message, domain: None, request_id, ticket: None }));
    }

    /// Lets the history be read, beside the loop, for those who asked in this batch.
    pub(super) fn answer_logs(&mut self) {
        if self.batch.logs.is_empty() {
            return;
        }
        let (Some(path), Some(shown)) = (self.ledger.path().map(Path::to_owned), self.ledger.shown()) else { return };
        for (link, ask) in self.batch.logs.drain(..) {
            self.librarian.look_up(link.id, path.clone(), shown, ask);
        }
    }

    /// Lets what commands wrote be read, beside the loop, for those who are told an outcome in this batch.
    pub(super) fn read_outputs(&mut self) {
        let Some(path) = self.ledger.path() else { return };
        for (link, done, record) in self.batch.outputs.drain(..) {
            self.librarian.read_output(link.id, path.to_owned(), done, record);
        }
    }

    /// What was read for a client.
    pub(super) fn give_log(&mut self, connection: ConnectionId, reply: &Reply) {
        if let Some(link) = self.clients.get(&connection).cloned() {
            self.reply(&link, reply);
            self.settle_debt(&link);
        }
    }

    /// The large answer is in the outbox: more of this client may be read.
    #[expect(clippy::unused_self, reason = "only the owner may say so")]
    fn settle_debt(&self, link: &Link) {
        link.is_owed_snapshot.set(false);
        link.wake();
    }
}
