//! The daemon dies in the same instant as something happens, and the next one goes on from what was written.
//!
//! What followed is cut at every position: nothing of it was written, or all of it was and the first so many replies
//! were heard.

use super::*;

/// What there is after a crash: the next daemon, and what clients heard of the last one.
struct Cut {
    was_written: bool,
    heard: Vec<String>,
    next: Story,
}

/// Every way in which `input` can be cut short. All tickets' clients live.
fn cuts(before: &Story, input: &Input) -> Vec<Cut> {
    let mut effects = Vec::new();
    let mut after = before.sequencer.clone();
    after.handle(before.now, input.clone(), &mut effects);
    let told: Vec<String> = effects.iter().filter(|it| matches!(it, Effect::Tell { .. })).map(words).collect();
    let cut = |was_written: bool, heard: usize| Cut {
        was_written,
        heard: told[..heard].to_vec(),
        next: if was_written { next(&after, &effects, before.now) } else { next(&before.sequencer, &[], before.now) },
    };
    let mut cuts = vec![cut(false, 0)];
    cuts.extend((0..=told.len()).map(|heard| cut(true, heard)));
    cuts
}

/// The next daemon, a second later.
fn next(last: &Sequencer, written: &[Effect], now: Time) -> Story {
    let (next_ticket, next_token) = last.next_numbers();
    let mut next = Story { sequencer: Sequencer::new(next_ticket, next_token), now: now + Duration::from_secs(1) };
    for effect in written {
        let Effect::Record(Record { ticket, uid, change, .. }) = effect else { continue };
        let (had_turn, outcome) = match change {
            Change::Ended { outcome, .. } => (true, *outcome),
            Change::Left { outcome, .. } => (false, *outcome),
            _ => continue,
        };
        next.take(Input::PastEnd { ticket: *ticket, uid: *uid, had_turn, outcome });
    }
    for saved in (1..next_ticket.0).filter_map(|ticket| last.saved(Ticket(ticket))) {
        assert!(next.take(Input::Restore(Restored { processes: 1, ..saved })).is_empty());
    }
    next
}

/// Tickets 1 to 3 in foo.com; their secrets are 1 to 3.
fn three_in_line() -> Story {
    let mut story = Story::new();
    for (connection, request_id) in [(1, "a"), (2, "b"), (3, "c")] {
        let secret = u8::try_from(connection).unwrap();
        story.take(Input::Sequence(secretly(connection, request_id, secret)));
    }
    story
}

fn done(connection: u64, ticket: u64) -> Input {
    let (connection, which) = (ConnectionId(connection), Which::Ticket(Ticket(ticket)));
    Input::Done { connection, peer: user(1_000), which, exit_status: Some(0), processes: Vec::new(), request_id: None }
}

fn cancel(ticket: u64) -> Input {
    Input::Cancel { connection: ConnectionId(9), peer: user(1_000), which: Which::Ticket(Ticket(ticket)) }
}

fn positions(cuts: &[Cut]) -> Vec<(bool, Vec<&str>)> {
    cuts.iter().map(|cut| (cut.was_written, cut.heard.iter().map(String::as_str).collect())).collect()
}

#[test]
fn a_crash_in_the_same_instant_as_a_grant() {
    let cuts = cuts(&three_in_line(), &done(1, 1));
    let (done_1, active_2) = ("c1: done #1", "c2: active #2, token 2");
    let expected = [(false, vec![]), (true, vec![]), (true, vec![done_1]), (true, vec![done_1, active_2])];
    assert_eq!(positions(&cuts), expected);
    for Cut { was_written, mut next, .. } in cuts {
        assert_eq!(next.take(resuming(3, secretly(13, "c", 3)))[..2], ["#3 admitted", "#3 changed"]);
        if was_written {
            // It has its turn already, whether or not it was told, and nobody else is given it.
            assert_eq!(next.take(done(11, 1)), ["c11: done, nothing released"]);
            let back = next.take(resuming(2, secretly(12, "b", 2)));
            assert_eq!(back, ["#2 admitted", "#2 changed", "c12: active again #2, token 2"]);
        } else {
            // The turn is still taken; once it is given back it waits for its next holder.
            let back = next.take(resuming(1, secretly(11, "a", 1)));
            assert_eq!(back, ["#1 admitted", "#1 changed", "c11: active again #1, token 1"]);
            assert_eq!(next.take(done(11, 1)), ["#1 ended Done 0, token 1, waited 0ns, held 1s", "c11: done #1"]);
            let back = next.take(resuming(2, secretly(12, "b", 2)));
            assert_eq!(back[2..], ["#2 active, token 2, waited 1s", "c12: active #2, token 2"]);
        }
        let handed_on = next.take(done(12, 2));
        assert_eq!(handed_on[1..], ["c12: done #2", "#3 active, token 3, waited 1s", "c13: active #3, token 3"]);
    }
}

#[test]
fn a_crash_in_the_same_instant_as_a_cancel() {
    let cuts = cuts(&three_in_line(), &cancel(2));
    let told = "c2: cancelled: ticket 2 was cancelled while it waited: ask again for a new place";
    let expected = [(false, vec![]), (true, vec![]), (true, vec![told]), (true, vec![told, "c9: cancelled #2"])];
    assert_eq!(positions(&cuts), expected);
    for Cut { was_written, mut next, .. } in cuts {
        next.take(resuming(3, secretly(13, "c", 3)));
        let back = next.take(resuming(2, secretly(12, "b", 2)));
        if was_written {
            // It learns what it may not have heard, and has no place any more.
            assert_eq!(back, ["c12: cancelled: ticket 2 was cancelled meanwhile: ask again for a new place"]);
        } else {
            // Nobody was told that it was cancelled, and it was not.
            assert_eq!(back, ["#2 admitted", "#2 changed", "c12: queued #2, position 1, ahead 1"]);
        }
        let after = if was_written { "c13: active #3, token 2" } else { "c12: active #2, token 2" };
        assert_eq!(next.take(done(11, 1)).last().unwrap(), after);
    }
}

#[test]
fn a_crash_in_the_same_instant_as_a_done() {
    let mut story = Story::new();
    story.take(Input::Sequence(secretly(1, "a", 1)));
    let cuts = cuts(&story, &done(1, 1));
    assert_eq!(positions(&cuts), [(false, vec![]), (true, vec![]), (true, vec!["c1: done #1"])]);
    for Cut { was_written, mut next, .. } in cuts {
        assert_eq!(next.sequencer.counts().holders, u64::from(!was_written));
        let again = next.take(done(11, 1));
        if was_written {
            assert_eq!(again, ["c11: done, nothing released"]);
        } else {
            assert_eq!(again, ["#1 ended Done 0, token 1, waited 0ns, held 1s", "c11: done #1"]);
        }
        let new = next.ask(14, "new");
        assert_eq!(new.last().unwrap(), "c14: active #2, token 2", "numbers go on rising");
    }
}

#[test]
fn a_crash_in_the_same_instant_as_a_request() {
    let ask = Enqueue { request_id: None, ..secretly(2, "-", 2) };
    let mut story = Story::new();
    story.take(Input::Sequence(secretly(1, "a", 1)));
    let cuts = cuts(&story, &Input::Sequence(ask.clone()));
    let queued = "c2: queued #2, position 1, ahead 1";
    assert_eq!(positions(&cuts), [(false, vec![]), (true, vec![]), (true, vec![queued])]);
    for Cut { heard, mut next, .. } in cuts {
        // Told of its ticket or not, it has one place, and only one.
        let resume = (!heard.is_empty()).then_some(Ticket(2));
        let back = next.take(Input::Sequence(Enqueue { resume, connection: ConnectionId(12), ..ask.clone() }));
        assert_eq!(back.last().unwrap(), "c12: queued #2, position 1, ahead 1");
        assert_eq!(next.sequencer.counts().waiters, 1);
    }
}

#[test]
fn a_crash_in_the_same_instant_as_the_start_of_a_command() {
    let mut story = Story::new();
    story.take(Input::Sequence(Enqueue { pipe: true, ..secretly(1, "a", 1) }));
    let started = Input::Started { connection: ConnectionId(1), ticket: Ticket(1), pid: 7, watched: true };
    let cuts = cuts(&story, &started);
    assert_eq!(positions(&cuts), [(false, vec![]), (true, vec![])]);
    for Cut { was_written, next, .. } in cuts {
        let saved = next.sequencer.saved(Ticket(1)).unwrap();
        assert_eq!((saved.pid, saved.pipes), (if was_written { 7 } else { 101 }, 1));
    }
}
