//! Done, cancel, release.

use super::*;

const NOTHING: [&str; 1] = ["c9: done, nothing released"];
const NOT_YOURS: [&str; 1] =
    ["c9: forbidden: the turn in foo.com is not this caller's: ticket 1 (pid 101) has it; end \
                               it with `seq done --ticket 1` or `seq release`"];

#[test]
fn done_changes_nothing_when_there_is_nothing_to_end() {
    let mut story = Story::new();
    for _ in 0..3 {
        assert_eq!(story.done(9, Which::Domain(foo())), NOTHING);
        assert_eq!(story.done(9, Which::Ticket(Ticket(5))), NOTHING);
        assert_eq!(story.done(9, Which::Request(foo(), id("a"))), NOTHING);
    }
}

#[test]
fn a_late_done_never_ends_somebody_elses_turn() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask(2, "b");
    story.done(1, Which::Ticket(Ticket(1)));
    assert_eq!(story.done(9, Which::Ticket(Ticket(1))), NOTHING);
    assert_eq!(story.done(9, Which::Request(foo(), id("a"))), NOTHING);
    assert_eq!(story.done(9, Which::TicketOf(Ticket(2), None, Some(id("a")))), NOTHING);
    assert_eq!(story.done(9, Which::TicketOf(Ticket(2), Some(domain("bar.org")), None)), NOTHING);
    assert!(story.done(1, Which::Domain(foo()))[0].starts_with("c1: forbidden: "));
    assert_eq!(story.sequencer.counts().holders, 1);
}

#[test]
fn a_bare_domain_means_the_turn_that_the_caller_visibly_has() {
    let bare = || Which::Domain(foo());
    let done = ["#1 ended Done 0, token 1, waited 0ns, held 0ns", "c9: done #1"];
    let mut story = Story::new();
    story.ask(1, "a");
    assert_eq!(story.done_as(9, user(1_000), bare(), vec![101]), NOT_YOURS);
    assert_eq!(story.done_as(9, operator(), bare(), vec![101]), NOT_YOURS);
    story.ask(9, "a");
    assert_eq!(story.done(9, bare()), done);

    let mut story = Story::new();
    story.ask_with(1, "a", |request| request.binding = Binding::Process);
    assert_eq!(story.done_as(9, user(1_000), bare(), vec![]), NOT_YOURS);
    assert_eq!(story.done_as(9, user(1_001), bare(), vec![101]), NOT_YOURS);
    assert_eq!(story.done_as(9, user(1_000), bare(), vec![5, 101]), done);

    let mut story = Story::new();
    story.ask_with(1, "a", |request| {
        request.binding = Binding::Process;
        request.named_process = true;
    });
    assert_eq!(story.done(9, bare()), done);

    let mut story = Story::new();
    story.ask_with(1, "a", |request| request.binding = Binding::Lease);
    assert_eq!(story.done_as(9, user(1_001), bare(), vec![]), NOT_YOURS);
    assert_eq!(story.done(9, bare()), done);
}

#[test]
fn by_ticket_a_turn_is_its_users_or_an_operators_to_end() {
    let mut story = Story::new();
    story.ask(1, "a");
    assert_eq!(
        story.done_as(9, user(1_001), Which::Ticket(Ticket(1)), vec![]),
        ["c9: forbidden: ticket 1 belongs to another user (uid 1000): ask them, or an administrator"]
    );
    assert_eq!(story.done_as(9, operator(), Which::Ticket(Ticket(1)), vec![]).last().unwrap(), "c9: done #1");
}

#[test]
fn a_waiter_that_is_done_leaves_and_its_client_is_told_by_whomever_it_was() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask(2, "b");
    story.ask(2, "c");
    assert_eq!(
        story.done(9, Which::Request(foo(), id("b"))),
        [
            "#2 left Done, waited 0ns",
            "c2: cancelled: ticket 2 was cancelled while it waited: ask again for a new place",
            "c9: done #2"
        ]
    );
    assert_eq!(story.done(2, Which::Ticket(Ticket(3))), ["#3 left Done, waited 0ns", "c2: done #3"]);
}

#[test]
fn cancel_takes_a_waiter_out_and_nothing_else() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask(2, "b");
    let mut cancel = |peer, which| story.take(Input::Cancel { connection: ConnectionId(9), peer, which });
    assert_eq!(
        cancel(user(1_000), Which::Ticket(Ticket(1))),
        ["c9: not_waiting: ticket 1 has its turn already: end it with `seq release 1`"]
    );
    assert_eq!(
        cancel(user(1_001), Which::Ticket(Ticket(2))),
        ["c9: forbidden: ticket 2 belongs to another user (uid 1000): ask them, or an administrator"]
    );
    assert_eq!(
        cancel(user(1_000), Which::Domain(foo())),
        ["c9: not_found: nobody has the turn in foo.com: there is nothing to end"]
    );
    assert_eq!(
        cancel(user(1_000), Which::Request(foo(), id("b"))),
        [
            "#2 left Cancelled, waited 0ns",
            "c2: cancelled: ticket 2 was cancelled while it waited: ask again for a new place",
            "c9: cancelled #2"
        ]
    );
    assert_eq!(
        cancel(user(1_000), Which::Request(foo(), id("b"))),
        ["c9: not_found: request b neither waits nor has a turn in foo.com: see `seq status`"]
    );
}

#[test]
fn release_takes_a_turn_and_the_holder_is_told_before_the_answer() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask(2, "b");
    let mut release =
        |peer, which| story.take(Input::Release { connection: ConnectionId(9), peer, which, request_id: None });
    assert_eq!(
        release(user(1_000), Which::Ticket(Ticket(2))),
        ["c9: not_active: ticket 2 still waits: take it out of the line with `seq cancel 2`"]
    );
    assert_eq!(
        release(user(1_001), Which::Domain(foo())),
        ["c9: forbidden: ticket 1 belongs to another user (uid 1000): ask them, or an administrator"]
    );
    assert_eq!(
        release(operator(), Which::Domain(foo())),
        [
            "#1 ended Released, token 1, waited 0ns, held 0ns",
            "c1: released: the turn of ticket 1 was taken away by `seq release`: stop working under it",
            "c9: released #1",
            "#2 active, token 2, waited 0ns",
            "c2: active #2, token 2"
        ]
    );
}
