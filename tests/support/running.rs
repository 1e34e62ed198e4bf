//! A program that a test has started, and how it ended.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::DEADLINE;
use super::home::explain;
use super::processes::{Process, signal};

/// A program that runs. What it says goes to files, so that nobody who inherits a pipe can hold the test up.
#[derive(Debug)]
pub struct Running {
    child: Child,
    home: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
    since: Instant,
    is_reaped: bool,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub took: Duration,
}

impl Running {
    /// Starts `command`; its standard output and error go to files called `out`.
    pub fn start(command: &mut Command, home: &Path, out: &Path) -> Running {
        let (stdout, stderr) = (out.with_extension("stdout"), out.with_extension("stderr"));
        let create = |path: &Path| File::create(path).expect("a file for what it says");
        command.stdout(create(&stdout)).stderr(create(&stderr));
        Running::start_as_is(command, home, stdout, stderr)
    }

    /// Starts `command` with whatever standard output and error it was given.
    pub fn start_as_is(command: &mut Command, home: &Path, stdout: PathBuf, stderr: PathBuf) -> Running {
        let since = Instant::now();
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Running { child, home: home.to_owned(), stdout, stderr, since, is_reaped: false }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, number: Signal) {
        signal(self.pid(), number);
    }

    /// What it has written to standard error so far.
    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    pub fn has_ended(&mut self) -> bool {
        !Process::open(self.pid()).expect("not waited for yet").is_alive()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let process = Process::open(self.pid()).expect("not waited for yet");
        let has_ended = process.has_ended_within(DEADLINE.as_secs().try_into().expect("short"));
        assert!(has_ended, "it did not end: {}\n{}", self.stderr_so_far(), explain(&self.home));
        let took = self.since.elapsed();
        let status = self.child.wait().expect("a child of ours");
        self.is_reaped = true;
        let read = |path: &Path| fs::read(path).unwrap_or_default();
        Ended { status, stdout: read(&self.stdout), stderr: read(&self.stderr), took }
    }

    /// Kills it with -9, and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if !self.is_reaped {
            // Not reaped, so the number is still this child's.
            _ = self.child.kill();
            _ = self.child.wait();
            self.is_reaped = true;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

impl Ended {
    /// Runs `command` to its end, with nothing on standard input unless it was given something.
    #[track_caller]
    pub fn of(command: &mut Command, home: &Path, out: &Path) -> Ended {
        Running::start(command.stdin(Stdio::null()), home, out).wait()
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// It ended with `status` and said exactly this.
    #[track_caller]
    pub fn says(&self, status: i32, stdout: &str, stderr: &str) {
        let found = (self.status.code(), self.stdout(), self.stderr());
        assert_eq!(
            found,
            (Some(status), stdout.to_owned(), stderr.to_owned()),
            "status (or signal {:?}), stdout, stderr",
            self.status.signal()
        );
    }

    /// It ended with `status` and said nothing.
    #[track_caller]
    pub fn is_silent(&self, status: i32) {
        self.says(status, "", "");
    }

    /// It died of this signal, as a shell's script has to see, said nothing, and left no core.
    #[track_caller]
    pub fn dies_of(&self, signal: i32) {
        let found = (self.status.signal(), self.status.core_dumped(), self.stdout(), self.stderr());
        assert_eq!(found, (Some(signal), false, String::new(), String::new()), "status {:?}", self.status.code());
    }

    /// It ended with `status`, said nothing on standard output, and one sentence of ours, with `words` in it, on
    /// standard error.
    #[track_caller]
    pub fn complains(&self, status: i32, words: &str) {
        let stderr = self.stderr();
        assert_eq!((self.status.code(), self.stdout().as_str()), (Some(status), ""), "stderr: {stderr}");
        assert!(stderr.contains(words), "{words:?} is not in {stderr:?}");
        assert!(stderr.lines().all(|line| line.starts_with("seq: ")), "not ours: {stderr:?}");
        assert_eq!(stderr.lines().count(), 1, "more than a sentence: {stderr:?}");
    }

    /// As `complains`, and then it names the help.
    #[track_caller]
    pub fn complains_of_usage(&self, status: i32, words: &str) {
        let stderr = self.stderr();
        assert_eq!((self.status.code(), self.stdout().as_str()), (Some(status), ""), "stderr: {stderr}");
        let lines: Vec<&str> = stderr.lines().collect();
        assert!(lines[0].contains(words), "{words:?} is not in {stderr:?}");
        assert!(lines.iter().all(|line| line.starts_with("seq: ")), "not ours: {stderr:?}");
        assert_eq!(lines.get(1..), Some(&["seq: For more information, try '--help'."][..]));
        assert!(!stderr.contains(|c: char| c.is_control() && c != '\n'), "a terminal would obey it: {stderr:?}");
    }
}
