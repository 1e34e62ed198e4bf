//! What one operation costs with 10 to 1,000,000 waiters in line, and what a waiter takes of memory; then the same with
//! policies, with that many waiters, domains and turns.
//!
//! `cargo bench --bench sequencer`. Costs must not grow, but for what caches and O(log n) add.

use std::hint::black_box;
use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use seq::clock::Time;
use seq::protocol::{Binding, Domain, RequestId, Ticket, Token};
use seq::sequencer::{
    ConnectionId, Effect, Enqueue, Input, Pattern, Peer, Policy, Rate, Sequencer, Which, Wishes, Within,
};

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
    writeln!(out, "\nwith policies: nanoseconds of one operation beside so many waiters, domains and turns")?;
    write!(out, "{:>9}", "")?;
    for (name, _) in WITH_POLICIES {
        write!(out, " {name:>10}")?;
    }
    writeln!(out)?;
    for size in [10, 1_000, 100_000, 1_000_000] {
        write!(out, "{size:>9}")?;
        for (_, operation) in WITH_POLICIES {
            write!(out, " {:>10}", operation(size))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// What an operation takes beside so many others, in nanoseconds.
type Measured = fn(u64) -> u128;

/// What is measured, with what there is beside it.
const WITH_POLICIES: [(&str, Measured); 10] = [
    ("priority", priority),
    ("slots", slots),
    ("shared", shared),
    ("supersede", supersede),
    ("rate", rate),
    ("rests", rests),
    ("two lines", two_lines),
    ("nested", nested),
    ("chain", chain),
    ("refused", refused),
];

/// Requests of all 201 priorities come into a long line, and each leaves it again.
fn priority(waiters: u64) -> u128 {
    let domain = name("foo.com");
    let (mut bench, _) = Bench::with_line(waiters, &domain, false);
    let wishes = |number: u64| Wishes { priority: spread(number), ..Wishes::default() };
    bench.come_and_go(waiters, |client| Enqueue { wishes: wishes(client), ..ask(client, &name("foo.com"), false) })
}

/// One of as many turns as there can be ends, and the next begins.
fn slots(waiters: u64) -> u128 {
    let domain = name("foo.com");
    let mut bench =
        Bench::new(Policy { concurrency: Some(u32::try_from(waiters / 2 + 1).unwrap_or(1)), ..Policy::default() });
    for client in 0..waiters {
        bench.take(Input::Sequence(ask(client, &domain, false)));
    }
    bench.hand_over((waiters / 4).clamp(1, OPERATIONS)).0
}

/// A reader comes to that many others, and leaves them again.
fn shared(readers: u64) -> u128 {
    let mut bench = Bench::new(Policy { concurrency: Some(1), ..Policy::default() });
    let reader = |client| {
        let wishes = Wishes { shared: true, ..Wishes::default() };
        Enqueue { wishes, ..ask(client, &name("foo.com"), false) }
    };
    for client in 0..readers {
        bench.take(Input::Sequence(reader(client)));
    }
    bench.come_and_go(readers, reader)
}

/// A request replaces the one before in a long line.
fn supersede(waiters: u64) -> u128 {
    let domain = name("foo.com");
    let (mut bench, _) = Bench::with_line(waiters, &domain, false);
    bench.each(operations(waiters), |number| {
        let wishes = Wishes { supersede: Some("deploy".into()), cancel_running: true, ..Wishes::default() };
        Input::Sequence(Enqueue { wishes, ..ask(waiters + 1 + number, &domain, false) })
    })
}

/// A line that counts as many starts as it may gives one turn after the other as time passes.
fn rate(waiters: u64) -> u128 {
    let starts = u32::try_from(waiters.min(10_000)).unwrap_or(1);
    let mut bench =
        Bench::new(Policy { rate: Some(Rate { starts, per: Duration::from_secs(1) }), ..Policy::default() });
    let domain = name("foo.com");
    for client in 0..waiters {
        bench.take(Input::Sequence(ask(client, &domain, false)));
    }
    let began = Instant::now();
    let times = (waiters / 2).clamp(1, OPERATIONS);
    for ticket in 1..=times {
        bench.take(done(ticket));
        if let Some(due) = bench.sequencer.next_timeout().filter(|due| *due < bench.now + Duration::from_mins(1)) {
            bench.now = bench.now.max(due);
            bench.take(Input::Tick);
        }
    }
    began.elapsed().as_nanos() / u128::from(times)
}

/// A turn begins and ends beside that many domains that rest.
fn rests(domains: u64) -> u128 {
    let mut bench = Bench::new(Policy { cooldown: Some(Duration::from_hours(1)), ..Policy::default() });
    let request = |client| ask(client, &name(&format!("d{client}")), false);
    let mut next = 0;
    for client in 0..domains.min(500_000) {
        bench.take(Input::Sequence(request(client)));
        bench.take(done(client + 1));
        next = client + 1;
    }
    bench.come_and_go(domains, |client| request(next + client))
}

/// A request for two lines comes to the ends of two long ones, and leaves them.
fn two_lines(waiters: u64) -> u128 {
    let mut bench = Bench::new(Policy { concurrency: Some(1), ..Policy::default() });
    let both = |client| {
        let wishes = Wishes { also: vec![name("bar.org")], ..Wishes::default() };
        Enqueue { wishes, ..ask(client, &name("foo.com"), false) }
    };
    for client in 0..waiters {
        bench.take(Input::Sequence(both(client)));
    }
    bench.come_and_go(waiters, both)
}

/// A request within a turn is given its own beside that many others, and ends.
fn nested(turns: u64) -> u128 {
    let mut bench = Bench::new(Policy { concurrency: Some(1), ..Policy::default() });
    let domain = |client| name(&format!("d{client}"));
    for client in 0..turns {
        bench.take(Input::Sequence(ask(client, &domain(client), false)));
    }
    let outer = turns / 2;
    let within = Within { ticket: Ticket(outer + 1), token: Token(outer + 1) };
    bench.come_and_go(turns, |client| {
        let wishes = Wishes { within: Some(within), ..Wishes::default() };
        Enqueue { wishes, ..ask(client, &domain(outer), false) }
    })
}

/// Turns within turns, so many deep: one more is given, and ends.
fn chain(turns: u64) -> u128 {
    let mut bench = Bench::new(Policy { concurrency: Some(1), ..Policy::default() });
    let domain = name("foo.com");
    let within = |outer| {
        let within = Some(Within { ticket: Ticket(outer), token: Token(1) });
        Wishes { within, ..Wishes::default() }
    };
    bench.take(Input::Sequence(ask(0, &domain, false)));
    for client in 1..turns {
        bench.take(Input::Sequence(Enqueue { wishes: within(client), ..ask(client, &domain, false) }));
    }
    bench.come_and_go(turns, |client| Enqueue { wishes: within(turns), ..ask(client, &domain, false) })
}

/// A request that would wait for itself is refused, beside that many turns and waiters that lead nowhere.
fn refused(turns: u64) -> u128 {
    let mut bench = Bench::new(Policy { concurrency: Some(1), ..Policy::default() });
    let domain = |client| name(&format!("d{client}"));
    let within =
        |ticket| Wishes { within: Some(Within { ticket: Ticket(ticket), token: Token(ticket) }), ..Wishes::default() };
    for client in 0..turns.max(2) {
        bench.take(Input::Sequence(ask(client, &domain(client), false)));
    }
    for client in 0..turns {
        bench.take(Input::Sequence(ask(turns + client, &domain(1), false)));
    }
    bench.take(Input::Sequence(Enqueue { wishes: within(1), ..ask(2 * turns, &domain(1), false) }));
    bench.each(operations(turns), |number| {
        Input::Sequence(Enqueue { wishes: within(2), ..ask(2 * turns + 1 + number, &domain(0), false) })
    })
}

/// A priority, each in turn.
fn spread(number: u64) -> i8 {
    let above_least = i16::try_from(number % 201).unwrap_or(0);
    i8::try_from(above_least - 100).unwrap_or(0)
}

fn operations(size: u64) -> u64 {
    size.clamp(100, OPERATIONS)
}

fn name(text: &str) -> Domain {
    Domain::parse(text).expect("a name")
}

fn done(ticket: u64) -> Input {
    Input::Done {
        connection: ConnectionId(u64::MAX),
        peer: peer(),
        which: Which::Ticket(Ticket(ticket)),
        exit_status: None,
        processes: Vec::new(),
        request_id: None,
    }
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
    /// Nobody yet, under this policy everywhere.
    fn new(policy: Policy) -> Bench {
        let sequencer = Sequencer::new(Ticket(1), Token(1));
        let mut bench = Bench { sequencer, effects: Vec::new(), now: Time::ZERO };
        let (connection, pattern) = (ConnectionId(u64::MAX), Pattern::parse("*").expect("a pattern"));
        let peer = Peer { is_operator: true, ..peer() };
        bench.take(Input::SetPolicy { connection, peer, pattern, policy, request_id: None });
        bench
    }

    /// What it takes for a request to come, and to end or leave again, beside `size` others.
    fn come_and_go(&mut self, size: u64, request: impl Fn(u64) -> Enqueue) -> u128 {
        let began = Instant::now();
        let times = operations(size);
        for number in 0..times {
            let ticket = self.sequencer.next_numbers().0;
            self.take(Input::Sequence(request(2 * size + number)));
            self.take(done(ticket.0));
        }
        began.elapsed().as_nanos() / u128::from(times)
    }

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
            self.take(done(ticket));
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
        says_started: false,
        key: None,
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
