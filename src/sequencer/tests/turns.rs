//! Who has the turn, and who is next.

use super::*;

#[test]
fn a_wait_below_a_second_is_told_in_milliseconds() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask_with(2, "b", |request| request.max_wait = Some(Duration::from_millis(200)));
    assert_eq!(
        story.later(200)[1],
        "c2: timed_out: no turn in foo.com after 200ms: foo.com is busy: ticket 1 (pid 101) has had the turn for 200ms; \
         allow a longer wait, or see `seq status`"
    );
}

#[test]
fn the_first_has_the_turn_at_once_and_the_second_waits() {
    let mut story = Story::new();
    assert_eq!(
        story.ask(1, "a"),
        ["#1 admitted", "#1 queued", "#1 active, token 1, waited 0ns", "c1: active #1, token 1"]
    );
    assert_eq!(story.ask(2, "b"), ["#2 admitted", "#2 queued", "c2: queued #2, position 1, ahead 1"]);
    assert_eq!(story.ask(3, "c"), ["#3 admitted", "#3 queued", "c3: queued #3, position 2, ahead 2"]);
    story.pass(5_000);
    assert_eq!(
        story.done(1, Which::Ticket(Ticket(1))),
        [
            "#1 ended Done 0, token 1, waited 0ns, held 5s",
            "c1: done #1",
            "#2 active, token 2, waited 5s",
            "c2: active #2, token 2"
        ]
    );
}

#[test]
fn domains_do_not_wait_for_each_other() {
    let mut story = Story::new();
    story.ask(1, "a");
    let told = story.ask_with(1, "a", |request| request.domain = domain("bar.org"));
    assert_eq!(told.last().unwrap(), "c1: active #2, token 2");
}

#[test]
fn a_request_without_an_id_gets_one_that_nobody_has() {
    let mut story = Story::new();
    story.ask(1, "t-2");
    story.ask_with(2, "-", |request| request.request_id = None);
    let lines = story.sequencer.view(None, 9, false);
    let waiter = &lines[0].waiters[0];
    assert_eq!((waiter.request_id.as_str(), waiter.ticket), ("t-3", Ticket(3)));
}

#[test]
fn no_wait_is_refused_with_the_holder_named() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.pass(123_000);
    assert_eq!(
        story.ask_with(2, "b", |request| request.no_wait = true),
        ["c2: busy: foo.com is busy: ticket 1 (pid 101) has had the turn for 2m 3s"]
    );
}

#[test]
fn a_waiter_is_refused_when_its_longest_wait_is_over() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask_with(2, "b", |request| request.max_wait = Some(Duration::from_secs(2)));
    assert_eq!(story.timeout(), Some(2_000));
    assert!(story.later(1_999).is_empty());
    assert_eq!(
        story.later(1),
        [
            "#2 left TimedOut, waited 2s",
            "c2: timed_out: no turn in foo.com after 2s: foo.com is busy: ticket 1 (pid 101) has had the turn for 2s; \
             allow a longer wait, or see `seq status`"
        ]
    );
    assert_eq!(story.timeout(), None);
}

#[test]
fn what_was_due_first_happens_first_however_late_the_tick_is() {
    let mut story = Story::new();
    story.ask_with(1, "a", |request| {
        request.binding = Binding::Lease;
        request.lease = Some(Duration::from_secs(3));
    });
    story.ask_with(2, "b", |request| request.max_wait = Some(Duration::from_secs(2)));
    story.ask_with(3, "c", |request| request.max_wait = Some(Duration::from_secs(4)));
    let effects = story.later(86_400_000);
    let records: Vec<&String> = effects.iter().filter(|words| words.starts_with('#')).collect();
    assert_eq!(
        records,
        [
            "#2 left TimedOut, waited 2s",
            "#1 ended Expired, token 1, waited 0ns, held 3s",
            "#3 active, token 2, waited 86400s"
        ]
    );
}

#[test]
fn a_wait_is_answered_when_the_last_one_has_left() {
    let mut story = Story::new();
    assert_eq!(story.wait(9, None), ["c9: foo.com is idle"]);
    story.ask(1, "a");
    story.ask(2, "b");
    assert!(story.wait(9, None).is_empty());
    assert!(story.wait(8, Some(Duration::from_secs(1))).is_empty());
    assert_eq!(
        story.later(1_000),
        ["c8: timed_out: foo.com is still in use after 1s: allow a longer wait, or see `seq status`"]
    );
    story.disconnect(1);
    let effects = story.disconnect(2);
    assert_eq!(effects, ["#2 ended Gone, token 2, waited 1s, held 0ns", "c9: foo.com is idle"]);
}

#[test]
fn the_usual_run_is_the_median_of_runs_that_were_done() {
    let mut story = Story::new();
    for (seconds, is_done) in [(1, true), (100, false), (9, true), (2, true)] {
        story.ask(1, "a");
        story.pass(seconds * 1_000);
        if is_done {
            story.done(1, Which::Domain(foo()))
        } else {
            story.disconnect(1)
        };
    }
    let lines = story.sequencer.view(None, 9, true);
    assert_eq!(lines[0].usual_run, Some(Duration::from_secs(2)));
    assert!(story.sequencer.view(None, 9, false).is_empty(), "it is idle");
    assert!(story.sequencer.view(Some(&foo()), 9, false).is_empty(), "it is idle");
}
