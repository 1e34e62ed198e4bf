//! The newest of its kind stays.

use super::*;

impl Story {
    fn supersede(&mut self, connection: u64, id: &str, group: &str) -> Vec<String> {
        self.ask_with(connection, id, |request| request.wishes.supersede = Some(group.into()))
    }

    fn supersede_all(&mut self, connection: u64, id: &str) -> Vec<String> {
        self.ask_with(connection, id, |request| {
            request.wishes.supersede = Some("".into());
            request.wishes.cancel_running = true;
        })
    }
}

#[test]
fn of_many_deploys_the_first_and_the_last_run() {
    let mut story = Story::new();
    story.supersede(1, "1", "");
    story.supersede(2, "2", "");
    assert_eq!(
        story.supersede(3, "3", ""),
        [
            "#2 left Superseded by #3, waited 0ns",
            "c2: superseded: ticket 2 was replaced by ticket 3 (pid 103, uid 1000), which came later",
            "#3 admitted",
            "#3 queued",
            "c3: queued #3, position 1, ahead 1"
        ]
    );
    assert_eq!(story.done(1, Which::Ticket(Ticket(1))).last().unwrap(), "c3: active #3, token 2");
}

#[test]
fn others_are_not_replaced() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask(2, "plain");
    story.supersede(3, "group", "docs");
    story.ask_with(4, "other user", |request| {
        request.wishes.supersede = Some("".into());
        request.peer = user(1_001);
    });
    story.ask_with(5, "other domain", |request| {
        request.wishes.supersede = Some("".into());
        request.domain = domain("bar.org");
    });
    assert_eq!(story.supersede(6, "f", "").last().unwrap(), "c6: queued #6, position 4, ahead 4");
}

#[test]
fn a_newcomer_that_is_refused_replaces_nobody() {
    let mut story = Story::new();
    story.supersede(1, "a", "");
    story.supersede(2, "b", "");
    let effects = story.ask_with(3, "c", |request| {
        request.wishes.supersede = Some("".into());
        request.no_wait = true;
    });
    assert_eq!(effects, ["c3: busy: foo.com is busy: ticket 1 (pid 101) has had the turn for 0ms"]);
    assert_eq!(story.sequencer.counts().waiters, 1);
}

#[test]
fn there_is_room_in_a_full_line_for_one_that_makes_room() {
    let mut story = Story::new();
    story.set("*", Policy { max_queue: Some(1), ..Policy::default() });
    story.supersede(1, "a", "");
    story.supersede(2, "b", "");
    assert_eq!(story.supersede(3, "c", "").last().unwrap(), "c3: queued #3, position 1, ahead 1");
    assert_eq!(story.ask(4, "d"), ["c4: queue_full: the line of foo.com is full: 1 waits already, try again later"]);
}

#[test]
fn whoever_has_the_turn_is_told_once_and_keeps_it() {
    let mut story = Story::new();
    story.take(Input::Sequence(Enqueue {
        wishes: Wishes { supersede: Some("".into()), ..Wishes::default() },
        pipe: true,
        ..secretly(1, "a", 1)
    }));
    let told = "superseded: ticket 1 is to make way for ticket 2 (pid 102, uid 1000)";
    let effects = story.supersede_all(2, "b");
    assert_eq!(effects[..2], ["#1 changed".to_owned(), format!("c1: {told}")]);
    assert_eq!(effects.last().unwrap(), "c2: queued #2, position 1, ahead 1");
    assert!(!story.supersede_all(3, "c").join(" ").contains("c1"), "once");
    let mut next = Story::new();
    let saved = story.sequencer.saved(Ticket(1)).unwrap();
    next.take(Input::Restore(Restored { processes: 1, ..saved }));
    let back = next.take(resuming(1, secretly(11, "a", 1)));
    assert_eq!(
        back[2..],
        ["c11: active again #1, token 1".to_owned(), format!("c11: {told}")],
        "it may not have heard"
    );
    let effects = story.done(1, Which::Ticket(Ticket(1)));
    assert_eq!(effects[0], "#1 ended Done by #2 0, token 1, waited 0ns, held 0ns", "nobody stopped it");
    assert_eq!(effects.last().unwrap(), "c3: active #3, token 2");
}

#[test]
fn a_client_that_was_away_learns_that_it_was_replaced() {
    let mut story = Story::new();
    let waits = Restored { wishes: Wishes { supersede: Some("".into()), ..Wishes::default() }, ..waiter(1, "a") };
    story.take(Input::Restore(waits));
    assert_eq!(story.supersede(2, "b", "").last().unwrap(), "c2: active #2, token 1");
    assert_eq!(
        story.take(resuming(1, secretly(1, "a", 1))),
        ["c1: superseded: ticket 1 was replaced meanwhile by a newer request"]
    );
}

#[test]
fn in_a_paused_line_the_newest_stays_too() {
    let mut story = Story::new();
    let (connection, peer) = (ConnectionId(0), operator());
    story.take(Input::Pause { connection, peer, domain: foo(), reason: None, request_id: None });
    story.supersede(1, "a", "");
    assert_eq!(story.supersede(2, "b", "")[0], "#1 left Superseded by #2, waited 0ns");
    let effects = story.take(Input::Resume { connection, peer, domain: foo(), request_id: None });
    assert_eq!(effects.last().unwrap(), "c2: active #2, token 1");
}

#[test]
fn a_head_that_did_not_fit_makes_way_for_those_behind_it() {
    let mut story = Story::new();
    story.set("foo.com", Policy { concurrency: Some(2), ..Policy::default() });
    story.ask(1, "a");
    story.ask_with(2, "both", |request| {
        request.wishes = Wishes { take: 2, supersede: Some("".into()), ..Wishes::default() };
    });
    story.ask(3, "c");
    let refused = story.ask_with(4, "d", |request| {
        request.wishes.supersede = Some("".into());
        request.no_wait = true;
    });
    assert_eq!(refused, ["c4: busy: foo.com is busy: ticket 1 (pid 101) has had the turn for 0ms"]);
    let effects = story.supersede(4, "d", "");
    assert_eq!(effects[effects.len() - 2..], ["c3: active #3, token 2", "c4: queued #4, position 1, ahead 2"]);
}

#[test]
fn a_turn_that_was_to_make_way_is_no_usual_run() {
    let mut story = Story::new();
    story.supersede(1, "a", "");
    story.supersede_all(2, "b");
    story.later(500);
    story.disconnect(1);
    let line = &story.sequencer.view(Some(&foo()), 9, false)[0];
    assert_eq!((line.holders[0].0.ticket, line.usual_run), (Ticket(2), None));
    assert_eq!(
        story.take(resuming(1, secretly(1, "a", 1))),
        ["c1: superseded: ticket 1 was replaced meanwhile by a newer request"]
    );
}
