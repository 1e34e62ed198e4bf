//! Places in line, told as they change.

use super::*;

fn with_positions(request: &mut Enqueue) {
    request.positions = true;
}

#[test]
fn a_place_is_told_when_it_changes_and_at_most_once_a_second() {
    let mut story = Story::new();
    for (connection, id) in [(1, "a"), (2, "b"), (3, "c")] {
        story.ask(connection, id);
    }
    assert_eq!(story.ask_with(4, "d", with_positions).last().unwrap(), "c4: queued #4, position 3, ahead 3");
    assert_eq!(story.timeout(), None, "nothing has changed");
    story.pass(100);
    assert_eq!(story.disconnect(2), ["#2 left Gone, waited 100ms", "c4: #4 is at 2, ahead 2"]);
    story.pass(100);
    assert_eq!(story.disconnect(3), ["#3 left Gone, waited 200ms"]);
    assert_eq!(story.timeout(), Some(900));
    assert!(story.later(899).is_empty());
    assert_eq!(story.later(1), ["c4: #4 is at 1, ahead 1"]);
    assert_eq!(story.timeout(), None, "and nothing more");
}

#[test]
fn those_who_did_not_ask_are_not_told() {
    let mut story = Story::new();
    for (connection, id) in [(1, "a"), (2, "b"), (3, "c")] {
        story.ask(connection, id);
    }
    assert_eq!(story.disconnect(2), ["#2 left Gone, waited 0ns"]);
    assert_eq!(story.timeout(), None);
}

#[test]
fn a_long_line_is_told_in_small_steps_and_no_turn_waits_for_them() {
    let mut story = Story::new();
    for connection in 1..=202 {
        story.ask_with(connection, &format!("r{connection}"), with_positions);
    }
    let effects = story.disconnect(1);
    assert_eq!(
        effects[..3],
        ["#1 ended Gone, token 1, waited 0ns, held 0ns", "#2 active, token 2, waited 0ns", "c2: active #2, token 2"]
    );
    assert_eq!(effects.len(), 3 + 16);
    assert_eq!(effects[3], "c3: #3 is at 1, ahead 1");
    assert_eq!(story.timeout(), Some(0), "the rest is due at once");
    let effects = story.done(2, Which::Ticket(Ticket(2)));
    assert_eq!(effects[3], "c3: active #3, token 3", "a turn comes before the places that are due");
    assert_eq!(effects.len(), 4 + 16);
    for _ in 0..10 {
        assert_eq!(story.take(Input::Tick).len(), 16);
    }
    assert_eq!(story.take(Input::Tick).len(), 8);
    assert_eq!(story.timeout(), Some(1_000), "the first step's places have changed since");
    let mut told = story.later(1_000).len();
    while story.timeout() == Some(0) {
        told += story.take(Input::Tick).len();
    }
    assert_eq!(told, 15, "those of the first step but the one who has the turn; the others know");
}

/// Found by the model test: such a round began again at once.
#[test]
fn a_round_ends_when_those_it_has_not_come_to_have_left() {
    let mut story = Story::new();
    for number in 1..=23 {
        let connection = if number > 18 { 99 } else { number };
        story.ask_with(connection, &format!("r{number}"), with_positions);
    }
    story.disconnect(1);
    assert_eq!(story.timeout(), Some(0), "the step came to ticket 18");
    let effects = story.disconnect(99);
    assert_eq!((effects.len(), effects[4].as_str()), (5, "#23 left Gone, waited 0ns"));
    assert_eq!(story.timeout(), Some(1_000));
}
