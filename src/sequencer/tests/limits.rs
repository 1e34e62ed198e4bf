//! Every limit has an answer.

use super::*;

fn small() -> Limits {
    Limits {
        waiters_per_domain: 1,
        domains: 2,
        tickets_per_connection: 2,
        keys: 2,
        keys_per_user: 1,
        policies: 2,
        idle_domains: 1,
        past_runs: 2,
        past_ends: 2,
        waiters_viewed: 9,
    }
}

#[test]
fn a_line_has_so_many_waiters() {
    let mut story = Story::with_limits(small());
    story.ask(1, "a");
    story.ask(2, "b");
    assert_eq!(story.ask(3, "c"), ["c3: queue_full: the line of foo.com is full: 1 waits already, try again later"]);
}

#[test]
fn so_many_domains_are_in_use() {
    let mut story = Story::with_limits(small());
    story.ask(1, "a");
    story.ask_with(2, "a", |request| request.domain = domain("bar.org"));
    let third = |request: &mut Enqueue| request.domain = domain("baz.net");
    assert_eq!(
        story.ask_with(3, "a", third),
        ["c3: too_many_domains: 2 domains are in use already: try again when one is idle, or use one of them"]
    );
    story.disconnect(2);
    assert_eq!(story.ask_with(3, "a", third).len(), 4);
}

#[test]
fn a_connection_has_so_many_tickets_and_waits() {
    let mut story = Story::with_limits(small());
    story.ask(1, "a");
    story.wait(1, None);
    let refusal = "c1: too_many_requests: this connection has 2 requests already: end one of them, or open another \
                   connection";
    assert_eq!(story.ask(1, "b"), [refusal]);
    assert_eq!(story.wait(1, None), [refusal]);
    assert_eq!(
        story.ask(1, "a"),
        ["#1 admitted", "#1 changed", "c1: active again #1, token 1"],
        "this is not one more"
    );
}

#[test]
fn the_domain_idle_longest_is_forgotten() {
    let mut story = Story::with_limits(small());
    for name in ["bar.org", "foo.com"] {
        story.ask_with(1, "a", |request| request.domain = domain(name));
        story.disconnect(1);
    }
    let lines = story.sequencer.view(None, 9, true);
    assert_eq!(lines.iter().map(|line| line.domain.as_str()).collect::<Vec<_>>(), ["foo.com"]);
}

#[test]
fn so_many_waiters_are_listed_in_all_lines_together() {
    let mut story = Story::with_limits(Limits { waiters_viewed: 3, ..Limits::default() });
    for name in ["a", "b", "c"] {
        for number in 1..=3 {
            story.ask_with(1, &format!("{name}{number}"), |request| request.domain = domain(name));
        }
    }
    let listed = |only: Option<&Domain>, waiters_max| {
        let lines = story.sequencer.view(only, waiters_max, false);
        lines.iter().map(|line| (line.waiters.len(), line.waiting)).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, 9), [(2, 2), (1, 2), (0, 2)]);
    assert_eq!(listed(None, 1), [(1, 2), (1, 2), (1, 2)]);
    assert_eq!(listed(Some(&domain("c")), usize::MAX), [(2, 2)]);
}
