//! One `seq run`: a wrapper, the command that it starts, and what they know.

use std::time::Duration;

use seq::clock::Time;
use seq::protocol::{Binding, Domain, ErrorCode, Reply, RequestId, Ticket, Token};
use seq::sequencer::{ConnectionId, Enqueue, Input, Peer, Secret, Which, Wishes};

/// What a job has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It wants its turn.
    Asks,
    /// Its command runs.
    Works,
    /// Its command has ended, and `done` is not answered yet.
    Reports,
    /// There is nothing more to come of it.
    Over,
}

/// Whether a daemon knows the command's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandKnown {
    No,
    /// It was told; the next one will not know.
    Told,
    /// It has written it down.
    Written,
}

/// A job, as the world sees it. What it was told is all that it knows of the daemon.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) secret: Secret,
    pub(crate) domain: Domain,
    /// The id that it asks for, if it does.
    pub(crate) id: Option<RequestId>,
    pub(crate) max_wait: Option<Duration>,
    /// Whether its command inherits a pipe; otherwise the daemon watches the command by its pidfd only.
    pub(crate) has_pipe: bool,
    pub(crate) connection: Option<ConnectionId>,
    /// When it tries to connect again, once its connection is lost.
    pub(crate) returns: Time,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) token: Option<Token>,
    pub(crate) phase: Phase,
    pub(crate) wrapper_lives: bool,
    /// Whether it was told that its turn is not its own any more: then nothing keeps others out.
    pub(crate) was_let_go: bool,
    pub(crate) known: CommandKnown,
    /// What this daemon watches: pipes; the command; the wrapper.
    pub(crate) pipes: u32,
    pub(crate) commands: u32,
    pub(crate) wrappers: u32,
    /// The ticket that it watches them for, which the job may not know.
    pub(crate) watched_as: Option<Ticket>,
}

impl Job {
    pub(crate) fn is_inside(&self) -> bool {
        self.phase == Phase::Works && !self.was_let_go
    }

    /// Whether a process of it is there.
    pub(crate) fn lives(&self) -> bool {
        self.wrapper_lives || self.phase == Phase::Works
    }

    /// Whether its pipe has a writer.
    pub(crate) fn pipe_is_open(&self) -> bool {
        self.has_pipe && self.lives()
    }

    pub(crate) fn command_is_told(&mut self) {
        if self.known == CommandKnown::No {
            self.known = CommandKnown::Told;
        }
    }

    /// The daemon wrote down what it knows.
    pub(crate) fn is_written(&mut self) {
        if self.known == CommandKnown::Told {
            self.known = CommandKnown::Written;
        }
    }

    /// The daemon died before it did.
    pub(crate) fn is_not_written(&mut self) {
        if self.known == CommandKnown::Told {
            self.known = CommandKnown::No;
        }
    }

    /// What it says over a new connection.
    pub(crate) fn connect(&mut self, connection: ConnectionId) -> Input {
        self.connection = Some(connection);
        if self.phase == Phase::Reports {
            return self.done().unwrap();
        }
        Input::Sequence(Enqueue {
            connection,
            peer: peer(),
            domain: self.domain.clone(),
            request_id: self.id.clone(),
            positions: true,
            no_wait: false,
            max_wait: self.max_wait,
            binding: Binding::Connection,
            lease: None,
            fresh: true,
            secret: Some(self.secret),
            resume: self.ticket,
            pid: 100,
            command: None,
            pipe: self.has_pipe,
            named_process: false,
            wishes: Wishes::default(),
            confirm: false,
            says_started: false,
            key: None,
        })
    }

    pub(crate) fn done(&self) -> Option<Input> {
        Some(Input::Done {
            connection: self.connection?,
            peer: peer(),
            which: Which::Ticket(self.ticket?),
            exit_status: Some(0),
            processes: Vec::new(),
            request_id: None,
        })
    }

    /// What it makes of a reply, and what it answers.
    pub(crate) fn hear(&mut self, reply: &Reply) -> Option<Input> {
        match reply {
            Reply::Queued(queued) => {
                assert!(self.ticket.is_none_or(|ticket| ticket == queued.ticket), "another place");
                assert_eq!(self.phase, Phase::Asks, "a place for one that has had its turn");
                self.ticket = Some(queued.ticket);
            }
            Reply::Active(active) => {
                assert!(self.ticket.is_none_or(|ticket| ticket == active.ticket), "another turn");
                assert!(self.token.is_none_or(|token| token == active.token), "another token");
                (self.ticket, self.token) = (Some(active.ticket), Some(active.token));
                if self.phase == Phase::Asks {
                    self.phase = Phase::Works;
                }
                let (connection, ticket) = (self.connection?, active.ticket);
                return Some(Input::Started { connection, ticket, pid: 200, watched: true });
            }
            Reply::Done(_) => self.phase = Phase::Over,
            Reply::Error(error) => return self.hear_error(error.code),
            _ => {}
        }
        None
    }

    fn hear_error(&mut self, code: ErrorCode) -> Option<Input> {
        match (code, self.phase) {
            (ErrorCode::Cancelled | ErrorCode::TimedOut | ErrorCode::Released, Phase::Asks) => self.phase = Phase::Over,
            (ErrorCode::Released, _) => self.was_let_go = true,
            (ErrorCode::NotFound, Phase::Works | Phase::Reports) => assert!(self.was_let_go, "its turn is lost"),
            (ErrorCode::NotFound, Phase::Asks) => {
                self.ticket = None;
                let connection = self.connection.take()?;
                return Some(self.connect(connection));
            }
            // The connection ends now.
            (ErrorCode::Restarting, _) => {}
            (code, phase) => panic!("{code} is not for a client in phase {phase:?}"),
        }
        None
    }
}

pub(crate) fn peer() -> Peer {
    Peer { uid: 1_000, pid: 100, is_operator: false }
}
