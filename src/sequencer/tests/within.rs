//! Requests that are made within a turn, and those that would wait for themselves.

use crate::sequencer::Within;

use super::*;

fn also(names: &[&str]) -> Vec<Domain> {
    names.iter().map(|name| domain(name)).collect()
}

impl Story {
    /// A request for the first and all further domains, within the turn with this ticket, if there is one.
    pub(super) fn ask_within(&mut self, outer: u64, connection: u64, names: &[&str]) -> Vec<String> {
        self.ask_within_with(outer, connection, names, |_| {})
    }

    pub(super) fn ask_within_with(
        &mut self,
        outer: u64,
        connection: u64,
        names: &[&str],
        change: impl FnOnce(&mut Enqueue),
    ) -> Vec<String> {
        let turn = self.sequencer.saved(Ticket(outer)).and_then(|saved| saved.turn);
        self.ask_with(connection, &format!("r{connection}"), |request| {
            request.domain = domain(names[0]);
            request.wishes.also = also(&names[1..]);
            request.wishes.within = turn.map(|turn| Within { ticket: Ticket(outer), token: turn.token });
            change(request);
        })
    }

    pub(super) fn finish(&mut self, ticket: u64) -> Vec<String> {
        self.done(9, Which::Ticket(Ticket(ticket)))
    }

    fn release(&mut self, which: Which) -> Vec<String> {
        let (connection, peer) = (ConnectionId(9), user(1_000));
        self.take(Input::Release { connection, peer, which, request_id: None })
    }

    fn holders(&self, name: &str) -> Vec<u64> {
        let lines = self.sequencer.view(Some(&domain(name)), 9, false);
        lines.iter().flat_map(|line| &line.holders).map(|(view, ..)| view.ticket.0).collect()
    }
}

#[test]
fn who_has_the_turn_already_need_not_wait_for_it() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask(2, "b");
    assert_eq!(
        story.ask_within(1, 3, &["foo.com"]),
        ["#3 admitted", "#3 queued", "#3 active, token 1, waited 0ns", "c3: active #3, token 1"]
    );
    assert_eq!(story.finish(3)[1..], ["c9: done #3"], "the turn is the outer one's still");
    assert_eq!(story.finish(1).last().unwrap(), "c2: active #2, token 2");
}

#[test]
fn a_token_that_is_not_the_turns_proves_nothing() {
    let mut story = Story::new();
    story.ask(1, "a");
    let wrong_token = |request: &mut Enqueue| {
        request.wishes.within = Some(Within { ticket: Ticket(1), token: Token(7) });
    };
    assert_eq!(
        story.ask_within_with(1, 2, &["foo.com"], wrong_token).last().unwrap(),
        "c2: queued #2, position 1, ahead 1"
    );
    let other_user = story.ask_within_with(1, 3, &["foo.com"], |request| request.peer = user(1_001));
    assert_eq!(other_user.last().unwrap(), "c3: queued #3, position 2, ahead 2");
    story.finish(1);
    let dead = |request: &mut Enqueue| request.wishes.within = Some(Within { ticket: Ticket(1), token: Token(1) });
    assert_eq!(story.ask_within_with(1, 4, &["foo.com"], dead).last().unwrap(), "c4: queued #4, position 2, ahead 2");
    assert_eq!(story.sequencer.saved(Ticket(4)).unwrap().wishes.within, None);
}

#[test]
fn the_slot_is_free_when_outer_and_inner_have_ended() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask(2, "b");
    story.ask_within(1, 3, &["foo.com"]);
    assert!(!story.finish(1).join(" ").contains("active"), "the inner one is there");
    assert_eq!(story.holders("foo.com"), [3]);
    assert_eq!(story.finish(3).last().unwrap(), "c2: active #2, token 2");
}

#[test]
fn within_a_turn_within_a_turn_all_share_one_slot() {
    let mut story = Story::new();
    story.set("foo.com", Policy { concurrency: Some(2), ..Policy::default() });
    story.ask(1, "a");
    story.ask_within(1, 2, &["foo.com"]);
    story.ask_within(2, 3, &["foo.com"]);
    assert_eq!(story.ask(4, "d").last().unwrap(), "c4: active #4, token 2");
    assert_eq!(story.ask(5, "e").last().unwrap(), "c5: queued #5, position 1, ahead 2", "of three turns two share");
    story.finish(2);
    story.finish(1);
    assert_eq!(story.finish(3).last().unwrap(), "c5: active #5, token 3");
}

#[test]
fn a_pause_a_rest_and_a_full_line_do_not_concern_who_has_the_turn() {
    let mut story = Story::new();
    let policy = Policy {
        max_queue: Some(0),
        min_interval: Some(Duration::from_secs(9)),
        cooldown: Some(Duration::from_secs(5)),
        ..Policy::default()
    };
    story.set("foo.com", policy);
    story.ask(1, "a");
    let (connection, peer) = (ConnectionId(0), operator());
    story.take(Input::Pause { connection, peer, domain: foo(), reason: None, request_id: None });
    let effects = story.ask_within_with(1, 2, &["foo.com"], |request| request.no_wait = true);
    assert_eq!(effects[2..], ["#2 active, token 1, waited 0ns", "c2: active #2, token 1"], "no turn has begun");
    story.pass(1_000);
    assert_eq!(story.finish(1)[1..], ["c9: done #1"], "and none has ended");
    assert_eq!(story.finish(2)[1..], ["foo.com ended at 1000ms", "c9: done #2"]);
}

#[test]
fn further_domains_are_waited_for_beside_the_one_it_has() {
    let mut story = Story::new();
    story.ask_within(0, 1, &["bar.org"]);
    story.ask(2, "a");
    assert_eq!(story.ask_within(2, 3, &["foo.com", "bar.org"]).last().unwrap(), "c3: queued #3, position 1, ahead 1");
    assert_eq!(story.finish(1).last().unwrap(), "c3: active #3, token 3");
    assert_eq!(story.holders("foo.com"), [2, 3]);
    story.ask(4, "d");
    story.finish(2);
    assert_eq!(story.finish(3).last().unwrap(), "c4: active #4, token 4");
}

#[test]
fn one_that_waits_keeps_the_slot_of_the_turn_that_it_was_made_within() {
    let mut story = Story::new();
    story.ask_within(0, 1, &["bar.org"]);
    story.ask(2, "a");
    story.ask_within(2, 3, &["foo.com", "bar.org"]);
    assert!(!story.finish(2).join(" ").contains("active"));
    let refused = story.ask_with(4, "d", |request| request.no_wait = true);
    assert_eq!(refused, ["c4: busy: foo.com is busy: ticket 3 (pid 103) is next"]);
    story.ask(5, "e");
    assert_eq!(story.disconnect(3).last().unwrap(), "c5: active #4, token 3");
}

#[test]
fn within_a_shared_turn_nobody_is_alone() {
    let mut story = Story::new();
    story.ask_with(1, "a", |request| request.wishes.shared = true);
    assert_eq!(
        story.ask_within(1, 2, &["foo.com"]),
        [
            "c2: would_deadlock: a deadlock: ticket 1 has foo.com shared, and a request within it would have it alone: share it as well"
        ]
    );
    let effects = story.ask_within_with(1, 2, &["foo.com"], |request| request.wishes.shared = true);
    assert_eq!(effects.last().unwrap(), "c2: active #2, token 1");
    story.ask_with(3, "c", |request| request.wishes.shared = true);
    story.ask(4, "d");
    story.finish(1);
    story.finish(3);
    assert_eq!(story.finish(2).last().unwrap(), "c4: active #4, token 3");
}

#[test]
fn two_scripts_that_want_what_the_other_has_do_not_wait_for_ever() {
    let mut story = Story::new();
    story.ask_within(0, 1, &["a"]);
    story.ask_within(0, 2, &["b"]);
    assert!(story.ask_within(1, 3, &["b"]).last().unwrap().contains("queued"));
    assert_eq!(
        story.ask_within(2, 4, &["a"]),
        [
            "c4: would_deadlock: a deadlock: ticket 1 (pid 101) has a and waits for b; ticket 2 (pid 102) has b and would wait for a"
        ]
    );
    assert_eq!(story.finish(2).last().unwrap(), "c3: active #3, token 3");
}

#[test]
fn a_cycle_is_found_through_any_number_of_turns() {
    let mut story = Story::new();
    for (connection, name) in [(1, "a"), (2, "b"), (3, "c")] {
        story.ask_within(0, connection, &[name]);
    }
    story.ask_within(1, 4, &["a"]);
    story.ask_within(4, 5, &["b"]);
    story.ask_within(2, 6, &["c"]);
    let refused = story.ask_within(3, 7, &["a"]);
    assert_eq!(
        refused,
        ["c7: would_deadlock: a deadlock: ticket 4 (pid 104) has a and waits for b; \
          ticket 2 (pid 102) has b and waits for c; ticket 3 (pid 103) has c and would wait for a"]
    );
}

#[test]
fn a_cycle_leads_through_those_who_stand_in_several_lines() {
    let mut story = Story::new();
    story.ask_within(0, 1, &["a"]);
    story.ask_within(0, 2, &["b", "a"]);
    story.ask_within(0, 3, &["c"]);
    assert_eq!(
        story.ask_within(1, 4, &["b"]),
        ["c4: would_deadlock: a deadlock: ticket 2 (pid 102) is ahead in b and waits for a; \
          ticket 1 (pid 101) has a and would wait for b"]
    );
    assert!(story.ask_within(1, 5, &["c"]).last().unwrap().contains("queued"), "no cycle");
}

#[test]
fn one_that_passes_others_may_not_hold_up_whom_it_waits_for() {
    let mut story = Story::new();
    story.ask_within(0, 1, &["a"]);
    story.ask_within(0, 2, &["b"]);
    story.ask_within(2, 3, &["a"]);
    let ahead = |request: &mut Enqueue| request.wishes.priority = 1;
    assert_eq!(
        story.ask_within_with(0, 4, &["a", "b"], ahead),
        ["c4: would_deadlock: a deadlock: ticket 2 (pid 102) has b and waits for a; \
          this request would be ahead in a and wait for b"]
    );
    assert!(story.ask_within(0, 5, &["a", "b"]).last().unwrap().contains("queued"), "behind them it may be");
}

#[test]
fn who_would_not_wait_makes_no_cycle() {
    let mut story = Story::new();
    story.ask_within(0, 1, &["a"]);
    story.ask_within(0, 2, &["b"]);
    story.ask_within(1, 3, &["b"]);
    let refused = story.ask_within_with(2, 4, &["a"], |request| request.no_wait = true);
    assert_eq!(refused, ["c4: busy: a is busy: ticket 1 (pid 101) has had the turn for 0ms"]);
}

#[test]
fn a_newer_one_within_a_turn_stops_no_turn_that_it_is_within() {
    let mut story = Story::new();
    let newest = |request: &mut Enqueue| {
        request.wishes.supersede = Some("".into());
        request.wishes.cancel_running = true;
    };
    story.ask_within_with(0, 1, &["a", "b"], newest);
    story.ask_within_with(0, 2, &["a"], newest);
    let effects = story.ask_within_with(1, 3, &["a"], newest);
    assert_eq!(effects[2..], ["#3 active, token 1, waited 0ns", "c3: active #3, token 1"], "and replaces nobody");
}

#[test]
fn a_lost_inner_client_leaves_the_outer_turn_alone() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask(2, "b");
    story.ask_within(1, 3, &["foo.com"]);
    assert_eq!(story.disconnect(3), ["#3 ended Gone, token 1, waited 0ns, held 0ns"]);
    story.ask_within(1, 4, &["foo.com"]);
    assert_eq!(story.disconnect(1), ["#1 ended Gone, token 1, waited 0ns, held 0ns"]);
    assert_eq!(story.disconnect(4).last().unwrap(), "c2: active #2, token 2");
}

#[test]
fn the_next_daemon_knows_who_shares_a_slot() {
    let mut story = Story::new();
    story.ask_within(0, 1, &["bar.org"]);
    story.ask(2, "a");
    story.ask_within(2, 3, &["foo.com"]);
    story.ask_within(2, 4, &["foo.com", "bar.org"]);
    let saved = |ticket| Restored { processes: 1, ..story.sequencer.saved(Ticket(ticket)).unwrap() };
    let tickets: Vec<Restored> = (1..=4).map(saved).collect();
    let mut next = Story::new();
    for restored in tickets {
        next.take(Input::Restore(restored));
    }
    next.ask(5, "e");
    assert_eq!(next.sequencer.view(Some(&foo()), 9, false)[0].holders.len(), 2);
    assert!(!next.take(Input::ProcessGone { ticket: Ticket(2) }).join(" ").contains(": active"));
    assert!(!next.take(Input::ProcessGone { ticket: Ticket(3) }).join(" ").contains(": active"), "one waits for more");
    assert_eq!(next.take(Input::ProcessGone { ticket: Ticket(4) }).last().unwrap(), "c5: active #5, token 3");
}

#[test]
fn who_releases_a_turn_releases_all_that_have_it_by_that() {
    for by_name in [true, false] {
        let mut story = Story::new();
        story.ask(1, "a");
        story.ask_within(1, 2, &["foo.com"]);
        // One within that waits elsewhere, and keeps the slot meanwhile.
        story.ask_with(3, "other", |request| request.domain = domain("bar.com"));
        story.ask_within(2, 4, &["foo.com", "bar.com"]);
        story.ask(5, "next");
        assert_eq!(story.holders("foo.com"), [1, 2]);
        let which = if by_name { Which::Domain(domain("foo.com")) } else { Which::Ticket(Ticket(1)) };
        let said = story.release(which);
        let told: Vec<String> = said
            .iter()
            .filter(|line| line.starts_with('c'))
            .map(|line| line.split([':', ' ']).filter(|word| !word.is_empty()).take(2).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(told, ["c4 cancelled", "c2 released", "c1 released", "c9 released", "c5 active"]);
        assert_eq!(story.holders("bar.com"), [3]);
    }
}

#[test]
fn who_releases_an_inner_turn_lets_the_outer_one_be() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask_within(1, 2, &["foo.com"]);
    assert_eq!(story.release(Which::Ticket(Ticket(2))).last().unwrap(), "c9: released #2");
    assert_eq!(story.holders("foo.com"), [1]);
}

#[test]
fn a_domain_names_those_within_a_turn_that_has_ended_as_one() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask_within(1, 2, &["foo.com"]);
    story.ask_within(1, 3, &["foo.com"]);
    story.finish(1);
    assert_eq!(story.holders("foo.com"), [2, 3]);
    story.release(Which::Domain(domain("foo.com")));
    assert_eq!(story.holders("foo.com"), [0_u64; 0]);
}
