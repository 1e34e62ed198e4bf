//! One daemon leaves, the next takes back what was held.

use super::*;

/// A holder from before, kept by one process.
fn restored(ticket: u64) -> Restored {
    let turn = RestoredTurn { token: Token(ticket), active_at: Time::ZERO, lease_until: None };
    Restored { request_id: id("old"), turn: Some(turn), ..waiter(ticket, "old") }
}

#[test]
fn a_turn_that_was_held_is_still_taken() {
    let mut story = Story::new();
    assert!(story.take(Input::Restore(restored(41))).is_empty());
    assert_eq!(story.sequencer.next_numbers(), (Ticket(42), Token(42)));
    assert_eq!(story.sequencer.saved(Ticket(41)), Some(restored(41)));
    assert_eq!(story.ask(1, "a").last().unwrap(), "c1: queued #42, position 1, ahead 1");
    assert_eq!(
        story.take(Input::ProcessGone { ticket: Ticket(41) }),
        [
            "#41 ended Gone, token 41, waited 0ns, held 0ns",
            "#42 active, token 42, waited 0ns",
            "c1: active #42, token 42"
        ]
    );
}

#[test]
fn a_turn_that_nothing_keeps_is_not_taken_back_but_its_numbers_are_used_up() {
    let mut story = Story::new();
    story.pass(3_000);
    let effects = story.take(Input::Restore(Restored { processes: 0, ..restored(41) }));
    assert_eq!(effects, ["#41 ended Gone, token 41, waited 0ns, held 3s"]);
    assert_eq!(story.sequencer.counts().holders, 0);
    assert_eq!(story.ask(1, "a").last().unwrap(), "c1: active #42, token 42");
}

#[test]
fn a_lease_that_was_over_meanwhile_ends_at_once_and_not_in_the_past() {
    let mut story = Story::new();
    story.pass(10_000);
    let turn = restored(41).turn.map(|turn| RestoredTurn { lease_until: Some(Time::from_nanos(1)), ..turn });
    story.take(Input::Restore(Restored { binding: Binding::Lease, turn, ..restored(41) }));
    assert_eq!(story.take(Input::Tick), ["#41 ended Expired, token 41, waited 0ns, held 10s"]);
}

#[test]
fn the_client_of_a_restored_turn_takes_it_up_again() {
    let mut story = Story::new();
    story.take(Input::Restore(restored(41)));
    assert_eq!(story.ask(1, "old"), ["#41 admitted", "#41 changed", "c1: active again #41, token 41"]);
    assert_eq!(story.disconnect(1), ["#41 orphaned, token 41"]);
}

#[test]
fn whoever_leaves_tells_everybody_and_gives_no_more_turns() {
    let leaving = "leaving: the daemon is leaving: connect again to reach the next one";
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask(2, "b");
    story.ask_with(3, "c", |request| {
        request.domain = domain("bar.org");
        request.pipe = true;
    });
    story.wait(4, None);
    assert_eq!(
        story.take(Input::Leave { keep_places: false }),
        [
            "#2 left Stopped, waited 0ns".to_owned(),
            format!("c2: {leaving}"),
            format!("c4: {leaving}"),
            "#1 ended Stopped, token 1, waited 0ns, held 0ns".to_owned(),
            format!("c1: {leaving}"),
            format!("c3: {leaving}"),
        ]
    );
    assert_eq!(story.ask(5, "e"), [format!("c5: {leaving}")]);
    assert_eq!(story.wait(5, None), [format!("c5: {leaving}")]);
    assert_eq!(story.sequencer.counts().holders, 1);
    assert_eq!(story.sequencer.saved(Ticket(3)).map(|saved| saved.pipes), Some(1));
}

#[test]
fn the_state_can_be_written_down_and_read_back() {
    let mut story = Story::new();
    for (connection, id) in [(1, "a"), (2, "b"), (3, "c")] {
        story.ask_with(connection, id, |request| request.positions = true);
    }
    let text = serde_json::to_string(&story.sequencer).unwrap();
    let mut copy = Story { sequencer: serde_json::from_str(&text).unwrap(), now: story.now };
    assert_eq!(copy.disconnect(1), story.disconnect(1));
    assert_eq!(copy.disconnect(2), story.disconnect(2));
}
