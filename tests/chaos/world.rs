//! The processes of a storm: those that it started, and those that these have started.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use crate::inside::{LOG, VARIABLE, Work};
use crate::stamp::{Pen, Reader, Stamp, What};
use crate::support::{Home, Process, Wire, look_for, of_home};

/// How long nothing may happen. Longer than the longest grace for those who are away.
const STANDSTILL: Duration = Duration::from_secs(90);

/// What all `seq run` say together, in the home directory: nothing, if all is well.
pub(crate) const SAID: &str = "said/all";

/// A `seq run` that has not been waited for.
struct Wrapper {
    child: Child,
    process: Process,
    fate: Fate,
}

/// What is known of a `seq run`.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    pub(crate) turn: usize,
    pub(crate) domain: String,
    /// What its command is to end with.
    pub(crate) status: u8,
    /// The ticket with which the daemon said that it waits.
    pub(crate) place: Option<u64>,
    /// How it ended.
    pub(crate) ended: Option<ExitStatus>,
}

pub(crate) struct World {
    pub(crate) home: Home,
    pub(crate) pen: Pen,
    reader: Reader,
    /// All that was written so far.
    pub(crate) stamps: Vec<Stamp>,
    /// Commands that have begun and neither ended nor been killed: their processes, by turn.
    running: BTreeMap<usize, u32>,
    wrappers: Vec<Wrapper>,
    pub(crate) fates: Vec<Fate>,
    /// Commands that have begun.
    pub(crate) starts: usize,
    last_event: Instant,
}

impl World {
    pub(crate) fn new() -> World {
        let home = Home::new();
        let pen = Pen::open(&home.file(LOG));
        let reader = Reader::open(&home.file(LOG));
        World {
            home,
            pen,
            reader,
            stamps: Vec::new(),
            running: BTreeMap::new(),
            wrappers: Vec::new(),
            fates: Vec::new(),
            starts: 0,
            last_event: Instant::now(),
        }
    }

    /// Starts a `seq run` whose command does this `work`.
    pub(crate) fn start(&mut self, domain: &str, work: Work) {
        let itself = std::env::current_exe().expect("this program");
        let said = fs::OpenOptions::new().append(true).create(true).open(self.home.file(SAID)).expect("a file");
        let mut command = self.home.seq_command(&["run", "-d", domain, "--"]);
        command.arg(itself).args(["--exact", "command", "--nocapture", "--test-threads=1"]);
        command.env(VARIABLE, work.to_text()).stdout(Stdio::null()).stderr(said);
        let child = command.spawn().expect("seq starts");
        let process = Process::open(child.id()).expect("not waited for yet");
        let fate = Fate { turn: work.turn, domain: domain.to_owned(), status: work.status, place: None, ended: None };
        self.wrappers.push(Wrapper { child, process, fate });
    }

    /// Takes note of all that has happened since the last time.
    pub(crate) fn look(&mut self) {
        for stamp in self.reader.read() {
            match stamp.what {
                What::Start => {
                    self.starts += 1;
                    self.running.insert(stamp.turn, stamp.pid);
                }
                What::End | What::Kill => _ = self.running.remove(&stamp.turn),
                What::Blocked | What::Note => {}
            }
            self.stamps.push(stamp);
            self.last_event = Instant::now();
        }
        let (ended, alive): (Vec<_>, Vec<_>) = self.wrappers.drain(..).partition(|wrapper| !wrapper.process.is_alive());
        self.wrappers = alive;
        for Wrapper { mut child, fate, .. } in ended {
            let status = child.wait().expect("a child of ours");
            self.fates.push(Fate { ended: Some(status), ..fate });
            self.last_event = Instant::now();
        }
        assert!(self.last_event.elapsed() < STANDSTILL, "nothing happens any more: {}", self.describe());
    }

    /// Waits until a wrapper ends, or `patience` is over.
    pub(crate) fn pause(&self, patience: Duration) {
        let mut ready: Vec<_> =
            self.wrappers.iter().map(|wrapper| PollFd::new(wrapper.process.pidfd(), PollFlags::IN)).collect();
        let patience = Timespec { tv_sec: 0, tv_nsec: patience.as_nanos().min(999_999_999).try_into().expect("short") };
        match poll(&mut ready, Some(&patience)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("cannot poll: {}", io::Error::from(error)),
        }
    }

    /// How many `seq run` there are.
    pub(crate) fn clients(&self) -> usize {
        self.wrappers.len()
    }

    /// The turns whose command runs, and whose wrapper does.
    pub(crate) fn turns_inside(&self) -> Vec<usize> {
        let is_here = |turn: &usize| self.wrappers.iter().any(|wrapper| wrapper.fate.turn == *turn);
        self.running.keys().copied().filter(is_here).collect()
    }

    /// The turns whose command runs.
    pub(crate) fn commands(&self) -> Vec<usize> {
        self.running.keys().copied().collect()
    }

    /// The turns whose wrapper runs.
    pub(crate) fn turns(&self) -> Vec<usize> {
        self.wrappers.iter().map(|wrapper| wrapper.fate.turn).collect()
    }

    /// A handle of a wrapper, which was not waited for, so that its number is its own.
    pub(crate) fn wrapper(&self, turn: usize) -> Option<Process> {
        let wrapper = self.wrappers.iter().find(|wrapper| wrapper.fate.turn == turn)?;
        Process::open(wrapper.process.pid)
    }

    /// A handle of a command, if its number is still its own.
    pub(crate) fn command(&self, turn: usize) -> Option<Process> {
        let process = Process::open(*self.running.get(&turn)?)?;
        // The handle comes first: what is looked at after that is what it means, or is gone.
        let environment = fs::read(format!("/proc/{}/environ", process.pid)).ok()?;
        let mark = format!("{VARIABLE}={turn} ");
        let is_it = environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(mark.as_bytes()));
        is_it.then_some(process)
    }

    /// Says that a command is about to be killed.
    pub(crate) fn note_kill(&mut self, turn: usize) {
        if let Some(start) = self.stamps.iter().rev().find(|stamp| stamp.what == What::Start && stamp.turn == turn) {
            self.pen.stamp(What::Kill, &start.domain, turn, start.ticket, start.token, start.pid);
        }
    }

    /// A handle of the daemon, if there is one: the one that the lock names, and that serves this home's socket.
    pub(crate) fn daemon(&self) -> Option<Process> {
        let process = Process::open(self.home.daemon_pid()?)?;
        let arguments = fs::read(format!("/proc/{}/cmdline", process.pid)).ok()?;
        let socket = self.home.socket();
        let serves = arguments.split(|byte| *byte == 0).any(|argument| argument == socket.as_os_str().as_bytes());
        (serves && arguments.starts_with(b"seqd\0") && process.is_alive()).then_some(process)
    }

    /// Asks the daemon who waits, and remembers everybody's ticket: what it has told it may not forget. False when
    /// there is no daemon that answers.
    pub(crate) fn note_places(&mut self) -> bool {
        let answer = Wire::connect(&self.home.socket())
            .and_then(|mut wire| wire.ask(&json!({"op": "status", "waiters_max": 10_000})));
        let Some(answer) = answer else { return false };
        let mut tickets = HashMap::new();
        for domain in answer["domains"].as_array().into_iter().flatten() {
            for waiter in domain["waiters"].as_array().into_iter().flatten() {
                tickets.extend(waiter["pid"].as_u64().zip(waiter["ticket"].as_u64()));
            }
        }
        for Wrapper { process, fate, .. } in &mut self.wrappers {
            let told = tickets.get(&u64::from(process.pid)).copied();
            assert!(
                fate.place.is_none() || told.is_none() || fate.place == told,
                "turn {} in {} waited with ticket {:?}, and now waits with {told:?}",
                fate.turn,
                fate.domain,
                fate.place
            );
            fate.place = fate.place.or(told);
        }
        true
    }

    /// Waits until no turn is taken, nobody waits, and nothing is left but the daemon; and then ends that. Gives the
    /// history of all turns, as `seq log` tells it.
    pub(crate) fn close(&mut self, domains: &[String]) -> Vec<serde_json::Value> {
        self.home.warm();
        for domain in domains {
            self.home.await_idle(domain);
        }
        let daemon = self.home.daemon().pid;
        self.home.await_fact("only the daemon is left", || {
            let left = of_home(self.home.path()).into_iter().filter(|left| left.pid != daemon && left.is_alive());
            (left.count() == 0).then_some(())
        });
        self.look();
        // The next daemon takes up what was left for it by those who found none in time.
        self.home.seq(&["stop"]).is_silent(0);
        let log = self.home.seq(&["log", "--json", "-n", "20000"]);
        assert_eq!((log.status.code(), log.stderr().as_str()), (Some(0), ""), "seq log");
        self.home.seq(&["stop"]).is_silent(0);
        let is_empty = || of_home(self.home.path()).iter().all(|left| !left.is_alive()).then_some(());
        look_for(is_empty).expect("no process is left");
        log.stdout().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn describe(&self) -> String {
        let waiting: Vec<_> = self.wrappers.iter().map(|wrapper| &wrapper.fate).collect();
        let last: Vec<_> = self.stamps.iter().rev().take(40).map(|stamp| stamp.line.as_str()).collect();
        format!("{waiting:#?}\ncommands {:?}\nthe last stamps, newest first\n{}", self.running, last.join("\n"))
    }
}
