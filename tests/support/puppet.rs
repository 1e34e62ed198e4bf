//! A client in a process of its own, which may be killed: this test program run again, that speaks to the daemon what
//! it is given on its standard input.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Names the socket for the program that is run again.
const VARIABLE: &str = "SEQ_TEST_PUPPET";

/// A client.
pub(crate) struct Puppet {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Puppet {
    /// Connects from another process.
    pub(crate) fn connect(socket: &Path) -> Puppet {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "puppet", "--nocapture", "--test-threads=1"])
            .env(VARIABLE, socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program again");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Puppet { child, input, output }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends `line` and gives the answer.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.input.write_all(format!("{line}\n").as_bytes()).expect("it reads");
        loop {
            let mut said = String::new();
            assert!(self.output.read_line(&mut said).expect("UTF-8") > 0, "it ended without an answer");
            // What the test harness has to say comes first, also on the same line.
            if let Some(start) = said.find('{') {
                return said[start..].trim_end().to_owned();
            }
        }
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is there");
        self.child.wait().expect("a status");
    }
}

/// What the program does when it is run again; nothing when it is run as usual. It stays when the daemon is gone.
pub(crate) fn perform() {
    let Some(socket) = std::env::var_os(VARIABLE) else { return };
    let stream = UnixStream::connect(socket).expect("a daemon");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let (mut writer, mut reader) = (stream.try_clone().expect("a descriptor"), BufReader::new(stream));
    for line in std::io::stdin().lines() {
        writeln!(writer, "{}", line.expect("UTF-8")).expect("a daemon that reads");
        let mut answer = String::new();
        reader.read_line(&mut answer).expect("a daemon that answers");
        write!(std::io::stdout(), "{answer}").expect("a test that reads");
        std::io::stdout().flush().expect("a test that reads");
    }
}
