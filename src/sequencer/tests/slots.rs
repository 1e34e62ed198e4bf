//! Several turns at once, requests that take several slots, and how many may wait for how long.

use crate::protocol::HeadWait;

use super::*;

fn concurrency(concurrency: u32) -> Policy {
    Policy { concurrency: Some(concurrency), ..Policy::default() }
}

fn with_slots(slots: u32) -> Story {
    let mut story = Story::new();
    story.set("foo.com", concurrency(slots));
    story
}

impl Story {
    fn take_slots(&mut self, connection: u64, id: &str, take: u32) -> Vec<String> {
        self.ask_with(connection, id, |request| request.wishes.take = take)
    }

    fn done_with(&mut self, ticket: u64) -> Vec<String> {
        self.done(9, Which::Ticket(Ticket(ticket)))
    }
}

#[test]
fn as_many_have_a_turn_as_there_are_slots() {
    let mut story = Story::new();
    let set = story.set("Foo.*", concurrency(2));
    assert_eq!(set, ["foo.* has {concurrency:2} by 0", "c0: set for foo.*"], "written down before it is told");
    story.ask(1, "a");
    assert_eq!(story.ask(2, "b").last().unwrap(), "c2: active #2, token 2");
    assert_eq!(story.ask(3, "c").last().unwrap(), "c3: queued #3, position 1, ahead 2");
    let effects = story.done_with(1);
    assert_eq!(effects.last().unwrap(), "c3: active #3, token 3");
}

#[test]
fn a_head_that_does_not_fit_is_not_overtaken() {
    let mut story = with_slots(3);
    story.ask(1, "a");
    story.ask(2, "b");
    story.take_slots(3, "big", 3);
    assert_eq!(story.ask(4, "d").last().unwrap(), "c4: queued #4, position 2, ahead 3", "though one slot is free");
    assert!(!story.done_with(1).join(" ").contains("active"));
    let effects = story.done_with(2);
    assert_eq!(effects.last().unwrap(), "c3: active #3, token 3");
    assert_eq!(story.done_with(3).last().unwrap(), "c4: active #4, token 4");
}

#[test]
fn more_than_there_is_cannot_be_taken() {
    let mut story = with_slots(2);
    assert_eq!(
        story.take_slots(1, "a", 3),
        ["c1: take_too_large: foo.com has 2 slots, so nobody can take 3: take fewer, or raise its concurrency"]
    );
}

#[test]
fn whoever_takes_more_than_is_left_takes_all() {
    let mut story = with_slots(3);
    story.ask(1, "a");
    story.take_slots(2, "b", 3);
    story.ask(3, "c");
    story.set("foo.com", concurrency(2));
    let effects = story.done_with(1);
    assert_eq!(effects.last().unwrap(), "c2: active #2, token 2");
    assert_eq!(story.done_with(2).last().unwrap(), "c3: active #3, token 3");
}

#[test]
fn lowering_takes_no_turn_and_raising_lets_heads_in_at_once() {
    let mut story = with_slots(2);
    for (connection, id) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
        story.ask(connection, id);
    }
    assert_eq!(story.set("foo.com", concurrency(1)).len(), 2);
    assert!(!story.done_with(1).join(" ").contains("active"), "one has the turn still");
    let raised = story.set("foo.*", concurrency(9));
    assert_eq!(raised.len(), 2, "the name says more than the pattern");
    let peer = operator();
    let pattern = Pattern::parse("foo.com").unwrap();
    let unset = story.take(Input::UnsetPolicy { connection: ConnectionId(0), peer, pattern, request_id: None });
    assert_eq!(
        unset,
        [
            "foo.com has nothing by 0",
            "c0: unset for foo.com, true",
            "#3 active, token 3, waited 0ns",
            "c3: active #3, token 3",
            "#4 active, token 4, waited 0ns",
            "c4: active #4, token 4"
        ]
    );
}

#[test]
fn policies_are_for_operators() {
    let mut story = Story::new();
    let (connection, pattern) = (ConnectionId(1), Pattern::parse("*").unwrap());
    let policy = concurrency(2);
    let refused = ["c1: forbidden: policies and pauses are for root and the daemon's own user: ask an administrator"];
    let (peer, request_id) = (user(1_000), None);
    let set = Input::SetPolicy { connection, peer, pattern: pattern.clone(), policy, request_id: None };
    assert_eq!(story.take(set), refused);
    assert_eq!(story.take(Input::UnsetPolicy { connection, peer, pattern, request_id }), refused);
}

#[test]
fn no_more_policies_are_set_than_may_be() {
    let mut story = Story::with_limits(Limits { policies: 1, ..Limits::default() });
    story.set("a", concurrency(2));
    assert_eq!(story.set("a", concurrency(3)).len(), 2);
    assert_eq!(
        story.set("b", concurrency(2)),
        ["c0: too_many_policies: 1 policies are set already: unset one, or use a pattern for many domains"]
    );
}

#[test]
fn no_more_may_wait_than_the_policy_says() {
    let mut story = Story::new();
    story.set("*", Policy { max_queue: Some(1), ..Policy::default() });
    story.ask(1, "a");
    story.ask(2, "b");
    assert_eq!(story.ask(3, "c"), ["c3: queue_full: the line of foo.com is full: 1 waits already, try again later"]);
    story.set("foo.com", Policy { max_queue: Some(0), ..Policy::default() });
    story.disconnect(2);
    assert_eq!(
        story.ask(3, "c"),
        ["c3: queue_full: foo.com is busy, and its policy lets nobody wait: try again later"]
    );
    story.disconnect(1);
    assert_eq!(story.ask(3, "c").last().unwrap(), "c3: active #3, token 2", "who need not wait may come");
}

#[test]
fn a_request_that_does_not_say_waits_as_long_as_is_usual() {
    let mut story = Story::new();
    story.set("*", Policy { default_max_wait: Some(Duration::from_secs(5)), ..Policy::default() });
    story.ask(1, "a");
    story.ask(2, "b");
    story.ask_with(3, "c", |request| request.max_wait = Some(Duration::from_secs(9)));
    assert_eq!(story.later(5_000)[0], "#2 left TimedOut, waited 5s");
    assert_eq!(story.later(4_000)[0], "#3 left TimedOut, waited 9s");
}

#[test]
fn the_longest_run_is_told_with_the_turn_and_cuts_a_lease() {
    let mut story = Story::new();
    story.set("*", Policy { max_run: Some(Duration::from_secs(5)), ..Policy::default() });
    let lease = |request: &mut Enqueue| {
        request.binding = Binding::Lease;
        request.lease = Some(Duration::from_mins(1));
    };
    assert_eq!(story.ask_with(1, "a", lease).last().unwrap(), "c1: active #1, token 1, at most 5000ms");
    story.set("*", Policy { max_run: Some(Duration::from_secs(1)), ..Policy::default() });
    assert_eq!(story.timeout(), Some(5_000), "nothing changes for who has a turn");
    assert_eq!(story.ask(1, "a").last().unwrap(), "c1: active again #1, token 1, at most 5000ms");
    assert_eq!(story.sequencer.view(None, 0, false)[0].holders[0].0.max_run, Some(Duration::from_secs(5)));
}

#[test]
fn a_bare_domain_means_the_turn_that_is_the_callers() {
    let mut story = with_slots(2);
    story.ask(1, "a");
    story.ask(2, "b");
    assert_eq!(story.done(2, Which::Domain(foo()))[0], "#2 ended Done 0, token 2, waited 0ns, held 0ns");
    story.ask(3, "c");
    let (connection, peer, which) = (ConnectionId(9), operator(), Which::Domain(foo()));
    assert_eq!(
        story.take(Input::Release { connection, peer, which, request_id: None }),
        ["c9: several_holders: 2 have a turn in foo.com: name one by its ticket, see `seq status`"]
    );
}

#[test]
fn it_is_seen_what_the_head_waits_for() {
    let mut story = with_slots(2);
    story.ask(1, "a");
    story.take_slots(2, "b", 2);
    let view = &story.sequencer.view(None, 9, false)[0];
    assert_eq!((view.concurrency, view.waiters[0].wishes.take), (2, 2));
    assert_eq!(view.obstacle.map(HeadWait::from), Some(HeadWait::Slots));
    story.set("foo.com", concurrency(1));
    let view = &story.sequencer.view(None, 9, false)[0];
    assert_eq!(view.obstacle.map(HeadWait::from), Some(HeadWait::Holders));
}

#[test]
fn the_next_daemon_has_the_same_policies_and_slots() {
    let mut story = with_slots(3);
    story.take_slots(1, "a", 2);
    let saved = story.sequencer.saved(Ticket(1)).unwrap();
    let mut next = Story::new();
    let pattern = Pattern::parse("foo.com").unwrap();
    assert!(next.take(Input::PastPolicy { pattern, policy: concurrency(3) }).is_empty());
    next.take(Input::Restore(Restored { processes: 1, ..saved }));
    assert_eq!(next.take_slots(2, "b", 2).last().unwrap(), "c2: queued #2, position 1, ahead 1");
}
