//! One turn in several domains: all of them, or none.

use crate::protocol::HeadWait;
use crate::sequencer::Obstacle;

use super::*;

impl Story {
    /// Asks for foo.com and these as well.
    fn ask_also(&mut self, connection: u64, id: &str, also: &[&str]) -> Vec<String> {
        self.ask_with(connection, id, |request| request.wishes.also = also.iter().map(|name| domain(name)).collect())
    }

    fn ask_in(&mut self, connection: u64, id: &str, name: &str) -> Vec<String> {
        self.ask_with(connection, id, |request| request.domain = domain(name))
    }

    fn over(&mut self, ticket: u64) -> Vec<String> {
        self.done(9, Which::Ticket(Ticket(ticket)))
    }

    fn head_of(&self, name: &str) -> Option<HeadWait> {
        let lines = self.sequencer.view(Some(&domain(name)), 9, false);
        lines[0].obstacle.map(HeadWait::from)
    }
}

#[test]
fn a_turn_comes_when_all_domains_are_free() {
    let mut story = Story::new();
    story.ask_in(1, "b", "bar.org");
    assert_eq!(story.ask_also(2, "both", &["bar.org"]).last().unwrap(), "c2: queued #2, position 1, ahead 1");
    assert_eq!(story.head_of("foo.com"), Some(HeadWait::Line));
    assert_eq!(
        story.sequencer.view(Some(&foo()), 9, false)[0].other_line,
        Some((&domain("bar.org"), Some(Obstacle::Held)))
    );
    assert_eq!(story.ask(3, "c").last().unwrap(), "c3: queued #3, position 2, ahead 1", "nobody passes");
    assert_eq!(story.over(1)[2..], ["#2 active, token 2, waited 0ns", "c2: active #2, token 2"]);
    assert_eq!(story.over(2).last().unwrap(), "c3: active #3, token 3");
}

#[test]
fn two_that_want_the_same_the_other_way_round_come_one_after_the_other() {
    let mut story = Story::new();
    story.ask_also(1, "a", &["bar.org"]);
    let other_way_round = |request: &mut Enqueue| {
        request.domain = domain("bar.org");
        request.wishes.also = vec![foo(), domain("bar.org"), foo()];
    };
    assert_eq!(story.ask_with(2, "b", other_way_round).last().unwrap(), "c2: queued #2, position 1, ahead 1");
    assert_eq!(story.over(1).last().unwrap(), "c2: active #2, token 2");
    assert_eq!(story.sequencer.saved(Ticket(2)).unwrap().wishes.also, [foo()], "named twice counts once");
}

#[test]
fn an_end_lets_all_its_lines_go_on() {
    let mut story = Story::new();
    story.ask_also(1, "a", &["bar.org", "baz.net"]);
    story.ask(2, "foo");
    story.ask_in(3, "bar", "bar.org");
    story.ask_in(4, "baz", "baz.net");
    let effects = story.over(1);
    assert_eq!(effects.iter().filter(|effect| effect.contains(": active")).count(), 3);
    assert_eq!(story.sequencer.counts().domains, 3);
}

#[test]
fn a_turn_lets_those_behind_it_be_looked_at_in_its_other_lines() {
    let mut story = Story::new();
    story.set("bar.org", Policy { concurrency: Some(2), ..Policy::default() });
    story.ask(1, "a");
    story.ask_also(2, "both", &["bar.org"]);
    story.ask_in(3, "bar", "bar.org");
    let effects = story.over(1);
    assert_eq!(effects[3..], ["c2: active #2, token 2", "#3 active, token 3, waited 0ns", "c3: active #3, token 3"]);
}

#[test]
fn one_that_gives_up_its_place_gives_up_all() {
    let mut story = Story::new();
    story.ask_in(1, "b", "bar.org");
    story.ask_also(2, "both", &["bar.org"]);
    story.ask(3, "c");
    assert_eq!(story.disconnect(2)[1..], ["#3 active, token 2, waited 0ns", "c3: active #3, token 2"]);
}

#[test]
fn a_limit_of_one_line_refuses_the_whole_request() {
    let mut story = Story::new();
    story.set("bar.org", Policy { max_queue: Some(0), ..Policy::default() });
    story.ask(1, "a");
    let refused = story.ask_also(2, "both", &["bar.org"]);
    assert_eq!(refused, ["c2: queue_full: bar.org is busy, and its policy lets nobody wait: try again later"]);
    story.set("baz.net", Policy { concurrency: Some(2), ..Policy::default() });
    let take_two = |request: &mut Enqueue| {
        request.domain = domain("baz.net");
        request.wishes = Wishes { take: 2, also: vec![foo()], ..Wishes::default() };
    };
    assert!(story.ask_with(2, "both", take_two)[0].starts_with("c2: take_too_large: foo.com has 1 slot, "));
    let mut story = Story::with_limits(Limits { domains: 1, ..Limits::default() });
    assert!(story.ask_also(2, "both", &["bar.org"])[0].starts_with("c2: too_many_domains"));
}

#[test]
fn a_pause_of_one_holds_up_the_turn_and_those_behind_it() {
    let mut story = Story::new();
    let (connection, peer) = (ConnectionId(0), operator());
    story.take(Input::Pause { connection, peer, domain: domain("bar.org"), reason: None, request_id: None });
    story.ask_also(1, "both", &["bar.org"]);
    story.ask(2, "b");
    assert_eq!((story.head_of("foo.com"), story.head_of("bar.org")), (Some(HeadWait::Line), Some(HeadWait::Resume)));
    let refused = story.ask_with(3, "c", |request| request.no_wait = true);
    assert_eq!(refused, ["c3: busy: foo.com is busy: ticket 1 (pid 101) is next"]);
    let resumed = story.take(Input::Resume { connection, peer, domain: domain("bar.org"), request_id: None });
    assert_eq!(resumed.last().unwrap(), "c1: active #1, token 1");
}

#[test]
fn a_rest_of_one_wakes_the_turn_up() {
    let mut story = Story::new();
    story.set("bar.org", Policy { cooldown: Some(Duration::from_secs(5)), ..Policy::default() });
    story.ask_in(1, "b", "bar.org");
    story.over(1);
    story.ask_also(2, "both", &["bar.org"]);
    assert_eq!(story.timeout(), Some(5_000));
    let effects = story.later(5_000);
    assert_eq!(effects[1..], ["bar.org began at 5000ms", "c2: active #2, token 2"]);
}

#[test]
fn the_strictest_of_its_policies_holds() {
    let mut story = Story::new();
    let longest = |max_run, max_wait| Policy {
        max_run: Some(Duration::from_secs(max_run)),
        default_max_wait: Some(Duration::from_secs(max_wait)),
        ..Policy::default()
    };
    story.set("foo.com", longest(9, 3));
    story.set("bar.org", longest(5, 4));
    assert_eq!(story.ask_also(1, "a", &["bar.org"]).last().unwrap(), "c1: active #1, token 1, at most 5000ms");
    story.ask_also(2, "b", &["bar.org"]);
    assert_eq!(story.later(3_000)[0], "#2 left TimedOut, waited 3s");
}

#[test]
fn the_same_request_is_for_the_same_domains() {
    let mut story = Story::new();
    story.ask_also(1, "a", &["bar.org"]);
    story.ask_also(2, "b", &["bar.org"]);
    assert_eq!(story.ask_also(2, "b", &["bar.org"]).last().unwrap(), "c2: queued #2, position 1, ahead 1");
    let refused = story.ask_in(3, "b", "bar.org");
    assert_eq!(refused, ["c3: request_id_taken: request id b belongs to ticket 2, for other domains: use another one"]);
    let (connection, which) = (ConnectionId(9), Which::Request(domain("bar.org"), id("b")));
    let effects = story.take(Input::Cancel { connection, peer: user(1_000), which });
    assert_eq!(effects.last().unwrap(), "c9: cancelled #2", "it is known in each");
}

#[test]
fn the_newest_replaces_others_in_each_of_its_domains() {
    let mut story = Story::new();
    let newest = |also: &[&str]| Wishes {
        supersede: Some("".into()),
        also: also.iter().map(|name| domain(name)).collect(),
        ..Wishes::default()
    };
    story.ask(1, "a");
    story.ask_in(2, "b", "bar.org");
    story.ask_with(3, "c", |request| request.wishes = newest(&["baz.net"]));
    story.ask_with(4, "d", |request| (request.domain, request.wishes) = (domain("bar.org"), newest(&[])));
    let effects = story.ask_with(5, "e", |request| request.wishes = newest(&["bar.org"]));
    assert!(effects[0].starts_with("#3 left Superseded") && effects[2].starts_with("#4 left Superseded"));
    assert_eq!(story.sequencer.counts().domains, 2, "nobody is left in baz.net");
}

#[test]
fn the_next_daemon_keeps_its_place_in_each_line() {
    let mut next = Story::new();
    let also = |names: &[&str]| Wishes { also: names.iter().map(|name| domain(name)).collect(), ..Wishes::default() };
    let holder = Restored { turn: Some(turn(3)), domain: domain("bar.org"), ..waiter(1, "a") };
    next.take(Input::Restore(holder));
    next.take(Input::Restore(Restored { wishes: also(&["bar.org"]), ..waiter(2, "b") }));
    assert_eq!(next.ask(3, "c").last().unwrap(), "c3: queued #3, position 2, ahead 1");
    assert_eq!(next.head_of("foo.com"), Some(HeadWait::Client));
    let back = Enqueue { wishes: also(&["bar.org"]), ..secretly(2, "b", 2) };
    assert_eq!(next.take(resuming(2, back)).last().unwrap(), "c2: queued #2, position 1, ahead 1");
    assert_eq!(next.take(Input::ProcessGone { ticket: Ticket(1) })[2], "c2: active #2, token 4");
}

#[test]
fn an_away_one_holds_up_each_of_its_lines_until_the_grace_is_over() {
    let mut next = Story::new();
    let also = Wishes { also: vec![domain("bar.org")], ..Wishes::default() };
    next.take(Input::Restore(Restored { wishes: also, ..waiter(1, "a") }));
    next.ask(2, "b");
    next.ask_in(3, "c", "bar.org");
    let effects = next.later(10_000);
    assert_eq!(effects.iter().filter(|effect| effect.contains(": active")).count(), 2);
}

#[test]
fn places_are_told_by_the_line_where_most_are_ahead() {
    let mut story = Story::new();
    story.ask_in(1, "1", "bar.org");
    story.ask_in(2, "2", "bar.org");
    story.ask(3, "3");
    let effects = story.ask_with(4, "4", |request| {
        request.positions = true;
        request.wishes.also = vec![domain("bar.org")];
    });
    assert_eq!(effects.last().unwrap(), "c4: queued #4, position 2, ahead 2");
    assert_eq!(story.over(1).last().unwrap(), "c4: #4 is at 1, ahead 1");
}
