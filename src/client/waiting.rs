//! What is said on standard error while a request waits.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::time::Duration;

use rustix::termios::{isatty, tcgetpgrp, tcgetwinsize};
use unicode_width::UnicodeWidthStr;

use crate::cli::show_duration;
use crate::clock::Time;
use crate::protocol::{Domain, DomainStatus, HolderState, HolderStatus};

use super::table::{cut, ordinal, printable};

/// A wait shorter than this is not worth a word.
const FIRST_AFTER: Duration = Duration::from_millis(150);

/// How often the live line is drawn anew.
const LIVE_EVERY: Duration = Duration::from_secs(1);

/// How often a CI log gets a line.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Columns of a terminal that does not know its own width.
const COLUMNS_DEFAULT: usize = 80;

/// How much the user wants to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loudness {
    /// `--quiet`: nothing.
    Quiet,
    /// What suits a terminal, a CI log, or a mail from cron.
    Normal,
    /// `--verbose`: also when it waits, runs and ends.
    Verbose,
}

/// How the wait is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Not at all.
    Silent,
    /// One line, drawn over itself.
    Live,
    /// A line at the start, then one each [`LOG_EVERY`].
    Log,
    /// A line at the start, then one when the place has changed.
    Changes,
}

/// The waiting line: live on a terminal, a line now and then under CI, otherwise nothing.
#[derive(Debug)]
pub(super) struct Waiting {
    domain: String,
    style: Style,
    loudness: Loudness,
    /// The trouble that was told last, until it is over.
    trouble: Option<String>,
    wait: Wait,
    /// When to show it next; none before the place is known, and when only a change is worth a word.
    due: Option<Time>,
    /// Columns of the live line that is on the screen; zero when none is.
    columns_drawn: usize,
}

/// What is known of the wait.
#[derive(Debug, Default)]
struct Wait {
    /// Position and how many are ahead, once the daemon has told.
    place: Option<(u64, u64)>,
    /// Who has the turn, once the daemon has told.
    holder: Option<Holder>,
    usual_run: Option<Duration>,
}

#[derive(Debug)]
struct Holder {
    pid: u32,
    command: Option<String>,
    is_orphan: bool,
    since: Time,
    /// When it ends if it runs as long as usual.
    usual_end: Option<Time>,
}

impl Waiting {
    /// Decides by `loudness`, by whether standard error is a terminal, and by `CI`, what will be said.
    pub(super) fn new(domain: &str, loudness: Loudness) -> Waiting {
        let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let is_terminal = isatty(io::stderr()) && !is_dumb;
        let style = style(loudness, is_terminal, std::env::var_os("CI").as_deref());
        let domain = Domain::parse(domain).map_or_else(|_| domain.to_owned(), |domain| domain.to_string());
        Waiting { domain, style, loudness, trouble: None, wait: Wait::default(), due: None, columns_drawn: 0 }
    }

    /// Whether queue positions and statuses are of any use; asked once, before the request is sent.
    pub(super) fn is_shown(&self) -> bool {
        self.style != Style::Silent
    }

    /// The place in line, first or changed.
    pub(super) fn position(&mut self, position: u64, total_ahead: u64) {
        let is_first = self.wait.place.is_none();
        let has_changed = self.wait.place != Some((position, total_ahead));
        self.wait.place = Some((position, total_ahead));
        // A change waits for the status that was asked for along with it: one line says both.
        if is_first || (has_changed && self.style == Style::Changes) {
            self.due = Some(Time::now() + FIRST_AFTER);
        }
    }

    /// Who holds the turn, as the daemon answered to `status`.
    pub(super) fn status(&mut self, status: Option<&DomainStatus>) {
        self.wait.learn(status, Time::now());
        if self.columns_drawn > 0 {
            self.show();
        }
    }

    /// How long until `tick` should be called next; none for never.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        if !self.is_shown() {
            return None;
        }
        self.due.map(|due| due.since(Time::now()))
    }

    /// Time has passed: shows the line anew. True when a fresh `status` should be asked for.
    pub(super) fn tick(&mut self) -> bool {
        let now = Time::now();
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.show();
        self.due = match self.style {
            Style::Silent | Style::Changes => None,
            Style::Live => Some(now + LIVE_EVERY),
            Style::Log => Some(now + LOG_EVERY),
        };
        self.style == Style::Log
    }

    /// Says what happened on the way, if that much is wanted.
    pub(super) fn tell(&mut self, what: &str) {
        if self.loudness == Loudness::Verbose {
            self.say(what);
        }
    }

    /// Says what somebody has to do before anything goes on, once unless all is wanted: one trouble brings another.
    pub(super) fn warn(&mut self, trouble: &str) {
        let is_wanted = match self.loudness {
            Loudness::Quiet => false,
            Loudness::Normal => self.trouble.is_none(),
            Loudness::Verbose => self.trouble.as_deref() != Some(trouble),
        };
        if is_wanted {
            self.say(&format!("{trouble}; waiting until that is done"));
            self.trouble = Some(trouble.to_owned());
        }
    }

    /// It was done, so that the next trouble is another.
    pub(super) fn forget_trouble(&mut self) {
        self.trouble = None;
    }

    fn say(&mut self, what: &str) {
        self.erase();
        write(&format!("seq: {}: {what}\n", self.domain));
    }

    /// The wait is over: nothing of a live line stays on the screen.
    pub(super) fn end(&mut self) {
        self.due = None;
        self.erase();
    }

    fn erase(&mut self) {
        if self.columns_drawn > 0 {
            write(&to_start(self.columns_drawn, width()));
            self.columns_drawn = 0;
        }
    }

    fn show(&mut self) {
        let Some(text) = self.wait.text(&self.domain, Time::now()) else { return };
        match self.style {
            Style::Silent => {}
            Style::Log | Style::Changes => write(&format!("{text}\n")),
            // In the background the terminal belongs to somebody else.
            Style::Live if !is_in_foreground() => self.columns_drawn = 0,
            Style::Live => {
                let width = width();
                let line = cut(&text, width.saturating_sub(1));
                write(&(to_start(self.columns_drawn, width) + &line));
                self.columns_drawn = line.width();
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.end();
    }
}

impl Wait {
    fn learn(&mut self, status: Option<&DomainStatus>, now: Time) {
        self.usual_run = status.and_then(|status| status.usual_run_ms).map(Duration::from_millis);
        self.holder = status.and_then(|status| status.holders.first()).map(|holder| Holder::of(holder, now));
    }

    /// The whole line; nothing before the place is known.
    fn text(&self, domain: &str, now: Time) -> Option<String> {
        let (position, total_ahead) = self.place?;
        let mut text = format!("seq: {domain}: {} in line, {total_ahead} ahead", ordinal(position));
        if let Some(holder) = &self.holder {
            text.push_str(&holder.text(now));
            if let Some(left) = self.left(position, holder, now) {
                text.push_str(&left);
            }
        }
        Some(text)
    }

    /// About how long until the turn: the rest of the present run, and the usual runs of those that wait ahead.
    fn left(&self, position: u64, holder: &Holder, now: Time) -> Option<String> {
        let own = holder.usual_end?.since(now);
        let runs_ahead = u32::try_from(position.saturating_sub(1)).unwrap_or(u32::MAX);
        let left = own + self.usual_run.unwrap_or_default().saturating_mul(runs_ahead);
        if own.is_zero() && runs_ahead == 0 {
            return Some(", longer than usual".to_owned());
        }
        Some(format!(", about {} left", show_duration(left)))
    }
}

impl Holder {
    fn of(holder: &HolderStatus, now: Time) -> Holder {
        let held = Duration::from_millis(holder.held_ms);
        Holder {
            pid: holder.pid,
            command: holder.command.as_deref().map(printable),
            is_orphan: holder.state == HolderState::Orphaned,
            since: Time::from_nanos(now.as_nanos().saturating_sub(u64::try_from(held.as_nanos()).unwrap_or(u64::MAX))),
            usual_end: holder.left_ms.map(|left| now + Duration::from_millis(left)),
        }
    }

    fn text(&self, now: Time) -> String {
        let command = self.command.as_ref().map(|command| format!(" ({command})")).unwrap_or_default();
        let verb = if self.is_orphan { "has lost its seq and runs on," } else { "runs" };
        format!("; pid {}{command} {verb} for {}", self.pid, show_duration(now.since(self.since)))
    }
}

fn style(loudness: Loudness, is_terminal: bool, ci: Option<&OsStr>) -> Style {
    let is_ci = ci.is_some_and(|value| !["", "0", "false"].map(OsStr::new).contains(&value));
    match loudness {
        Loudness::Quiet => Style::Silent,
        _ if is_terminal => Style::Live,
        _ if is_ci => Style::Log,
        Loudness::Verbose => Style::Changes,
        Loudness::Normal => Style::Silent,
    }
}

/// What brings the cursor back to where a line of so many columns began, and wipes the line. A terminal that has become
/// narrower has broken the line into several.
fn to_start(columns: usize, width: usize) -> String {
    match columns.saturating_sub(1) / width.max(1) {
        0 => "\r\x1b[K".to_owned(),
        rows => format!("\r\x1b[{rows}A\x1b[J"),
    }
}

/// A group from outside of the pid namespace has the number 0, which the types of rustix do not have.
fn is_in_foreground() -> bool {
    tcgetpgrp(io::stderr()).is_ok_and(|group| group.as_raw_pid() == nix::unistd::getpgrp().as_raw())
}

fn width() -> usize {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { COLUMNS_DEFAULT } else { columns }
}

/// A standard error that is gone is no reason to leave the line.
fn write(text: &str) {
    _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{RequestId, Ticket, Token};

    fn status(left_ms: Option<u64>) -> DomainStatus {
        let holder = HolderStatus {
            request_id: RequestId::parse("a").unwrap(),
            ticket: Ticket(1),
            token: Token(1),
            uid: 0,
            pid: 4711,
            command: Some("./deploy.sh\x1b[2J".to_owned()),
            state: HolderState::Attached,
            since: String::new(),
            held_ms: 60_000,
            waited_ms: 0,
            left_ms,
        };
        let domain = Domain::parse("foo.com").unwrap();
        DomainStatus { domain, holders: vec![holder], waiters: vec![], waiting: 2, usual_run_ms: Some(120_000) }
    }

    /// The line five seconds after the daemon said `status`.
    fn text(position: u64, left_ms: Option<u64>) -> String {
        let mut wait = Wait { place: Some((position, position)), ..Wait::default() };
        let now = Time::from_nanos(3_600_000_000_000);
        wait.learn(Some(&status(left_ms)), now);
        wait.text("foo.com", now + Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn the_line_says_place_holder_and_what_is_left() {
        assert_eq!(
            text(2, Some(65_000)),
            "seq: foo.com: 2nd in line, 2 ahead; pid 4711 (./deploy.sh\\u{1b}[2J) runs for 1m 5s, about 3m left"
        );
        assert!(text(1, Some(2_000)).ends_with("runs for 1m 5s, longer than usual"));
        assert!(text(1, None).ends_with("runs for 1m 5s"));
    }

    #[test]
    fn nothing_is_made_up_before_the_daemon_has_told() {
        let mut wait = Wait::default();
        assert_eq!(wait.text("foo.com", Time::ZERO), None);
        wait.place = Some((1, 1));
        assert_eq!(wait.text("foo.com", Time::ZERO).unwrap(), "seq: foo.com: 1st in line, 1 ahead");
        wait.learn(None, Time::ZERO);
        assert_eq!(wait.text("foo.com", Time::ZERO).unwrap(), "seq: foo.com: 1st in line, 1 ahead");
    }

    #[test]
    fn a_line_that_the_terminal_broke_is_wiped_whole() {
        assert_eq!(to_start(0, 80), "\r\x1b[K");
        assert_eq!(to_start(79, 80), "\r\x1b[K");
        assert_eq!(to_start(80, 80), "\r\x1b[K");
        assert_eq!(to_start(81, 40), "\r\x1b[2A\x1b[J");
    }

    #[test]
    fn what_is_said_suits_the_reader() {
        let ci = |value: &'static str| Some(OsStr::new(value));
        assert_eq!(style(Loudness::Normal, true, None), Style::Live);
        assert_eq!(style(Loudness::Normal, true, ci("true")), Style::Live);
        assert_eq!(style(Loudness::Normal, false, ci("true")), Style::Log);
        assert_eq!(style(Loudness::Verbose, false, ci("1")), Style::Log);
        for value in ["", "0", "false"] {
            assert_eq!(style(Loudness::Normal, false, ci(value)), Style::Silent, "CI={value}");
        }
        assert_eq!(style(Loudness::Normal, false, None), Style::Silent, "cron mails every byte");
        assert_eq!(style(Loudness::Verbose, false, None), Style::Changes);
        assert_eq!(style(Loudness::Quiet, true, ci("true")), Style::Silent);
    }
}
