//! How long a turn takes from one waiting process to the next: 300 of them, each of which runs a command that notes the
//! time.

use std::fs::{File, read_to_string};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Child;

use super::report::{Mark, Report, median, ratio};
use super::stage::{Children, Gate, SEQ, Stage, has, until, waiting};

const PART: &str = "hand-over";

/// Processes that wait.
const PROCESSES: usize = 300;

/// What lets them take turns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    Flock,
    Seq,
    /// An earlier version.
    Before,
    Tsp,
}

pub(crate) fn measure(report: &mut Report, before: Option<&Path>, rounds: usize) {
    let peers = [(Peer::Flock, "flock"), (Peer::Seq, "seq run"), (Peer::Before, "seq run before"), (Peer::Tsp, "tsp")];
    let is_there = |peer: Peer, name: &str| match peer {
        Peer::Seq => true,
        Peer::Before => before.is_some(),
        Peer::Flock | Peer::Tsp => has(name),
    };
    let peers = peers.into_iter().filter(|(peer, name)| is_there(*peer, name));
    let earlier = before.map(|directory| directory.join("seq"));
    let seq = |peer: Peer| earlier.as_deref().filter(|_| peer == Peer::Before).unwrap_or(Path::new(SEQ));
    let mut measured: Vec<_> = peers.map(|(peer, name)| (peer, name, Vec::new(), 0)).collect();
    for _ in 0..rounds {
        for (peer, name, each, out_of_order) in &mut measured {
            let (milliseconds, strangers) = hand_over(*peer, name, seq(*peer));
            each.push(milliseconds);
            *out_of_order += strangers;
        }
    }
    for (peer, name, each, out_of_order) in &measured {
        report.add(PART, format!("{name}, each"), median(each), "ms");
        let (what, value) = (format!("{name}, out of order"), f64::from(*out_of_order));
        match peer {
            Peer::Seq => report.marked(PART, what, (value, ""), Mark::AtMost(0.0)),
            Peer::Flock | Peer::Before | Peer::Tsp => report.add(PART, what, value, ""),
        }
    }
    let of = |wanted: &str| measured.iter().find(|(_, name, ..)| *name == wanted).map(|(_, _, each, _)| &each[..]);
    if let (Some(seq), Some(flock)) = (of("seq run"), of("flock")) {
        report.marked(PART, "seq run to flock", (ratio(seq, flock), "times"), Mark::AtMost(0.95));
    }
    if let (Some(seq), Some(before)) = (of("seq run"), of("seq run before")) {
        report.add(PART, "seq run to before", ratio(seq, before), "times");
    }
}

/// Milliseconds of each hand-over, and how many did not come when it was their turn.
fn hand_over(peer: Peer, name: &str, seq: &Path) -> (f64, u32) {
    let stage = Stage::new();
    let gate = Gate::new(&stage, "gate");
    let notes = File::options().create(true).append(true).open(stage.path("notes")).expect("a file");
    let start = |words: &[&str]| -> Child {
        let mut command = match peer {
            Peer::Flock => stage.command("flock", &["lock"]),
            Peer::Seq | Peer::Before => stage.command(seq, &["run", "-d", "x", "--"]),
            Peer::Tsp => stage.command("tsp", &["-nf"]),
        };
        command.args(words).stdout(notes.try_clone().expect("a descriptor")).spawn().expect("it is there")
    };
    let hold = format!("echo held; cat {}", gate.path().display());
    let mut children = Children(vec![start(&["sh", "-c", &hold])]);
    let has_turn = || read_to_string(stage.path("notes")).is_ok_and(|notes| notes.contains("held"));
    until("the first has its turn", || has_turn().then_some(()));
    let mut in_line = counter(peer, &stage);
    for number in 0..PROCESSES {
        children.0.push(start(&["date", &format!("+{number} %s%N")]));
        until(&format!("{name} number {number} is in line"), || (in_line() > number).then_some(()));
    }
    gate.open();
    children.wait();
    let notes = read_to_string(stage.path("notes")).expect("readable");
    let notes: Vec<(usize, f64)> = notes
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(number, at)| (number.parse().expect("a number"), at.parse().expect("a time")))
        .collect();
    assert_eq!(notes.len(), PROCESSES, "each ran once");
    let strangers = notes.iter().enumerate().filter(|(place, (number, _))| place != number).count();
    let hand_overs = f64::from(u32::try_from(PROCESSES - 1).unwrap_or(1));
    let milliseconds = (notes[PROCESSES - 1].1 - notes[0].1) / 1e6 / hand_overs;
    (milliseconds, u32::try_from(strangers).unwrap_or(u32::MAX))
}

/// What tells how many wait.
fn counter<'a>(peer: Peer, stage: &'a Stage) -> Box<dyn FnMut() -> usize + 'a> {
    match peer {
        Peer::Flock => {
            let inode = until("the lock is there", || std::fs::metadata(stage.path("lock")).ok()).ino();
            let lock = format!(":{inode} ");
            Box::new(move || {
                let locks = read_to_string("/proc/locks").unwrap_or_default();
                locks.lines().filter(|line| line.contains("-> ") && line.contains(&lock)).count()
            })
        }
        Peer::Seq | Peer::Before => {
            let socket = stage.path(".local/state/seq/seqd.sock");
            let mut stream = until("the daemon is there", || std::os::unix::net::UnixStream::connect(&socket).ok());
            Box::new(move || waiting(&mut stream, "x"))
        }
        Peer::Tsp => {
            let mut list = stage.command("tsp", &["-l"]);
            list.stdout(std::process::Stdio::piped());
            Box::new(move || {
                let listed = list.output().expect("tsp").stdout;
                String::from_utf8_lossy(&listed).lines().filter(|line| line.contains(" queued ")).count()
            })
        }
    }
}
