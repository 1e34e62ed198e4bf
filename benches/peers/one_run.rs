//! What one run costs when nobody else is in line: `seq run` beside what else lets commands take turns, and the
//! command alone. Each round runs all of them one after the other, so that what else the machine does meets all.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::report::{Mark, Report, median, ratio};
use super::stage::{BEFORE, SEQ, Stage, has};

const PART: &str = "one run";

/// What is run by seq.
const RUN: [&str; 5] = ["run", "-d", "x", "--", "true"];

/// The same with a key, which is forgotten again before the next round.
const KEYED_RUN: [&str; 9] = ["run", "-d", "x", "--key", "k", "--key-ttl", "1ms", "--", "true"];

const SEQ_KEYED: &str = "seq run --key";

/// The same by an earlier version.
const SEQ_BEFORE: &str = "seq run before";

/// One way to run `true`.
struct Way {
    name: &'static str,
    /// Commands that are run one after the other.
    commands: Vec<Command>,
    /// Every so many rounds it runs: some take long.
    every: usize,
    /// Milliseconds of each block of rounds.
    blocks: Vec<f64>,
    block: Vec<f64>,
}

impl Way {
    fn new(name: &'static str, every: usize, commands: Vec<Command>) -> Way {
        Way { name, commands, every, blocks: Vec::new(), block: Vec::new() }
    }

    fn run(&mut self) {
        let start = Instant::now();
        for command in &mut self.commands {
            assert!(command.status().expect("it is there").success(), "{} failed", self.name);
        }
        self.block.push(start.elapsed().as_secs_f64() * 1e3);
    }

    fn end_block(&mut self) {
        self.blocks.push(median(&self.block));
        self.block.clear();
    }
}

pub(crate) fn measure(report: &mut Report, before: Option<&Path>, blocks: usize) {
    let stage = Stage::new();
    let etcd = (has("etcd") && has("etcdctl")).then(|| stage.etcd());
    let mut ways = ways(&stage, etcd.as_ref().map(|(_, address)| address.as_str()));
    if let Some(directory) = before {
        let mut run = stage.command(directory.join("seq"), &RUN);
        run.env("HOME", stage.path(BEFORE));
        ways.insert(2, Way::new(SEQ_BEFORE, 1, vec![run]));
    }
    for block in 0..=blocks {
        for round in 0..200 {
            for way in ways.iter_mut().filter(|way| round % way.every == 0) {
                way.run();
            }
        }
        ways.iter_mut().for_each(Way::end_block);
        if block == 0 {
            // Everything is warm now.
            for way in &mut ways {
                way.blocks.clear();
            }
        }
    }
    for way in &ways {
        report.add(PART, way.name, median(&way.blocks), "ms");
    }
    let of = |name: &str| ways.iter().find(|way| way.name == name).map(|way| &way.blocks[..]);
    if let (Some(seq), Some(flock)) = (of("seq run"), of("flock")) {
        report.marked(PART, "seq run to flock", (ratio(seq, flock), "times"), Mark::AtMost(1.0));
    }
    if let (Some(keyed), Some(seq)) = (of(SEQ_KEYED), of("seq run")) {
        report.add(PART, "seq run --key to seq run", ratio(keyed, seq), "times");
    }
    if let (Some(seq), Some(before)) = (of("seq run"), of(SEQ_BEFORE)) {
        report.add(PART, "seq run to before", ratio(seq, before), "times");
    }
    first_run(report, &stage, blocks * 3);
}

/// What is measured. Another way to run seq is one more line here.
fn ways(stage: &Stage, etcd: Option<&str>) -> Vec<Way> {
    let one = |program: &str, arguments: &[&str]| vec![stage.command(program, arguments)];
    let mut ways = vec![
        Way::new("true", 1, one("true", &[])),
        Way::new("flock", 1, one("flock", &["lock", "true"])),
        Way::new("seq run", 1, one(SEQ, &RUN)),
        Way::new(SEQ_KEYED, 1, one(SEQ, &KEYED_RUN)),
        Way::new("sem --fg", 40, one("sem", &["--fg", "--id", "x", "true"])),
        Way::new("tsp -f", 4, one("tsp", &["-f", "true"])),
        Way::new("nq, nq -w", 4, vec![stage.command("nq", &["true"]), stage.command("nq", &["-w"])]),
    ];
    if let Some(address) = etcd {
        let mut lock = stage.command("etcdctl", &["--endpoints", address, "lock", "x", "true"]);
        lock.env("ETCDCTL_API", "3");
        ways.push(Way::new("etcdctl lock", 20, vec![lock]));
    }
    ways.retain(|way| way.name.starts_with("seq run") || has(way.name.split([' ', ',']).next().unwrap_or_default()));
    ways
}

/// The first run, which starts the daemon, beside the next.
fn first_run(report: &mut Report, stage: &Stage, rounds: usize) {
    let mut run = stage.command(SEQ, &RUN);
    let mut stop = stage.command(SEQ, &["stop"]);
    let [mut first, mut second, mut more] = [(); 3].map(|()| Vec::new());
    for _ in 0..rounds {
        assert!(stop.status().expect("seq").success());
        let mut milliseconds = || {
            let start = Instant::now();
            assert!(run.status().expect("seq").success());
            start.elapsed().as_secs_f64() * 1e3
        };
        first.push(milliseconds());
        second.push(milliseconds());
        more.push(first[first.len() - 1] - second[second.len() - 1]);
    }
    report.add(PART, "seq run that starts the daemon", median(&first), "ms");
    report.marked(PART, "more than the next one", (median(&more), "ms"), Mark::AtMost(15.0));
}
