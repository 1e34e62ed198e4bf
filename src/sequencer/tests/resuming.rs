//! A client lost its connection and proves that a ticket is its own.

use super::*;

/// Ticket 1 has the turn, with a pipe; ticket 2 waits. Their secrets are 1 and 2.
fn two_in_line() -> Story {
    let mut story = Story::new();
    story.take(Input::Sequence(Enqueue { pipe: true, ..secretly(1, "a", 1) }));
    story.take(Input::Sequence(secretly(2, "b", 2)));
    story
}

/// The holder of foo.com from before: its wrapper and its command live, and so does its pipe.
fn holder(ticket: u64) -> Restored {
    Restored { turn: Some(turn(ticket)), pipes: 1, processes: 2, ..waiter(ticket, "a") }
}

#[test]
fn a_place_is_taken_up_again_by_another_connection() {
    let mut story = two_in_line();
    assert_eq!(
        story.take(resuming(2, secretly(3, "b", 2))),
        [
            "#2 admitted",
            "#2 changed",
            "c2: taken_over: request b came again by another connection, which has its place now",
            "c3: queued #2, position 1, ahead 1"
        ]
    );
    assert!(story.disconnect(2).is_empty());
}

#[test]
fn a_turn_that_came_in_the_same_instant_is_taken_up_by_who_has_not_heard_of_it() {
    let mut story = two_in_line();
    story.done(1, Which::Ticket(Ticket(1)));
    let fresh = Enqueue { fresh: true, no_wait: true, ..secretly(3, "b", 2) };
    assert_eq!(story.take(resuming(2, fresh)), ["#2 admitted", "#2 changed", "c3: active again #2, token 2"]);
    assert!(story.disconnect(2).is_empty(), "the earlier connection has nothing to lose");
    assert_eq!(story.disconnect(3), ["#2 ended Gone, token 2, waited 0ns, held 0ns"]);
}

#[test]
fn only_the_secret_proves_whose_a_ticket_is() {
    let mut story = two_in_line();
    story.ask(4, "without");
    let wrong = |ticket| {
        format!(
            "c3: forbidden: ticket {ticket} was not asked for with this secret: take it up with the one it was asked for with"
        )
    };
    assert_eq!(story.take(resuming(1, secretly(3, "a", 9))), [wrong(1)]);
    assert_eq!(story.take(resuming(2, secretly(3, "b", 9))), [wrong(2)]);
    assert_eq!(story.take(resuming(2, request(3, "b"))), [wrong(2)], "no secret is no proof");
    assert_eq!(story.take(resuming(3, request(3, "without"))), [wrong(3)], "nor is it one of equals");
    let other = Enqueue { peer: operator(), ..secretly(3, "b", 2) };
    assert_eq!(
        story.take(resuming(2, other)),
        ["c3: forbidden: ticket 2 belongs to another user (uid 1000): ask them, or an administrator"]
    );
    assert_eq!(story.sequencer.counts().waiters, 2);
}

#[test]
fn domain_and_request_id_must_be_those_of_the_ticket() {
    let mut story = two_in_line();
    let not_found = ["c3: not_found: there is no ticket 2 with this domain and request id: see `seq status`"];
    assert_eq!(story.take(resuming(2, secretly(3, "x", 2))), not_found);
    let elsewhere = Enqueue { domain: domain("bar.org"), ..secretly(3, "b", 2) };
    assert_eq!(story.take(resuming(2, elsewhere)), not_found);
    let nameless = Enqueue { request_id: None, ..secretly(3, "b", 2) };
    assert_eq!(story.take(resuming(2, nameless)).last().unwrap(), "c3: queued #2, position 1, ahead 1");
}

#[test]
fn a_ticket_that_never_was_is_not_found_and_nothing_is_queued() {
    let mut story = two_in_line();
    assert_eq!(
        story.take(resuming(7, secretly(3, "c", 3))),
        ["c3: not_found: ticket 7 neither waits nor has a turn: see `seq status`"]
    );
    assert_eq!(story.sequencer.next_numbers(), (Ticket(3), Token(2)));
}

#[test]
fn how_a_ticket_ended_is_told_to_its_user_for_as_long_as_it_is_remembered() {
    let mut story = Story::with_limits(Limits { past_ends: 2, ..Limits::default() });
    let end = |ticket, had_turn, outcome| Input::PastEnd { ticket: Ticket(ticket), uid: 1_000, had_turn, outcome };
    let mut answer = |ticket| {
        story.take(end(1, true, Outcome::Expired));
        story.take(end(2, true, Outcome::Done));
        story.take(end(3, true, Outcome::Released));
        story.take(end(4, false, Outcome::Done));
        story.take(resuming(ticket, secretly(3, "c", 3))).remove(0)
    };
    assert_eq!(answer(3), "c3: released: the turn of ticket 3 was taken away meanwhile: stop working under it");
    assert_eq!(answer(4), "c3: cancelled: ticket 4 was cancelled meanwhile: ask again for a new place");
    assert!(answer(2).starts_with("c3: not_found"), "it ended as its client asked");
    assert!(answer(1).starts_with("c3: not_found"), "it is forgotten");
    let other = Enqueue { peer: user(1_001), ..secretly(3, "c", 3) };
    assert!(story.take(resuming(4, other))[0].starts_with("c3: not_found"));
}

#[test]
fn who_waited_when_the_daemon_was_told_to_leave_is_told_so_by_the_next() {
    let mut story = Story::new();
    for (ticket, had_turn) in [(5, false), (6, true)] {
        story.take(Input::PastEnd { ticket: Ticket(ticket), uid: 1_000, had_turn, outcome: Outcome::Stopped });
    }
    let mut told = |ticket| story.take(resuming(ticket, secretly(3, "c", 3))).remove(0);
    let words = "c3: stopped: the daemon was told to leave while ticket 5 waited: ask again for a new place";
    assert_eq!(told(5), words);
    assert!(told(6).starts_with("c3: not_found"), "what has its turn needs no place");
}

#[test]
fn a_client_that_was_never_told_its_ticket_is_known_by_its_secret() {
    let mut story = Story::new();
    story.take(Input::Restore(holder(1)));
    story.take(Input::Restore(waiter(2, "t-2")));
    let nameless = |connection, secret| Enqueue { request_id: None, ..secretly(connection, "-", secret) };
    assert_eq!(
        story.take(Input::Sequence(nameless(4, 2))),
        ["#2 admitted", "#2 changed", "c4: queued #2, position 1, ahead 1"]
    );
    assert_eq!(
        story.take(Input::Sequence(Enqueue { fresh: true, ..secretly(5, "a", 1) })),
        ["#1 admitted", "#1 changed", "c5: active again #1, token 1"]
    );
    let another = story.take(Input::Sequence(nameless(6, 2)));
    assert_eq!(another[0], "#3 admitted", "a ticket that has its client is not taken from it");
}

#[test]
fn a_holder_that_is_back_ends_neither_with_its_old_watches_nor_without_its_new_ones() {
    let mut story = Story::new();
    let ticket = Ticket(1);
    story.take(Input::Restore(holder(1)));
    story.take(resuming(1, Enqueue { pipe: true, ..secretly(5, "a", 1) }));
    let started = Input::Started { connection: ConnectionId(5), ticket, pid: 7, watched: true };
    assert_eq!(story.take(started), ["#1 changed"]);
    for input in [Input::ProcessGone { ticket }, Input::ProcessGone { ticket }, Input::PipeClosed { ticket }] {
        assert!(story.take(input).is_empty(), "what was watched from before");
    }
    assert_eq!(story.disconnect(5), ["#1 orphaned, token 1"]);
    assert!(story.take(Input::ProcessGone { ticket }).is_empty());
    assert_eq!(story.take(Input::PipeClosed { ticket }), ["#1 ended Gone, token 1, waited 0ns, held 0ns"]);
}

#[test]
fn a_holder_from_before_is_kept_by_its_wrapper_and_says_done_itself() {
    for comes_back_first in [false, true] {
        let mut story = Story::new();
        story.take(Input::Restore(Restored { pipes: 0, processes: 1, ..holder(1) }));
        story.ask(9, "next");
        if comes_back_first {
            story.take(resuming(1, secretly(5, "a", 1)));
        }
        assert_eq!(
            story.done(5, Which::Ticket(Ticket(1))),
            [
                "#1 ended Done 0, token 1, waited 0ns, held 0ns",
                "c5: done #1",
                "#2 active, token 2, waited 0ns",
                "c9: active #2, token 2"
            ]
        );
        assert!(story.take(Input::ProcessGone { ticket: Ticket(1) }).is_empty());
    }
}
