//! What one operation costs with 10 to 1,000,000 waiters in line, and what a waiter takes of memory.
//!
//! `cargo bench --bench sequencer`. Costs must not grow with the line, but for what caches and O(log n) add.

use std::hint::black_box;
use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use seq::clock::Time;
use seq::protocol::{Binding, Domain, RequestId, Ticket, Token};
use seq::sequencer::{ConnectionId, Effect, Enqueue, Input, Peer, Sequencer, Which};

/// Operations of each kind in one measurement, at most half of the line.
const OPERATIONS: u64 = 20_000;

fn main() -> std::io::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "waiters   | enqueue   | hand over | longest   | cancel    | again     | next     | bytes")?;
    writeln!(out, "          | ns        | ns        | ns        | ns        | ns        | timeout  | a waiter")?;
    for waiters in [10, 1_000, 100_000, 1_000_000] {
        let row = measure(waiters);
        let [enqueue, hand_over, longest, cancel, again, timeout, bytes] = row;
        writeln!(
            out,
            "{waiters:<9} | {enqueue:<9} | {hand_over:<9} | {longest:<9} | {cancel:<9} | {again:<9} | {timeout:<8} | {bytes}"
        )?;
    }
    Ok(())
}

fn measure(waiters: u64) -> [u128; 7] {
    let rounds = (OPERATIONS / waiters).max(1);
    let mut sums = [0; 7];
    for _ in 0..rounds {
        for (sum, value) in sums.iter_mut().zip(measure_once(waiters)) {
            *sum += value;
        }
    }
    sums.map(|sum| sum / u128::from(rounds))
}

fn measure_once(waiters: u64) -> [u128; 7] {
    let memory = resident_bytes();
    let mut bench = Bench { sequencer: Sequencer::new(Ticket(1), Token(1)), effects: Vec::new(), now: Time::ZERO };
    let domain = Domain::parse("foo.com").expect("a name");
    bench.take(Input::Sequence(ask(0, &domain)));
    let enqueue = bench.each(waiters, |client| Input::Sequence(ask(client + 1, &domain)));
    let bytes = u128::from(resident_bytes().saturating_sub(memory) / waiters);

    let operations = (waiters / 4).clamp(1, OPERATIONS);
    let timeout = Instant::now();
    for _ in 0..operations {
        black_box(bench.sequencer.next_timeout());
    }
    let timeout = timeout.elapsed().as_nanos() / u128::from(operations);
    // Spread over the line, each once.
    let step = waiters / operations / 2;
    let again = bench.each(operations, |number| Input::Sequence(ask(waiters - number * step, &domain)));
    let cancel = bench.each(operations, |number| Input::Cancel {
        connection: ConnectionId(u64::MAX),
        peer: peer(),
        which: Which::Ticket(Ticket(waiters - number * step)),
    });
    let mut longest = Duration::ZERO;
    let hand_over = Instant::now();
    for ticket in 1..=operations {
        let began = Instant::now();
        bench.take(Input::Done {
            connection: ConnectionId(u64::MAX),
            peer: peer(),
            which: Which::Ticket(Ticket(ticket)),
            exit_status: None,
            processes: Vec::new(),
            request_id: None,
        });
        longest = longest.max(began.elapsed());
    }
    let hand_over = hand_over.elapsed().as_nanos() / u128::from(operations);
    [enqueue, hand_over, longest.as_nanos(), cancel, again, timeout, bytes]
}

struct Bench {
    sequencer: Sequencer,
    effects: Vec<Effect>,
    now: Time,
}

impl Bench {
    fn take(&mut self, input: Input) {
        self.effects.clear();
        self.sequencer.handle(self.now, input, &mut self.effects);
        black_box(&self.effects);
    }

    /// Nanoseconds that each of `count` inputs takes.
    fn each(&mut self, count: u64, input: impl Fn(u64) -> Input) -> u128 {
        let began = Instant::now();
        for number in 0..count {
            self.take(input(number));
        }
        began.elapsed().as_nanos() / u128::from(count)
    }
}

/// Client `client` of 60,000 connections asks, with positions and a longest wait: what costs most.
fn ask(client: u64, domain: &Domain) -> Enqueue {
    Enqueue {
        connection: ConnectionId(client % 60_000),
        peer: peer(),
        domain: domain.clone(),
        request_id: Some(RequestId::parse(&format!("job-{client}")).expect("a name")),
        positions: true,
        no_wait: false,
        max_wait: Some(Duration::from_secs(3_600)),
        binding: Binding::Connection,
        lease: None,
        fresh: false,
        pid: 1,
        command: Some("./deploy.sh --all".into()),
        pipe: true,
        named_process: false,
    }
}

fn peer() -> Peer {
    Peer { uid: 1_000, pid: 1, is_operator: false }
}

/// Memory in use, where `/proc` tells it (`proc_pid_statm(5)`); else zero.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4_096
}
