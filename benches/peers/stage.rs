//! Where a benchmark takes place: a directory and a daemon of its own, and the peers, each ended by its pid.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take that is expected to happen.
const DEADLINE: Duration = Duration::from_mins(1);

/// What can be measured beside seq, and the Debian package that has it.
const PEERS: [(&str, &str); 7] = [
    ("flock", "util-linux"),
    ("sem", "parallel"),
    ("tsp", "task-spooler"),
    ("nq", "nq"),
    ("redis-server", "redis-server"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
];

/// The program that is measured.
pub(crate) const SEQ: &str = env!("CARGO_BIN_EXE_seq");

/// The same as the daemon.
pub(crate) const SEQD: &str = env!("CARGO_BIN_EXE_seqd");

/// The home of an earlier version, within that of this one.
pub(crate) const BEFORE: &str = "before";

/// A directory that is also the home of all that runs in it.
pub(crate) struct Stage {
    directory: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        Stage { directory: tempfile::Builder::new().prefix("seq-peers-").tempdir().expect("a temporary directory") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A program that sees nothing of the user's own environment but `PATH`, and says nothing.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.directory.path()).env_clear().env("HOME", self.directory.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TMPDIR", self.directory.path());
        command.env("TS_SOCKET", self.path("tsp")).env("NQDIR", self.path("nq"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// The daemon, with default settings but for these arguments.
    pub(crate) fn daemon(&self, name: &str, arguments: &[&str]) -> Server {
        self.daemon_of(SEQD, name, arguments)
    }

    /// The same of another program.
    pub(crate) fn daemon_of(&self, program: impl AsRef<OsStr>, name: &str, arguments: &[&str]) -> Server {
        let socket = self.path(name).join("seqd.sock");
        let mut command = self.command(program, &["--detached", "--socket"]);
        let mut child = command.arg(&socket).args(arguments).stdout(Stdio::piped()).spawn().expect("seqd");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut said).expect("UTF-8");
        assert_eq!(said, format!("ready {}\n", child.id()));
        Server { child, socket }
    }

    /// Redis as it comes, but on a Unix socket alone and with nothing on disk.
    pub(crate) fn redis(&self) -> Server {
        let socket = self.path("redis.sock");
        let arguments = ["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"];
        let mut command = self.command("redis-server", &arguments);
        Server::await_socket(command.arg(&socket).spawn().expect("redis-server"), socket)
    }

    /// This program as a server that says what it hears.
    pub(crate) fn echo(&self) -> Server {
        let socket = self.path("echo.sock");
        let this = std::env::current_exe().expect("a path");
        let mut command = self.command(this, &["echo"]);
        Server::await_socket(command.arg(&socket).spawn().expect("this program"), socket)
    }

    /// etcd, on a port that was free a moment ago; gives the address for its clients.
    pub(crate) fn etcd(&self) -> (Server, String) {
        let free =
            || std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let [client, peer] = [free(), free()].map(|address| format!("http://{address}"));
        let mut command = self.command("etcd", &["--data-dir", "etcd", "--initial-cluster"]);
        command.arg(format!("default={peer}")).args(["--initial-advertise-peer-urls", &peer]);
        command.args(["--listen-peer-urls", &peer, "--listen-client-urls", &client]);
        let server = Server {
            child: command.args(["--advertise-client-urls", &client]).spawn().expect("etcd"),
            socket: PathBuf::new(),
        };
        let address = client.trim_start_matches("http://").to_owned();
        until("etcd listens", || std::net::TcpStream::connect(&address).ok());
        (server, client)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The daemon that `seq run` started, and the server of tsp, if they are there.
        for home in [self.path("."), self.path(BEFORE)] {
            if home.join(".local/state/seq/seqd.sock").exists() {
                let _ = self.command(SEQ, &["stop", "--no-start"]).env("HOME", home).status();
            }
        }
        if self.path("tsp").exists() {
            let _ = self.command("tsp", &["-K"]).status();
        }
    }
}

/// A server, ended by its pid when it goes out of scope.
pub(crate) struct Server {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Server {
    fn await_socket(child: Child, socket: PathBuf) -> Server {
        let server = Server { child, socket };
        until("the server listens", || UnixStream::connect(&server.socket).ok());
        server
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("the server listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Children that are killed if they are not waited for.
pub(crate) struct Children(pub(crate) Vec<Child>);

impl Children {
    /// Waits for all of them, each of which must have succeeded.
    pub(crate) fn wait(mut self) {
        for mut child in self.0.drain(..) {
            assert!(child.wait().expect("a child").success(), "a process failed");
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a line and gives the answer.
pub(crate) fn ask(stream: &mut UnixStream, line: &str) -> String {
    stream.write_all(format!("{line}\n").as_bytes()).expect("the daemon reads");
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while answer.last() != Some(&b'\n') {
        let read = stream.read(&mut part).expect("an answer in time");
        assert!(read > 0, "the daemon has gone");
        answer.extend_from_slice(&part[..read]);
    }
    String::from_utf8(answer).expect("UTF-8")
}

/// How many wait in `domain`.
pub(crate) fn waiting(stream: &mut UnixStream, domain: &str) -> usize {
    let status = ask(stream, &format!(r#"{{"op":"status","domain":"{domain}","waiters_max":0}}"#));
    let (_, after) = status.split_once(r#""waiting":"#).unwrap_or(("", "0"));
    after.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// A FIFO that whoever opens it for reading waits at until it is opened.
pub(crate) struct Gate(PathBuf);

impl Gate {
    pub(crate) fn new(stage: &Stage, name: &str) -> Gate {
        let path = stage.path(name);
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).expect("a FIFO");
        Gate(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Lets through whoever is there, or comes first.
    pub(crate) fn open(&self) {
        drop(File::options().write(true).open(&self.0).expect("a FIFO"));
    }
}

/// Waits for a fact that nobody tells.
pub(crate) fn until<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether `program` is on `PATH`.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// What to install for what is missing; nothing when all is there.
pub(crate) fn missing() -> Option<String> {
    let missing: Vec<_> = PEERS.iter().filter(|(program, _)| !has(program)).collect();
    let names = |field: fn(&(&'static str, &'static str)) -> &'static str| {
        missing.iter().map(|peer| field(peer)).collect::<Vec<_>>().join(" ")
    };
    let (programs, packages) = (names(|peer| peer.0), names(|peer| peer.1));
    (!missing.is_empty()).then(|| format!("not measured, since missing: {programs} (apt-get install {packages})"))
}

/// Nanoseconds that the first thread of a process has run (`/proc/PID/schedstat`, "sched-stats" of the kernel's
/// documentation). In the daemon that is the one that does all but checkpoints.
pub(crate) fn run_time(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("the process is there");
    text.split(' ').next().and_then(|field| field.parse().ok()).expect("a number")
}

/// A number of `/proc/PID/FILE`, by the words before it.
pub(crate) fn figure(pid: u32, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process is there");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Bytes of memory that only this process has, and that are no part of a file.
pub(crate) fn own_memory(pid: u32) -> u64 {
    figure(pid, "status", "RssAnon:") * 1024
}
