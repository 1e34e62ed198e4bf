//! How late a turn can come: hand-overs as fast as they go for a minute, with all that the daemon has to do beside
//! them. Its history is longer than it keeps after the first seconds, its log is checkpointed again and again, and a
//! thousand clients wait in the same line and are told whenever their places change.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::report::{Mark, Report, quantile};
use super::stage::{Server, Stage};

const PART: &str = "tail";

/// Who watches their places.
const WATCHERS: usize = 1_000;

/// How often their places change.
const MOVE_INTERVAL: Duration = Duration::from_millis(300);

/// Who takes turns, ahead of them.
const WORKERS: usize = 4;

pub(crate) fn measure(report: &mut Report, time: Duration) {
    let stage = Stage::new();
    let daemon = stage.daemon("seq", &[]);
    let (is_over, told) = (AtomicBool::new(false), AtomicU64::new(0));
    let latencies = thread::scope(|scope| {
        scope.spawn(|| watch(&daemon, &is_over, &told));
        let latencies = hand_over(&daemon, time);
        is_over.store(true, Ordering::Relaxed);
        latencies
    });
    report.add(PART, "hand-overs", f64::from(u32::try_from(latencies.len()).unwrap_or(u32::MAX)), "");
    report.add(PART, "places told", f64::from(u32::try_from(told.load(Ordering::Relaxed)).unwrap_or(u32::MAX)), "");
    for (name, part) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("maximum", 1.0)] {
        report.add(PART, name, quantile(&latencies, part), "µs");
    }
    let times = quantile(&latencies, 0.999) / quantile(&latencies, 0.5);
    report.marked(PART, "p99.9 to p50", (times, "times"), Mark::AtMost(10.0));
    let floor = round_trips(&stage.echo(), time / 6);
    let times = quantile(&floor, 0.999) / quantile(&floor, 0.5);
    report.add(PART, "the same of the echo floor, right after", times, "times");
}

/// Microseconds of each round trip to a server that does nothing: what the machine itself is late by.
fn round_trips(server: &Server, time: Duration) -> Vec<f64> {
    let mut stream = server.connect();
    let (start, mut latencies) = (Instant::now(), Vec::new());
    let mut bytes = [0; 64];
    while start.elapsed() < time {
        let sent = Instant::now();
        stream.write_all(b"a line\n").expect("the server reads");
        stream.read_exact(&mut bytes[..7]).expect("the server answers");
        latencies.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    latencies
}

/// Microseconds from each `done` to when the next one knows of its turn.
fn hand_over(daemon: &Server, time: Duration) -> Vec<f64> {
    let mut workers: Vec<_> = (0..WORKERS).map(|_| daemon.connect()).collect();
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let ask = |number: usize| {
        format!("{{\"op\":\"sequence\",\"domain\":\"x\",\"request_id\":\"w{number}\",\"priority\":1}}\n")
    };
    for (number, worker) in workers.iter_mut().enumerate() {
        epoll::add(&poll, &*worker, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN).expect("epoll");
        worker.write_all(ask(number).as_bytes()).expect("the daemon reads");
    }
    let (start, mut latencies) = (Instant::now(), Vec::new());
    let mut given: Option<Instant> = None;
    let mut events = Vec::with_capacity(WORKERS);
    let mut bytes = [0; 4096];
    while start.elapsed() < time {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None).expect("epoll");
        for event in &events {
            let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let read = workers[number].read(&mut bytes).expect("the daemon answers");
            assert!(read > 0, "the daemon has gone");
            // One who has just given a turn back hears of that, too, and of its new place.
            if bytes[..read].windows(15).any(|window| window == b"{\"type\":\"active") {
                latencies.extend(given.map(|given| given.elapsed().as_secs_f64() * 1e6));
                let done = format!("{{\"op\":\"done\",\"domain\":\"x\",\"request_id\":\"w{number}\"}}\n");
                let again = done + &ask(number);
                given = Some(Instant::now());
                workers[number].write_all(again.as_bytes()).expect("the daemon reads");
            }
        }
    }
    latencies
}

/// Waits behind the others, and counts how often places are told.
fn watch(daemon: &Server, is_over: &AtomicBool, told: &AtomicU64) {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let mut watchers: Vec<_> = (0..WATCHERS).map(|_| daemon.connect()).collect();
    for (number, watcher) in (0..).zip(&mut watchers) {
        epoll::add(&poll, &*watcher, epoll::EventData::new_u64(number), epoll::EventFlags::IN).expect("epoll");
        let ask = r#"{"op":"sequence","domain":"x","priority":-1,"positions":true}"#;
        watcher.write_all(format!("{ask}\n").as_bytes()).expect("the daemon reads");
    }
    // Whoever comes and goes between them and the others changes the places of all.
    let mut walker = daemon.connect();
    let comings_and_goings = [
        "{\"op\":\"sequence\",\"domain\":\"x\",\"request_id\":\"walker\"}\n",
        "{\"op\":\"cancel\",\"domain\":\"x\",\"request_id\":\"walker\"}\n",
    ];
    let mut moves = comings_and_goings.iter().cycle();
    let mut moved_at = Instant::now();
    let mut events = Vec::with_capacity(WATCHERS);
    let mut bytes = [0; 4096];
    while !is_over.load(Ordering::Relaxed) {
        if moved_at.elapsed() >= MOVE_INTERVAL {
            moved_at = Instant::now();
            walker.write_all(moves.next().unwrap_or(&"").as_bytes()).expect("the daemon reads");
            // Of a coming one answer comes, of a going two.
            let _ = walker.read(&mut bytes).expect("the daemon answers");
        }
        events.clear();
        let patience = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        epoll::wait(&poll, spare_capacity(&mut events), Some(&patience)).expect("epoll");
        for event in &events {
            let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let read = watchers[number].read(&mut bytes).expect("the daemon answers");
            let lines = bytes[..read].split(|byte| *byte == b'\n').count() - 1;
            told.fetch_add(lines as u64, Ordering::Relaxed);
        }
    }
}
