//! A daemon of one's own, and clients that speak to it over the bare socket.

#![allow(dead_code, reason = "each test program uses its own part of it")]

use std::fs;
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that is expected to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A daemon with a directory of its own; killed when it goes out of scope, also when the test fails.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) socket: PathBuf,
    directory: Option<TempDir>,
}

impl Daemon {
    /// Starts one in a new directory.
    pub(crate) fn start() -> Daemon {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = directory.path().join("seq/seqd.sock");
        let mut daemon = Daemon::start_at(&socket);
        daemon.directory = Some(directory);
        daemon
    }

    /// Starts one at `socket`, and waits until it is ready.
    pub(crate) fn start_at(socket: &Path) -> Daemon {
        Daemon::start_with(socket, &[]).unwrap_or_else(|said| panic!("the daemon did not start: {said}"))
    }

    /// Starts one with more arguments; gives what it said when it is not ready.
    pub(crate) fn start_with(socket: &Path, arguments: &[&str]) -> Result<Daemon, String> {
        Daemon::start_as(seqd(), socket, arguments)
    }

    /// Starts one that makes a fault on purpose, see `src/store/fault.rs`.
    pub(crate) fn start_with_fault(socket: &Path, fault: &str) -> Result<Daemon, String> {
        let mut command = seqd();
        command.env("SEQD_FAULT", fault);
        Daemon::start_as(command, socket, &[])
    }

    /// Starts this program as the daemon.
    pub(crate) fn start_as(mut command: Command, socket: &Path, arguments: &[&str]) -> Result<Daemon, String> {
        // What `--detach` runs in the background, but as a child of this test, that waits for `ready`.
        command.arg("--detached").arg("--socket").arg(socket).args(arguments);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("seqd");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut said).expect("UTF-8");
        if said == format!("ready {}\n", child.id()) {
            return Ok(Daemon { child, socket: socket.to_owned(), directory: None });
        }
        child.wait().expect("a status");
        Err(said)
    }

    /// Kills it with -9, and gives where it listened.
    pub(crate) fn kill(mut self) -> PathBuf {
        self.signal(Signal::KILL);
        self.wait();
        assert!(self.directory.is_none(), "take its directory first");
        self.socket.clone()
    }

    /// The daemon's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new client.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.socket)
    }

    /// Sends the daemon a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the daemon is there");
    }

    /// A file beside the socket.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.socket.with_file_name(name)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("seqd.log")).unwrap_or_default()
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the daemon ends", || self.child.try_wait().expect("a child"))
    }

    /// Whether it has ended.
    pub(crate) fn is_gone(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the daemon is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes * 1024
    }

    /// Gives the directory away, so that it outlives this daemon.
    pub(crate) fn take_directory(&mut self) -> TempDir {
        self.directory.take().expect("a directory of its own")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Client {
        let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
        Client::from(stream)
    }

    /// Sends lines, each ended by a newline here.
    pub(crate) fn send(&mut self, lines: &str) {
        self.send_bytes(format!("{lines}\n").as_bytes());
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the daemon reads");
    }

    /// Sends a line and descriptors with it.
    pub(crate) fn send_with(&mut self, line: &str, descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        let line = format!("{line}\n");
        let sent = sendmsg(self.stream.get_ref(), &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::empty());
        assert_eq!(sent, Ok(line.len()));
    }

    /// The next line, without its newline; empty at the end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap_or_else(|error| panic!("no line came in time: {error}"));
        line.trim_end().to_owned()
    }

    /// The next line as data.
    pub(crate) fn reply(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// Sends `line` and gives the answer.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.line()
    }

    /// Sends `line` and gives the answer, or what was said instead of hearing it.
    pub(crate) fn tries(&mut self, line: &str) -> String {
        // The daemon may have hung up already.
        let _ = self.stream.get_mut().write_all(format!("{line}\n").as_bytes());
        self.line()
    }

    /// Sends `line`, to a daemon that may be gone.
    pub(crate) fn tries_to_say(&mut self, line: &str) {
        let _ = self.stream.get_mut().write_all(format!("{line}\n").as_bytes());
    }

    /// The next line as data; nothing when the daemon is gone.
    pub(crate) fn next_reply(&mut self) -> Option<Value> {
        let mut line = String::new();
        // A reset is as good as an end; what was cut short was never told.
        let _ = self.stream.read_line(&mut line);
        serde_json::from_str(&line).ok()
    }

    /// Expects these lines next, word for word.
    #[track_caller]
    pub(crate) fn hears(&mut self, lines: &[&str]) {
        for expected in lines {
            assert_eq!(self.line(), **expected);
        }
    }

    /// Expects that nothing was said up to now: what a new question brings is only its own answer.
    #[track_caller]
    pub(crate) fn hears_nothing(&mut self) {
        let answer = self.ask(r#"{"op":"hello","protocol":1,"request_id":"nothing before this"}"#);
        assert!(answer.contains("nothing before this"), "{answer}");
    }

    /// Expects the end of the connection, and nothing before it.
    #[track_caller]
    pub(crate) fn hears_the_end(&mut self) {
        let mut rest = String::new();
        // Whoever is sent away with unread words gets a reset instead of an end.
        let _ = self.stream.read_to_string(&mut rest);
        assert_eq!(rest, "");
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        self.stream.get_ref()
    }

    /// Reads until the daemon is gone.
    pub(crate) fn loses_the_daemon(&mut self) {
        let mut rest = Vec::new();
        // A reset is as good as an end.
        let _ = self.stream.read_to_end(&mut rest);
    }

    /// Asks for a turn in `domain` and expects to have it at once; gives its ticket.
    pub(crate) fn takes_turn(&mut self, domain: &str) -> u64 {
        self.send(&format!(r#"{{"op":"sequence","domain":"{domain}"}}"#));
        let reply = self.reply();
        assert_eq!(reply["type"], "active", "{reply}");
        reply["ticket"].as_u64().expect("a ticket")
    }
}

impl From<UnixStream> for Client {
    fn from(stream: UnixStream) -> Client {
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        stream.set_write_timeout(Some(DEADLINE)).expect("a time-out");
        Client { stream: BufReader::new(stream) }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }
}

/// The program, in an environment that says nothing.
pub(crate) fn seqd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seqd"));
    command.env_remove("SEQ_SOCKET").env_remove("LISTEN_PID").env_remove("LISTEN_FDS").env_remove("NOTIFY_SOCKET");
    command
}

/// A command that does nothing until it is killed, and is, when it goes out of scope.
pub(crate) struct Sleeper(pub(crate) Child);

impl Sleeper {
    pub(crate) fn start() -> Sleeper {
        Sleeper(Command::new("sleep").arg("1000").spawn().expect("sleep"))
    }

    pub(crate) fn pidfd(&self) -> std::os::fd::OwnedFd {
        let pid = Pid::from_child(&self.0);
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("a pidfd")
    }

    pub(crate) fn end(&mut self) {
        self.0.kill().expect("it is there");
        self.0.wait().expect("a status");
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a fact that nobody tells.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Takes as many descriptors as the system allows.
pub(crate) fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the system allows it");
}
