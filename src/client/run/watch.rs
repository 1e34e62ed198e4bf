//! Standing by while the command runs: signals go to it, its end is waited for, its time is kept.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::Signal as Signo;
// A group or session from outside of the pid namespace has the number 0, which the types of rustix do not have.
use nix::unistd::{getpgid, getsid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group, wait, waitpid};

use crate::cli;
use crate::clock::{Time, show_duration};
use crate::error::status;
use crate::protocol::MADE_WAY_STATUS;
use crate::words;

use super::super::link::timespec;
use super::super::signals::{Caught, Signals, signal_status};
use super::command::Running;
use super::stop::{has_children_to_stop, signal_descendants};
use super::tie::{News, Tie};

/// How far stopping the command has come.
#[derive(Clone, Copy, Debug)]
enum Stopping {
    /// It runs; if there is a limit, until then.
    Not { at: Option<Time> },
    /// It was asked to end, and is killed then; the status to exit with says why.
    Asked { kill_at: Time, status: u8 },
    /// It is being killed, again and again until nothing is left, for what it starts meanwhile.
    Killed { again_at: Time, status: u8 },
}

// By which the daemon knows that it was stopped.
const _: () = assert!(status::CANCELLED as i32 == MADE_WAY_STATUS);

/// How soon to look again for what escaped a KILL by being started at that moment.
const KILL_AGAIN: Duration = Duration::from_millis(20);

/// What a terminal, or a program on behalf of its user, stops a job with.
const JOB_CONTROL: [i32; 3] = [Signo::SIGTSTP as i32, Signo::SIGTTIN as i32, Signo::SIGTTOU as i32];

/// The command, and all that may happen while it runs.
pub(super) struct Watch<'a, 't> {
    args: &'a cli::Run,
    /// How long the command may run.
    longest: Option<Duration>,
    signals: &'a Signals,
    running: &'a Running,
    tie: &'a mut Tie<'t>,
    say: &'a dyn Fn(&dyn Fn() -> String),
    stopping: Stopping,
    /// How the command ended, once it has.
    ended: Option<WaitStatus>,
    /// Whether nothing that the command started is left. Known only if seq adopts all orphans of it.
    is_childless: bool,
}

impl<'a, 't> Watch<'a, 't> {
    pub(super) fn new(
        args: &'a cli::Run,
        longest: Option<Duration>,
        signals: &'a Signals,
        running: &'a Running,
        tie: &'a mut Tie<'t>,
        say: &'a dyn Fn(&dyn Fn() -> String),
    ) -> Watch<'a, 't> {
        let at = longest.map(|longest| Time::now() + longest);
        let stopping = Stopping::Not { at };
        let mut watch = Watch { args, longest, signals, running, tie, say, stopping, ended: None, is_childless: false };
        let news = watch.tie.has_started(running);
        watch.tell(news);
        // What came together with the turn has been read already, and nothing more may come that wakes anybody.
        watch.listen();
        watch
    }

    /// Waits until the command has ended, and everything with it if it had to be stopped. Gives the status to exit
    /// with.
    pub(super) fn until_end(&mut self) -> u8 {
        loop {
            self.reap();
            match (self.ended, self.stopping) {
                (Some(ended), Stopping::Not { .. }) => return exit_status(ended),
                (Some(_), Stopping::Asked { status, .. } | Stopping::Killed { status, .. }) if self.is_childless => {
                    return status;
                }
                _ => {}
            }
            self.stop_when_due();
            self.sleep(None);
        }
    }

    /// Waits until all that the command started has ended, too: until nobody has the keeper's writing end, and no
    /// orphan that closed it is left. Gives the status to exit with if that had to be stopped.
    pub(super) fn until_all_exit(&mut self) -> Option<u8> {
        let keeper = self.tie.keeper_mut()?;
        keeper.close_writing_end();
        let reading = keeper.reading_end().try_clone_to_owned().ok()?;
        let mut ignored = [0; 64];
        // Reading must not wait; what somebody writes to it by accident is not listened to.
        _ = rustix::io::ioctl_fionbio(&reading, true);
        let mut is_open = true;
        while is_open || !self.is_childless {
            self.sleep(is_open.then_some(&reading));
            is_open = is_open && !matches!(rustix::io::read(&reading, &mut ignored), Ok(0));
            self.stop_when_due();
            self.reap();
        }
        match self.stopping {
            Stopping::Not { .. } => None,
            Stopping::Asked { status, .. } | Stopping::Killed { status, .. } => Some(status),
        }
    }

    /// The number of the signal that ended the command, if one did.
    pub(super) fn killer(&self) -> Option<i32> {
        self.ended.and_then(WaitStatus::terminating_signal)
    }

    /// Sleeps until something happens, and deals with all but the end of a process.
    fn sleep(&mut self, also: Option<&OwnedFd>) {
        let due = match self.stopping {
            Stopping::Not { at } => at,
            Stopping::Asked { kill_at: at, .. } | Stopping::Killed { again_at: at, .. } => Some(at),
        };
        let left = due.map(|due| timespec(due.since(Time::now())));
        let mut ready = vec![PollFd::new(self.signals, PollFlags::IN)];
        if let Some(also) = also {
            ready.push(PollFd::new(also, PollFlags::IN));
        }
        if let Some(source) = self.tie.source() {
            ready.push(PollFd::from_borrowed_fd(source, PollFlags::IN));
        }
        _ = poll(&mut ready, left.as_ref());
        self.listen();
        self.take_signals();
    }

    /// Hears what the daemon has to say.
    fn listen(&mut self) {
        while let Some(news) = self.tie.listen(self.running) {
            self.tell(Some(news));
        }
    }

    fn tell(&mut self, news: Option<News>) {
        match news {
            Some(News::Superseded(why)) => self.stop(status::CANCELLED, &format!("{why}: stopping the command")),
            Some(News::Gone) => (self.say)(&|| "the daemon has gone, the command runs on".to_owned()),
            Some(News::Stalled(why)) => (self.say)(&|| format!("{why}; the command runs on")),
            Some(News::TurnLost(why)) if !self.args.quiet => {
                words::say("seq", format_args!("{why}: the command runs on"));
            }
            Some(News::TurnLost(_)) | None => {}
        }
    }

    fn take_signals(&mut self) {
        // A signal that comes right after the command's end must not be lost on what is left of it.
        self.reap();
        let caught: Vec<Caught> = std::iter::from_fn(|| self.signals.next()).collect();
        let was_continued = caught.iter().any(|caught| caught.signal == Signo::SIGCONT);
        for caught in caught {
            match caught.signal {
                Signo::SIGCHLD => {}
                Signo::SIGCONT => self.pass_on(Signal::CONT),
                _ if self.has_command_heard(caught) => {}
                signal => _ = Signal::from_named_raw(signal as i32).map(|signal| self.pass_on(signal)),
            }
        }
        if self.running.terminal.is_some() && !was_continued {
            self.stop_with_command();
        }
    }

    /// Whether the whole foreground group got this signal from the terminal, and the command with it. A terminal that
    /// hangs up tells only the leader of its session (`tty_ioctl(4)`, `credentials(7)`).
    fn has_command_heard(&self, caught: Caught) -> bool {
        let is_for_leader = caught.signal == Signo::SIGHUP && getsid(None) == Ok(nix::unistd::getpid());
        self.running.terminal.is_some() && caught.by_kernel && !is_for_leader
    }

    /// The command is not waited for yet, so the number is still its own.
    fn pass_on(&self, signal: Signal) {
        if self.ended.is_some() {
            // What it left behind is what is waited for now, if anything is.
            if self.args.until_all_exit {
                signal_descendants(None, signal);
            }
            return;
        }
        _ = if self.running.terminal.is_some() {
            kill_process(self.running.pid, signal)
        } else {
            kill_process_group(self.running.pid, signal)
        };
    }

    /// When the command has stopped itself, as editors do for Ctrl-Z, seq stops too, so that the shell sees its job
    /// stopped; the shell's SIGCONT goes to both.
    fn stop_with_command(&mut self) {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        if self.ended.is_some() {
            return;
        }
        if let Ok(Some((_, state))) = waitpid(Some(self.running.pid), options) {
            if state.stopping_signal().is_some_and(|signal| self.is_job_control(signal)) {
                _ = kill_process(getpid(), Signal::STOP);
            } else if !state.stopped() {
                self.ended = Some(state);
            }
        }
    }

    /// Whether a stop is meant for the whole job. A shell suspends itself with `SIGSTOP`, in a group of its own that
    /// has the terminal; whoever sends `SIGSTOP` to another command means that command alone.
    fn is_job_control(&self, signal: i32) -> bool {
        let pid = nix::unistd::Pid::from_raw(self.running.pid.as_raw_pid());
        let leads_group = || getpgid(Some(pid)) == Ok(pid);
        JOB_CONTROL.contains(&signal) || (signal == Signo::SIGSTOP as i32 && leads_group())
    }

    /// Collects the end of the command, and of what became a child of seq when its parent ended.
    fn reap(&mut self) {
        if !self.running.leaves_orphans {
            if self.ended.is_none()
                && let Ok(Some((_, state))) = waitpid(Some(self.running.pid), WaitOptions::NOHANG)
            {
                self.ended = Some(state);
            }
            return;
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, state))) if pid == self.running.pid => self.ended = Some(state),
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.is_childless = self.ended.is_some() && !has_children_to_stop();
                    return;
                }
                Err(_) => {
                    self.is_childless = true;
                    return;
                }
            }
        }
    }

    fn stop_when_due(&mut self) {
        let now = Time::now();
        match self.stopping {
            Stopping::Not { at: Some(at) } if now >= at => {
                let longest = show_duration(self.longest.unwrap_or_default());
                self.stop(status::MAX_RUN, &format!("the command ran longer than {longest}: stopping it"));
            }
            Stopping::Asked { kill_at: at, status } | Stopping::Killed { again_at: at, status } if now >= at => {
                self.signal_all(Signal::KILL);
                self.stopping = Stopping::Killed { again_at: now + KILL_AGAIN, status };
            }
            _ => {}
        }
    }

    /// Begins to stop the command, and says why; once, for the first reason. What has ended is left at that, also by a
    /// seq that was late to see it.
    fn stop(&mut self, status: u8, why: &str) {
        self.reap();
        if !matches!(self.stopping, Stopping::Not { .. }) || (self.ended.is_some() && !self.args.until_all_exit) {
            return;
        }
        if !self.args.quiet {
            words::say("seq", why);
        }
        self.signal_all(Signal::TERM);
        // A stopped process takes a signal only once it goes on.
        self.signal_all(Signal::CONT);
        self.stopping = Stopping::Asked { kill_at: Time::now() + self.args.kill_grace, status };
    }

    /// Signals the command's group, if it has one of its own, and all else that it started.
    fn signal_all(&self, signal: Signal) {
        let group: Option<Pid> = (self.running.terminal.is_none() && self.ended.is_none()).then_some(self.running.pid);
        if let Some(group) = group {
            _ = kill_process_group(group, signal);
        }
        signal_descendants(group, signal);
    }
}

/// 0 to 255 as the command gave it, or 128+n when signal n ended it.
fn exit_status(ended: WaitStatus) -> u8 {
    match (ended.exit_status(), ended.terminating_signal()) {
        (Some(code), _) => u8::try_from(code & 0xff).unwrap_or(status::FAILURE),
        (None, Some(signal)) => signal_status(signal),
        (None, None) => status::FAILURE,
    }
}
