//! `seq sequence` and `seq done`: a turn for a script that seq does not run.

use crate::support::{Home, Running};

/// Starts a shell script and waits until it has written `word` to the log.
fn shell(home: &Home, script: &str, word: &str) -> Running {
    let running = home.launch(home.command("sh").args(["-c", script]));
    home.await_line(word);
    running
}

#[test]
fn a_script_takes_a_turn_and_gives_it_back() {
    let home = Home::new();
    let gate = home.gate("gate");
    let later = home.gate("later");
    let script = r#""$SEQ" sequence -d foo.com && echo mine >>log && read -r line <gate && echo yours >>log &&
        "$SEQ" done -d foo.com && read -r line <later"#;
    let script = shell(&home, script, "mine");
    let next = home.queue("foo.com", "next", 1);
    gate.open();
    // The turn passes on while the shell lives.
    next.wait().is_silent(0);
    assert_eq!(home.log(), ["mine", "yours", "start next", "end next"]);
    later.open();
    script.wait().is_silent(0);
}

#[test]
fn a_script_waits_for_its_turn() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let script = r#""$SEQ" sequence -d foo.com; echo mine >>log; "$SEQ" done -d foo.com"#;
    let script = home.launch(home.command("sh").args(["-c", script]));
    home.await_waiters("foo.com", 1);
    gate.open();
    holder.wait().is_silent(0);
    script.wait().is_silent(0);
    assert_eq!(home.log(), ["start holder", "end holder", "mine"]);
    home.await_idle("foo.com");
}

#[test]
fn the_shells_end_gives_the_turn_back() {
    let home = Home::new();
    let gate = home.gate("gate");
    let script = shell(&home, r#""$SEQ" sequence -d foo.com; echo mine >>log; read -r line <gate"#, "mine");
    let next = home.queue("foo.com", "next", 1);
    gate.open();
    script.wait().is_silent(0);
    next.wait().is_silent(0);
}

#[test]
fn the_shells_violent_death_gives_the_turn_back() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let script = shell(&home, r#""$SEQ" sequence -d foo.com; echo mine >>log; read -r line <gate"#, "mine");
    let next = home.queue("foo.com", "next", 1);
    script.kill();
    next.wait().is_silent(0);
}

#[test]
fn a_turn_can_be_bound_to_any_process() {
    let home = Home::new();
    let gate = home.gate("gate");
    let owner = home.launch(home.command("sh").args(["-c", "read -r line <gate"]));
    home.seq(&["sequence", "-d", "foo.com", "--for-pid", &owner.pid().to_string()]).is_silent(0);
    let holder = home.await_holder("foo.com", "process");
    assert_eq!(holder["pid"], owner.pid());
    let next = home.queue("foo.com", "next", 1);
    gate.open();
    owner.wait().is_silent(0);
    next.wait().is_silent(0);
}

#[test]
fn a_process_that_is_not_there_gets_no_turn() {
    let home = Home::new();
    let gone = home.launch(&mut home.command("true"));
    let pid = gone.pid().to_string();
    gone.wait().is_silent(0);
    home.seq(&["sequence", "-d", "foo.com", "--for-pid", &pid]).complains(125, &format!("there is no process {pid}"));
    // Nor is one that has ended and that nobody has waited for.
    let mut zombie = std::process::Command::new("true").spawn().expect("true");
    let pid = zombie.id().to_string();
    home.await_fact("a zombie", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("not waited for yet");
        stat.contains(") Z ").then_some(())
    });
    home.seq(&["sequence", "-d", "foo.com", "--for-pid", &pid]).complains(125, &format!("there is no process {pid}"));
    zombie.wait().expect("a status");
}

#[test]
fn a_lease_ends_by_itself() {
    let home = Home::new();
    home.seq(&["sequence", "-d", "foo.com", "--lease", "300ms"]).is_silent(0);
    home.seq(&["run", "-n", "-q", "-d", "foo.com", "--", "true"]).is_silent(75);
    home.seq(&["run", "-d", "foo.com", "--", "true"]).is_silent(0);
    home.seq(&["sequence", "-d", "foo.com", "--lease", "1h"]).is_silent(0);
    home.await_holder("foo.com", "lease");
    home.seq(&["done", "-d", "foo.com"]).is_silent(0);
    home.await_idle("foo.com");
}

#[test]
fn a_turn_is_told_as_json() {
    let home = Home::new();
    let turn = home.seq(&["sequence", "-d", "Foo.com", "--request-id", "mine", "--lease", "1h", "--json"]);
    assert_eq!((turn.status.code(), turn.stderr().as_str()), (Some(0), ""));
    let told: serde_json::Value = serde_json::from_str(&turn.stdout()).expect("JSON");
    let holder = home.await_holder("foo.com", "lease");
    assert_eq!((&told["domain"], &told["request_id"]), (&"foo.com".into(), &"mine".into()));
    assert_eq!((&told["ticket"], &told["token"]), (&holder["ticket"], &holder["token"]));
    home.seq(&["done", "--ticket", &told["ticket"].to_string()]).is_silent(0);
    home.await_idle("foo.com");
}

#[test]
fn max_wait_gives_75_and_leaves_no_turn_behind() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    home.seq(&["sequence", "-d", "foo.com", "-w", "200ms"]).complains(75, "foo.com");
    home.await_waiters("foo.com", 0);
    gate.open();
    holder.wait().is_silent(0);
    home.await_idle("foo.com");
}

#[test]
fn a_late_done_with_a_request_id_or_ticket_never_ends_somebody_elses_turn() {
    let home = Home::new();
    let gate = home.gate("gate");
    let turn = home.seq(&["sequence", "-d", "foo.com", "--request-id", "mine", "--lease", "500ms", "--json"]);
    let turn: serde_json::Value = serde_json::from_str(&turn.stdout()).expect("JSON");
    let other = home.hold("foo.com", "other", "gate");
    // Too late: the lease is over, and somebody else has the turn.
    home.seq(&["done", "-d", "foo.com", "--request-id", "mine"]).is_silent(0);
    home.seq(&["done", "--ticket", &turn["ticket"].to_string()]).is_silent(0);
    home.await_holder("foo.com", "attached");
    home.seq(&["run", "-n", "-q", "-d", "foo.com", "--", "true"]).is_silent(75);
    gate.open();
    other.wait().is_silent(0);
    assert_eq!(home.log(), ["start other", "end other"]);
}

#[test]
fn a_bare_done_of_another_shell_never_ends_a_shells_turn() {
    let home = Home::new();
    let gate = home.gate("gate");
    let script = r#""$SEQ" sequence -d foo.com; echo mine >>log; read -r line <gate; "$SEQ" done -d foo.com"#;
    let script = shell(&home, script, "mine");
    // Another shell: the shell of this test's commands is not an ancestor of that script.
    let refused = home.sh(r#"exec "$SEQ" done -d foo.com"#);
    refused.complains(1, "foo.com");
    home.await_holder("foo.com", "process");
    gate.open();
    script.wait().is_silent(0);
    home.await_idle("foo.com");
}

#[test]
fn a_bare_done_never_ends_the_turn_of_a_run() {
    let home = Home::new();
    let gate = home.gate("gate");
    let run = home.hold("foo.com", "run", "gate");
    home.seq(&["done", "-d", "foo.com"]).complains(1, "foo.com");
    home.await_holder("foo.com", "attached");
    gate.open();
    run.wait().is_silent(0);
}

#[test]
fn a_turn_taken_in_a_substitution_belongs_to_the_shell() {
    let home = Home::new();
    let script = r#"turn=$("$SEQ" sequence -d foo.com --json) || exit
        "$SEQ" run -n -q -d foo.com -- true; test $? = 75 || exit
        case $turn in *'"ticket":'*) ;; *) exit 1 ;; esac
        "$SEQ" done -d foo.com && "$SEQ" run -n -d foo.com -- true"#;
    for shell in ["sh", "bash"] {
        home.finish(home.command(shell).args(["-c", script])).is_silent(0);
    }
}

#[test]
fn done_in_a_subshell_ends_the_scripts_own_turn() {
    let home = Home::new();
    home.sh(r#""$SEQ" sequence -d foo.com; (sh -c '"$SEQ" done -d foo.com; exit'); "$SEQ" run -n -d foo.com -- true"#)
        .is_silent(0);
}

#[test]
fn done_on_an_idle_domain_changes_nothing_however_often() {
    let home = Home::new();
    home.seq(&["done", "-d", "foo.com"]).is_silent(0);
    home.warm();
    for _ in 0..3 {
        home.seq(&["done", "-d", "foo.com"]).is_silent(0);
        home.seq(&["done", "-d", "foo.com", "--request-id", "nobody"]).is_silent(0);
        home.seq(&["done", "--ticket", "999"]).is_silent(0);
    }
    home.seq(&["run", "-d", "foo.com", "--", "echo", "hello"]).says(0, "hello\n", "");
}

#[test]
fn a_script_that_asks_again_keeps_the_turn_it_has() {
    let home = Home::new();
    let script = r#""$SEQ" sequence -d foo.com --request-id mine && "$SEQ" sequence -d foo.com --request-id mine &&
        "$SEQ" done -d foo.com && "$SEQ" run -n -d foo.com -- true"#;
    home.sh(script).is_silent(0);
}

#[test]
fn a_done_in_another_container_never_ends_a_shells_turn() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.warm();
    // Each container's shell has the same pid in its own namespace as the other's.
    let container = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "sh", "-c"];
    let script = r#""$SEQ" sequence -d foo.com; echo mine >>log; read -r line <gate; "$SEQ" done -d foo.com"#;
    let first = home.launch(home.command("unshare").args(container).arg(script));
    if !home.finish(home.command("unshare").args(container).arg("true")).status.success() {
        return; // Where no container can be made there is nothing to see.
    }
    home.await_line("mine");
    home.finish(home.command("unshare").args(container).arg(r#""$SEQ" done -d foo.com; true"#));
    home.await_holder("foo.com", "process");
    home.seq(&["run", "-n", "-q", "-d", "foo.com", "--", "true"]).is_silent(75);
    gate.open();
    first.wait().is_silent(0);
    home.await_idle("foo.com");
}

/// What is said when a request id has its turn already.
fn taken(id: &str, ticket: u64, pid: u64) -> String {
    format!(
        "seq: request {id} has its turn already as ticket {ticket} (pid {pid}): \
         wait for that one to end, or use another request id\n"
    )
}

#[test]
fn the_request_id_of_a_run_is_not_taken_over_by_a_shell() {
    let home = Home::new();
    let gate = home.gate("gate");
    let run = home.start(&["run", "-d", "foo.com", "--request-id", "mine", "--", "./worker", "run", "gate"]);
    home.await_line("start run");
    let before = home.await_holder("foo.com", "attached");
    let said = taken("mine", before["ticket"].as_u64().expect("a ticket"), before["pid"].as_u64().expect("a pid"));
    home.sh(r#""$SEQ" sequence -d foo.com --request-id mine"#).says(75, "", &said);
    home.sh(r#""$SEQ" sequence -d foo.com --request-id mine --lease 1h"#).says(75, "", &said);
    let after = home.await_holder("foo.com", "attached");
    for field in ["ticket", "token", "pid", "command"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    gate.open();
    run.wait().is_silent(0);
    home.await_idle("foo.com");
}

#[test]
fn the_request_id_of_a_living_shell_is_not_taken_over_by_another() {
    let home = Home::new();
    let gate = home.gate("gate");
    let script = r#""$SEQ" sequence -d foo.com --request-id mine; echo mine >>log; read -r line <gate
        "$SEQ" sequence -d foo.com --request-id mine || exit"#;
    let first = shell(&home, script, "mine");
    let before = home.await_holder("foo.com", "process");
    assert_eq!(before["pid"], first.pid());
    let said = taken("mine", before["ticket"].as_u64().expect("a ticket"), first.pid().into());
    home.sh(r#""$SEQ" sequence -d foo.com --request-id mine; exit $?"#).says(75, "", &said);
    let after = home.await_holder("foo.com", "process");
    assert_eq!((&before["ticket"], &before["pid"]), (&after["ticket"], &after["pid"]));
    gate.open();
    // The shell that has it takes it up again; its end gives it back.
    first.wait().is_silent(0);
    home.await_idle("foo.com");
}

#[test]
fn a_turn_that_could_not_be_told_is_given_back() {
    let home = Home::new();
    let script =
        r#""$SEQ" sequence -d foo.com --json >/dev/full; echo $? >>log; exec "$SEQ" run -n -d foo.com -- true"#;
    home.sh(script).says(0, "", "seq: cannot print the turn: No space left on device (os error 28)\n");
    assert_eq!(home.log(), ["125"]);
}

#[test]
fn a_lease_is_given_back_by_its_shell_or_once_that_has_ended_by_any() {
    let home = Home::new();
    let take = r#""$SEQ" sequence -d foo.com --request-id deploy --lease 1h"#;
    // Steps of a job, each with a shell of its own.
    for done in ["-d foo.com", "-d foo.com --request-id deploy"] {
        home.sh(&format!("{take}; true")).is_silent(0);
        home.sh(&format!("\"$SEQ\" done {done}; true")).is_silent(0);
        home.await_idle("foo.com");
        home.sh(&format!("{take}; \"$SEQ\" done {done}")).is_silent(0);
        home.await_idle("foo.com");
    }
    let gate = home.gate("gate");
    let owner = home.launch(home.command("sh").args(["-c", &format!("{take}; read -r line <gate")]));
    let turn = home.await_holder("foo.com", "lease");
    for done in ["-d foo.com", "-d foo.com --request-id deploy"] {
        home.sh(&format!("\"$SEQ\" done {done}")).complains(1, "foo.com");
    }
    let again = home.await_holder("foo.com", "lease");
    assert_eq!(again["ticket"], turn["ticket"], "a late `done` leaves it alone");
    let ticket = turn["ticket"].to_string();
    home.seq(&["done", "--ticket", &ticket]).is_silent(0);
    home.await_idle("foo.com");
    gate.open();
    owner.wait().is_silent(0);
}

#[test]
fn a_done_ends_the_turn_of_its_own_shell_and_not_a_lease_that_was_left_before() {
    let home = Home::new();
    home.seq(&["policy", "set", "foo.com", "--concurrency", "2"]).is_silent(0);
    home.sh(r#""$SEQ" sequence -d foo.com --lease 1h; true"#).is_silent(0);
    let left = home.await_holder("foo.com", "lease")["ticket"].clone();
    for own in ["", "--lease 1h"] {
        home.sh(&format!(r#""$SEQ" sequence -d foo.com {own}; "$SEQ" done -d foo.com; sleep 0"#)).is_silent(0);
        let status = home.await_status("foo.com", "one turn", |line| line["holders"].as_array().unwrap().len() == 1);
        assert_eq!(status["holders"][0]["ticket"], left, "{own}");
    }
}

#[test]
fn a_lease_of_no_time_is_wrong_usage() {
    let home = Home::new();
    for lease in ["0", "0s", "0.0001"] {
        let said = format!("'{lease}' is too short for a turn: give it at least 1ms");
        home.seq(&["sequence", "-d", "foo.com", "--lease", lease]).complains_of_usage(2, &said);
    }
    assert_eq!(home.daemon_pid(), None);
}

#[test]
fn a_late_done_by_name_ends_no_later_request_of_that_name() {
    let home = Home::new();
    let (gate, waiting) = (home.gate("gate"), home.gate("waiting"));
    let ids = ["-d", "foo.com", "--request-id", "deploy"];
    home.seq(&[&["sequence"], &ids[..], &["--lease", "1ms"]].concat());
    let later = home.start(&[&["run"], &ids[..], &["--", "./worker", "later", "gate"]].concat());
    home.await_line("start later");
    let done = home.seq(&[&["done"], &ids[..]].concat());
    done.complains(1, "the turn in foo.com is not this caller's: ticket 2 ");
    // Nor does one from a shell that was refused the turn.
    let refused =
        home.sh(r#""$SEQ" sequence -d foo.com --request-id deploy; "$SEQ" done -d foo.com --request-id deploy"#);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr().contains("has its turn already as ticket 2 "), "{}", refused.stderr());
    // What runs under a turn may.
    let script = r#""$SEQ" done -d own.com --request-id own"#;
    let own = home.seq(&["run", "-d", "own.com", "--request-id", "own", "--", "sh", "-c", script]);
    assert_eq!(own.status.code(), Some(0), "{}", own.stderr());
    // A shell may name itself, as in a pipe.
    let script = r#""$SEQ" sequence -d bar.com --request-id deploy --for-pid $$; echo mine >>log; read -r line <own
        "$SEQ" done -d bar.com --request-id deploy"#;
    let own = home.gate("own");
    let shell = home.launch(home.command("sh").args(["-c", script]));
    home.await_line("mine");
    for named in [&["done", "-d", "bar.com", "--request-id", "deploy"][..], &["done", "-d", "bar.com"]] {
        home.seq(named).complains(1, "the turn in bar.com is not this caller's: ticket 4 ");
    }
    own.open();
    shell.wait().is_silent(0);
    let waiter = home.start(&["run", "-d", "foo.com", "--request-id", "next", "--", "./worker", "next", "waiting"]);
    home.await_waiters("foo.com", 1);
    for named in [&["done", "-d", "foo.com", "--request-id", "next"][..], &["done", "--ticket", "5"]] {
        home.seq(named).says(1, "", "seq: ticket 5 still waits: take it out of the line with `seq cancel 5`\n");
    }
    gate.open();
    later.wait().is_silent(0);
    home.await_line("start next");
    home.seq(&["done", "--ticket", "5"]).is_silent(0);
    waiting.open();
    assert_eq!(waiter.wait().status.code(), Some(0));
}

#[test]
fn a_shell_that_has_ended_gets_no_turn() {
    let home = Home::new();
    // `exec`, so that seq itself is what the shell has left behind; in a session of which process 1 is not.
    let orphan = r#"while [ -e "/proc/$1" ]; do :; done; exec "$SEQ" sequence -d foo.com 2>words"#;
    home.script("orphan", &format!("#!/bin/sh\n{orphan}\n"));
    home.sh("setsid --wait sh -c './orphan $$ & exit 0'").is_silent(0);
    assert_eq!(
        home.await_file("words"),
        "seq: the calling shell has ended, so the turn would have no end: name a process with --for-pid, or use --lease"
    );
    home.seq(&["run", "-n", "-d", "foo.com", "--", "true"]).is_silent(0);
}
