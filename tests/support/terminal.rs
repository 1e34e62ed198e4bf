//! A terminal of one's own, with a program in it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::home::explain;
use super::{DEADLINE, Ended, Home, Running};

/// The side of a terminal where people sit.
pub struct Terminal<'a> {
    home: &'a Home,
    people: File,
    program: Option<Running>,
    /// All that was shown.
    pub shown: String,
    /// How much of it was looked at.
    seen: usize,
}

impl<'a> Terminal<'a> {
    /// Starts `command` in a session of its own whose terminal is this one: 24 lines of `columns` columns.
    pub fn start(home: &'a Home, command: &Command, columns: u16) -> Terminal<'a> {
        let people = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&people).expect("a terminal of ours");
        unlockpt(&people).expect("a terminal that opens");
        tcsetwinsize(&people, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let program: OwnedFd = ioctl_tiocgptpeer(&people, flags).expect("its other side");
        let side = || Stdio::from(program.try_clone().expect("a descriptor"));
        // setsid(1) makes its standard input the session's terminal and becomes the program.
        let mut started = home.command("setsid");
        started.arg("--ctty").arg("--wait").arg(command.get_program()).args(command.get_args()).env("TERM", "xterm");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => started.env(name, value),
                None => started.env_remove(name),
            };
        }
        started.stdin(side()).stdout(side()).stderr(side());
        let out = home.out();
        let running = Running::start_as_is(&mut started, home.path(), out.clone(), out);
        Terminal { home, people: File::from(people), program: Some(running), shown: String::new(), seen: 0 }
    }

    /// The program's process.
    pub fn pid(&self) -> u32 {
        self.program.as_ref().expect("it runs").pid()
    }

    /// Types: `\x03` is Ctrl-C, `\x1a` is Ctrl-Z.
    pub fn types(&mut self, keys: &str) {
        self.people.write_all(keys.as_bytes()).expect("the terminal takes it");
    }

    /// Waits until `text` is shown, after all that was waited for before.
    #[track_caller]
    pub fn await_text(&mut self, text: &str) {
        let start = Instant::now();
        loop {
            if let Some(found) = self.shown[self.seen..].find(text) {
                self.seen += found + text.len();
                return;
            }
            let goes_on = self.read(Duration::from_millis(100)) && start.elapsed() < DEADLINE;
            assert!(goes_on, "{text:?} was never shown: {:?}\n{}", self.shown, explain(self.home.path()));
        }
    }

    /// Hangs up, as a connection that is lost; gives the program, which has nobody to show anything to any more.
    pub fn hang_up(self) -> Running {
        self.program.expect("it runs")
    }

    /// Waits for the program's end, and reads all that it has shown.
    #[track_caller]
    pub fn wait(&mut self) -> Ended {
        // A program does not end while it has to write and nobody reads.
        while self.read(DEADLINE) {}
        self.program.take().expect("it runs").wait()
    }

    /// Reads what is shown within `patience`; false when nobody is left to show anything.
    fn read(&mut self, patience: Duration) -> bool {
        let timeout =
            Timespec { tv_sec: patience.as_secs().try_into().expect("short"), tv_nsec: patience.subsec_nanos().into() };
        let ready = poll(&mut [PollFd::new(&self.people, PollFlags::IN)], Some(&timeout)).unwrap_or(0);
        if ready == 0 {
            return patience < DEADLINE;
        }
        let mut bytes = [0; 4096];
        // The last one to close the other side makes this EIO.
        match self.people.read(&mut bytes) {
            Ok(read) if read > 0 => {
                self.shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
                true
            }
            _ => false,
        }
    }
}
