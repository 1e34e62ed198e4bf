//! The tie to the daemon while the command runs: when it breaks, it is made anew on the side, and the command never
//! knows.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use rustix::process::Pid;

use crate::error::Error;
use crate::protocol::{Active, Done, ErrorCode, ErrorReply, KeyOutput, OutputRequest, Reply, Request, Sequence};

use super::super::connect::Daemon;
use super::super::deliver::{deliver, tell_done};
use super::super::errand::Errand;
use super::super::link::{Link, LinkError};
use super::super::refusal::is_restarting;
use super::super::rejoin::{Known, Rejoin, Rejoined, copies, is_no_ticket_of_ours};
use super::command::{Running, started};
use super::done;
use super::keeper::Keeper;
use super::record::pieces;

/// What became of the daemon.
#[derive(Debug)]
enum State {
    /// It is there.
    Linked(Link),
    /// It has gone, and the next one is looked for.
    Returning(Errand<Rejoined>),
    /// Nothing more is expected of it.
    Untied,
}

/// News from the daemon that the user may want to hear.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It has gone.
    Gone,
    /// It cannot write: why.
    Stalled(String),
    /// The turn is to make way for another: why.
    Superseded(String),
    /// It has taken the turn away, or does not know of it: why.
    TurnLost(String),
}

/// A turn's connection, now and later.
pub(super) struct Tie<'a> {
    /// Started when there is none, until one has left on purpose.
    daemon: Daemon,
    sequence: &'a Sequence,
    turn: &'a Active,
    keeper: Option<Keeper>,
    state: State,
    /// Whether a daemon was told to leave, so that no next one is expected.
    has_left: bool,
    /// Whether the command, once it runs, keeps the turn.
    does_command_keep: bool,
    /// Why the daemon can neither write nor tell anything at present.
    stalled: Option<String>,
}

impl<'a> Tie<'a> {
    pub(super) fn new(
        daemon: &Daemon,
        sequence: &'a Sequence,
        turn: &'a Active,
        keeper: Option<Keeper>,
        link: Link,
    ) -> Tie<'a> {
        let does_command_keep = keeper.is_some();
        Tie {
            daemon: daemon.clone(),
            sequence,
            turn,
            keeper,
            state: State::Linked(link),
            has_left: false,
            does_command_keep,
            stalled: None,
        }
    }

    /// Where the daemon is.
    pub(super) fn socket(&self) -> &Path {
        &self.daemon.place().socket
    }

    /// What the command is to inherit.
    pub(super) fn keeper(&self) -> Option<&Keeper> {
        self.keeper.as_ref()
    }

    /// The keeper, for whoever waits until nobody else has it.
    pub(super) fn keeper_mut(&mut self) -> Option<&mut Keeper> {
        self.keeper.as_mut()
    }

    /// Tells the daemon what runs.
    pub(super) fn tell_started(&self, pid: Pid, pidfd: Option<&OwnedFd>) -> Result<(), LinkError> {
        let State::Linked(link) = &self.state else { return Err(LinkError::Closed) };
        let (started, pidfd) = started(self.turn, pid, pidfd.filter(|_| self.does_command_keep));
        link.send(&Request::Started(started), pidfd.as_slice())
    }

    /// The command runs: if the daemon could not be told, the next one will be.
    pub(super) fn has_started(&mut self, running: &Running) -> Option<News> {
        let is_lost = matches!(self.state, State::Linked(_)) && !running.is_announced;
        is_lost.then(|| self.lose(Some(running)))
    }

    /// What becomes readable when there is something to listen to.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Linked(link) => Some(link.as_fd()),
            State::Returning(errand) => Some(errand.as_fd()),
            State::Untied => None,
        }
    }

    /// Hears what the daemon has to say, without waiting; nothing when that is all.
    pub(super) fn listen(&mut self, running: &Running) -> Option<News> {
        loop {
            let reply = match &mut self.state {
                State::Untied => return None,
                State::Returning(errand) if !errand.is_done() => return None,
                State::Returning(_) => {
                    let reply = self.return_to_daemon()?;
                    self.has_left = false;
                    reply
                }
                State::Linked(link) => match link.try_receive() {
                    Ok(None) => return None,
                    Ok(Some(reply)) => reply,
                    Err(_) => return Some(self.lose(Some(running))),
                },
            };
            if is_restarting(&reply) {
                return Some(self.lose(Some(running)));
            }
            match reply {
                Reply::Error(ErrorReply { code: ErrorCode::Leaving, .. }) => {
                    // It was told to leave, so nothing is started behind the user's back; a next one is joined.
                    self.daemon = self.daemon.without_start();
                    self.has_left = true;
                    return Some(self.lose(Some(running)));
                }
                Reply::Error(error) if is_no_ticket_of_ours(error.code) => {
                    return Some(News::TurnLost(self.unknown_turn()));
                }
                Reply::Error(error) if error.code == ErrorCode::Superseded => {
                    return Some(News::Superseded(error.message));
                }
                Reply::Error(error) if error.code == ErrorCode::TooManyConnections => {
                    return Some(self.lose(Some(running)));
                }
                // It has no descriptor left to watch the command by: the turn is kept by all else.
                Reply::Error(error) if error.code == ErrorCode::TooManyRequests => {}
                Reply::Error(error) => return Some(News::TurnLost(error.message)),
                Reply::Stalled(stalled) => {
                    self.stalled = Some(stalled.message.clone());
                    return Some(News::Stalled(stalled.message));
                }
                // A daemon from before there was `resume` gives a new place in line, which is of no use.
                Reply::Queued(queued) if queued.ticket != self.turn.ticket => return Some(self.untie()),
                Reply::Active(active) if active.ticket != self.turn.ticket => return Some(self.untie()),
                _ => {}
            }
        }
    }

    /// Tells the daemon that the turn is over, whichever daemon is there by now, or leaves word for the next one. Where
    /// none is there the word is left in any case, for it says when the command ended, however late that is heard.
    /// Nothing else depends on it: the turn ends with this process, too. Gives the reason when even word cannot be left,
    /// so that the history may not say how the command ended.
    pub(super) fn give_back(self, exit_status: u8, output: Option<KeyOutput>) -> Option<String> {
        let (ticket, ended_at) = (Some(self.turn.ticket.0), Timestamp::now());
        let request = Request::Done(Done { ticket, exit_status: Some(exit_status.into()), ..Done::default() });
        let mut stalled = self.stalled;
        let told = match self.state {
            State::Linked(mut link) => {
                tell_output(&link, self.turn, output);
                tell_done(&mut link, &request, &mut stalled)
            }
            State::Returning(_) => Err(LinkError::Closed),
            State::Untied => return None,
        };
        let leave = || {
            let (place, secret) = (self.daemon.place(), self.sequence.secret.as_deref());
            done::leave(place, self.turn.ticket, secret, (exit_status, ended_at))
        };
        let (left, why) = match told {
            Ok(()) => return None,
            Err(LinkError::Closed) => {
                let left = leave();
                // Nothing is started behind the user's back.
                let was_stopped = self.daemon.was_stopped_after(self.turn.ticket);
                let daemon = if was_stopped { self.daemon.without_start() } else { self.daemon.clone() };
                let Err(error) = deliver(&daemon, request, !self.has_left && !was_stopped) else {
                    done::take_back(self.daemon.place(), self.turn.ticket);
                    return None;
                };
                (left, error.to_string())
            }
            Err(error) => (leave(), stalled.unwrap_or_else(|| self.daemon.explain(error).to_string())),
        };
        left.is_err().then_some(why)
    }

    /// The connection is of no use any more: begins to look for the next daemon.
    fn lose(&mut self, running: Option<&Running>) -> News {
        self.state = match self.rejoin(running) {
            Ok(errand) => State::Returning(errand),
            // Not even a thread or a descriptor: the turn is kept by what the command has inherited.
            Err(_) => State::Untied,
        };
        News::Gone
    }

    fn rejoin(&mut self, running: Option<&Running>) -> Result<Errand<Rejoined>, Error> {
        let cannot = |error: std::io::Error| Error::failure(error);
        if let Some(keeper) = &self.keeper {
            // A daemon that is started from here must not inherit it.
            keeper.let_nobody_inherit();
        }
        let reading: Vec<_> = self.keeper.iter().map(Keeper::reading_end).collect();
        let started = match running {
            Some(running) => {
                let pidfd = running.pidfd.as_ref().filter(|_| self.does_command_keep);
                let (started, pidfd) = started(self.turn, running.pid, pidfd);
                Some((started, copies(pidfd.as_slice()).map_err(cannot)?))
            }
            None => None,
        };
        let rejoin = Rejoin {
            daemon: self.daemon.clone(),
            sequence: self.sequence.clone(),
            descriptors: copies(&reading).map_err(cannot)?,
            known: Known::Ticket(self.turn.ticket, self.turn.request_id.clone()),
            is_waiting: false,
            until: None,
            started,
            patience: None,
            was_sent_away: false,
            has_said_it_waits: false,
            reporter: None,
        };
        rejoin.start()
    }

    /// The next daemon is there: gives what it said.
    fn return_to_daemon(&mut self) -> Option<Reply> {
        let State::Returning(errand) = std::mem::replace(&mut self.state, State::Untied) else { return None };
        let (link, reply) = errand.result()?.ok()?;
        self.state = State::Linked(link);
        Some(reply)
    }

    fn untie(&mut self) -> News {
        self.state = State::Untied;
        News::TurnLost(self.unknown_turn())
    }

    fn unknown_turn(&self) -> String {
        let (domain, ticket) = (&self.turn.domain, self.turn.ticket);
        format!("the daemon does not know of ticket {ticket} any more, so another command may run in {domain}")
    }
}

/// Sends what the command wrote. What cannot be sent is not recorded: that the command has ended is what matters.
fn tell_output(link: &Link, turn: &Active, output: Option<KeyOutput>) {
    for output in output.into_iter().flat_map(pieces) {
        if link.send(&Request::Output(OutputRequest { ticket: turn.ticket.0, output }), &[]).is_err() {
            return;
        }
    }
}
