//! A home directory for one test, with its own daemon, in which nothing outlives the test.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::processes::{self, Process};
use super::signals::default_signals;
use super::{Ended, Gate, Running, Wire, look_for, seq_program};

/// Where programs are looked for: nothing of the user's own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that writes `start NAME` and `end NAME` to `$HOME/log`, passes a gate in between if one is named, and
/// writes `overlap NAME` when another one runs in its domain. That is witnessed by a lock of its own, which does not
/// know of seq.
const WORKER: &str = r#"#!/bin/sh
# worker NAME [GATE]
exec 8>>"$HOME/witness-$SEQ_DOMAIN"
flock -n 8 || echo "overlap $1" >>"$HOME/log"
echo "start $1" >>"$HOME/log"
if [ -n "$2" ]; then read -r line <"$HOME/$2"; fi
echo "end $1" >>"$HOME/log"
"#;

/// Everything a test needs, gone when it goes.
#[derive(Debug)]
pub struct Home {
    directory: TempDir,
    /// Numbers the files for what programs say.
    programs: Cell<usize>,
}

impl Home {
    /// A fresh one. Its path is short, so that a socket in it can be bound.
    pub fn new() -> Home {
        default_signals();
        // A daemon wants a directory to itself, and so do sockets that tests put here.
        let mode = fs::Permissions::from_mode(0o700);
        let builder = tempfile::Builder::new().prefix("seq-").permissions(mode).tempdir_in("/tmp");
        let directory = builder.expect("a directory in /tmp");
        fs::create_dir(directory.path().join("said")).expect("a directory");
        let home = Home { directory, programs: Cell::new(0) };
        home.script("worker", WORKER);
        home
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A file in it.
    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Where the daemon keeps its files.
    pub fn state(&self) -> PathBuf {
        self.file(".local/state/seq")
    }

    pub fn socket(&self) -> PathBuf {
        self.state().join("seqd.sock")
    }

    /// Writes a program that can be run as `$HOME/NAME`.
    pub fn script(&self, name: impl AsRef<Path>, text: &str) -> PathBuf {
        let written = self.out().with_extension("text");
        fs::write(&written, text).expect("a file");
        self.install(&written, name)
    }

    /// Copies a program to `$HOME/NAME`. Another process does that: a descriptor of this one that may write to the
    /// program could be inherited by what another thread starts at that moment, and then the program could not be run
    /// (`ETXTBSY`, `execve(2)`).
    pub fn install(&self, program: &Path, name: impl AsRef<Path>) -> PathBuf {
        let path = self.file(name);
        let status = self.command("install").arg("--mode=755").arg(program).arg(&path).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot write {}", path.display());
        path
    }

    /// A gate at `$HOME/NAME`.
    pub fn gate(&self, name: &str) -> Gate {
        Gate::new(self.file(name))
    }

    /// What a file in it holds; nothing when there is none.
    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.file(name)).unwrap_or_default()).into_owned()
    }

    /// What commands have written to `$HOME/log`, line by line.
    pub fn log(&self) -> Vec<String> {
        self.read("log").lines().map(str::to_owned).collect()
    }

    /// Any program, with the clean environment of this home, in this home.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PATH).env("HOME", self.path()).env("NO_COLOR", "1").env("TZ", "UTC");
        command.env("LC_ALL", "C").env("SEQ", seq_program()).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// `seq` with `arguments`, to be started.
    pub fn seq_command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.command(seq_program());
        command.args(arguments);
        command
    }

    /// Starts a program of this home.
    #[track_caller]
    pub fn launch(&self, command: &mut Command) -> Running {
        Running::start(command, self.path(), &self.out())
    }

    /// Runs a program of this home to its end.
    #[track_caller]
    pub fn finish(&self, command: &mut Command) -> Ended {
        self.launch(command).wait()
    }

    /// Starts `seq` with `arguments`.
    #[track_caller]
    pub fn start<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Running {
        self.launch(&mut self.seq_command(arguments))
    }

    /// Runs `seq` with `arguments` to its end.
    #[track_caller]
    pub fn seq<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ended {
        self.start(arguments).wait()
    }

    /// Runs a shell script, in which `$SEQ` is the program under test, to its end.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Ended {
        self.finish(self.command("sh").args(["-c", script]))
    }

    /// Starts a worker in `domain` that holds its turn until `gate` lets it go, and waits until it does hold it.
    #[track_caller]
    pub fn hold(&self, domain: &str, name: &str, gate: &str) -> Running {
        let running = self.start(&["run", "-d", domain, "--", "./worker", name, gate]);
        self.await_line(&format!("start {name}"));
        running
    }

    /// Starts a worker in `domain` and waits until it is the `place`th of those who wait.
    #[track_caller]
    pub fn queue(&self, domain: &str, name: &str, place: usize) -> Running {
        let running = self.start(&["run", "-d", domain, "--", "./worker", name]);
        self.await_waiters(domain, place);
        running
    }

    /// Waits for a fact.
    #[track_caller]
    pub fn await_fact<T>(&self, what: &str, fact: impl FnMut() -> Option<T>) -> T {
        look_for(fact).unwrap_or_else(|| panic!("never came: {what}\n{}", explain(self.path())))
    }

    /// Waits for a line in `$HOME/log`.
    #[track_caller]
    pub fn await_line(&self, line: &str) {
        self.await_fact(&format!("the line {line:?} in $HOME/log"), || {
            self.log().iter().any(|found| found == line).then_some(())
        });
    }

    /// Waits for a file with at least one whole line in it, and gives its first line.
    #[track_caller]
    pub fn await_file(&self, name: &str) -> String {
        self.await_fact(&format!("the file {name}"), || {
            self.read(name).split_once('\n').map(|(line, _)| line.to_owned())
        })
    }

    /// Waits for a file with a process's number in it, and gives the process.
    #[track_caller]
    pub fn await_process(&self, file: &str) -> Process {
        let pid = self.await_file(file).trim().parse().expect("a pid");
        Process::open(pid).unwrap_or_else(|| panic!("process {pid} of {file} is gone"))
    }

    /// Waits until so many wait in `domain`.
    #[track_caller]
    pub fn await_waiters(&self, domain: &str, waiters: usize) {
        self.await_status(domain, &format!("{waiters} waiters"), |line| {
            line["waiting"].as_u64() == Some(waiters as u64)
        });
    }

    /// Waits until nobody holds and nobody waits in `domain`.
    #[track_caller]
    pub fn await_idle(&self, domain: &str) {
        self.await_status(domain, "idle", |line| {
            line["waiting"].as_u64().unwrap_or(0) == 0 && line["holders"].as_array().is_none_or(Vec::is_empty)
        });
    }

    /// Waits until the only holder in `domain` is in this state, and gives it.
    #[track_caller]
    pub fn await_holder(&self, domain: &str, state: &str) -> Value {
        self.await_status(domain, &format!("a holder that is {state}"), |line| {
            line["holders"].as_array().is_some_and(|all| all.len() == 1) && line["holders"][0]["state"] == state
        })["holders"][0]
            .clone()
    }

    /// Waits until the line of `domain` is as it should be, and gives it. A domain that is not in use is `null`.
    #[track_caller]
    pub fn await_status(&self, domain: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut wire = None;
        self.await_fact(&format!("{domain}: {what}"), || {
            if wire.is_none() {
                wire = Wire::connect(&self.socket());
            }
            let answer = wire.as_mut()?.ask(&json!({"op": "status", "domain": domain, "waiters_max": 10_000}));
            let Some(answer) = answer else {
                wire = None;
                return None;
            };
            let line = answer["domains"][0].clone();
            is_so(&line).then_some(line)
        })
    }

    /// A bare connection to the daemon.
    #[track_caller]
    pub fn wire(&self) -> Wire {
        self.await_fact("a daemon that listens", || Wire::connect(&self.socket()))
    }

    /// The daemon's process, as the file says that it keeps locked.
    #[track_caller]
    pub fn daemon(&self) -> Process {
        let pid = self.daemon_pid().unwrap_or_else(|| panic!("no daemon\n{}", explain(self.path())));
        Process::open(pid).unwrap_or_else(|| panic!("the daemon {pid} is gone\n{}", explain(self.path())))
    }

    /// Kills the daemon with -9, and waits until it is gone.
    #[track_caller]
    pub fn kill_daemon(&self) {
        let daemon = self.daemon();
        assert!(daemon.signal(Signal::KILL), "the daemon {} is gone", daemon.pid);
        assert!(daemon.has_ended_within(10), "the daemon {} does not end", daemon.pid);
    }

    /// The number in `life.lock`, if there is one.
    pub fn daemon_pid(&self) -> Option<u32> {
        daemon_pid(&self.state())
    }

    /// The daemons that there are for this home's socket.
    pub fn daemons(&self) -> Vec<u32> {
        let is_daemon = |pid: u32| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.starts_with(b"seqd\0") || arguments.split(|byte| *byte == 0).next().is_some_and(ends_in_seqd)
        };
        processes::of_home(self.path())
            .into_iter()
            .filter(|process| process.is_alive() && is_daemon(process.pid))
            .map(|process| process.pid)
            .collect()
    }

    /// Runs `true` in a domain of its own, so that a daemon is there.
    #[track_caller]
    pub fn warm(&self) {
        self.seq(&["run", "-d", "warm", "--", "true"]).is_silent(0);
    }

    /// A name for the files of what one program says.
    pub fn out(&self) -> PathBuf {
        self.programs.set(self.programs.get() + 1);
        self.file(format!("said/{}", self.programs.get()))
    }
}

impl Drop for Home {
    /// Ends every process of this home and waits for its end, also when the test has failed.
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("CI").is_some() {
            #[expect(clippy::print_stderr, reason = "a failed test says all that there is to know")]
            {
                eprintln!("{}", explain(self.path()));
            }
        }
        loop {
            let found: Vec<Process> = processes::of_home(self.path()).into_iter().filter(Process::is_alive).collect();
            if found.is_empty() {
                break;
            }
            for process in &found {
                process.signal(Signal::KILL);
            }
            for process in &found {
                process.has_ended_within(10);
            }
        }
    }
}

/// The number in the `life.lock` of a state directory, if there is one.
pub fn daemon_pid(state: &Path) -> Option<u32> {
    let life: Value = serde_json::from_slice(&fs::read(state.join("life.lock")).ok()?).ok()?;
    life["pid"].as_u64()?.try_into().ok()
}

fn ends_in_seqd(program: &[u8]) -> bool {
    program.ends_with(b"/seqd")
}

/// What there is to see in a home: its processes, the log of its daemon, what its commands wrote.
pub fn explain(home: &Path) -> String {
    let processes: Vec<String> =
        processes::of_home(home).iter().map(|process| processes::describe(process.pid)).collect();
    let read = |name: &str| fs::read_to_string(home.join(name)).unwrap_or_else(|error| error.to_string());
    format!(
        "--- processes\n{}\n--- the daemon's log\n{}\n--- the commands' log\n{}\n---",
        processes.join("\n"),
        read(".local/state/seq/seqd.log"),
        read("log")
    )
}
