//! Turns whose clients say when what they are for begins, in lines where starts have to be apart.

use std::time::Duration;

use crate::protocol::HeadWait;
use crate::sequencer::Rate;

use super::*;

/// A line with three slots, with such values.
fn slots(policy: Policy) -> Story {
    let mut story = Story::new();
    story.set("foo.com", Policy { concurrency: Some(3), ..policy });
    story
}

fn apart() -> Policy {
    Policy { min_interval: Some(Duration::from_secs(10)), ..Policy::default() }
}

fn rate(starts: u32) -> Policy {
    Policy { rate: Some(Rate { starts, per: Duration::from_mins(1) }), ..Policy::default() }
}

impl Story {
    fn ask_to_begin(&mut self, connection: u64) -> bool {
        let told = self.ask_with(connection, &format!("r{connection}"), |request| {
            request.says_started = true;
            request.pipe = true;
        });
        told.join(" ").contains("active")
    }

    fn begin(&mut self, ticket: u64) -> Vec<String> {
        self.take(Input::Started {
            connection: ConnectionId(ticket),
            ticket: Ticket(ticket),
            pid: 7_000 + u32::try_from(ticket).unwrap(),
            watched: false,
        })
    }

    fn waits_for(&self) -> (Option<HeadWait>, Option<u128>) {
        let head = self.sequencer.view(None, 9, false)[0].obstacle.map(HeadWait::from);
        (head, self.timeout())
    }
}

#[test]
fn starts_are_apart_however_late_one_begins() {
    let mut story = slots(apart());
    assert!(story.ask_to_begin(1) && !story.ask_to_begin(2));
    assert!(story.later(60_000).is_empty(), "the first has not begun");
    assert_eq!(story.waits_for(), (Some(HeadWait::Start), None));
    assert_eq!(story.begin(1), ["#1 changed", "foo.com began only at 60000ms"]);
    assert_eq!(story.waits_for(), (Some(HeadWait::MinInterval), Some(10_000)));
    assert!(story.begin(1).iter().all(|said| !said.contains("began")), "only the first time counts");
    assert!(story.later(9_999).is_empty());
    assert!(story.later(1).concat().contains("active #2"));
}

#[test]
fn a_rate_counts_what_has_to_begin_until_it_has_and_long_enough_after_that() {
    let mut story = slots(rate(2));
    assert!(story.ask_to_begin(1) && story.ask_to_begin(2) && !story.ask_to_begin(3));
    story.begin(2);
    assert_eq!(story.waits_for(), (Some(HeadWait::Rate), Some(60_050)));
    assert!(story.later(60_050).concat().contains("active #3"), "the place of the second is free, not the first's");
    assert!(!story.ask_to_begin(4));
    story.done(2, Which::Ticket(Ticket(2)));
    assert_eq!(story.waits_for(), (Some(HeadWait::Start), None), "two have to begin");
    story.pass(100_000);
    story.begin(3);
    assert_eq!(story.waits_for(), (Some(HeadWait::Rate), Some(60_050)));
    story.begin(1);
    assert!(story.later(60_050).concat().contains("active #4"));
}

#[test]
fn who_will_not_wait_is_told_what_has_to_begin() {
    let mut story = slots(apart());
    story.ask_to_begin(1);
    let refused = story.ask_with(2, "b", |request| request.no_wait = true);
    assert_eq!(refused, ["c2: busy: foo.com is busy: ticket 1 (pid 101) was given its turn and has to begin first"]);
}

#[test]
fn a_turn_that_ends_or_loses_its_client_has_begun() {
    let mut story = slots(apart());
    assert!(story.ask_to_begin(1) && !story.ask_to_begin(2));
    story.pass(30_000);
    let told = story.disconnect(1).join(" ");
    assert!(told.contains("#1 orphaned") && told.contains("foo.com began only at 30000ms"), "{told}");
    assert_eq!(story.waits_for(), (Some(HeadWait::MinInterval), Some(10_000)));
    assert!(story.later(10_000).concat().contains("active #2"));
    assert!(!story.ask_to_begin(3));
    story.pass(5_000);
    let told = story.take(Input::PipeClosed { ticket: Ticket(1) }).join(" ");
    assert!(!told.contains("began"), "{told}");
    let told = story.done(2, Which::Ticket(Ticket(2)));
    assert_eq!(told[0], "foo.com began only at 45000ms");
    assert_eq!(story.waits_for(), (Some(HeadWait::MinInterval), Some(10_000)));
}

#[test]
fn the_next_daemon_waits_for_it_as_well() {
    let mut next = slots(apart());
    next.take(Input::PastStarts { domain: foo(), starts: vec![Time::ZERO], last_end: None });
    let fresh = Some(RestoredTurn { is_fresh: true, ..turn(1) });
    let given = Restored { says_started: true, pipes: 1, pid: 101, turn: fresh, ..waiter(1, "r1") };
    next.pass(5_000);
    next.take(Input::Restore(given));
    assert!(!next.ask_to_begin(2));
    assert_eq!(next.waits_for(), (Some(HeadWait::Start), None));
    // Its client has the pipe still, and so has started nothing.
    assert_eq!(next.take(Input::Found { ticket: Ticket(1), pid: 101 }), ["#1 changed"]);
    assert_eq!(next.waits_for(), (Some(HeadWait::Start), None));
    let told = next.take(Input::Found { ticket: Ticket(1), pid: 102 });
    assert_eq!(told, ["#1 changed", "foo.com began only at 5000ms"]);
    assert_eq!(next.waits_for(), (Some(HeadWait::MinInterval), Some(10_000)));
}

#[test]
fn the_next_daemon_waits_no_longer_than_there_is_a_client_to_say_so() {
    let fresh = Some(RestoredTurn { is_fresh: true, ..turn(1) });
    let given = Restored { says_started: true, pipes: 1, pid: 101, turn: fresh, ..waiter(1, "r1") };
    let mut next = slots(apart());
    next.take(Input::Restore(given.clone()));
    assert!(!next.ask_to_begin(2));
    assert_eq!(next.take(Input::ProcessGone { ticket: Ticket(1) }), ["#1 changed", "foo.com began at 0ms"]);
    assert_eq!(next.waits_for(), (Some(HeadWait::MinInterval), Some(10_000)));
    for silent in [
        Restored { secret: None, ..given.clone() },
        Restored { binding: Binding::Process, ..given.clone() },
        Restored { binding: Binding::Lease, ..given },
    ] {
        let mut next = slots(apart());
        next.take(Input::Restore(silent));
        assert!(next.ask_to_begin(2));
    }
}

#[test]
fn whoever_takes_a_turn_up_and_will_not_say_when_it_begins_has_begun() {
    let mut story = slots(apart());
    assert!(story.ask_to_begin(1) && !story.ask_to_begin(2));
    story.pass(5_000);
    let told = story.ask(3, "r1").join(" ");
    assert!(told.contains("active again #1") && told.contains("began only at 5000ms"), "{told}");
    assert_eq!(story.waits_for(), (Some(HeadWait::MinInterval), Some(10_000)));
}
