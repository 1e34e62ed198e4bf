//! Waiters from before a restart: their places are kept for a while.

use super::*;

/// Three waiters of foo.com from before, all away.
fn three_away() -> Story {
    let mut story = Story::new();
    for (ticket, request_id) in [(1, "a"), (2, "b"), (3, "c")] {
        assert!(story.take(Input::Restore(waiter(ticket, request_id))).is_empty());
    }
    story
}

impl Story {
    fn come_back(&mut self, ticket: u8, request_id: &str) -> Vec<String> {
        self.take(resuming(ticket.into(), secretly(u64::from(ticket), request_id, ticket)))
    }
}

#[test]
fn nobody_passes_a_head_that_is_away() {
    let mut story = three_away();
    assert_eq!(story.come_back(2, "b"), ["#2 admitted", "#2 changed", "c2: queued #2, position 2, ahead 1"]);
    assert_eq!(story.ask(9, "new"), ["#4 admitted", "#4 queued", "c9: queued #4, position 4, ahead 3"]);
    assert_eq!(
        story.come_back(1, "a"),
        ["#1 admitted", "#1 changed", "#1 active, token 1, waited 0ns", "c1: active #1, token 1"]
    );
    assert_eq!(
        story.done(1, Which::Ticket(Ticket(1))),
        [
            "#1 ended Done 0, token 1, waited 0ns, held 0ns",
            "c1: done #1",
            "#2 active, token 2, waited 0ns",
            "c2: active #2, token 2"
        ]
    );
    assert_eq!(story.disconnect(2), ["#2 ended Gone, token 2, waited 0ns, held 0ns"], "the head is away again");
    assert_eq!(
        story.later(10_000),
        ["#3 left Gone, waited 10s", "#4 active, token 3, waited 10s", "c9: active #4, token 3"]
    );
}

#[test]
fn whoever_comes_back_gives_the_others_the_whole_grace_again_up_to_a_limit() {
    let mut story = Story::new();
    for ticket in 1..=9 {
        story.take(Input::Restore(waiter(ticket, &format!("w{ticket}"))));
    }
    assert_eq!(story.timeout(), Some(10_000));
    for ticket in (3..=8).rev() {
        story.pass(9_000);
        story.come_back(ticket, &format!("w{ticket}"));
        assert_eq!(story.timeout(), Some(if ticket == 3 { 6_000 } else { 10_000 }), "ticket {ticket}");
    }
    assert!(story.later(5_999).is_empty());
    assert_eq!(
        story.later(1),
        [
            "#1 left Gone, waited 60s",
            "#2 left Gone, waited 60s",
            "#3 active, token 1, waited 60s",
            "c3: active #3, token 1",
            "#9 left Gone, waited 60s"
        ]
    );
    assert_eq!(story.timeout(), None);
}

#[test]
fn a_holder_that_comes_back_extends_the_grace_as_well() {
    let mut story = Story::new();
    let turn = Some(turn(1));
    story.take(Input::Restore(Restored { turn, ..waiter(1, "a") }));
    story.take(Input::Restore(waiter(2, "b")));
    story.pass(4_000);
    assert_eq!(story.come_back(1, "a"), ["#1 admitted", "#1 changed", "c1: active again #1, token 1"]);
    assert_eq!(story.timeout(), Some(10_000));
}

#[test]
fn an_away_waiter_whose_process_is_gone_leaves_at_once() {
    let mut story = three_away();
    story.come_back(2, "b");
    assert_eq!(
        story.take(Input::ProcessGone { ticket: Ticket(1) }),
        ["#1 left Gone, waited 0ns", "#2 active, token 1, waited 0ns", "c2: active #2, token 1"]
    );
    story.take(Input::PipeClosed { ticket: Ticket(3) });
    assert_eq!(story.sequencer.counts().waiters, 1, "a pipe says nothing of one that waits");
}

#[test]
fn a_waiter_that_is_found_dead_has_left() {
    let mut story = Story::new();
    story.pass(2_000);
    let effects = story.take(Input::Restore(Restored { processes: 0, ..waiter(41, "a") }));
    assert_eq!(effects, ["#41 left Gone, waited 2s"]);
    assert_eq!(story.sequencer.counts().domains, 0);
    assert_eq!(story.sequencer.next_numbers(), (Ticket(42), Token(1)));
}

#[test]
fn once_back_a_waiter_hangs_on_its_connection_and_on_nothing_of_before() {
    let mut story = three_away();
    story.come_back(2, "b");
    assert!(story.take(Input::ProcessGone { ticket: Ticket(2) }).is_empty(), "its old watch was replaced");
    assert_eq!(story.disconnect(2), ["#2 left Gone, waited 0ns"]);
}

#[test]
fn the_longest_wait_goes_on_while_away_and_is_not_begun_anew() {
    let mut story = Story::new();
    let wait_until = Some(Time::from_nanos(5_000_000_000));
    story.take(Input::Restore(waiter(1, "a")));
    story.take(Input::Restore(Restored { wait_until, ..waiter(2, "b") }));
    story.take(Input::Restore(Restored { wait_until, ..waiter(3, "c") }));
    story.pass(1_000);
    let max_wait = Some(Duration::from_hours(1));
    story.take(resuming(2, Enqueue { max_wait, ..secretly(2, "b", 2) }));
    assert_eq!(
        story.later(4_000),
        [
            "#2 left TimedOut, waited 5s",
            "c2: timed_out: no turn in foo.com after 5s: foo.com is busy: it waits for ticket 1 (pid 55) to come back after a restart; \
             allow a longer wait, or see `seq status`",
            "#3 left TimedOut, waited 5s"
        ]
    );
    assert_eq!(
        story.come_back(3, "c"),
        ["c3: timed_out: ticket 3 waited its longest meanwhile: ask again for a new place"]
    );
}

#[test]
fn an_away_waiter_can_be_cancelled_and_learns_it() {
    let mut story = three_away();
    let cancel = Input::Cancel { connection: ConnectionId(9), peer: user(1_000), which: Which::Ticket(Ticket(1)) };
    assert_eq!(story.take(cancel), ["#1 left Cancelled, waited 0ns", "c9: cancelled #1"]);
    let learnt = ["c1: cancelled: ticket 1 was cancelled meanwhile: ask again for a new place"];
    assert_eq!(story.come_back(1, "a"), learnt);
    assert_eq!(story.come_back(1, "a"), learnt, "as often as it asks");
    assert_eq!(story.sequencer.counts().waiters, 2, "it has no new place");
}

#[test]
fn nobody_who_will_not_wait_is_let_in_before_those_who_are_away() {
    let mut story = three_away();
    assert_eq!(
        story.ask_with(9, "new", |request| request.no_wait = true),
        ["c9: busy: foo.com is busy: it waits for ticket 1 (pid 55) to come back after a restart"]
    );
    assert!(story.wait(9, None).is_empty(), "nor is it idle");
    assert_eq!(story.later(10_000).last().unwrap(), "c9: foo.com is idle");
}

#[test]
fn what_cannot_be_is_not_taken_back() {
    let mut story = three_away();
    let turn = Some(turn(7));
    assert!(story.take(Input::Restore(waiter(3, "again"))).is_empty());
    assert!(story.take(Input::Restore(waiter(4, "a"))).is_empty());
    assert!(story.take(Input::Restore(Restored { turn, ..waiter(5, "holder") })).is_empty());
    assert!(story.take(Input::Restore(Restored { turn, ..waiter(6, "second") })).is_empty());
    let counts = story.sequencer.counts();
    assert_eq!((counts.holders, counts.waiters), (2, 3), "two turns, for there may have been two slots");
    assert_eq!(story.sequencer.next_numbers(), (Ticket(7), Token(8)), "no number is given out again");
}

#[test]
fn whoever_looks_sees_who_is_away_and_until_when_the_head_is_waited_for() {
    let mut story = three_away();
    story.come_back(2, "b");
    story.pass(4_000);
    let lines = story.sequencer.view(None, 9, false);
    assert_eq!(lines[0].waiters.iter().map(|waiter| waiter.is_away).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(lines[0].awaited_until, Some(Time::ZERO + Duration::from_secs(10)));
    story.come_back(1, "a");
    let lines = story.sequencer.view(None, 9, false);
    assert_eq!(lines[0].awaited_until, None, "somebody has the turn");
    assert_eq!(lines[0].waiters.iter().map(|waiter| waiter.is_away).collect::<Vec<_>>(), [false, true]);
}
