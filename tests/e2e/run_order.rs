//! Who runs when: one at a time in a domain, in order of arrival, and domains side by side.

use crate::support::Home;

#[test]
fn a_command_runs_and_nothing_else_is_said() {
    let home = Home::new();
    home.seq(&["run", "--domain", "foo.com", "--", "echo", "hello"]).says(0, "hello\n", "");
}

#[test]
fn commands_of_one_domain_run_one_at_a_time_in_order_of_arrival() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = home.hold("foo.com", "first", "gate");
    let others: Vec<_> = (1..=5).map(|place| home.queue("foo.com", &place.to_string(), place)).collect();
    gate.open();
    first.wait().is_silent(0);
    for other in others {
        other.wait().is_silent(0);
    }
    let expected = ["first", "1", "2", "3", "4", "5"];
    let expected: Vec<_> = expected.iter().flat_map(|name| [format!("start {name}"), format!("end {name}")]).collect();
    assert_eq!(home.log(), expected);
}

#[test]
fn nobody_overtakes_a_waiter_by_asking_again_at_once() {
    let home = Home::new();
    let gate = home.gate("gate");
    // A script that gives its turn back and asks for the next one in the same breath, twenty times.
    let greedy = r#"for round in $(seq 20); do "$SEQ" run -d foo.com -- ./worker "greedy-$round" gate || exit; done"#;
    let greedy = home.launch(home.command("sh").args(["-c", greedy]));
    for round in 1..=20 {
        home.await_line(&format!("start greedy-{round}"));
        let patient = home.queue("foo.com", &format!("patient-{round}"), 1);
        gate.let_one_pass();
        patient.wait().is_silent(0);
    }
    greedy.wait().is_silent(0);
    let starts: Vec<_> = home.log().into_iter().filter(|line| line.starts_with("start ")).collect();
    let expected: Vec<_> =
        (1..=20).flat_map(|round| [format!("start greedy-{round}"), format!("start patient-{round}")]).collect();
    assert_eq!(starts, expected);
}

#[test]
fn different_domains_run_side_by_side() {
    let home = Home::new();
    let gate = home.gate("gate");
    let foo = home.hold("foo.com", "foo", "gate");
    let bar = home.hold("bar.com", "bar", "gate");
    home.seq(&["run", "-d", "third.com", "--", "./worker", "third"]).is_silent(0);
    assert_eq!(home.log(), ["start foo", "start bar", "start third", "end third"]);
    gate.open();
    foo.wait().is_silent(0);
    bar.wait().is_silent(0);
}

#[test]
fn a_domain_has_one_line_however_it_is_spelt() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = home.hold("foo.com", "first", "gate");
    let spellings = ["Foo.COM.", " foo.com ", "FOO.com"];
    let mut others = Vec::new();
    for (place, spelling) in (1..).zip(spellings) {
        others.push(home.start(&["run", "-d", spelling, "--", "./worker", &place.to_string()]));
        home.await_waiters("foo.com", place);
    }
    gate.open();
    first.wait().is_silent(0);
    for other in others {
        other.wait().is_silent(0);
    }
    let log = home.log();
    assert_eq!(log.last().map(String::as_str), Some("end 3"));
    assert!(!log.iter().any(|line| line.starts_with("overlap")), "{log:?}");
}

#[test]
fn a_waiter_that_leaves_lets_the_others_keep_their_order() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = home.hold("foo.com", "first", "gate");
    let second = home.queue("foo.com", "second", 1);
    let third = home.queue("foo.com", "third", 2);
    let fourth = home.queue("foo.com", "fourth", 3);
    third.kill();
    home.await_waiters("foo.com", 2);
    gate.open();
    for one in [first, second, fourth] {
        one.wait().is_silent(0);
    }
    let starts: Vec<_> = home.log().into_iter().filter(|line| line.starts_with("start ")).collect();
    assert_eq!(starts, ["start first", "start second", "start fourth"]);
}

#[test]
fn tokens_and_tickets_rise() {
    let home = Home::new();
    for _ in 0..5 {
        home.sh(r#""$SEQ" run -d foo.com -- sh -c 'echo "$SEQ_TICKET $SEQ_TOKEN" >>numbers'"#).is_silent(0);
    }
    let numbers = home.read("numbers");
    let numbers: Vec<(u64, u64)> = numbers
        .lines()
        .map(|line| line.split_once(' ').expect("two numbers"))
        .map(|(ticket, token)| (ticket.parse().expect("a ticket"), token.parse().expect("a token")))
        .collect();
    assert_eq!(numbers.len(), 5);
    assert!(numbers.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1), "{numbers:?}");
}

#[test]
fn the_same_request_again_takes_over_its_place_in_line() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = home.hold("foo.com", "first", "gate");
    let id = |name: &str| home.start(&["run", "-d", "foo.com", "--request-id", "deploy-7", "--", "./worker", name]);
    let older = id("older");
    home.await_waiters("foo.com", 1);
    let other = home.queue("foo.com", "other", 2);
    let newer = id("newer");
    older.wait().complains(76, "deploy-7");
    home.await_waiters("foo.com", 2);
    gate.open();
    for one in [first, newer, other] {
        one.wait().is_silent(0);
    }
    let starts: Vec<_> = home.log().into_iter().filter(|line| line.starts_with("start ")).collect();
    assert_eq!(starts, ["start first", "start newer", "start other"]);
}

#[test]
fn the_same_request_again_does_not_run_beside_itself() {
    let home = Home::new();
    let gate = home.gate("gate");
    let command =
        |name: &'static str| ["run", "-d", "foo.com", "--request-id", "deploy-7", "--", "./worker", name, "gate"];
    let first = home.start(&command("first"));
    home.await_line("start first");
    home.seq(&command("second")).complains(75, "deploy-7");
    gate.open();
    first.wait().is_silent(0);
    assert_eq!(home.log(), ["start first", "end first"]);
    // Once it has ended its name is free.
    home.seq(&command("third")).is_silent(0);
}
