//! Every sequence of a few operations, up to a depth, watched by a witness that believes only records and replies.

#![expect(clippy::unwrap_used, reason = "a name that cannot be parsed is a mistake in the test")]

mod witness;

use std::time::Duration;

use seq::clock::Time;
use seq::protocol::{Binding, Domain, ErrorCode, Reply, RequestId, Ticket, Token};
use seq::sequencer::{ConnectionId, Effect, Enqueue, Input, Peer, Restored, Secret, Sequencer, Which, Wishes, Within};

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
    /// What runs under the turn in `outer` asks for a turn, or waits until a domain is idle.
    AskWithin {
        outer: &'static str,
        client: u64,
        domain: &'static str,
    },
    WaitWithin {
        outer: &'static str,
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

use Operation::{
    ASecondLater, Ask, AskWithin, Cancel, ClientEnds, Crash, Disconnect, DoneByHolder, PipeClosed, Resume, WaitWithin,
};

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
fn what_runs_under_two_turns_waits_for_the_other_one() {
    let (one, other) = ("foo.com", "bar.org");
    every_sequence(&[
        Ask { client: 1, domain: one, options: Options::Plain },
        Ask { client: 2, domain: other, options: Options::Plain },
        Ask { client: 3, domain: other, options: Options::Plain },
        AskWithin { outer: one, client: 4, domain: other },
        AskWithin { outer: other, client: 5, domain: one },
        WaitWithin { outer: one, client: 6, domain: other },
        WaitWithin { outer: other, client: 7, domain: one },
        DoneByHolder { domain: one },
        Disconnect { client: 4 },
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
    /// The clients that have waited until a domain is idle, each with the turn that it was within.
    waits: Vec<(u64, Ticket)>,
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
        let (witness, written) = (Witness::default(), Written::default());
        State { sequencer, witness, written, waits: Vec::new(), now: Time::ZERO }
    }

    fn step(&mut self, operation: Operation) {
        if let Crash { last_is_written } = operation {
            return self.crash(last_is_written);
        }
        if let AskWithin { outer, domain, .. } = operation
            && self.is_within(outer, domain)
        {
            // It has the turn already, which the witness would take for two.
            return;
        }
        self.written = self.write();
        let mut effects = Vec::new();
        if let ASecondLater = operation {
            self.now = self.now + SECOND;
        }
        let input = self.input(operation);
        self.sequencer.handle(self.now, input.clone(), &mut effects);
        self.witness.watch(&effects);
        if let WaitWithin { client, outer, .. } = operation
            && effects.is_empty()
        {
            self.waits.extend(self.witness.holder_of(outer).map(|outer| (client, outer)));
        }
        if let AskWithin { outer, .. } | WaitWithin { outer, .. } = operation {
            self.look_ahead(outer, &input, &effects);
        }
        self.sequencer.check_invariants();
        self.witness.compare(&self.sequencer);
    }

    /// Somebody within a turn would wait. If it was refused, it would have waited for ever; if not, all goes on.
    fn look_ahead(&self, outer: &str, input: &Input, effects: &[Effect]) {
        let is_refused = |effect: &Effect| matches!(effect, Effect::Tell { reply: Reply::Error(error), .. } if error.code == ErrorCode::WouldDeadlock);
        let mut ahead = self.sequencer.clone();
        if !effects.iter().any(is_refused) {
            self.go_on(&mut ahead, None);
            assert_eq!(ahead.counts().domains, 0, "somebody waits for ever");
            return;
        }
        self.go_on(&mut ahead, self.witness.holder_of(outer));
        let mut effects = Vec::new();
        ahead.handle(self.now, input.clone(), &mut effects);
        assert!(effects.iter().any(is_refused), "it was refused, and now it goes on: {effects:?}");
    }

    /// Gives back every turn within which nobody waits, again and again, but for one.
    fn go_on(&self, sequencer: &mut Sequencer, kept: Option<Ticket>) {
        loop {
            let all = sequencer.view(None, usize::MAX, false);
            let within: Vec<Ticket> = all
                .iter()
                .flat_map(|line| line.waiters.iter().chain(line.holders.iter().map(|(view, ..)| view)))
                .filter_map(|view| Some(view.wishes.within?.ticket))
                .chain(self.waits_within(sequencer))
                .collect();
            let holders = all.iter().flat_map(|line| &line.holders).map(|(view, ..)| view.ticket);
            let next = holders.filter(|holder| Some(*holder) != kept && !within.contains(holder)).min();
            let Some(next) = next else { return };
            sequencer.handle(self.now, done(next), &mut Vec::new());
        }
    }

    /// The turns within which there is a `Wait` that is not answered.
    fn waits_within<'a>(&'a self, sequencer: &'a Sequencer) -> impl Iterator<Item = Ticket> + 'a {
        let pending = self.waits.iter().filter(|(client, _)| sequencer.is_in_use(ConnectionId(*client)));
        pending.map(|(_, outer)| *outer)
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
            AskWithin { outer, client, domain } => {
                let wishes = Wishes { within: self.turn_in(outer), ..Wishes::default() };
                Input::Sequence(Enqueue { wishes, ..ask(client, domain, Options::Plain) })
            }
            WaitWithin { outer, client, domain } => Input::Wait {
                connection: ConnectionId(client),
                peer: peer(),
                domain: name(domain),
                max_wait: None,
                within: self.turn_in(outer),
                request_id: None,
            },
            DoneByHolder { domain } => done(self.witness.holder_of(domain).unwrap_or(Ticket(0))),
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
    /// Whether the turn in one domain is within that in another.
    fn is_within(&self, inner: &str, outer: &str) -> bool {
        let inner = self.witness.holder_of(inner).and_then(|inner| self.sequencer.saved(inner));
        let parent = inner.and_then(|inner| inner.wishes.within).map(|within| within.ticket);
        parent.is_some() && parent == self.witness.holder_of(outer)
    }

    fn turn_in(&self, domain: &str) -> Option<Within> {
        let ticket = self.witness.holder_of(domain)?;
        let token = self.sequencer.saved(ticket).and_then(|saved| saved.turn).expect("it has a turn").token;
        Some(Within { ticket, token })
    }

    fn ticket_of(&self, client: u64, domain: &str) -> Option<Ticket> {
        let lives =
            self.witness.holders.iter().chain(&self.witness.waiters).filter(|(name, _)| name.as_str() == domain);
        let saved = lives.filter_map(|(_, ticket)| self.sequencer.saved(*ticket));
        saved.filter(|saved| saved.request_id == request_id(client)).map(|saved| saved.ticket).next()
    }
}

fn done(ticket: Ticket) -> Input {
    Input::Done {
        connection: ConnectionId(9),
        peer: peer(),
        which: Which::Ticket(ticket),
        exit_status: None,
        processes: Vec::new(),
        request_id: None,
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
        says_started: false,
        key: None,
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
