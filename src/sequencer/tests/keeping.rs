//! What keeps a ticket.

use super::*;

const GONE: &str = "#1 ended Gone, token 1, waited 0ns, held 0ns";

#[test]
fn a_waiter_leaves_with_its_connection() {
    for binding in [Binding::Connection, Binding::Process, Binding::Lease] {
        let mut story = Story::new();
        story.ask(1, "a");
        story.ask_with(2, "b", |request| request.binding = binding);
        assert_eq!(story.disconnect(2), ["#2 left Gone, waited 0ns"]);
    }
}

#[test]
fn a_turn_ends_with_its_connection_if_nothing_else_keeps_it() {
    let mut story = Story::new();
    story.ask(1, "a");
    assert_eq!(story.disconnect(1), [GONE]);
}

#[test]
fn a_turn_outlives_its_client_until_pipe_and_process_are_gone() {
    let mut story = Story::new();
    story.ask_with(1, "a", |request| request.pipe = true);
    let (connection, ticket) = (ConnectionId(1), Ticket(1));
    assert_eq!(story.take(Input::Started { connection, ticket, pid: 7, watched: true }), ["#1 changed"]);
    assert_eq!(story.disconnect(1), ["#1 orphaned, token 1"]);
    assert!(story.disconnect(1).is_empty(), "once");
    assert!(story.take(Input::ProcessGone { ticket }).is_empty());
    assert_eq!(story.take(Input::PipeClosed { ticket }), [GONE]);
    assert!(story.take(Input::PipeClosed { ticket }).is_empty(), "a late report is ignored");
}

#[test]
fn while_the_client_is_there_a_closed_pipe_is_only_noted() {
    let mut story = Story::new();
    story.ask_with(1, "a", |request| request.pipe = true);
    assert!(story.take(Input::PipeClosed { ticket: Ticket(1) }).is_empty());
    assert_eq!(story.disconnect(1), [GONE]);
}

#[test]
fn a_turn_bound_to_a_process_ends_with_it_and_only_with_it() {
    let mut story = Story::new();
    story.ask_with(1, "a", |request| request.binding = Binding::Process);
    assert!(story.disconnect(1).is_empty());
    assert_eq!(story.take(Input::ProcessGone { ticket: Ticket(1) }), [GONE]);
}

#[test]
fn a_waiter_whose_process_is_gone_leaves() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask_with(2, "b", |request| request.binding = Binding::Process);
    assert_eq!(
        story.take(Input::ProcessGone { ticket: Ticket(2) }),
        [
            "#2 left Gone, waited 0ns",
            "c2: gone: the process that ticket 2 is bound to ended while it waited: name one that stays"
        ]
    );
}

#[test]
fn a_lease_lasts_from_its_grant_and_its_client_is_told() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask_with(2, "b", |request| {
        request.binding = Binding::Lease;
        request.lease = Some(Duration::from_mins(1));
    });
    story.pass(1_000);
    story.disconnect(1);
    assert_eq!(
        story.later(60_000),
        [
            "#2 ended Expired, token 2, waited 1s, held 60s",
            "c2: expired: the lease of ticket 2 is over after 1m: stop working under it"
        ]
    );
}

#[test]
fn a_lease_that_is_given_after_a_long_suspend_is_a_whole_one() {
    let mut story = Story::new();
    for connection in 1..=3 {
        story.ask_with(connection, &format!("r{connection}"), |request| {
            request.binding = Binding::Lease;
            request.lease = Some(Duration::from_mins(1));
        });
    }
    assert_eq!(
        story.later(3_600_000),
        [
            "#1 ended Expired, token 1, waited 0ns, held 60s",
            "c1: expired: the lease of ticket 1 is over after 1m: stop working under it",
            "#2 active, token 2, waited 3600s",
            "c2: active #2, token 2"
        ]
    );
    assert!(story.later(59_999).is_empty());
    assert_eq!(story.later(1)[0], "#2 ended Expired, token 2, waited 3600s, held 60s");
}

#[test]
fn what_a_client_leaves_behind_is_not_given_to_itself() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask(1, "b");
    story.ask(2, "c");
    assert_eq!(
        story.disconnect(1),
        ["#2 left Gone, waited 0ns", GONE, "#3 active, token 2, waited 0ns", "c2: active #3, token 2"]
    );
}

#[test]
fn only_the_holders_own_connection_names_its_process() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask(2, "b");
    let mut started = |connection, ticket| {
        let (connection, ticket) = (ConnectionId(connection), Ticket(ticket));
        story.take(Input::Started { connection, ticket, pid: 7, watched: false })
    };
    assert_eq!(started(1, 9), ["c1: not_found: ticket 9 neither waits nor has a turn: see `seq status`"]);
    assert_eq!(started(2, 1), ["c2: not_found: this connection has no ticket 1"]);
    assert_eq!(started(2, 2), ["c2: not_active: ticket 2 still waits: take it out of the line with `seq cancel 2`"]);
    assert_eq!(started(1, 1), ["#1 changed"]);
    assert_eq!(story.sequencer.view(None, 9, false)[0].holders[0].0.pid, 7);
}
