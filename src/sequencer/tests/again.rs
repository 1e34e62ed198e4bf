//! The same request comes again.

use super::*;

const TAKEN_OVER: &str = "c2: taken_over: request b came again by another connection, which has its place now";

fn two_in_line() -> Story {
    let mut story = Story::new();
    story.ask_with(1, "a", |request| request.pipe = true);
    story.ask_with(2, "b", |request| request.max_wait = Some(Duration::from_secs(2)));
    story
}

#[test]
fn a_waiter_keeps_its_place_and_waits_anew_as_the_newcomer_says() {
    let mut story = two_in_line();
    story.ask(3, "c");
    story.pass(1_000);
    assert_eq!(
        story.ask_with(4, "b", |request| request.max_wait = Some(Duration::from_secs(5))),
        ["#2 admitted", "#2 changed", TAKEN_OVER, "c4: queued #2, position 1, ahead 1"]
    );
    assert_eq!(story.timeout(), Some(5_000));
    assert!(story.disconnect(2).is_empty(), "the earlier connection has nothing to lose");
    assert_eq!(story.disconnect(4), ["#2 left Gone, waited 1s"]);
}

#[test]
fn by_the_same_connection_nobody_is_told_taken_over() {
    let mut story = two_in_line();
    assert_eq!(story.ask(2, "b"), ["#2 admitted", "#2 changed", "c2: queued #2, position 1, ahead 1"]);
    assert_eq!(story.timeout(), None);
}

#[test]
fn a_newcomer_that_will_not_wait_leaves_the_waiter_alone() {
    let mut story = two_in_line();
    assert_eq!(
        story.ask_with(4, "b", |request| request.no_wait = true),
        ["c4: busy: foo.com is busy: ticket 1 (pid 101) has had the turn for 0ms"]
    );
    assert_eq!(story.disconnect(2), ["#2 left Gone, waited 0ns"]);
}

#[test]
fn a_turn_is_taken_up_by_the_newcomer_and_all_that_kept_it_goes_on_keeping_it() {
    let mut story = two_in_line();
    assert_eq!(
        story.ask_with(4, "a", |request| request.pipe = true),
        ["#1 admitted", "#1 changed", "c4: active again #1, token 1"]
    );
    assert!(story.disconnect(1).is_empty());
    assert_eq!(story.disconnect(4), ["#1 orphaned, token 1"]);
    assert!(story.take(Input::PipeClosed { ticket: Ticket(1) }).is_empty());
    let effects = story.take(Input::PipeClosed { ticket: Ticket(1) });
    assert_eq!(effects[0], "#1 ended Gone, token 1, waited 0ns, held 0ns");
}

#[test]
fn a_fresh_request_does_not_take_up_a_turn() {
    let mut story = two_in_line();
    assert_eq!(
        story.ask_with(4, "a", |request| request.fresh = true),
        ["c4: already_active: request a has its turn already as ticket 1 (pid 101): wait for that one to end, or use \
         another request id"]
    );
    assert_eq!(story.disconnect(1), ["#1 orphaned, token 1"]);
}

#[test]
fn another_user_cannot_take_up_a_request_not_even_an_operator() {
    let mut story = two_in_line();
    for request_id in ["a", "b"] {
        assert_eq!(
            story.ask_with(4, request_id, |request| request.peer = operator()),
            [format!(
                "c4: request_id_taken: request id {request_id} belongs to another user's request in foo.com: use another one"
            )]
        );
    }
}
