//! How many turns a second one connection can take and give back, with the store and without: `cargo bench --bench daemon`.

#[path = "../tests/support/wire.rs"]
mod wire;

use std::time::{Duration, Instant};

use tempfile::TempDir;
use wire::{Client, Daemon};

/// How long each way is measured in one round.
const MEASURED: Duration = Duration::from_millis(400);

/// Rounds with the store and in memory, by turns, so that both meet the same weather.
const ROUNDS: usize = 11;

/// The ways to ask, each with the pairs that are in one write; zero waits for each answer.
const WAYS: [(&str, usize); 3] = [("one after the other", 0), ("in one write", 1), ("100 pairs in one write", 100)];

/// A daemon that is measured.
struct Measured {
    daemon: Daemon,
    client: Client,
    /// Turns a second, and microseconds of the daemon's processor time for each, round by round.
    figures: Vec<(f64, f64)>,
    _directory: TempDir,
}

#[expect(clippy::print_stdout, reason = "figures are what this is for")]
fn main() {
    let mut both = [Measured::start(&[]), Measured::start(&["--in-memory"])];
    for (name, pairs_at_once) in WAYS {
        for measured in &mut both {
            measured.figures.clear();
        }
        for _ in 0..ROUNDS {
            for measured in &mut both {
                measured.round(pairs_at_once);
            }
        }
        let [(store, store_time), (memory, memory_time)] = [both[0].median(), both[1].median()];
        println!(
            "{name}: with the store {store:.0} turns a second ({store_time:.2} µs of processor time each), \
             in memory {memory:.0} ({memory_time:.2} µs): {:.2} times as long",
            memory / store
        );
    }
    for (measured, name) in both.iter().zip(["with the store", "in memory"]) {
        println!("resident memory {name}: {} KiB", measured.daemon.memory() / 1024);
    }
    let length = |name| std::fs::metadata(both[0].daemon.file(name)).map_or(0, |found| found.len()) / 1024;
    println!("the database has {} KiB, its log {} KiB", length("seq.db"), length("seq.db-wal"));
}

impl Measured {
    fn start(arguments: &[&str]) -> Measured {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = directory.path().join("seq/seqd.sock");
        let daemon = Daemon::start_with(&socket, arguments).expect("a daemon");
        let client = daemon.connect();
        Measured { daemon, client, figures: Vec::new(), _directory: directory }
    }

    fn round(&mut self, pairs_at_once: usize) {
        let before = processor_time(&self.daemon);
        let (mut pairs, start) = (0, Instant::now());
        while start.elapsed() < MEASURED {
            pairs += turns(&mut self.client, pairs_at_once);
        }
        let rate = f64::from(pairs) / start.elapsed().as_secs_f64();
        let spent = processor_time(&self.daemon).saturating_sub(before);
        self.figures.push((rate, spent.as_secs_f64() * 1e6 / f64::from(pairs)));
    }

    fn median(&self) -> (f64, f64) {
        let median = |mut figures: Vec<f64>| {
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        let (rates, times) = self.figures.iter().copied().unzip();
        (median(rates), median(times))
    }
}

/// Takes a turn and gives it back, so many times; gives how often that was.
fn turns(client: &mut Client, at_once: usize) -> u32 {
    const ASK: &str = r#"{"op":"sequence","domain":"foo.com","request_id":"r"}"#;
    const DONE: &str = r#"{"op":"done","domain":"foo.com","request_id":"r"}"#;
    if at_once == 0 {
        client.ask(ASK);
        client.ask(DONE);
        return 1;
    }
    client.send_bytes(format!("{ASK}\n{DONE}\n").repeat(at_once).as_bytes());
    for _ in 0..at_once * 2 {
        client.line();
    }
    u32::try_from(at_once).unwrap_or(u32::MAX)
}

/// Processor time that the daemon has used: fields 14 and 15 of `/proc/PID/stat`, in ticks of 10 ms (`proc(5)`).
fn processor_time(daemon: &Daemon) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("the daemon is there");
    let (_, after_name) = stat.rsplit_once(')').expect("a name");
    let fields = after_name.split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}
