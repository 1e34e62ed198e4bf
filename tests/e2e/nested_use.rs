//! Commands under a turn that ask for it again: how that is known, shown, and taken away.

use crate::support::Home;
use serde_json::{Value, json};

/// What status says of a domain.
fn line(home: &Home, domain: &str) -> Value {
    let status = home.wire().ask(&json!({"op": "status", "domain": domain})).expect("an answer");
    status["domains"][0].clone()
}

fn tickets(line: &Value) -> Vec<u64> {
    let holders = line["holders"].as_array().expect("a list");
    holders.iter().map(|holder| holder["ticket"].as_u64().expect("a number")).collect()
}

#[test]
fn the_daemon_is_known_again_however_its_socket_is_spelled() {
    let home = Home::new();
    let other = Home::new();
    std::os::unix::fs::symlink(home.path(), other.file("link")).expect("a link");
    let inner = |how: &str| {
        let command = format!("{how} run -d foo.com -n -- echo inner");
        home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", &command])
    };
    let link = other.file("link");
    inner(&format!("HOME={} \"$SEQ\"", link.display())).says(0, "inner\n", "");
    inner("\"$SEQ\" --socket .local/../.local/state/seq/seqd.sock").says(0, "inner\n", "");
    // Another daemon's turns have the same numbers.
    inner(&format!("\"$SEQ\" --socket {}/seqd.sock", other.path().display())).says(0, "inner\n", "");
    home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", "echo $SEQ_TICKET"]).says(0, "6\n", "");
}

#[test]
fn an_inner_turn_is_shown_as_one_with_the_outer_and_released_with_it() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let script = "exec \"$SEQ\" run -d foo.com -- ./worker inner gate";
    for by_name in [true, false] {
        let outer = home.start(&["run", "-d", "foo.com", "--", "sh", "-c", script]);
        let found = home.await_status("foo.com", "both have the turn", |line| {
            line["holders"].as_array().is_some_and(|all| all.len() == 2)
        });
        let [first, second] = tickets(&found)[..] else { panic!("{found}") };
        assert_eq!((&found["holders"][0]["within"], &found["holders"][1]["within"]), (&Value::Null, &json!(first)));
        let shown = home.seq(&["status", "-d", "foo.com"]).stdout();
        let words = format!("    within ticket {first}, whose turn it has as well");
        assert_eq!(shown.lines().nth(4).unwrap_or(&shown), words);
        home.seq(&["release", &second.to_string()]).is_silent(0);
        assert_eq!(tickets(&line(&home, "foo.com")), [first], "the outer one has its turn");
        outer.signal(rustix::process::Signal::TERM);
        outer.wait();
        let outer = home.start(&["run", "-d", "foo.com", "--", "sh", "-c", script]);
        let found = home.await_status("foo.com", "both have the turn", |line| {
            line["holders"].as_array().is_some_and(|all| all.len() == 2)
        });
        let first = tickets(&found)[0].to_string();
        let arguments: &[&str] = if by_name { &["release", "-d", "foo.com"] } else { &["release", &first] };
        home.seq(arguments).is_silent(0);
        assert!(line(&home, "foo.com")["holders"].as_array().is_none_or(Vec::is_empty));
        home.seq(&["run", "-d", "foo.com", "-n", "--", "echo", "next"]).says(0, "next\n", "");
        outer.signal(rustix::process::Signal::TERM);
        outer.wait();
    }
}

#[test]
fn of_several_turns_release_wants_to_know_which() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.seq(&["policy", "set", "foo.com", "--concurrency", "2"]).is_silent(0);
    let first = home.hold("foo.com", "a", "gate");
    let second = home.hold("foo.com", "b", "gate");
    let words = "seq: 2 have a turn in foo.com: name one by its ticket, see `seq status`\n";
    home.seq(&["release", "-d", "foo.com"]).says(1, "", words);
    gate.open();
    first.wait().is_silent(0);
    second.wait().is_silent(0);
}

#[test]
fn the_token_is_the_outer_ones_unless_a_further_domain_is_asked_for() {
    let home = Home::new();
    home.seq(&["run", "-d", "b", "--", "true"]).is_silent(0);
    let script = "echo $SEQ_TOKEN; \"$SEQ\" run -d a -- sh -c 'echo $SEQ_TOKEN'; \
                  \"$SEQ\" run -d a -d b -- sh -c 'echo $SEQ_TOKEN'; \"$SEQ\" run -d a -- sh -c 'echo $SEQ_TOKEN'";
    home.seq(&["run", "-d", "a", "--", "sh", "-c", script]).says(0, "2\n2\n3\n2\n", "");
}

#[test]
fn who_waits_for_several_domains_is_told_which_one_it_waits_for() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("bar.com", "a", "gate");
    let waiter = home.start(&["run", "-v", "-d", "foo.com", "-d", "bar.com", "--", "true"]);
    let said = home.await_fact("it says who has the turn", || {
        let said = waiter.stderr_so_far();
        said.contains(" runs for ").then_some(said)
    });
    assert!(said.starts_with("seq: foo.com, bar.com: 1st in line, 1 ahead; bar.com: pid "), "{said}");
    let ended = home.seq(&["run", "-d", "foo.com", "-d", "bar.com", "-w", "100ms", "--", "true"]);
    ended.complains(75, "no turn in foo.com, bar.com after 100ms: ");
    gate.open();
    holder.wait().is_silent(0);
    assert_eq!(waiter.wait().status.code(), Some(0));
}

#[test]
fn a_circle_through_a_wait_is_refused_and_spelled_out() {
    let home = Home::new();
    let gate = home.gate("gate");
    let script = |what: &str| format!("echo $SEQ_DOMAIN >>log; read -r line <gate; exec \"$SEQ\" {what}");
    let waits = home.start(&["run", "-d", "a", "--", "sh", "-c", &script("wait -d b")]);
    home.await_line("a");
    let asks = home.start(&["run", "-d", "b", "--", "sh", "-c", &script("run -d a -- true")]);
    home.await_line("b");
    gate.open();
    let (waits, asks) = (waits.wait(), asks.wait());
    let (refused, lucky, words) = if waits.status.success() {
        (asks, waits, [" has a and waits for b to be idle; ticket ", " has b and would wait for a\n"])
    } else {
        (waits, asks, [" has b and waits for a; ticket ", " has a and would wait for b to be idle\n"])
    };
    assert_eq!((refused.status.code(), lucky.status.code()), (Some(125), Some(0)), "{}", refused.stderr());
    let said = refused.stderr();
    assert!(said.starts_with("seq: a deadlock: ticket ") && words.iter().all(|part| said.contains(part)), "{said}");
}
