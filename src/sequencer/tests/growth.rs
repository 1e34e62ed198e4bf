//! What a line costs must not grow with its length.

use std::collections::BTreeMap;

use super::*;
use crate::sequencer::ByTicket;
use crate::sequencer::order::Order;
use crate::sequencer::ticket::Entry;

#[test]
fn a_waiting_ticket_is_small() {
    assert!(size_of::<Entry>() <= 176, "{} bytes", size_of::<Entry>());
}

#[test]
fn places_are_right_whoever_leaves() {
    let mut rng = fastrand::Rng::with_seed(7);
    // The more other lines there are, the further the tickets of one are apart.
    for stride in [1, 5, 100] {
        let mut order = Order::default();
        let mut plain: Vec<u64> = Vec::new();
        for ticket in (0..3_000).map(|number| number * stride) {
            order.enter(Ticket(ticket));
            plain.push(ticket);
            while rng.u8(..5) < 2 && !plain.is_empty() {
                let index = if rng.bool() { 0 } else { rng.usize(..plain.len()) };
                assert!(order.leave(Ticket(plain.remove(index))));
            }
            let ends = [plain.first(), plain.last()].map(|ticket| ticket.copied().map(Ticket));
            assert_eq!([order.head(), order.last()], ends);
            if ticket % (50 * stride) == 0 {
                assert!(order.iter().eq(plain.iter().map(|ticket| Ticket(*ticket))));
                for (index, ticket) in plain.iter().enumerate() {
                    assert_eq!(order.position(Ticket(*ticket)), Some(index + 1));
                }
                assert_eq!(order.position(Ticket(ticket + 1)), None);
            }
        }
    }
}

#[test]
fn a_table_by_ticket_holds_what_a_map_holds() {
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut table, mut map) = (ByTicket::default(), BTreeMap::new());
    let mut next = 0;
    for step in 0..50_000 {
        // By turns it grows, and shrinks down to nothing.
        let grows = step / 1_000 % 2 == 0;
        let ticket = Ticket(next - next.min(rng.u64(..500)));
        match rng.u8(..10) {
            0..6 if grows => {
                next += rng.u64(1..4);
                assert_eq!(table.insert(Ticket(next), step), map.insert(Ticket(next), step));
            }
            0..2 => assert_eq!(table.insert(ticket, step), map.insert(ticket, step)),
            2..6 => {
                let first = map.keys().next().copied().unwrap_or(ticket);
                assert_eq!(table.remove(&first), map.remove(&first));
            }
            6..9 => assert_eq!(table.remove(&ticket), map.remove(&ticket)),
            _ => {
                let (value, wanted) = (table.get_mut(&ticket), map.get_mut(&ticket));
                assert_eq!(value, wanted);
                for value in value.into_iter().chain(wanted) {
                    *value += 1;
                }
            }
        }
        assert_eq!((table.len(), table.first()), (map.len(), map.keys().next().copied()));
        assert_eq!((table.get(&ticket), table.contains_key(&ticket)), (map.get(&ticket), map.contains_key(&ticket)));
        if step % 100 == 0 {
            assert!(table.keys().eq(map.keys().copied()) && table.values().eq(map.values()));
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
