//! Who is ahead of whom: priorities, and turns that are shared.

use super::*;

impl Story {
    fn with_priority(&mut self, connection: u64, id: &str, priority: i8) -> Vec<String> {
        self.ask_with(connection, id, |request| request.wishes.priority = priority)
    }

    fn share(&mut self, connection: u64, id: &str) -> Vec<String> {
        self.ask_with(connection, id, |request| request.wishes.shared = true)
    }
}

fn ended(story: &mut Story, ticket: u64) -> Vec<String> {
    story.done(9, Which::Ticket(Ticket(ticket)))
}

#[test]
fn the_higher_priority_goes_first_and_the_earlier_of_equals() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask(2, "b");
    story.with_priority(3, "low", -1);
    story.with_priority(4, "high", 100);
    assert_eq!(story.with_priority(5, "high too", 100).last().unwrap(), "c5: queued #5, position 2, ahead 2");
    let mut next = || {
        let holder = holder(&story);
        ended(&mut story, holder).pop().unwrap()
    };
    let served: Vec<String> = (0..4).map(|_| next()).collect();
    assert_eq!(
        served,
        ["c4: active #4, token 2", "c5: active #5, token 3", "c2: active #2, token 4", "c3: active #3, token 5"]
    );
}

#[test]
fn nobody_who_has_a_turn_is_interrupted() {
    let mut story = Story::new();
    story.ask(1, "a");
    let effects = story.with_priority(2, "b", 100);
    assert_eq!(effects, ["#2 admitted", "#2 queued", "c2: queued #2, position 1, ahead 1"]);
}

#[test]
fn whoever_is_passed_is_told_its_new_place() {
    let mut story = Story::new();
    story.ask(1, "a");
    story.ask_with(2, "b", |request| request.positions = true);
    let effects = story.with_priority(3, "c", 1);
    assert_eq!(effects.last().unwrap(), "c2: #2 is at 2, ahead 2");
}

#[test]
fn whoever_would_be_first_and_fits_need_not_wait() {
    let mut story = Story::new();
    story.set("foo.com", Policy { concurrency: Some(2), ..Policy::default() });
    story.ask(1, "a");
    story.ask_with(2, "both", |request| request.wishes.take = 2);
    let effects = story.ask_with(3, "c", |request| {
        request.wishes.priority = 1;
        request.no_wait = true;
    });
    assert_eq!(effects.last().unwrap(), "c3: active #3, token 2");
}

#[test]
fn a_place_is_kept_with_its_priority_by_the_next_daemon() {
    let mut next = Story::new();
    next.take(Input::Restore(waiter(1, "a")));
    let high = Restored { wishes: Wishes { priority: 5, ..Wishes::default() }, ..waiter(2, "b") };
    next.take(Input::Restore(high));
    assert!(next.take(resuming(1, secretly(1, "a", 1))).last().unwrap().contains("position 2"));
    let effects = next.take(resuming(2, secretly(2, "b", 2)));
    assert_eq!(effects.last().unwrap(), "c2: active #2, token 1");
}

#[test]
fn readers_read_together_and_a_writer_is_alone() {
    let mut story = Story::new();
    story.share(1, "a");
    assert_eq!(story.share(2, "b").last().unwrap(), "c2: active #2, token 2");
    assert_eq!(story.ask(3, "writer").last().unwrap(), "c3: queued #3, position 1, ahead 2");
    assert_eq!(story.share(4, "d").last().unwrap(), "c4: queued #4, position 2, ahead 3", "no writer starves");
    story.share(5, "e");
    ended(&mut story, 1);
    assert_eq!(ended(&mut story, 2).last().unwrap(), "c3: active #3, token 3");
    let effects = ended(&mut story, 3);
    assert_eq!(
        effects[effects.len() - 3..],
        ["c4: active #4, token 4", "#5 active, token 5, waited 0ns", "c5: active #5, token 5"]
    );
}

#[test]
fn readers_take_no_slots() {
    let mut story = Story::new();
    story.ask_with(1, "a", |request| {
        request.wishes = Wishes { take: 7, shared: true, ..Wishes::default() };
    });
    story.share(2, "b");
    story.share(3, "c");
    assert_eq!(story.sequencer.counts().holders, 3);
}

#[test]
fn a_reader_is_let_in_beside_no_one_whose_turn_is_not_shared() {
    let mut story = Story::new();
    story.set("foo.com", Policy { concurrency: Some(3), ..Policy::default() });
    story.ask(1, "a");
    assert_eq!(story.share(2, "b").last().unwrap(), "c2: queued #2, position 1, ahead 1");
    assert_eq!(ended(&mut story, 1).last().unwrap(), "c2: active #2, token 2");
}

fn holder(story: &Story) -> u64 {
    story.sequencer.view(None, 0, false)[0].holders[0].0.ticket.0
}
