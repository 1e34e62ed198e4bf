//! Who would wait for ever where a domain has several slots, and what becomes of it when a policy changes.

use crate::sequencer::Within;

use super::*;

/// Ticket 1 has a slot of k and nothing to do with anybody; ticket 2 has another one, ticket 3 has b.
fn an_independent_one_and_two_others() -> Story {
    let mut story = Story::new();
    story.set("k", Policy { concurrency: Some(2), ..Policy::default() });
    for (connection, name) in [(1, "k"), (2, "k"), (3, "b")] {
        story.ask_within(0, connection, &[name]);
    }
    story
}

/// And those two want what the other has.
fn an_independent_one_and_two_who_wait() -> Story {
    let mut story = an_independent_one_and_two_others();
    story.ask_within(2, 4, &["b"]);
    story.ask_within(3, 5, &["k"]);
    story
}

fn slots(concurrency: u32) -> Policy {
    Policy { concurrency: Some(concurrency), ..Policy::default() }
}

#[test]
fn a_slot_that_will_be_free_makes_no_deadlock() {
    for within_b_comes_first in [false, true] {
        let mut story = an_independent_one_and_two_others();
        let mut nested = [(2, "b"), (3, "k")];
        if within_b_comes_first {
            nested.reverse();
        }
        for ((outer, name), connection) in nested.into_iter().zip([4, 5]) {
            assert!(story.ask_within(outer, connection, &[name]).last().unwrap().contains("queued"));
        }
        let (wants_k, wants_b) = if within_b_comes_first { (4, 5) } else { (5, 4) };
        assert_eq!(*story.finish(1).last().unwrap(), format!("c{wants_k}: active #{wants_k}, token 4"));
        story.finish(wants_k);
        assert_eq!(*story.finish(3).last().unwrap(), format!("c{wants_b}: active #{wants_b}, token 5"));
    }
}

#[test]
fn a_circle_through_every_slot_is_refused() {
    let mut story = an_independent_one_and_two_who_wait();
    assert_eq!(
        story.ask_within(1, 6, &["b"]),
        ["c6: would_deadlock: a deadlock: ticket 3 (pid 103) has b and waits for k; \
          ticket 1 (pid 101) has k and would wait for b"]
    );
}

#[test]
fn more_slots_than_are_left_by_the_circle_are_never_free() {
    let mut story = an_independent_one_and_two_others();
    story.ask_within(2, 4, &["b"]);
    assert_eq!(
        story.ask_within_with(3, 5, &["k"], |request| request.wishes.take = 2),
        ["c5: would_deadlock: a deadlock: ticket 2 (pid 102) has k and waits for b; \
          ticket 3 (pid 103) has b and would wait for k"]
    );
}

#[test]
fn nobody_in_the_circle_passes_one_for_whom_there_is_never_room() {
    let mut story = an_independent_one_and_two_others();
    story.ask_with(6, "both", |request| {
        request.domain = domain("k");
        request.wishes.take = 2;
    });
    story.ask_within(2, 4, &["b"]);
    assert_eq!(
        story.ask_within(3, 5, &["k"]),
        ["c5: would_deadlock: a deadlock: ticket 2 (pid 102) has k and waits for b; \
          ticket 3 (pid 103) has b and would wait for k"]
    );
}

#[test]
fn one_that_passes_others_may_not_take_the_last_slot_from_them() {
    let mut story = an_independent_one_and_two_who_wait();
    let ahead = |take| {
        move |request: &mut Enqueue| {
            (request.wishes.priority, request.wishes.take) = (1, take);
        }
    };
    assert_eq!(
        story.ask_within_with(0, 6, &["k"], ahead(2)),
        ["c6: would_deadlock: a deadlock: ticket 2 (pid 102) has k and waits for b; \
          ticket 3 (pid 103) has b and waits for k; this request would be ahead in k and wait for k"]
    );
    assert!(story.ask_within_with(0, 7, &["k"], ahead(1)).last().unwrap().contains("queued"));
}

#[test]
fn readers_go_together_with_those_of_the_circle() {
    let mut story = Story::new();
    let shared = |request: &mut Enqueue| request.wishes.shared = true;
    story.ask_within_with(0, 1, &["k"], shared);
    story.ask_within(0, 2, &["b"]);
    story.ask_within(1, 3, &["b"]);
    story.take(pause("k"));
    assert!(story.ask_within_with(2, 4, &["k"], shared).last().unwrap().contains("queued"), "it only waits for resume");
    let refused = story.ask_within(2, 5, &["k"]);
    assert!(refused[0].starts_with("c5: would_deadlock: a deadlock: "), "{refused:?}");
}

#[test]
fn a_policy_that_makes_a_deadlock_refuses_the_newest_of_the_circle() {
    let mut story = an_independent_one_and_two_who_wait();
    assert_eq!(
        story.set("k", slots(1)),
        [
            "k has {concurrency:1} by 0",
            "c0: set for k",
            "#5 left Deadlock, waited 0ns",
            "c5: would_deadlock: a deadlock: ticket 2 (pid 102) has k and waits for b; \
             ticket 3 (pid 103) has b and would wait for k",
        ]
    );
    assert_eq!(story.finish(3).last().unwrap(), "c4: active #4, token 4");
}

#[test]
fn a_policy_that_leaves_a_way_out_refuses_nobody() {
    let mut story = an_independent_one_and_two_who_wait();
    assert_eq!(story.set("?", slots(1)), ["? has {concurrency:1} by 0", "c0: set for ?"], "k has its own");
    assert_eq!(story.set("b", slots(1)), ["b has {concurrency:1} by 0", "c0: set for b"]);
}

#[test]
fn whoever_the_next_daemon_cannot_let_wait_is_told_when_it_comes_back() {
    let story = an_independent_one_and_two_who_wait();
    let saved: Vec<Restored> = (1..=5).map(|ticket| story.sequencer.saved(Ticket(ticket)).unwrap()).collect();
    let mut story = Story::new();
    let mut told = Vec::new();
    for saved in saved {
        let secret = Some(Secret([5; 32]));
        told.extend(story.take(Input::Restore(Restored { processes: 1, secret, ..saved })));
    }
    assert_eq!(told, ["#5 left Deadlock, waited 0ns"]);
    let again = Enqueue { domain: domain("k"), ..secretly(15, "r5", 5) };
    assert_eq!(
        story.take(resuming(5, again)),
        ["c15: would_deadlock: ticket 5 would have waited for ever in a deadlock, after a policy was changed"]
    );
}

impl Story {
    /// Waits for a line to be idle, within the turn with this ticket.
    fn wait_within(&mut self, outer: u64, connection: u64, name: &str) -> Vec<String> {
        let turn = self.sequencer.saved(Ticket(outer)).and_then(|saved| saved.turn);
        let within = turn.map(|turn| Within { ticket: Ticket(outer), token: turn.token });
        let (connection, peer) = (ConnectionId(connection), user(1_000));
        self.take(Input::Wait { connection, peer, domain: domain(name), max_wait: None, within, request_id: None })
    }
}

/// Ticket 1 has a, ticket 2 has b.
fn one_in_each_of_two_lines() -> Story {
    let mut story = Story::new();
    story.ask_within(0, 1, &["a"]);
    story.ask_within(0, 2, &["b"]);
    story
}

#[test]
fn a_request_that_is_waited_for_to_end_cannot_wait_for_that_turn() {
    let mut story = one_in_each_of_two_lines();
    assert!(story.wait_within(1, 3, "b").is_empty(), "it waits");
    assert_eq!(
        story.ask_within(2, 4, &["a"]),
        ["c4: would_deadlock: a deadlock: ticket 1 (pid 101) has a and waits for b to be idle; \
          ticket 2 (pid 102) has b and would wait for a"]
    );
    assert_eq!(story.finish(2).last().unwrap(), "c3: b is idle");
}

#[test]
fn a_wait_for_somebody_who_waits_for_the_outer_turn_is_refused() {
    let mut story = one_in_each_of_two_lines();
    story.ask_within(2, 3, &["a"]);
    assert_eq!(
        story.wait_within(1, 4, "b"),
        ["c4: would_deadlock: a deadlock: ticket 2 (pid 102) has b and waits for a; \
          ticket 1 (pid 101) has a and would wait for b to be idle"]
    );
    assert!(story.wait_within(0, 5, "b").is_empty(), "of one that is within no turn nobody depends");
}

#[test]
fn two_turns_cannot_wait_for_each_others_domains_to_be_idle() {
    let mut story = one_in_each_of_two_lines();
    story.wait_within(1, 3, "b");
    assert_eq!(
        story.wait_within(2, 4, "a"),
        ["c4: would_deadlock: a deadlock: ticket 1 (pid 101) has a and waits for b to be idle; \
          ticket 2 (pid 102) has b and would wait for a to be idle"]
    );
}

#[test]
fn whoever_would_stand_in_a_line_that_is_waited_for_cannot_wait_for_the_turn_around_that() {
    let mut story = one_in_each_of_two_lines();
    story.wait_within(1, 3, "b");
    assert_eq!(
        story.ask_within(0, 4, &["b", "a"]),
        ["c4: would_deadlock: a deadlock: ticket 1 (pid 101) has a and waits for b to be idle; \
          this request would stand in b and wait for a"]
    );
    assert!(story.ask_within(0, 5, &["b"]).last().unwrap().contains("queued"), "in one line it makes no circle");
    assert!(story.ask_within(0, 6, &["a"]).last().unwrap().contains("queued"));
    assert!(story.ask_within(0, 7, &["a", "c"]).last().unwrap().contains("queued"), "nobody waits for c");
}

#[test]
fn a_wait_waits_for_those_who_only_stand_in_the_line() {
    let mut story = one_in_each_of_two_lines();
    story.ask_within(0, 3, &["a", "b"]);
    assert_eq!(
        story.wait_within(1, 4, "b"),
        ["c4: would_deadlock: a deadlock: ticket 3 (pid 103) stands in b and waits for a; \
          ticket 1 (pid 101) has a and would wait for b to be idle"]
    );
}

#[test]
fn a_wait_for_whom_only_others_wait_is_answered() {
    let mut story = one_in_each_of_two_lines();
    story.ask_within(2, 3, &["c"]);
    assert!(story.wait_within(1, 4, "b").is_empty());
    story.finish(3);
    assert_eq!(story.finish(2).last().unwrap(), "c4: b is idle");
    story.finish(1);
}

#[test]
fn a_wait_whose_turn_has_ended_holds_nobody_up() {
    let mut story = one_in_each_of_two_lines();
    story.wait_within(1, 3, "b");
    story.finish(1);
    story.ask_within(0, 4, &["a"]);
    assert!(story.ask_within(2, 5, &["a"]).last().unwrap().contains("queued"));
    story.finish(4);
    story.finish(5);
    assert_eq!(story.finish(2).last().unwrap(), "c3: b is idle");
}

#[test]
fn a_policy_that_makes_a_circle_through_a_wait_refuses_the_wait() {
    let mut story = an_independent_one_and_two_others();
    story.ask_within(3, 4, &["k"]);
    assert!(story.wait_within(2, 5, "b").is_empty(), "the slot of ticket 1 will be free");
    assert_eq!(
        story.set("k", slots(1)),
        [
            "k has {concurrency:1} by 0",
            "c0: set for k",
            "c5: would_deadlock: a deadlock: ticket 3 (pid 103) has b and waits for k; \
             ticket 2 (pid 102) has k and would wait for b to be idle",
        ]
    );
    story.finish(1);
    assert_eq!(story.finish(2).last().unwrap(), "c4: active #4, token 4");
}

fn pause(name: &str) -> Input {
    Input::Pause { connection: ConnectionId(0), peer: operator(), domain: domain(name), reason: None, request_id: None }
}
