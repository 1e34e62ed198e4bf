//! What people want of a line besides order of arrival, each by a user's story.

use crate::support::{Home, Running};

#[track_caller]
fn quietly(home: &Home, words: &str) {
    home.seq(&words.split(' ').collect::<Vec<_>>()).is_silent(0);
}

/// Starts a worker with more options, which passes `gate`.
fn worker(home: &Home, options: &[&str], name: &str) -> Running {
    home.start(&[&["run", "-d", "foo.com"], options, &["--", "./worker", name, "gate"]].concat())
}

/// As [`worker`], and waits until it is the `place`th of those who wait.
#[track_caller]
fn waiter(home: &Home, options: &[&str], name: &str, place: usize) -> Running {
    let running = worker(home, options, name);
    home.await_waiters("foo.com", place);
    running
}

/// As [`worker`], and waits until it has its turn.
#[track_caller]
fn holder(home: &Home, options: &[&str], name: &str) -> Running {
    let running = worker(home, options, name);
    home.await_line(&format!("start {name}"));
    running
}

#[test]
fn readers_run_together_and_the_writer_alone() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.script("reader", "#!/bin/sh\necho \"start $1\" >>log\nread -r line <gate\necho \"end $1\" >>log\n");
    let reader = |name: &str| home.start(&["run", "-d", "foo.com", "--shared", "--", "./reader", name]);
    let mut all = vec![reader("r1")];
    home.await_line("start r1");
    all.push(reader("r2"));
    home.await_line("start r2");
    all.push(waiter(&home, &[], "w", 1));
    // Behind the writer, though readers run: it is not starved.
    all.push(reader("r3"));
    home.await_waiters("foo.com", 2);
    all.push(reader("r4"));
    home.await_waiters("foo.com", 3);
    gate.let_one_pass();
    gate.let_one_pass();
    home.await_line("start w");
    assert_eq!(home.log()[2..].iter().filter(|line| line.starts_with("end r")).count(), 2);
    gate.let_one_pass();
    home.await_line("start r3");
    home.await_line("start r4");
    gate.open();
    for running in all {
        running.wait().is_silent(0);
    }
    assert!(!home.log().iter().any(|line| line.starts_with("overlap")), "{:?}", home.log());
}

#[test]
fn the_higher_priority_goes_first_and_equals_in_order() {
    let home = Home::new();
    let gate = home.gate("gate");
    let mut all = vec![holder(&home, &["--priority", "-5"], "low")];
    all.push(waiter(&home, &[], "a", 1));
    all.push(waiter(&home, &["--priority", "-1"], "later", 2));
    all.push(waiter(&home, &["--priority", "10"], "urgent", 3));
    all.push(waiter(&home, &["--priority=0"], "b", 4));
    all.push(waiter(&home, &["--priority", "10"], "urgent2", 5));
    home.kill_daemon();
    home.await_waiters("foo.com", 5);
    gate.open();
    for running in all {
        running.wait().is_silent(0);
    }
    let starts: Vec<String> = home.log().into_iter().filter(|line| line.starts_with("start")).collect();
    assert_eq!(starts, ["low", "urgent", "urgent2", "a", "b", "later"].map(|name| format!("start {name}")));
}

#[test]
fn two_domains_are_had_at_once_or_not_at_all() {
    let home = Home::new();
    let (gate_a, gate_b) = (home.gate("gate-a"), home.gate("gate-b"));
    let hold = |domain: &str, name: &str| home.hold(domain, name, &format!("gate-{name}"));
    let (a, b) = (hold("one", "a"), hold("two", "b"));
    home.script("show", "#!/bin/sh\necho $SEQ_DOMAIN; echo; echo \"$SEQ_DOMAINS\"\n");
    let both = home.start(&["run", "-d", "One", "-d", "two", "-d", "one", "--", "./show"]);
    home.await_waiters("two", 1);
    home.await_waiters("one", 1);
    // It stands in each line, so nobody passes it where a turn is free.
    gate_a.open();
    a.wait().is_silent(0);
    let late = home.start(&["run", "-d", "one", "--", "echo", "late"]);
    home.await_waiters("one", 2);
    let status = home.seq(&["status", "-d", "one"]).stdout();
    assert!(status.contains("the 1st waits for two, too"), "{status}");
    home.kill_daemon();
    home.await_waiters("one", 2);
    home.await_waiters("two", 1);
    gate_b.open();
    b.wait().is_silent(0);
    both.wait().says(0, "one\n\none\ntwo\n", "");
    late.wait().says(0, "late\n", "");
    for domain in ["one", "two"] {
        let log = home.seq(&["log", "-d", domain]).stdout();
        assert!(log.lines().any(|line| line.contains("./show")), "{domain}: {log}");
    }
}

/// Each process wants two of three domains, in an order of its own.
#[test]
fn requests_for_several_domains_never_wait_in_a_circle() {
    let home = Home::new();
    home.warm();
    let pairs = [["a", "b"], ["b", "c"], ["c", "a"], ["b", "a"], ["c", "b"], ["a", "c"]];
    home.script(
        "both",
        "#!/bin/sh\nfor name in $SEQ_DOMAINS; do mkdir in-$name || echo overlap >>log; done\n\
         for name in $SEQ_DOMAINS; do rmdir in-$name; done\n",
    );
    let running: Vec<Running> = (0..36)
        .map(|number| pairs[number % pairs.len()])
        .map(|[one, other]| home.start(&["run", "-d", one, "-d", other, "--", "./both"]))
        .collect();
    for running in running {
        running.wait().is_silent(0);
    }
    assert_eq!(home.log(), Vec::<String>::new());
}

#[test]
fn a_deploy_script_that_is_called_under_its_own_turn_goes_on() {
    let home = Home::new();
    home.script(
        "deploy",
        "#!/bin/sh\nexec \"$SEQ\" run -d foo.com -- sh -c 'echo \"$1 $SEQ_TOKEN\"; [ \"$1\" -eq 0 ] || \
         exec ./deploy $(($1 - 1))' sh \"$1\"\n",
    );
    let ended = home.finish(home.command("./deploy").arg("3"));
    let said = ended.stdout();
    let token = said.split([' ', '\n']).nth(1).expect("a token").to_owned();
    ended.says(0, &format!("3 {token}\n2 {token}\n1 {token}\n0 {token}\n"), "");
    home.await_idle("foo.com");
}

#[test]
fn a_turn_that_is_over_proves_nothing() {
    let home = Home::new();
    let gate = home.gate("gate");
    let ended = home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", "env | grep ^SEQ_T"]).stdout();
    let holder = holder(&home, &[], "a");
    let mut command = home.seq_command(&["run", "-d", "foo.com", "-n", "--", "true"]);
    command.envs(ended.lines().filter_map(|line| line.split_once('=')));
    home.finish(&mut command).complains(75, "foo.com is busy");
    gate.open();
    holder.wait().is_silent(0);
}

#[test]
fn the_turn_is_passed_on_when_all_that_is_within_has_ended() {
    let home = Home::new();
    let gate = home.gate("gate");
    // The outer command ends, and leaves the inner one behind.
    let script = "\"$SEQ\" run -d foo.com -- ./worker inner gate & until grep -qs 'start inner' log; do :; done";
    home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", script]).is_silent(0);
    home.seq(&["run", "-d", "foo.com", "-n", "--", "true"]).complains(75, "foo.com is busy");
    home.kill_daemon();
    home.seq(&["run", "-d", "foo.com", "-n", "--", "true"]).complains(75, "foo.com is busy");
    gate.open();
    home.await_idle("foo.com");
    home.seq(&["run", "-d", "foo.com", "-n", "--", "true"]).is_silent(0);
}

#[test]
fn what_would_wait_in_a_circle_is_refused_and_told_how() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.script(
        "a-then-b",
        "#!/bin/sh\necho first >>log\nread -r line <gate\nexec \"$SEQ\" run -d b -- echo a got b\n",
    );
    home.script(
        "b-then-a",
        "#!/bin/sh\necho second >>log\nread -r line <gate\nexec \"$SEQ\" run -d a -- echo b got a\n",
    );
    let first = home.start(&["run", "-d", "a", "--", "./a-then-b"]);
    home.await_line("first");
    let second = home.start(&["run", "-d", "b", "--", "./b-then-a"]);
    home.await_line("second");
    gate.open();
    let (first, second) = (first.wait(), second.wait());
    let (refused, lucky) = if first.status.success() { (second, first) } else { (first, second) };
    assert_eq!((refused.status.code(), lucky.status.code()), (Some(125), Some(0)), "{}", refused.stderr());
    let words = refused.stderr();
    assert!(words.starts_with("seq: a deadlock: ticket "), "{words}");
    assert!(words.contains("has a and w") && words.contains("has b and w"), "{words}");
}

/// Somebody has one of the two slots of k until a gate is opened; two others wait for what each of them has, one for a
/// slot of k.
fn two_who_want_what_the_other_has(home: &Home) -> [Running; 3] {
    let gate = home.gate("all-are-there");
    quietly(home, "policy set k --concurrency 2");
    let script = |other: &str| format!("read -r line <all-are-there; exec \"$SEQ\" run -d {other} -- echo has {other}");
    let independent = home.start(&["run", "-d", "k", "--", "./worker", "independent", "gate"]);
    let has_k = home.start(&["run", "-d", "k", "--", "sh", "-c", &script("b")]);
    let has_b = home.start(&["run", "-d", "b", "--", "sh", "-c", &script("k")]);
    for (domain, holders) in [("k", 2), ("b", 1)] {
        home.await_status(domain, "all have their turns", |line| {
            line["holders"].as_array().is_some_and(|found| found.len() == holders)
        });
    }
    gate.open();
    home.await_waiters("k", 1);
    home.await_waiters("b", 1);
    [independent, has_k, has_b]
}

#[test]
fn who_waits_for_one_of_several_slots_is_no_deadlock_while_one_will_be_free() {
    let home = Home::new();
    let gate = home.gate("gate");
    let [independent, has_k, has_b] = two_who_want_what_the_other_has(&home);
    gate.open();
    independent.wait().is_silent(0);
    has_b.wait().says(0, "has k\n", "");
    has_k.wait().says(0, "has b\n", "");
}

#[test]
fn a_policy_that_makes_a_deadlock_strands_nobody() {
    let home = Home::new();
    let gate = home.gate("gate");
    let [independent, has_k, has_b] = two_who_want_what_the_other_has(&home);
    quietly(&home, "policy set k --concurrency 1");
    // The one that is left may need the slot.
    gate.open();
    let (has_k, has_b) = (has_k.wait(), has_b.wait());
    let (refused, lucky) = if has_k.status.success() { (has_b, has_k) } else { (has_k, has_b) };
    assert_eq!((refused.status.code(), lucky.status.code()), (Some(125), Some(0)), "{}", refused.stderr());
    let words = refused.stderr();
    assert!(words.starts_with("seq: a deadlock: ticket "), "{words}");
    assert!(words.contains("has k and w") && words.contains("has b and w"), "{words}");
    independent.wait().is_silent(0);
}

#[test]
fn a_command_does_not_wait_for_its_own_turn_to_end() {
    let home = Home::new();
    let within_a = |command: &str| home.seq(&["run", "-d", "a", "--", "sh", "-c", command]);
    within_a("exec \"$SEQ\" wait -d a").complains(125, "a deadlock: ticket 1 (pid ");
    within_a("exec \"$SEQ\" run -d b -- \"$SEQ\" wait -d a").complains(125, "a deadlock: ticket 2 (pid ");
    within_a("exec \"$SEQ\" wait -d b").is_silent(0);
}

#[test]
fn a_request_within_a_turn_takes_no_more_than_that() {
    let home = Home::new();
    quietly(&home, "policy set foo.com --concurrency 3");
    let script = "\"$SEQ\" run -d foo.com --take 3 -- true";
    let ended = home.seq(&["run", "-d", "foo.com", "--take", "2", "--", "sh", "-c", script]);
    ended.complains(125, "ticket 1 takes 2 of the slots of foo.com, so a request within it cannot take 3");
    let script = script.replace('3', "2");
    home.seq(&["run", "-d", "foo.com", "--take", "2", "--", "sh", "-c", &script]).is_silent(0);
}
