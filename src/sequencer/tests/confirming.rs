//! A turn that stands without its client only once that has said that it knows of it.

use super::*;

/// What the tests ask for: a turn of binding `lease` or `process` that is to be confirmed.
fn unconfirmed(request: &mut Enqueue, binding: Binding) {
    request.confirm = true;
    request.binding = binding;
    request.lease = Some(Duration::from_hours(1));
    request.secret = Some(Secret([1; 32]));
}

fn confirm(connection: u64, ticket: u64) -> Input {
    Input::Confirm { connection: ConnectionId(connection), ticket: Ticket(ticket) }
}

/// Such a turn, as the next daemon finds it: what it is bound to, and its client, are there.
fn restored(binding: Binding, processes: u32) -> Restored {
    let mut story = Story::new();
    story.ask_with(1, "a", |request| unconfirmed(request, binding));
    let saved = story.sequencer.saved(Ticket(1)).unwrap();
    assert!(saved.unconfirmed && saved.hangs_on_its_client());
    Restored { processes, ..saved }
}

#[test]
fn an_unconfirmed_turn_ends_with_its_connection() {
    for binding in [Binding::Process, Binding::Lease] {
        let mut story = Story::new();
        story.ask_with(1, "a", |request| unconfirmed(request, binding));
        story.ask(2, "b");
        assert_eq!(
            story.disconnect(1),
            [
                "#1 ended Gone, token 1, waited 0ns, held 0ns",
                "#2 active, token 2, waited 0ns",
                "c2: active #2, token 2"
            ]
        );
    }
}

#[test]
fn a_confirmed_turn_stands_without_its_connection() {
    for binding in [Binding::Process, Binding::Lease] {
        let mut story = Story::new();
        story.ask_with(1, "a", |request| unconfirmed(request, binding));
        assert_eq!(story.take(confirm(1, 1)), ["#1 changed", "c1: confirmed #1"]);
        assert_eq!(story.take(confirm(1, 1)), ["#1 changed", "c1: confirmed #1"]);
        assert!(!story.sequencer.saved(Ticket(1)).unwrap().hangs_on_its_client());
        assert!(story.disconnect(1).is_empty());
    }
}

#[test]
fn only_the_connection_that_has_the_turn_confirms_it() {
    let mut story = Story::new();
    story.ask_with(1, "a", |request| unconfirmed(request, Binding::Lease));
    story.ask_with(2, "b", |request| unconfirmed(request, Binding::Lease));
    let refused = |effects: Vec<String>| effects[0].split_once(": ").unwrap().1.split(':').next().unwrap().to_owned();
    assert_eq!(refused(story.take(confirm(2, 1))), "not_found");
    assert_eq!(refused(story.take(confirm(2, 2))), "not_active");
    assert_eq!(refused(story.take(confirm(2, 9))), "not_found");
    assert!(story.sequencer.saved(Ticket(1)).unwrap().unconfirmed);
}

#[test]
fn what_an_unconfirmed_turn_is_bound_to_ends_it_as_well() {
    let mut story = Story::new();
    story.ask_with(1, "a", |request| unconfirmed(request, Binding::Process));
    let gone = Input::ProcessGone { ticket: Ticket(1) };
    assert_eq!(story.take(gone), ["#1 ended Gone, token 1, waited 0ns, held 0ns"]);
}

#[test]
fn after_a_restart_it_waits_for_its_client_to_confirm_it() {
    for (binding, processes) in [(Binding::Process, 2), (Binding::Lease, 1)] {
        let mut story = Story::new();
        assert!(story.take(Input::Restore(restored(binding, processes))).is_empty());
        let mut request = request(3, "a");
        unconfirmed(&mut request, binding);
        let back = story.take(resuming(1, request));
        assert_eq!(back, ["#1 admitted", "#1 changed", "c3: active again #1, token 1"]);
        // What stood for the client does so no more.
        assert!(story.take(Input::ProcessGone { ticket: Ticket(1) }).is_empty());
        assert_eq!(story.take(confirm(3, 1)), ["#1 changed", "c3: confirmed #1"]);
        assert!(story.disconnect(3).is_empty());
    }
}

#[test]
fn after_a_restart_the_end_of_its_client_or_of_its_process_ends_it() {
    for (binding, processes) in [(Binding::Process, 2), (Binding::Lease, 1)] {
        let mut story = Story::new();
        story.take(Input::Restore(restored(binding, processes)));
        let gone = Input::ProcessGone { ticket: Ticket(1) };
        assert_eq!(story.take(gone), ["#1 ended Gone, token 1, waited 0ns, held 0ns"]);
        let nothing = story.take(Input::Restore(restored(binding, 0)));
        assert_eq!(nothing, ["#1 ended Gone, token 1, waited 0ns, held 0ns"]);
    }
}

#[test]
fn a_daemon_that_leaves_takes_an_unconfirmed_turn_with_it() {
    let mut story = Story::new();
    story.ask_with(1, "a", |request| unconfirmed(request, Binding::Lease));
    let effects = story.take(Input::Leave { keep_places: false });
    assert_eq!(effects[0], "#1 ended Stopped, token 1, waited 0ns, held 0ns");
    assert!(effects[1].starts_with("c1: leaving: "), "{effects:?}");
}
