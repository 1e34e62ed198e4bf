//! How many turns a second one connection can take and give back: `cargo bench --bench daemon`.

#[path = "../tests/support/wire.rs"]
mod wire;

use std::time::{Duration, Instant};

use wire::{Client, Daemon};

/// How long each way is measured.
const MEASURED: Duration = Duration::from_secs(2);

#[expect(clippy::print_stdout, reason = "figures are what this is for")]
fn main() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    for (name, pairs_at_once) in [("one after the other", 0), ("in one write", 1), ("100 pairs in one write", 100)] {
        let before = processor_time(&daemon);
        let (mut pairs, start) = (0, Instant::now());
        while start.elapsed() < MEASURED {
            pairs += turns(&mut client, pairs_at_once);
        }
        let rate = f64::from(pairs) / start.elapsed().as_secs_f64();
        let spent = processor_time(&daemon).saturating_sub(before);
        let each = spent.as_secs_f64() * 1e6 / f64::from(pairs);
        println!("{name}: {rate:.0} turns a second, {each:.2} µs of the daemon's processor time each");
    }
    println!("resident memory: {} KiB", daemon.memory() / 1024);
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
