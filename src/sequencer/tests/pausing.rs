//! A domain that is paused gives out no turns.

use super::*;

impl Story {
    fn pause(&mut self, reason: Option<&str>) -> Vec<String> {
        let (connection, peer, reason) = (ConnectionId(0), operator(), reason.map(Into::into));
        self.take(Input::Pause { connection, peer, domain: foo(), reason, request_id: None })
    }

    fn resume(&mut self) -> Vec<String> {
        let (connection, peer) = (ConnectionId(0), operator());
        self.take(Input::Resume { connection, peer, domain: foo(), request_id: None })
    }
}

#[test]
fn who_runs_ends_in_peace_and_who_comes_waits() {
    let mut story = Story::new();
    story.ask(1, "a");
    assert_eq!(story.pause(Some("new disk")), ["foo.com paused by 0: new disk", "c0: paused foo.com: new disk"]);
    assert_eq!(story.ask(2, "b").last().unwrap(), "c2: queued #2, position 1, ahead 1");
    assert_eq!(story.done(1, Which::Ticket(Ticket(1))).last().unwrap(), "c1: done #1");
    assert_eq!(
        story.resume(),
        [
            "foo.com resumed by 0",
            "c0: resumed foo.com, true",
            "#2 active, token 2, waited 0ns",
            "c2: active #2, token 2"
        ]
    );
}

#[test]
fn a_domain_that_nobody_uses_can_be_paused_and_is_seen() {
    let mut story = Story::new();
    story.pause(Some("new disk"));
    let view = story.sequencer.view(None, 9, false);
    assert_eq!(view[0].pause.unwrap().reason.as_deref(), Some("new disk"));
    assert_eq!(
        story.ask_with(1, "a", |request| request.no_wait = true),
        ["c1: busy: foo.com is paused (new disk): `seq resume foo.com` lets turns begin again"]
    );
    assert_eq!(story.wait(1, None), ["c1: foo.com is idle"]);
    assert_eq!(story.ask(1, "a").last().unwrap(), "c1: queued #1, position 1, ahead 0");
}

#[test]
fn to_pause_and_to_resume_twice_is_no_mistake() {
    let mut story = Story::new();
    story.pause(Some("new disk"));
    assert_eq!(story.pause(None), ["c0: paused foo.com: new disk"]);
    assert_eq!(story.pause(Some("and a fan")), ["foo.com paused by 0: and a fan", "c0: paused foo.com: and a fan"]);
    story.resume();
    assert_eq!(story.resume(), ["c0: resumed foo.com, false"]);
}

#[test]
fn pauses_are_for_operators() {
    let mut story = Story::new();
    let (connection, peer, domain) = (ConnectionId(1), user(1_000), foo());
    let refused = ["c1: forbidden: policies and pauses are for root and the daemon's own user: ask an administrator"];
    let pause = Input::Pause { connection, peer, domain: foo(), reason: None, request_id: None };
    assert_eq!(story.take(pause), refused);
    assert_eq!(story.take(Input::Resume { connection, peer, domain, request_id: None }), refused);
}

#[test]
fn the_next_daemon_goes_on_with_a_pause() {
    let mut story = Story::new();
    let pause = super::super::Pause { uid: 7, at: Time::ZERO, reason: None };
    assert!(story.take(Input::PastPause { domain: foo(), pause }).is_empty());
    assert_eq!(story.ask(1, "a").last().unwrap(), "c1: queued #1, position 1, ahead 0");
}
