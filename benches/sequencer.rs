//! What one operation costs with 10 to 1,000,000 waiters in line, and what a waiter takes of memory.
//!
//! `cargo bench --bench sequencer`. Costs must not grow with the line, but for what caches and O(log n) add.

use std::hint::black_box;
use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use seq::clock::Time;
use seq::protocol::{Binding, Domain, RequestId, Ticket, Token};
use seq::sequencer::{ConnectionId, Effect, Enqueue, Input, Peer, Sequencer, Which, Wishes};

/// Operations of each kind in one measurement, at most half of the line.
const OPERATIONS: u64 = 20_000;

fn main() -> std::io::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "nanoseconds of one operation; bytes of one waiter, its texts included")?;
    writeln!(
        out,
        "{:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "waiters", "enqueue", "cancel", "again", "hand over", "99.9 %", "timeout", "64 places", "bytes"
    )?;
    for waiters in [10, 1_000, 100_000, 1_000_000] {
        write!(out, "{waiters:>9}")?;
        for value in measure(waiters) {
            write!(out, " {value:>9}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The columns of one row, the mean of several measurements for short lines.
fn measure(waiters: u64) -> [u128; 8] {
    let times = (OPERATIONS / waiters).max(1);
    let mut sums = [0; 8];
    for _ in 0..times {
        for (sum, value) in sums.iter_mut().zip(measure_once(waiters)) {
            *sum += value;
        }
    }
    sums.map(|sum| sum / u128::from(times))
}

fn measure_once(waiters: u64) -> [u128; 8] {
    let memory = resident_bytes();
    let domain = Domain::parse("foo.com").expect("a name");
    let (mut bench, enqueue) = Bench::with_line(waiters, &domain, false);
    let bytes = u128::from(resident_bytes().saturating_sub(memory) / waiters);

    let operations = (waiters / 4).clamp(1, OPERATIONS);
    // Spread over the rear half of the line, each ticket once.
    let ticket = |number| waiters - number * (waiters / operations / 2);
    let again = bench.each(operations, |number| Input::Sequence(ask(ticket(number) - 1, &domain, false)));
    let cancel = bench.each(operations, |number| Input::Cancel {
        connection: ConnectionId(u64::MAX),
        peer: peer(),
        which: Which::Ticket(Ticket(ticket(number))),
    });
    let (hand_over, slow) = bench.hand_over(operations);
    let timeouts = Instant::now();
    for _ in 0..operations {
        black_box(bench.sequencer.next_timeout());
    }
    let timeout = timeouts.elapsed().as_nanos() / u128::from(operations);
    drop(bench);
    [enqueue, cancel, again, hand_over, slow, timeout, step_of_places(waiters, &domain), bytes]
}

/// What one step of telling places costs while all of a line want to know.
fn step_of_places(waiters: u64, domain: &Domain) -> u128 {
    let (mut bench, _) = Bench::with_line(waiters, domain, true);
    bench.hand_over(1);
    bench.each((waiters / 64).clamp(1, OPERATIONS), |_| Input::Tick)
}

struct Bench {
    sequencer: Sequencer,
    effects: Vec<Effect>,
    now: Time,
}

impl Bench {
    /// A line of so many waiters, and how long each took to enter it.
    fn with_line(waiters: u64, domain: &Domain, positions: bool) -> (Bench, u128) {
        let sequencer = Sequencer::new(Ticket(1), Token(1));
        let mut bench = Bench { sequencer, effects: Vec::new(), now: Time::ZERO };
        bench.take(Input::Sequence(ask(0, domain, false)));
        let enqueue = bench.each(waiters, |client| Input::Sequence(ask(client + 1, domain, positions)));
        (bench, enqueue)
    }

    /// The turn goes from one to the next so many times: the mean time, and that of the slowest of a thousand.
    fn hand_over(&mut self, times: u64) -> (u128, u128) {
        let mut each: Vec<Duration> = Vec::new();
        for ticket in 1..=times {
            let began = Instant::now();
            self.take(Input::Done {
                connection: ConnectionId(u64::MAX),
                peer: peer(),
                which: Which::Ticket(Ticket(ticket)),
                exit_status: None,
                processes: Vec::new(),
                request_id: None,
            });
            each.push(began.elapsed());
        }
        each.sort_unstable();
        let mean = each.iter().sum::<Duration>().as_nanos() / each.len() as u128;
        (mean, each[each.len() - 1 - each.len() / 1_000].as_nanos())
    }

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

/// Client `client` of 60,000 connections asks, with a longest wait.
fn ask(client: u64, domain: &Domain, positions: bool) -> Enqueue {
    Enqueue {
        connection: ConnectionId(client % 60_000),
        peer: peer(),
        domain: domain.clone(),
        request_id: Some(RequestId::parse(&format!("job-{client}")).expect("a name")),
        positions,
        no_wait: false,
        max_wait: Some(Duration::from_hours(1)),
        binding: Binding::Connection,
        lease: None,
        fresh: false,
        secret: None,
        resume: None,
        pid: 1,
        command: Some("./deploy.sh --all".into()),
        pipe: true,
        named_process: false,
        wishes: Wishes::default(),
        confirm: false,
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
