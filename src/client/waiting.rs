//! What is said on standard error while a request waits.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::time::Duration;

use rustix::termios::{isatty, tcgetpgrp, tcgetwinsize};
use unicode_width::UnicodeWidthStr;

use crate::clock::{Time, show_duration};
use crate::protocol::{Domain, DomainStatus, Ticket};
use crate::words::say;

use super::standing::Standing;
use super::table::cut;

/// A wait shorter than this is not worth a word.
const FIRST_AFTER: Duration = Duration::from_millis(150);

/// How often the live line is drawn anew.
const LIVE_EVERY: Duration = Duration::from_secs(1);

/// How often a live line asks anew who has the turn, so that it is seen when the daemon does not answer any more.
const LIVE_ASKS_EVERY: Duration = Duration::from_secs(5);

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

/// The waiting line: a line now and then under CI, live on another terminal, otherwise nothing.
#[derive(Debug)]
pub(super) struct Waiting {
    domain: String,
    /// How many lines it stands in.
    lines: usize,
    /// What was told of each of several lines, until all of them were told of.
    told: Vec<DomainStatus>,
    style: Style,
    loudness: Loudness,
    /// Whose outcome it waits for instead of a turn, and since when.
    following: Option<(Ticket, Time)>,
    standing: Standing,
    /// The trouble that was told last, until it is over.
    trouble: Option<String>,
    /// When to show it next; none before the place is known, and when only a change is worth a word.
    due: Option<Time>,
    /// When a live line, which is drawn more often than that, asks for what is new.
    ask_at: Time,
    /// Columns of the live line that is on the screen; zero when none is.
    columns_drawn: usize,
}

impl Waiting {
    /// Decides by `loudness`, by whether standard error is a terminal, and by `CI`, what will be said.
    pub(super) fn new(domains: &[String], loudness: Loudness) -> Waiting {
        let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let is_terminal = isatty(io::stderr()) && !is_dumb;
        let style = style(loudness, is_terminal, std::env::var_os("CI").as_deref());
        let shown = |typed: &String| Domain::parse(typed).map_or_else(|_| typed.clone(), |domain| domain.to_string());
        let mut names: Vec<String> = Vec::new();
        for name in domains.iter().map(shown) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let domain = super::table::printable(&names.join(", "));
        let (lines, told, standing) = (names.len(), Vec::new(), Standing::default());
        let ask_at = Time::now() + LIVE_ASKS_EVERY;
        Waiting {
            domain,
            lines,
            told,
            style,
            loudness,
            following: None,
            standing,
            trouble: None,
            due: None,
            ask_at,
            columns_drawn: 0,
        }
    }

    /// Whether queue positions and statuses are of any use; asked once, before the request is sent.
    pub(super) fn is_shown(&self) -> bool {
        self.style != Style::Silent
    }

    /// It waits for the outcome of another request, which has the same key.
    pub(super) fn follow(&mut self, ticket: Ticket) {
        let now = Time::now();
        self.following = Some((ticket, self.following.map_or(now, |(_, since)| since)));
        self.due = match self.style {
            Style::Silent | Style::Changes => None,
            Style::Live => Some(now + FIRST_AFTER),
            Style::Log => Some(now + LOG_EVERY),
        };
        if let Style::Log | Style::Changes = self.style {
            self.say(&same_key(ticket));
        }
    }

    /// The place in line, first or changed.
    pub(super) fn position(&mut self, position: u64, total_ahead: u64) {
        self.following = None;
        let is_first = self.standing.place.is_none();
        let has_changed = self.standing.place != Some((position, total_ahead));
        self.standing.place = Some((position, total_ahead));
        // A change waits for the status that was asked for along with it: one line says both.
        if is_first || (has_changed && self.style == Style::Changes) {
            self.due = Some(Time::now() + FIRST_AFTER);
        }
    }

    /// Who holds the turn, as the daemon answered to `status` for one line: one answer after the other, if there are
    /// several.
    pub(super) fn status(&mut self, status: Option<DomainStatus>) {
        if self.lines < 2 {
            self.standing.learn(status.as_ref(), Time::now());
        } else if let Some(status) = status {
            self.told.retain(|line| line.domain != status.domain);
            self.told.push(status);
            if self.told.len() < self.lines {
                return;
            }
            self.standing.learn_of_several(&std::mem::take(&mut self.told), Time::now());
        }
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
        let asks =
            self.following.is_none() && (self.style == Style::Log || (self.style == Style::Live && self.ask_at <= now));
        if asks {
            self.ask_at = now + LIVE_ASKS_EVERY;
        }
        asks
    }

    /// Says what happened on the way, if that much is wanted.
    pub(super) fn tell(&mut self, what: &str) {
        if self.loudness == Loudness::Verbose {
            self.say(what);
        }
    }

    /// Says what the user has to know.
    pub(super) fn warn(&mut self, what: &str) {
        if self.loudness != Loudness::Quiet {
            self.say(what);
        }
    }

    /// Says what somebody has to do before anything goes on, once unless all is wanted: one trouble brings another.
    pub(super) fn warn_of_trouble(&mut self, trouble: &str) {
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

    /// Says that the request is not even in line yet, once, to whoever would be shown its place there.
    pub(super) fn tell_of_crowd(&mut self, why: &str) {
        if self.is_shown() && self.trouble.is_none() {
            self.say(&format!("{why}; waiting until it has"));
            self.trouble = Some(why.to_owned());
        }
    }

    /// It was done, so that the next trouble is another.
    pub(super) fn forget_trouble(&mut self) {
        self.trouble = None;
    }

    fn say(&mut self, what: &str) {
        self.erase();
        say("seq", format_args!("{}: {what}", self.domain));
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
        // While the daemon cannot answer nobody knows who has the turn.
        if self.trouble.is_some() {
            return;
        }
        let width = width();
        let columns = if self.style == Style::Live { width.saturating_sub(1) } else { usize::MAX };
        let now = Time::now();
        let text = match self.following {
            Some((ticket, since)) => {
                let waited = show_duration(now.since(since));
                Some(format!("seq: {}: {} for {waited}", self.domain, same_key(ticket)))
            }
            None => self.standing.text(&self.domain, now, columns),
        };
        let Some(text) = text else { return };
        match self.style {
            Style::Silent => {}
            Style::Log | Style::Changes => write(&format!("{text}\n")),
            // In the background the terminal belongs to somebody else.
            Style::Live if !is_in_foreground() => self.columns_drawn = 0,
            Style::Live => {
                let line = cut(&text, columns);
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

fn same_key(ticket: Ticket) -> String {
    format!("ticket {ticket} has the same key: waiting for its outcome")
}

fn style(loudness: Loudness, is_terminal: bool, ci: Option<&OsStr>) -> Style {
    let is_ci = ci.is_some_and(|value| !["", "0", "false"].map(OsStr::new).contains(&value));
    match loudness {
        Loudness::Quiet => Style::Silent,
        // Also where CI gives a terminal: what is drawn there over itself stays in its log, line by line.
        _ if is_ci => Style::Log,
        _ if is_terminal => Style::Live,
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
        assert_eq!(style(Loudness::Normal, true, ci("true")), Style::Log);
        assert_eq!(style(Loudness::Normal, true, ci("false")), Style::Live);
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
