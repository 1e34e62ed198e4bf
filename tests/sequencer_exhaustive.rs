//! Every sequence of a few operations, up to a depth, watched by a witness that believes only records and replies.

#![expect(clippy::unwrap_used, reason = "a name that cannot be parsed is a mistake in the test")]

use std::time::Duration;

use seq::clock::Time;
use seq::protocol::{Binding, Domain, Reply, RequestId, Ticket, Token};
use seq::sequencer::{Change, ConnectionId, Effect, Enqueue, Input, Peer, Record, Sequencer, Which};

const SECOND: Duration = Duration::from_secs(1);

/// One thing that can happen; tickets are those which the witness knows of at that moment.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Ask { client: u64, domain: &'static str, options: Options },
    DoneByHolder { domain: &'static str },
    Cancel { client: u64, domain: &'static str },
    Disconnect { client: u64 },
    PipeClosed { domain: &'static str },
    ASecondLater,
}

#[derive(Clone, Copy, Debug)]
enum Options {
    Plain,
    Positions,
    WaitASecond,
    LeaseASecond,
    Pipe,
}

use Operation::{ASecondLater, Ask, Cancel, Disconnect, DoneByHolder, PipeClosed};

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
    now: Time,
}

impl State {
    fn new() -> State {
        let sequencer = Sequencer::new(Ticket(1), Token(1));
        State { sequencer, witness: Witness::default(), now: Time::ZERO }
    }

    fn step(&mut self, operation: Operation) {
        let mut effects = Vec::new();
        if let ASecondLater = operation {
            self.now = self.now + SECOND;
        }
        self.sequencer.handle(self.now, self.input(operation), &mut effects);
        self.witness.watch(&effects);
        self.sequencer.check_invariants();
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
            ASecondLater => Input::Tick,
        }
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
        secret: None,
        resume: None,
        pid: 100,
        command: None,
        pipe: matches!(options, Options::Pipe),
        named_process: false,
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

/// What must be true of any line, seen from outside.
#[derive(Clone, Default)]
struct Witness {
    /// Holders and waiters, in the order in which they became that.
    holders: Vec<(Domain, Ticket)>,
    waiters: Vec<(Domain, Ticket)>,
    last_ticket: Option<Ticket>,
    last_token: Option<Token>,
}

impl Witness {
    fn watch(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Record(record) => self.record(record),
                Effect::Tell { reply: Reply::Active(active), .. } => {
                    assert_eq!(self.holder_of(active.domain.as_str()), Some(active.ticket), "told before it was so");
                }
                _ => {}
            }
        }
    }

    fn record(&mut self, record: &Record) {
        let who = (record.domain.clone(), record.ticket);
        match record.change {
            Change::Queued => {
                assert!(self.last_ticket < Some(record.ticket), "tickets rise");
                self.last_ticket = Some(record.ticket);
                self.waiters.push(who);
            }
            Change::Active { token, .. } => {
                assert!(self.last_token < Some(token), "tokens rise");
                self.last_token = Some(token);
                assert_eq!(self.holder_of(record.domain.as_str()), None, "two holders");
                assert_eq!(self.waiters_of(record.domain.as_str()).first(), Some(&record.ticket), "not the head");
                self.waiters.retain(|waiter| *waiter != who);
                self.holders.push(who);
            }
            Change::Orphaned { .. } => assert!(self.holders.contains(&who), "an orphan without a turn"),
            Change::Ended { .. } => {
                let before = self.holders.len();
                self.holders.retain(|holder| *holder != who);
                assert_eq!(self.holders.len(), before - 1, "a turn ended that was not there");
            }
            Change::Left { .. } => {
                let before = self.waiters.len();
                self.waiters.retain(|waiter| *waiter != who);
                assert_eq!(self.waiters.len(), before - 1, "somebody left who did not wait");
            }
        }
    }

    /// Nothing is lost, and nobody waits beside a free turn.
    fn compare(&self, sequencer: &Sequencer) {
        let counts = sequencer.counts();
        assert_eq!(counts.holders, self.holders.len() as u64);
        assert_eq!(counts.waiters, self.waiters.len() as u64);
        for line in sequencer.view(None, usize::MAX, false) {
            let domain = line.domain.as_str();
            assert_eq!(line.holders.first().map(|(view, ..)| view.ticket), self.holder_of(domain));
            let waiters: Vec<Ticket> = line.waiters.iter().map(|view| view.ticket).collect();
            assert_eq!(waiters, self.waiters_of(domain));
            assert!(!line.holders.is_empty(), "a line without a holder");
        }
    }

    fn holder_of(&self, domain: &str) -> Option<Ticket> {
        self.holders.iter().find(|(name, _)| name.as_str() == domain).map(|(_, ticket)| *ticket)
    }

    fn waiters_of(&self, domain: &str) -> Vec<Ticket> {
        self.waiters.iter().filter(|(name, _)| name.as_str() == domain).map(|(_, ticket)| *ticket).collect()
    }
}
