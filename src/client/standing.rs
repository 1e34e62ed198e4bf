//! What is known of a wait, and how it is said.

use std::fmt::Write as _;
use std::time::Duration;

use unicode_width::UnicodeWidthStr;

use crate::clock::{Time, show_duration};
use crate::estimate::Waits;
use crate::protocol::{DomainStatus, HeadStatus, HeadWait, HolderState, HolderStatus, Ticket};

use super::moment::short;
use super::process;
use super::table::{cut, ordinal, printable, with_short_name};

/// Columns of a command below which it is left out rather than cut.
const COMMAND_COLUMNS_MIN: usize = 4;

/// The place in line, who has the turn, and how long it may take.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Which of several lines all else is about: one that lets nobody in.
    line: Option<String>,
    /// Position and how many are ahead, once the daemon has told.
    pub(super) place: Option<(u64, u64)>,
    /// Who has the turn, once the daemon has told.
    holder: Option<Holder>,
    usual_run: Option<Duration>,
    /// When each of those who have a turn ends if it runs as long as usual, and how many turns there are.
    usual_ends: Vec<Time>,
    slots: u32,
    /// What stands in the way, apart from those ahead.
    obstacle: Option<String>,
    /// Until when the head of the line is waited for, while nobody has the turn because of that.
    awaited_until: Option<Time>,
}

#[derive(Debug)]
struct Holder {
    pid: u32,
    command: Option<String>,
    is_orphan: bool,
    /// The process that was stopped, if nothing goes on because of that.
    suspended: Option<u32>,
    /// Its ticket, if nothing of it can be seen from where the daemon is.
    unseen: Option<Ticket>,
    since: Time,
}

impl Standing {
    /// Takes over what the daemon answered to `status` at `now`.
    pub(super) fn learn(&mut self, status: Option<&DomainStatus>, now: Time) {
        self.usual_run = status.and_then(|status| status.usual_run_ms).map(Duration::from_millis);
        self.awaited_until = status.and_then(|status| status.awaited_ms).map(|left| now + Duration::from_millis(left));
        let lefts = status.iter().flat_map(|status| &status.holders).filter_map(|holder| holder.left_ms);
        self.usual_ends = lefts.map(|left| now + Duration::from_millis(left)).collect();
        self.slots = status.map_or(1, |status| status.concurrency);
        self.obstacle = status.and_then(obstacle);
        self.holder = status.and_then(|status| status.holders.first()).map(|holder| Holder::of(holder, now));
    }

    /// Takes over what the daemon answered for each of several lines. What is said is about one that the request waits
    /// for: in the others it only stands because of that.
    pub(super) fn learn_of_several(&mut self, lines: &[DomainStatus], now: Time) {
        let is_in_the_way =
            |line: &&DomainStatus| line.head.as_ref().is_some_and(|head| head.waits_for != HeadWait::Line);
        let has_holder = |line: &&DomainStatus| !line.holders.is_empty();
        let line = lines.iter().find(is_in_the_way).or_else(|| lines.iter().find(has_holder));
        self.line = line.map(|line| printable(line.domain.as_str()));
        self.learn(line, now);
    }

    /// The line, in so many columns as far as it helps to shorten the holder's command and then the domain; nothing
    /// before the place is known.
    pub(super) fn text(&self, domain: &str, now: Time, columns: usize) -> Option<String> {
        let whole = self.text_with(domain, now, usize::MAX)?;
        let excess = whole.width().saturating_sub(columns);
        let command = self.holder.as_ref().and_then(|holder| holder.command.as_ref());
        let command_columns = command.map_or(0, |command| command.width().saturating_sub(excess));
        let shown = |domain: &str| self.text_with(domain, now, command_columns).unwrap_or_default();
        if excess > 0 { Some(with_short_name(domain, columns, shown)) } else { Some(whole) }
    }

    fn text_with(&self, domain: &str, now: Time, command_columns: usize) -> Option<String> {
        let (position, total_ahead) = self.place?;
        let mut facts: Vec<String> = self.obstacle.iter().cloned().collect();
        if let Some(holder) = &self.holder {
            facts.push(holder.text(now, command_columns) + &self.left(position, now).unwrap_or_default());
        } else if let Some(until) = self.awaited_until {
            let left = show_duration(until.since(now));
            facts.push(format!("waiting up to {left} for the 1st to come back after the daemon was started anew"));
        }
        if let (Some(line), Some(first)) = (&self.line, facts.first_mut()) {
            first.insert_str(0, &format!("{line}: "));
        }
        let mut text = format!("seq: {domain}: {} in line, {total_ahead} ahead", ordinal(position));
        for fact in &facts {
            _ = write!(text, "; {fact}");
        }
        Some(text)
    }

    /// About how long until the turn: the rest of the present runs, and the usual runs of those that wait ahead.
    fn left(&self, position: u64, now: Time) -> Option<String> {
        let lefts = self.usual_ends.iter().map(|end| end.since(now)).collect();
        let left = Waits::new(lefts, self.slots, self.usual_run).behind(position.saturating_sub(1))?;
        if left.is_zero() {
            return Some(", longer than usual".to_owned());
        }
        Some(format!(", about {} left", show_duration(left)))
    }
}

fn obstacle(status: &DomainStatus) -> Option<String> {
    if let Some(paused) = &status.paused {
        let reason = paused.reason.as_ref().map(|reason| format!(": {}", printable(reason))).unwrap_or_default();
        return Some(format!("paused{reason}"));
    }
    if let Some(rest) = &status.rest {
        return rests(rest.waits_for, rest);
    }
    let head = status.head.as_ref()?;
    if head.waits_for == HeadWait::Start {
        return Some("the turn given before has to begin first".to_owned());
    }
    let other = printable(head.line.as_ref()?.as_str());
    let why = match head.line_waits_for {
        Some(HeadWait::Resume) => Some("is paused".to_owned()),
        Some(HeadWait::Start) => Some("waits for a turn to begin".to_owned()),
        Some(wait) => rests(wait, head),
        None => None,
    };
    Some(why.map_or_else(
        || format!("the 1st waits for {other}, too"),
        |why| format!("the 1st waits for {other}, which {why}"),
    ))
}

/// By what value a domain rests, and until when, if `wait` is for that.
fn rests(wait: HeadWait, until: &HeadStatus) -> Option<String> {
    Some(format!("rests until {} ({})", short(until.until.as_ref()?), cause(wait)?))
}

/// The value of a policy that makes a domain rest.
pub(super) fn cause(wait: HeadWait) -> Option<&'static str> {
    match wait {
        HeadWait::MinInterval => Some("min-interval"),
        HeadWait::Cooldown => Some("cooldown"),
        HeadWait::Rate => Some("rate"),
        _ => None,
    }
}

/// The process that was stopped, by Ctrl-Z or SIGSTOP, so that nothing goes on under a turn until somebody lets it.
pub(super) fn suspended(holder: &HolderStatus) -> Option<u32> {
    let is_a_process = !holder.unseen && holder.state != HolderState::Lease;
    if is_a_process { process::stopped_for(holder.pid) } else { None }
}

impl Holder {
    fn of(holder: &HolderStatus, now: Time) -> Holder {
        let held = Duration::from_millis(holder.held_ms);
        Holder {
            pid: holder.pid,
            command: holder.command.as_deref().map(printable),
            is_orphan: holder.state == HolderState::Orphaned,
            suspended: suspended(holder),
            unseen: holder.unseen.then_some(holder.ticket),
            since: Time::from_nanos(now.as_nanos().saturating_sub(u64::try_from(held.as_nanos()).unwrap_or(u64::MAX))),
        }
    }

    fn text(&self, now: Time, command_columns: usize) -> String {
        if let Some(ticket) = self.unseen {
            return format!("what has the turn is out of the daemon's sight: 'seq release {ticket}' if it is gone");
        }
        let command = self.command.as_ref().filter(|_| command_columns >= COMMAND_COLUMNS_MIN);
        let command = command.map(|command| format!(" ({})", cut(command, command_columns))).unwrap_or_default();
        if let Some(pid) = self.suspended {
            return format!("pid {pid}{command} is suspended: 'kill -CONT {pid}' lets it go on");
        }
        let verb = if self.is_orphan { "has lost its seq and runs on," } else { "runs" };
        format!("pid {}{command} {verb} for {}", self.pid, show_duration(now.since(self.since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Domain, PolicyValues, RequestId, Token};

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
            take: 1,
            also: Vec::new(),
            within: None,
            shared: false,
            priority: 0,
            supersede: None,
            cancel_running: false,
            superseded_by: None,
            max_run_ms: None,
            is_over: false,
            is_left: false,
            unseen: false,
        };
        let domain = Domain::parse("foo.com").unwrap();
        DomainStatus {
            domain,
            holders: vec![holder],
            waiters: vec![],
            waiting: 2,
            awaited_ms: None,
            usual_run_ms: Some(120_000),
            concurrency: 1,
            policy: PolicyValues::default(),
            paused: None,
            rest: None,
            head: None,
        }
    }

    /// The line five seconds after the daemon said `status`.
    fn text(position: u64, left_ms: Option<u64>) -> String {
        text_in(usize::MAX, position, left_ms)
    }

    fn text_in(columns: usize, position: u64, left_ms: Option<u64>) -> String {
        let mut standing = Standing { place: Some((position, position)), ..Standing::default() };
        let now = Time::from_nanos(3_600_000_000_000);
        standing.learn(Some(&status(left_ms)), now);
        standing.text("foo.com", now + Duration::from_secs(5), columns).unwrap()
    }

    #[test]
    fn the_command_makes_room_for_the_other_facts() {
        let facts = |command: &str| {
            format!("seq: foo.com: 2nd in line, 2 ahead; pid 4711{command} runs for 1m 5s, about 3m left")
        };
        assert_eq!(text_in(84, 2, Some(65_000)), facts(" (./depl…)"));
        assert_eq!(text_in(80, 2, Some(65_000)), facts(""), "three columns say nothing");
        assert_eq!(text_in(10, 2, Some(65_000)), facts(""), "the domain is short");
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
    fn no_number_of_a_daemon_is_too_large_for_the_line() {
        let mut standing = Standing { place: Some((u64::MAX, u64::MAX)), ..Standing::default() };
        let mut status = DomainStatus { usual_run_ms: Some(u64::MAX), ..status(Some(u64::MAX)) };
        status.holders[0].held_ms = u64::MAX;
        standing.learn(Some(&status), Time::ZERO);
        let text = standing.text("foo.com", Time::ZERO + Duration::from_secs(5), usize::MAX).unwrap();
        assert!(text.starts_with("seq: foo.com: 18446744073709551615th in line, "), "{text}");
    }

    #[test]
    fn a_long_domain_makes_room_for_how_long_it_rests() {
        let mut standing = Standing { place: Some((1, 0)), ..Standing::default() };
        let until = Some("2026-03-01T09:30:00+00:00".to_owned());
        let rest =
            HeadStatus { waits_for: HeadWait::MinInterval, line: None, line_waits_for: None, left_ms: Some(5), until };
        standing.learn(Some(&DomainStatus { holders: vec![], rest: Some(rest), ..status(None) }), Time::ZERO);
        let domain = "d".repeat(60);
        let text = standing.text(&domain, Time::ZERO, 90).unwrap();
        assert!(text.starts_with("seq: ddddddd") && text.contains("d…: 1st in line, 0 ahead; rests until "), "{text}");
        assert!(text.ends_with(" (min-interval)") && text.width() <= 90, "{text}");
    }

    #[test]
    fn the_line_says_what_to_do_when_the_holder_is_out_of_sight() {
        let mut standing = Standing { place: Some((1, 1)), ..Standing::default() };
        let mut status = status(None);
        status.holders[0].unseen = true;
        standing.learn(Some(&status), Time::ZERO);
        assert_eq!(
            standing.text("foo.com", Time::ZERO, usize::MAX).unwrap(),
            "seq: foo.com: 1st in line, 1 ahead; what has the turn is out of the daemon's sight: 'seq release 1' if it \
             is gone"
        );
    }

    #[test]
    fn the_line_says_when_the_head_is_waited_for() {
        let mut standing = Standing { place: Some((2, 1)), ..Standing::default() };
        let status = DomainStatus { holders: vec![], awaited_ms: Some(9_000), ..status(None) };
        standing.learn(Some(&status), Time::ZERO);
        assert_eq!(
            standing.text("foo.com", Time::ZERO + Duration::from_secs(2), usize::MAX).unwrap(),
            "seq: foo.com: 2nd in line, 1 ahead; waiting up to 7s for the 1st to come back after the daemon was \
             started anew"
        );
    }

    #[test]
    fn who_stands_behind_one_that_waits_elsewhere_hears_what_for() {
        let mut standing = Standing { place: Some((2, 1)), ..Standing::default() };
        let mut said = |line_waits_for, until: Option<&str>| {
            let (line, until) = (Domain::parse("bar.com").ok(), until.map(str::to_owned));
            let head = HeadStatus { waits_for: HeadWait::Line, line, line_waits_for, left_ms: None, until };
            let status = DomainStatus { holders: vec![], head: Some(head), ..status(None) };
            standing.learn(Some(&status), Time::ZERO);
            let text = standing.text("foo.com", Time::ZERO, usize::MAX).unwrap();
            text.strip_prefix("seq: foo.com: 2nd in line, 1 ahead; the 1st waits for bar.com, ").unwrap().to_owned()
        };
        assert_eq!(said(Some(HeadWait::Resume), None), "which is paused");
        let rests = said(Some(HeadWait::Cooldown), Some("2026-03-01T09:30:00+00:00"));
        assert!(rests.starts_with("which rests until ") && rests.ends_with(" (cooldown)"), "{rests}");
        for wait in [None, Some(HeadWait::Ahead), Some(HeadWait::Holders)] {
            assert_eq!(said(wait, None), "too");
        }
    }

    #[test]
    fn of_several_lines_one_that_is_waited_for_is_told_of() {
        let mut standing = Standing { place: Some((1, 1)), ..Standing::default() };
        let head =
            |waits_for| Some(HeadStatus { waits_for, line: None, line_waits_for: None, left_ms: None, until: None });
        let free = DomainStatus { holders: vec![], head: head(HeadWait::Line), ..status(None) };
        let taken = Domain::parse("bar.com").unwrap();
        let taken = DomainStatus { domain: taken, head: head(HeadWait::Holders), ..status(None) };
        standing.learn_of_several(&[free.clone(), taken], Time::from_nanos(3_600_000_000_000));
        assert_eq!(
            standing.text("foo.com, bar.com", Time::from_nanos(3_600_000_000_000), usize::MAX).unwrap(),
            "seq: foo.com, bar.com: 1st in line, 1 ahead; bar.com: pid 4711 (./deploy.sh\\u{1b}[2J) runs for 1m"
        );
        standing.learn_of_several(&[free.clone(), free], Time::ZERO);
        assert_eq!(
            standing.text("foo.com, bar.com", Time::ZERO, usize::MAX).unwrap(),
            "seq: foo.com, bar.com: 1st in line, 1 ahead"
        );
    }

    #[test]
    fn nothing_is_made_up_before_the_daemon_has_told() {
        let mut standing = Standing::default();
        assert_eq!(standing.text("foo.com", Time::ZERO, usize::MAX), None);
        standing.place = Some((1, 1));
        assert_eq!(standing.text("foo.com", Time::ZERO, usize::MAX).unwrap(), "seq: foo.com: 1st in line, 1 ahead");
        standing.learn(None, Time::ZERO);
        assert_eq!(standing.text("foo.com", Time::ZERO, usize::MAX).unwrap(), "seq: foo.com: 1st in line, 1 ahead");
    }
}
