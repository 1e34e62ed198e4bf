//! One daemon leaves, the next takes back what was held.

use super::*;

/// A holder from before, kept by one process.
fn restored(ticket: u64) -> Restored {
    Restored { request_id: id("old"), turn: Some(turn(ticket)), ..waiter(ticket, "old") }
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
fn whoever_makes_room_for_the_next_changes_nothing_any_more() {
    let restarting = "restarting: the daemon is restarting: connect again, and take the ticket up again with `resume`";
    let mut story = Story::new();
    story.ask_with(1, "a", |request| request.pipe = true);
    story.ask_with(2, "b", |request| request.max_wait = Some(Duration::from_secs(1)));
    story.ask_with(3, "c", |request| request.positions = true);
    story.wait(4, Some(Duration::from_secs(1)));
    let saved = |story: &Story| (1..=3).map(|ticket| story.sequencer.saved(Ticket(ticket))).collect::<Vec<_>>();
    let before = saved(&story);
    assert_eq!(
        story.take(Input::Leave { keep_places: true }),
        [1, 2, 3, 4].map(|connection| format!("c{connection}: {restarting}"))
    );
    let (ticket, refused) = (Ticket(1), [format!("c1: {restarting}")]);
    assert_eq!(story.timeout(), None);
    assert!(story.later(60_000).is_empty());
    for connection in 2..=4 {
        assert!(story.disconnect(connection).is_empty());
    }
    assert!(story.take(Input::PipeClosed { ticket }).is_empty());
    assert!(story.take(Input::ProcessGone { ticket }).is_empty());
    assert!(story.take(Input::Restore(restored(41))).is_empty());
    assert!(story.take(Input::Leave { keep_places: false }).is_empty());
    assert_eq!(story.ask(1, "new"), refused);
    assert_eq!(story.done(1, Which::Ticket(ticket)), refused);
    assert_eq!(story.wait(1, None), refused);
    let (connection, peer, which) = (ConnectionId(1), user(1_000), Which::Ticket(ticket));
    assert_eq!(story.take(Input::Started { connection, ticket, pid: 7, watched: true }), refused);
    assert_eq!(story.take(Input::Cancel { connection, peer, which: which.clone() }), refused);
    assert_eq!(story.take(Input::Release { connection, peer, which, request_id: None }), refused);
    assert!(story.disconnect(1).is_empty());
    assert_eq!(saved(&story), before);
}

#[test]
fn what_is_saved_is_what_is_restored() {
    let mut story = Story::new();
    story.take(Input::Sequence(Enqueue {
        binding: Binding::Lease,
        lease: Some(Duration::from_secs(9)),
        ..secretly(1, "a", 1)
    }));
    story.take(Input::Sequence(Enqueue { max_wait: Some(Duration::from_secs(5)), pipe: true, ..secretly(2, "b", 2) }));
    let saved = [1, 2].map(|ticket| story.sequencer.saved(Ticket(ticket)).unwrap());
    assert!(saved[0].turn.is_some_and(|turn| turn.lease_until.is_some()) && saved[1].wait_until.is_some());
    let found = saved.map(|saved| Restored { processes: 1, ..saved });
    let text = serde_json::to_string(&found).unwrap();
    let mut next = Story::new();
    for restored in serde_json::from_str::<Vec<Restored>>(&text).unwrap() {
        next.take(Input::Restore(restored));
    }
    assert_eq!([1, 2].map(|ticket| next.sequencer.saved(Ticket(ticket)).unwrap()), found);
}

#[test]
fn estimates_go_by_the_runs_of_before() {
    let runs = || [9, 1, 2, 3].map(Duration::from_secs).to_vec();
    let usual = |story: &Story| story.sequencer.view(Some(&foo()), 0, true)[0].usual_run;
    for is_held in [false, true] {
        let mut story = Story::with_limits(Limits { past_runs: 3, ..Limits::default() });
        if is_held {
            story.take(Input::Restore(restored(41)));
        }
        assert!(story.take(Input::PastRuns { domain: foo(), runs: runs() }).is_empty());
        assert_eq!(usual(&story), Some(Duration::from_secs(2)), "of the last three");
        story.ask(1, "a");
        assert_eq!(usual(&story), Some(Duration::from_secs(2)));
    }
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
