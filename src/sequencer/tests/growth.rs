//! What a line costs must not grow with its length.

use super::*;
use crate::sequencer::order::Order;
use crate::sequencer::ticket::Entry;

#[test]
fn a_waiting_ticket_is_small() {
    assert!(size_of::<Entry>() <= 224, "{} bytes", size_of::<Entry>());
}

#[test]
fn places_are_right_whoever_leaves() {
    let mut order = Order::default();
    let mut plain: Vec<u64> = Vec::new();
    let mut rng = fastrand::Rng::with_seed(7);
    for ticket in 0..3_000 {
        order.enter(Ticket(ticket));
        plain.push(ticket);
        while rng.u8(..5) < 2 && !plain.is_empty() {
            let index = if rng.bool() { 0 } else { rng.usize(..plain.len()) };
            assert!(order.leave(Ticket(plain.remove(index))));
        }
        if ticket % 50 == 0 {
            assert!(order.iter().eq(plain.iter().map(|ticket| Ticket(*ticket))));
            for (index, ticket) in plain.iter().enumerate() {
                assert_eq!(order.position(Ticket(*ticket)), Some(index + 1));
            }
            assert_eq!(order.position(Ticket(ticket + 1)), None);
        }
    }
}

#[test]
fn a_long_line_runs_dry_in_order() {
    let mut story = Story::new();
    let mut effects = Vec::new();
    for connection in 0..100_000 {
        let request = Enqueue { request_id: None, pid: 1, ..request(1, "-") };
        let request = Enqueue { connection: ConnectionId(connection), ..request };
        story.sequencer.handle(story.now, Input::Sequence(request), &mut effects);
    }
    for connection in 0..99_999 {
        effects.clear();
        let input = Input::Disconnected { connection: ConnectionId(connection) };
        story.sequencer.handle(story.now, input, &mut effects);
        assert_eq!(effects.len(), 3, "one ends, the next begins and is told");
        let next = connection + 2;
        assert_eq!(words(&effects[2]), format!("c{}: active #{next}, token {next}", connection + 1));
    }
}
