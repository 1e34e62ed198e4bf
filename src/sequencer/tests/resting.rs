//! Lines that rest after a start or an end.

use std::time::Duration;

use crate::protocol::HeadWait;
use crate::sequencer::{PolicyValue, Rate, Rest};

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn min_interval(length: u64) -> Policy {
    Policy { min_interval: Some(seconds(length)), ..Policy::default() }
}

fn cooldown(length: u64) -> Policy {
    Policy { cooldown: Some(seconds(length)), ..Policy::default() }
}

fn rate(starts: u32, per: u64) -> Policy {
    Policy { rate: Some(Rate { starts, per: Duration::from_secs(per) }), ..Policy::default() }
}

fn at(milliseconds: u64) -> Time {
    Time::ZERO + Duration::from_millis(milliseconds)
}

fn resting(policy: Policy) -> Story {
    let mut story = Story::new();
    story.set("foo.com", policy);
    story
}

impl Story {
    fn end(&mut self, ticket: u64) -> Vec<String> {
        self.done(9, Which::Ticket(Ticket(ticket)))
    }

    fn head(&self) -> Option<HeadWait> {
        self.sequencer.view(None, 9, false)[0].obstacle.map(HeadWait::from)
    }

    fn begins(&mut self, connection: u64, id: &str) -> bool {
        self.ask(connection, id).join(" ").contains("active")
    }
}

#[test]
fn starts_are_as_far_apart_as_the_policy_says() {
    let mut story = resting(min_interval(10));
    assert_eq!(
        story.ask(1, "a"),
        [
            "#1 admitted",
            "#1 queued",
            "#1 active, token 1, waited 0ns",
            "foo.com began at 0ms",
            "c1: active #1, token 1"
        ]
    );
    story.ask(2, "b");
    assert_eq!(story.timeout(), None, "while somebody has the turn there is nothing to wake up for");
    story.pass(4_000);
    assert_eq!(
        story.end(1),
        ["#1 ended Done 0, token 1, waited 0ns, held 4s", "foo.com ended at 4000ms", "c9: done #1"]
    );
    assert_eq!((story.timeout(), story.head()), (Some(6_000), Some(HeadWait::MinInterval)));
    assert!(story.later(5_999).is_empty());
    assert_eq!(
        story.later(1),
        ["#2 active, token 2, waited 10s", "foo.com began at 10000ms", "c2: active #2, token 2"]
    );
}

#[test]
fn a_start_counts_from_when_the_command_runs() {
    let mut story = resting(min_interval(10));
    story.ask(1, "a");
    story.pass(300);
    let started = || Input::Started { connection: ConnectionId(1), ticket: Ticket(1), pid: 7, watched: false };
    assert_eq!(story.take(started()), ["#1 changed", "foo.com began only at 300ms"]);
    story.pass(1_000);
    assert_eq!(story.take(started()), ["#1 changed"], "the first time counts");
    story.end(1);
    assert!(!story.begins(2, "b"));
    assert_eq!(story.timeout(), Some(9_000));
    assert!(story.later(9_000).join(" ").contains("foo.com began at 10300ms"));
    story.pass(200);
    let confirm = Input::Confirm { connection: ConnectionId(2), ticket: Ticket(2) };
    assert_eq!(story.take(confirm), ["#2 changed", "foo.com began only at 10500ms", "c2: confirmed #2"]);
}

#[test]
fn a_turn_that_nobody_could_be_told_of_begins_when_they_are() {
    let mut story = resting(rate(1, 10));
    story.ask_with(1, "a", |request| {
        request.binding = Binding::Lease;
        request.lease = Some(seconds(3));
    });
    story.ask(2, "b");
    story.pass(2_000);
    assert_eq!(story.take(Input::BeginsNow { ticket: Ticket(1) }), ["#1 changed", "foo.com began only at 2000ms"]);
    assert!(story.later(2_999).is_empty());
    assert_eq!(
        story.later(1),
        [
            "#1 ended Expired, token 1, waited 2s, held 3s",
            "foo.com ended at 5000ms",
            "c1: expired: the lease of ticket 1 is over after 3s: stop working under it"
        ]
    );
    assert_eq!(story.timeout(), Some(7_050));
    assert!(story.take(Input::BeginsNow { ticket: Ticket(2) }).is_empty(), "it waits");
}

#[test]
fn a_turn_begins_no_sooner_than_the_cooldown_after_the_last_end() {
    let mut story = resting(cooldown(3));
    story.ask(1, "a");
    story.pass(60_000);
    story.end(1);
    assert_eq!(story.timeout(), None, "nobody waits");
    story.pass(1_000);
    assert!(!story.begins(2, "b"));
    assert_eq!((story.timeout(), story.head()), (Some(2_000), Some(HeadWait::Cooldown)));
    assert_eq!(story.later(2_000).last().unwrap(), "c2: active #2, token 2");
}

#[test]
fn of_a_burst_no_window_has_more_starts_than_the_rate() {
    let mut story = resting(rate(3, 60));
    for connection in 1..=9 {
        story.ask(connection, &format!("job {connection}"));
    }
    let mut starts = Vec::new();
    let mut begun = 1;
    for ticket in 1..=9 {
        assert_eq!(begun, ticket, "one at a time");
        starts.push(story.now);
        story.pass(1_000);
        let ended = story.end(ticket).join(" ");
        begun += u64::from(ended.contains("active"));
        if begun == ticket && ticket < 9 {
            assert_eq!(story.head(), Some(HeadWait::Rate));
            let rest = u64::try_from(story.timeout().unwrap()).unwrap();
            assert!(story.later(rest).join(" ").contains("active"));
            begun += 1;
        }
    }
    for window in starts.windows(4) {
        let slack = Duration::from_millis(50);
        assert_eq!(window[3].since(window[0]), Duration::from_mins(1) + slack, "{window:?}");
    }
}

#[test]
fn a_start_counts_a_little_longer_than_the_rate_says() {
    for (per, counted) in [(1, 1), (100, 105), (1_000, 1_050), (10_000, 10_050), (3_600_000, 3_600_050)] {
        let rate = Rate { starts: 1, per: Duration::from_millis(per) };
        assert_eq!(rate.window().as_millis(), counted, "{per}");
    }
}

#[test]
fn who_will_not_wait_is_told_until_when_the_line_rests() {
    let mut story = resting(min_interval(10));
    story.ask(1, "a");
    story.end(1);
    story.pass(2_000);
    let refused = story.ask_with(2, "b", |request| request.no_wait = true);
    assert_eq!(refused, ["c2: busy: foo.com is busy: its min-interval lets no turn begin for another 8s"]);
    let view = &story.sequencer.view(None, 0, false)[0];
    assert_eq!(
        view.rest,
        Some(Rest { until: at(10_000), why: PolicyValue::MinInterval }),
        "seen without anybody in it"
    );
}

#[test]
fn the_longest_wait_goes_on_while_the_line_rests() {
    let mut story = resting(cooldown(10));
    story.ask(1, "a");
    story.end(1);
    story.ask_with(2, "b", |request| request.max_wait = Some(seconds(4)));
    assert_eq!(story.later(4_000)[0], "#2 left TimedOut, waited 4s");
    assert_eq!(story.timeout(), None);
}

#[test]
fn a_line_that_rests_is_idle_for_those_who_wait_for_that() {
    let mut story = resting(cooldown(10));
    story.ask(1, "a");
    story.wait(2, None);
    assert_eq!(story.end(1).last().unwrap(), "c2: foo.com is idle");
    assert_eq!(story.wait(2, None), ["c2: foo.com is idle"]);
}

#[test]
fn a_line_that_rests_is_not_forgotten_for_another() {
    let mut story = Story::with_limits(Limits { domains: 1, idle_domains: 0, ..Limits::default() });
    story.set("foo.com", cooldown(10));
    story.ask(1, "a");
    story.end(1);
    let other = |request: &mut Enqueue| request.domain = domain("bar.org");
    assert!(story.ask_with(2, "b", other)[0].starts_with("c2: too_many_domains"));
    assert!(!story.begins(3, "c"));
    story.disconnect(3);
    story.pass(10_000);
    assert!(story.ask_with(2, "b", other).join(" ").contains("active"));
}

#[test]
fn another_policy_lets_a_line_rest_for_another_time() {
    let mut story = resting(min_interval(60));
    story.ask(1, "a");
    story.end(1);
    story.ask(2, "b");
    assert_eq!(story.timeout(), Some(60_000));
    story.set("foo.com", min_interval(20));
    assert_eq!(story.timeout(), Some(20_000));
    story.pass(5_000);
    let set = story.set("foo.com", min_interval(5));
    assert_eq!(set.last().unwrap(), "c2: active #2, token 2");
}

#[test]
fn what_was_before_the_policy_counts_and_is_written_down_then() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.pass(1_000);
    story.ask(2, "b");
    let set = story.set("foo.com", min_interval(5));
    assert_eq!(set[2..], ["foo.com began at 0ms"]);
    assert!(!story.end(1).join(" ").contains("active"));
    assert_eq!(story.timeout(), Some(4_000));
}

#[test]
fn shared_starts_and_big_ones_count_as_one() {
    let mut story = Story::new();
    story.set("foo.com", Policy { concurrency: Some(9), ..rate(2, 60) });
    story.ask_with(1, "a", |request| request.wishes.take = 3);
    assert!(story.begins(2, "b"));
    assert!(!story.begins(3, "c"));
}

#[test]
fn a_rate_counts_what_was_before_the_line_was_idle() {
    let mut story = resting(rate(3, 60));
    for (ticket, pause) in [(1, 10_000), (2, 51_000), (3, 1_000), (4, 1_000)] {
        assert!(story.begins(1, "a"), "{ticket}");
        story.end(ticket);
        story.pass(pause);
    }
    let refused = story.ask_with(1, "late", |request| request.no_wait = true);
    assert_eq!(refused, ["c1: busy: foo.com is busy: its rate lets no turn begin for another 7s"]);
}

#[test]
fn the_next_daemon_goes_on_resting() {
    let mut next = resting(Policy { cooldown: Some(seconds(2)), ..rate(2, 60) });
    next.pass(50_000);
    let starts = vec![at(30_000), at(1_000), at(99_000)];
    assert!(next.take(Input::PastStarts { domain: foo(), starts, last_end: Some(at(49_500)) }).is_empty());
    next.ask(1, "a");
    assert_eq!(next.timeout(), Some(40_050), "one that lies ahead counts as now");
    assert_eq!(next.later(40_050)[0], "#1 active, token 1, waited 40.05s");
}

#[test]
fn a_waiter_that_is_away_keeps_its_place_in_a_line_that_rests() {
    let mut next = resting(cooldown(4));
    next.take(Input::PastStarts { domain: foo(), starts: Vec::new(), last_end: Some(at(0)) });
    next.take(Input::Restore(waiter(1, "a")));
    assert_eq!(next.head(), Some(HeadWait::Cooldown));
    next.later(4_000);
    assert_eq!(next.head(), Some(HeadWait::Client));
    assert_eq!(next.take(resuming(1, secretly(1, "a", 1))).last().unwrap(), "c1: active #1, token 1");
}

#[test]
fn a_paused_line_wakes_nobody_up() {
    let mut story = resting(cooldown(4));
    story.ask(1, "a");
    story.ask(2, "b");
    story.end(1);
    let (connection, peer) = (ConnectionId(0), operator());
    story.take(Input::Pause { connection, peer, domain: foo(), reason: None, request_id: None });
    assert_eq!((story.timeout(), story.head()), (None, Some(HeadWait::Resume)));
    story.take(Input::Resume { connection, peer, domain: foo(), request_id: None });
    assert_eq!(story.timeout(), Some(4_000));
}

#[test]
fn what_was_before_a_value_was_set_counts() {
    for (policy, left) in [(rate(1, 60), 58_050), (min_interval(60), 58_000), (cooldown(60), 59_000)] {
        let mut story = Story::new();
        story.ask(1, "a");
        story.pass(1_000);
        story.end(1);
        story.pass(1_000);
        let set = story.set("foo.*", policy);
        assert_eq!(set[2..], ["foo.com told anew", "foo.com began at 0ms", "foo.com ended at 1000ms"]);
        assert!(!story.begins(2, "b"));
        assert_eq!(story.timeout(), Some(left));
    }
}

#[test]
fn a_policy_that_is_unset_and_set_again_forgets_nothing() {
    let mut story = resting(rate(3, 60));
    for ticket in 1..=2 {
        story.ask(1, "a");
        story.end(ticket);
    }
    story.take(Input::UnsetPolicy {
        connection: ConnectionId(0),
        peer: operator(),
        pattern: Pattern::parse("foo.com").unwrap(),
        request_id: None,
    });
    assert!(story.begins(1, "a"));
    story.end(3);
    story.set("foo.com", rate(3, 60));
    assert!(!story.begins(1, "a"));
    assert_eq!(story.head(), Some(HeadWait::Rate));
}

#[test]
fn a_rest_that_was_over_goes_on_when_it_is_to_last_longer() {
    let mut story = resting(min_interval(1));
    story.ask(1, "a");
    story.end(1);
    story.later(3_000);
    story.set("foo.com", min_interval(60));
    assert!(!story.begins(2, "b"));
    assert_eq!(story.timeout(), Some(57_000));
}

#[test]
fn of_a_domain_that_never_rested_only_the_last_starts_are_known() {
    let mut story = Story::new();
    for ticket in 1..=100 {
        story.ask(1, "a");
        story.end(ticket);
    }
    assert_eq!(story.set("foo.com", rate(33, 60)).len(), 2 + 1 + 32 + 1);
    assert!(story.begins(2, "b"), "32 are known");
    assert!(!story.begins(3, "c"));
}
