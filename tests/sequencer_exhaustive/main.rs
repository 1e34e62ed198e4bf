//! Every sequence of a few operations, up to a depth, watched by a witness that believes only records and replies.

#![expect(clippy::unwrap_used, reason = "a name that cannot be parsed is a mistake in the test")]

mod witness;

use std::time::Duration;

use seq::clock::Time;
use seq::protocol::{Binding, Domain, RequestId, Ticket, Token};
use seq::sequencer::{ConnectionId, Enqueue, Input, Peer, Restored, Secret, Sequencer, Which, Wishes};

use witness::Witness;

const SECOND: Duration = Duration::from_secs(1);

/// One thing that can happen; tickets are those which the witness knows of at that moment.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Ask {
        client: u64,
        domain: &'static str,
        options: Options,
    },
    DoneByHolder {
        domain: &'static str,
    },
    Cancel {
        client: u64,
        domain: &'static str,
    },
    Disconnect {
        client: u64,
    },
    PipeClosed {
        domain: &'static str,
    },
    ASecondLater,
    /// The daemon dies and the next one restores what was written: the last batch too, or all but that.
    Crash {
        last_is_written: bool,
    },
    /// A client that lost its connection, or another one, asks for its ticket again.
    Resume {
        client: u64,
        domain: &'static str,
    },
    /// The process of a client that has not come back ends.
    ClientEnds {
        client: u64,
        domain: &'static str,
    },
}

#[derive(Clone, Copy, Debug)]
enum Options {
    Plain,
    Positions,
    WaitASecond,
    LeaseASecond,
    Pipe,
}

use Operation::{ASecondLater, Ask, Cancel, ClientEnds, Crash, Disconnect, DoneByHolder, PipeClosed, Resume};

#[test]
fn three_clients_in_one_domain() {
    let domain = "foo.com";
    every_sequence(&[
        Ask { client: 1, domain, options: Options::Pipe },
        Ask { client: 2, domain, options: Options::WaitASecond },
        Ask { client: 3, domain, options: Options::Positions },
        DoneByHolder { domain },
        Cancel { client: 2, domain },
        Disconnect { client: 1 },
        Disconnect { client: 2 },
        PipeClosed { domain },
        ASecondLater,
    ]);
}

#[test]
fn two_clients_in_two_domains() {
    every_sequence(&[
        Ask { client: 1, domain: "foo.com", options: Options::Plain },
        Ask { client: 1, domain: "bar.org", options: Options::LeaseASecond },
        Ask { client: 2, domain: "foo.com", options: Options::LeaseASecond },
        Ask { client: 2, domain: "bar.org", options: Options::Plain },
        DoneByHolder { domain: "foo.com" },
        Disconnect { client: 1 },
        Disconnect { client: 2 },
        ASecondLater,
    ]);
}

#[test]
fn two_clients_over_daemons_that_die() {
    let domain = "foo.com";
    every_sequence(&[
        Ask { client: 1, domain, options: Options::Pipe },
        Ask { client: 2, domain, options: Options::Plain },
        DoneByHolder { domain },
        Cancel { client: 2, domain },
        Crash { last_is_written: false },
        Crash { last_is_written: true },
        Resume { client: 1, domain },
        Resume { client: 2, domain },
        ClientEnds { client: 1, domain },
    ]);
}

#[test]
fn a_grant_and_a_cancel_in_the_same_instant() {
    for cancel_comes_first in [false, true] {
        let mut state = three_in_line();
        let mut operations = [DoneByHolder { domain: "foo.com" }, Cancel { client: 2, domain: "foo.com" }];
        if cancel_comes_first {
            operations.reverse();
        }
        for operation in operations {
            state.step(operation);
        }
        let (holder, waiters) = if cancel_comes_first { (3, vec![]) } else { (2, vec![3]) };
        assert_eq!(state.witness.holder_of("foo.com"), Some(Ticket(holder)), "cancel first: {cancel_comes_first}");
        let waiters: Vec<Ticket> = waiters.into_iter().map(Ticket).collect();
        assert_eq!(state.witness.waiters_of("foo.com"), waiters, "cancel first: {cancel_comes_first}");
    }
}

#[test]
fn a_grant_and_a_disconnection_in_the_same_instant() {
    for disconnection_comes_first in [false, true] {
        let mut state = three_in_line();
        let mut operations = [DoneByHolder { domain: "foo.com" }, Disconnect { client: 2 }];
        if disconnection_comes_first {
            operations.reverse();
        }
        for operation in operations {
            state.step(operation);
        }
        assert_eq!(state.witness.holder_of("foo.com"), Some(Ticket(3)), "either way it is the third one's turn");
        assert!(state.witness.waiters_of("foo.com").is_empty());
    }
}

#[test]
fn a_grant_and_a_deadline_in_the_same_instant() {
    let mut state = State::new();
    state.step(Ask { client: 1, domain: "foo.com", options: Options::LeaseASecond });
    state.step(Ask { client: 2, domain: "foo.com", options: Options::WaitASecond });
    state.step(ASecondLater);
    assert_eq!(state.witness.holder_of("foo.com"), Some(Ticket(2)), "the lease of the earlier ticket was over first");

    let mut state = State::new();
    state.step(Ask { client: 1, domain: "foo.com", options: Options::Plain });
    state.step(Ask { client: 2, domain: "foo.com", options: Options::WaitASecond });
    state.now = state.now + SECOND;
    state.step(DoneByHolder { domain: "foo.com" });
    assert_eq!(state.witness.holder_of("foo.com"), None, "its time was over before the turn was given back");
}

fn three_in_line() -> State {
    let mut state = State::new();
    for client in 1..=3 {
        state.step(Ask { client, domain: "foo.com", options: Options::Plain });
    }
    state
}

/// `SEQ_EXHAUSTIVE_DEPTH` sets another depth; each more takes some ten times as long.
fn every_sequence(alphabet: &[Operation]) {
    let depth = std::env::var("SEQ_EXHAUSTIVE_DEPTH").map_or(6, |depth| depth.parse().expect("a number"));
    let sequences = go_on(&State::new(), depth, alphabet, &mut Vec::new());
    assert_eq!(sequences, (alphabet.len() as u64).pow(u32::try_from(depth).unwrap()));
}

/// Every sequence of `depth` operations that goes on from `state`; how many there are.
fn go_on(state: &State, depth: usize, alphabet: &[Operation], path: &mut Vec<Operation>) -> u64 {
    if depth == 0 {
        return 1;
    }
    let mut sequences = 0;
    for operation in alphabet {
        path.push(*operation);
        let mut state = state.clone();
        let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| state.step(*operation)));
        assert!(stepped.is_ok(), "after {path:?}");
        sequences += go_on(&state, depth - 1, alphabet, path);
        path.pop();
    }
    sequences
}

#[derive(Clone)]
struct State {
    sequencer: Sequencer,
    witness: Witness,
    /// As it was written before the last step.
    written: Written,
    now: Time,
}

/// What a daemon would leave behind.
#[derive(Clone, Default)]
struct Written {
    tickets: Vec<Restored>,
    witness: Witness,
}

impl State {
    fn new() -> State {
        let sequencer = Sequencer::new(Ticket(1), Token(1));
        State { sequencer, witness: Witness::default(), written: Written::default(), now: Time::ZERO }
    }

    fn step(&mut self, operation: Operation) {
        if let Crash { last_is_written } = operation {
            return self.crash(last_is_written);
        }
        self.written = self.write();
        let mut effects = Vec::new();
        if let ASecondLater = operation {
            self.now = self.now + SECOND;
        }
        self.sequencer.handle(self.now, self.input(operation), &mut effects);
        self.witness.watch(&effects);
        self.sequencer.check_invariants();
        self.witness.compare(&self.sequencer);
    }

    fn write(&self) -> Written {
        let tickets = self.witness.holders.iter().chain(&self.witness.waiters).map(|(_, ticket)| *ticket);
        let tickets = tickets.map(|ticket| self.sequencer.saved(ticket).expect("it lives")).collect();
        Written { tickets, witness: self.witness.clone() }
    }

    /// Goes on from what is written; the clients of all tickets are alive.
    fn crash(&mut self, last_is_written: bool) {
        let (ticket, token) = self.sequencer.next_numbers();
        if last_is_written {
            self.written = self.write();
        }
        let Written { mut tickets, witness } = self.written.clone();
        tickets.sort_by_key(|restored| restored.ticket);
        self.witness = witness;
        self.witness.back.clear();
        self.sequencer = Sequencer::new(ticket, token);
        for restored in tickets {
            let mut effects = Vec::new();
            self.sequencer.handle(self.now, Input::Restore(Restored { processes: 1, ..restored }), &mut effects);
            assert_eq!(effects, [], "nothing happens to whoever is alive");
            self.sequencer.check_invariants();
        }
        self.witness.compare(&self.sequencer);
    }

    fn input(&self, operation: Operation) -> Input {
        match operation {
            Ask { client, domain, options } => Input::Sequence(ask(client, domain, options)),
            DoneByHolder { domain } => Input::Done {
                connection: ConnectionId(9),
                peer: peer(),
                which: Which::Ticket(self.witness.holder_of(domain).unwrap_or(Ticket(0))),
                exit_status: None,
                processes: Vec::new(),
                request_id: None,
            },
            Cancel { client, domain } => Input::Cancel {
                connection: ConnectionId(9),
                peer: peer(),
                which: Which::Request(name(domain), request_id(client)),
            },
            Disconnect { client } => Input::Disconnected { connection: ConnectionId(client) },
            PipeClosed { domain } => Input::PipeClosed { ticket: self.witness.holder_of(domain).unwrap_or(Ticket(0)) },
            Resume { client, domain } => {
                let resume = self.ticket_of(client, domain);
                let connection = ConnectionId(client + 10);
                Input::Sequence(Enqueue { connection, resume, ..ask(client, domain, Options::Plain) })
            }
            ClientEnds { client, domain } => {
                Input::ProcessGone { ticket: self.ticket_of(client, domain).unwrap_or(Ticket(0)) }
            }
            ASecondLater | Crash { .. } => Input::Tick,
        }
    }
}

impl State {
    fn ticket_of(&self, client: u64, domain: &str) -> Option<Ticket> {
        let lives =
            self.witness.holders.iter().chain(&self.witness.waiters).filter(|(name, _)| name.as_str() == domain);
        let saved = lives.filter_map(|(_, ticket)| self.sequencer.saved(*ticket));
        saved.filter(|saved| saved.request_id == request_id(client)).map(|saved| saved.ticket).next()
    }
}

fn ask(client: u64, domain: &str, options: Options) -> Enqueue {
    Enqueue {
        connection: ConnectionId(client),
        peer: peer(),
        domain: name(domain),
        request_id: Some(request_id(client)),
        positions: matches!(options, Options::Positions),
        no_wait: false,
        max_wait: matches!(options, Options::WaitASecond).then_some(SECOND),
        binding: if matches!(options, Options::LeaseASecond) { Binding::Lease } else { Binding::Connection },
        lease: Some(SECOND),
        fresh: false,
        secret: Some(Secret([u8::try_from(client).unwrap(); 32])),
        resume: None,
        pid: 100,
        command: None,
        pipe: matches!(options, Options::Pipe),
        named_process: false,
        wishes: Wishes::default(),
        confirm: false,
    }
}

fn peer() -> Peer {
    Peer { uid: 1_000, pid: 100, is_operator: false }
}

fn name(domain: &str) -> Domain {
    Domain::parse(domain).unwrap()
}

fn request_id(client: u64) -> RequestId {
    RequestId::parse(&format!("client-{client}")).unwrap()
}
