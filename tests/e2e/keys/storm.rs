//! Many commands with few keys, while daemons, wrappers and commands are killed, and the daemon is replaced: no key is
//! done twice, one that nobody touched is done once, and everybody is told.
//!
//! `SEQ_KEY_STORM_SEED=… SEQ_KEY_STORM_KEYS=… cargo test --test e2e keys::storm` for another one, or a longer one.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;

use crate::support::{Home, Process, Running, Wire, seq_program, size, without_age};

/// How many ask with each key.
const ASKERS: usize = 6;

/// What is done for each key.
const MISCHIEF_PER_KEY: usize = 2;

/// Between two things that are done.
const PAUSE_MS: std::ops::Range<u64> = 1..15;

const DOMAINS: [&str; 3] = ["a", "b", "c"];

const ONCE: &str = r#"#!/bin/sh
# once KEY
echo "start $1 $$" >>"$HOME/log"
sleep 0.01
echo "end $1 $$" >>"$HOME/log"
"#;

struct Storm {
    home: Home,
    rng: Rng,
    /// Each with its key.
    askers: Vec<(usize, Running)>,
    /// Keys of which a wrapper or a command was killed.
    touched: BTreeSet<usize>,
    daemons_killed: usize,
}

#[test]
fn no_key_is_done_twice_whatever_is_killed() {
    let seed = size("SEQ_KEY_STORM_SEED", usize::try_from(fastrand::u32(..)).unwrap());
    let keys = size("SEQ_KEY_STORM_KEYS", 20);
    let home = Home::new();
    home.script("once", ONCE);
    let rng = Rng::with_seed(seed as u64);
    let mut storm = Storm { home, rng, askers: Vec::new(), touched: BTreeSet::new(), daemons_killed: 0 };
    let again = format!("SEQ_KEY_STORM_SEED={seed} SEQ_KEY_STORM_KEYS={keys}");
    let mut all: Vec<usize> = (0..keys * ASKERS).map(|number| number % keys).collect();
    storm.rng.shuffle(&mut all);
    for (number, key) in all.into_iter().enumerate() {
        storm.ask(key);
        if number % (ASKERS / MISCHIEF_PER_KEY) == 0 {
            storm.play();
        }
    }
    storm.judge(keys, &again);
}

impl Storm {
    fn ask(&mut self, key: usize) {
        let name = key.to_string();
        let domain = DOMAINS[key % DOMAINS.len()];
        let asker = self.home.start(&["run", "-d", domain, "--key", &name, "--", "./once", &name]);
        self.askers.push((key, asker));
    }

    fn play(&mut self) {
        std::thread::sleep(Duration::from_millis(self.rng.u64(PAUSE_MS)));
        match self.rng.u8(..8) {
            0..3 => self.kill_daemon(),
            3..5 => self.kill_wrapper(),
            5..7 => self.kill_command(),
            _ => {
                let restarted = self.home.seq(&["restart"]);
                assert_eq!(restarted.status.code(), Some(0), "{}", restarted.stderr());
            }
        }
    }

    /// One that serves, so that nobody sees only daemons that die.
    fn kill_daemon(&mut self) {
        let serves = Wire::connect(&self.home.socket())
            .and_then(|mut wire| wire.ask(&serde_json::json!({"op": "hello", "protocol": 1})))
            .is_some();
        if serves && let Some(daemon) = self.home.daemon_pid().and_then(Process::open) {
            self.daemons_killed += usize::from(daemon.signal(Signal::KILL));
        }
    }

    fn kill_wrapper(&mut self) {
        let index = self.rng.usize(..self.askers.len());
        if !self.askers[index].1.has_ended() {
            let (key, asker) = self.askers.swap_remove(index);
            self.touched.insert(key);
            asker.kill();
        }
    }

    fn kill_command(&mut self) {
        let log = self.home.log();
        let Some(line) = log.iter().rev().find(|line| line.starts_with("start ")) else { return };
        let words: Vec<&str> = line.split(' ').collect();
        let (key, pid) = (words[1], words[2].parse().unwrap());
        let Some(process) = Process::open(pid) else { return };
        // First the handle, then the look: what is looked at is what the handle means.
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if arguments.ends_with(format!("./once\0{key}\0").as_bytes()) && !arguments.starts_with(program().as_bytes()) {
            self.touched.insert(key.parse().unwrap());
            let mut log = OpenOptions::new().append(true).open(self.home.file("log")).unwrap();
            log.write_all(format!("kill {key} {pid}\n").as_bytes()).unwrap();
            process.signal(Signal::KILL);
        }
    }

    fn judge(mut self, keys: usize, again: &str) {
        for (key, asker) in self.askers.drain(..) {
            let ended = asker.wait();
            let said = without_age(&ended.stderr());
            let is_right = match ended.status.code() {
                Some(0) => said.is_empty() || said.ends_with(": already done some time ago, status 0\n"),
                Some(137) => self.touched.contains(&key) && said.is_empty(),
                Some(65) => self.touched.contains(&key) && said.contains("nobody knows how the command of key"),
                // Too much at once for a daemon to start in time.
                Some(125) => said.starts_with("seq: cannot start the daemon: ") && said.ends_with(": try again\n"),
                _ => false,
            };
            assert!(is_right, "{again}: key {key}: {:?} {said}", ended.status);
        }
        // Orphans come to their end.
        self.home.warm();
        for domain in DOMAINS {
            self.home.await_idle(domain);
        }
        let log = self.home.log();
        let lines = |what: &str, key: usize| -> Vec<String> {
            let start = format!("{what} {key} ");
            log.iter().filter_map(|line| line.strip_prefix(&start).map(str::to_owned)).collect()
        };
        for key in 0..keys {
            let (starts, mut ends, kills) = (lines("start", key), lines("end", key), lines("kill", key));
            // One that was killed behind its last word has failed.
            ends.retain(|pid| !kills.contains(pid));
            let about = format!("{again}: key {key}: started by {starts:?}, ended by {ends:?}, killed: {kills:?}");
            assert!(ends.len() <= 1, "{about}");
            if !self.touched.contains(&key) {
                assert_eq!((starts.len(), ends.len()), (1, 1), "{about}");
            }
            assert!(starts.len() <= ends.len() + kills.len(), "{about}");
        }
        assert!(self.daemons_killed > 0, "{again}: no daemon was killed");
    }
}

fn program() -> String {
    seq_program().display().to_string()
}
