//! The other commands outlive the daemon too: `sequence`, `watch` and `wait`.

use std::fs;

use crate::support::Home;

#[test]
fn a_turn_of_a_script_outlives_the_daemon() {
    let home = Home::new();
    let gate = home.gate("gate");
    let script = r#""$SEQ" sequence -d foo.com && echo "start a" >>log && read -r line <gate
        echo "end a" >>log && "$SEQ" done -d foo.com"#;
    let shell = home.launch(home.command("sh").args(["-c", script]));
    home.await_line("start a");
    let waiter = home.queue("foo.com", "b", 1);
    home.kill_daemon();
    home.await_status("foo.com", "both are known", |line| {
        line["holders"][0]["state"] == "process" && line["waiting"].as_u64() == Some(1)
    });
    gate.open();
    shell.wait().is_silent(0);
    waiter.wait().is_silent(0);
    assert_eq!(home.log(), ["start a", "end a", "start b", "end b"]);
}

#[test]
fn a_script_in_line_keeps_its_place() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a", "gate");
    let script = r#""$SEQ" sequence -d foo.com && echo b >>log && "$SEQ" done -d foo.com"#;
    let shell = home.launch(home.command("sh").args(["-c", script]));
    home.await_waiters("foo.com", 1);
    let last = home.queue("foo.com", "c", 2);
    home.kill_daemon();
    home.await_waiters("foo.com", 2);
    gate.open();
    holder.wait().is_silent(0);
    shell.wait().is_silent(0);
    last.wait().is_silent(0);
    assert_eq!(home.log(), ["start a", "end a", "b", "start c", "end c"]);
}

#[test]
fn watch_goes_on_with_what_is_now() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a", "gate");
    let out = home.file("watched");
    let mut command = home.seq_command(&["watch", "--json"]);
    command.stdout(fs::File::create(&out).expect("a file")).stderr(fs::File::create(home.file("said/watch")).unwrap());
    let watch = crate::support::Running::start_as_is(&mut command, home.path(), out, home.file("said/watch"));
    home.await_file("watched");
    home.kill_daemon();
    let count = |what: &str| home.read("watched").lines().filter(|line| line.contains(what)).count();
    home.await_fact("a second status", || (count(r#""type":"status""#) == 2).then_some(()));
    gate.open();
    holder.wait().is_silent(0);
    home.await_fact("the end of the turn", || (count(r#""event":"ended""#) == 1).then_some(()));
    home.seq(&["stop"]).is_silent(0);
    let other_gate = home.gate("other-gate");
    let holder = home.hold("bar.com", "b", "other-gate");
    home.await_fact("the turn with the third daemon", || (count(r#""domain":"bar.com""#) > 0).then_some(()));
    other_gate.open();
    holder.wait().is_silent(0);
    assert_eq!(watch.stderr_so_far(), "");
    watch.kill();
}

#[test]
fn who_reads_a_watch_is_told_that_events_may_be_missing() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a", "gate");
    let (out, said) = (home.file("watched"), home.file("said/watch"));
    let mut command = home.seq_command(&["watch"]);
    command.stdout(fs::File::create(&out).expect("a file")).stderr(fs::File::create(&said).expect("a file"));
    let watch = crate::support::Running::start_as_is(&mut command, home.path(), out, said);
    home.await_file("watched");
    home.kill_daemon();
    let words = "the daemon was replaced, and events may have been missed: what is now follows";
    home.await_fact("a line about that", || home.read("watched").lines().any(|line| line == words).then_some(()));
    gate.open();
    holder.wait().is_silent(0);
    assert_eq!(watch.stderr_so_far(), "");
    watch.kill();
}

#[test]
fn wait_goes_on_waiting() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a", "gate");
    let connections =
        || home.wire().ask(&serde_json::json!({"op": "info"})).and_then(|info| info["counts"]["connections"].as_u64());
    // The holder's, and the one that asks.
    home.await_fact("the first two", || (connections() == Some(2)).then_some(()));
    let mut waits = home.start(&["wait", "-d", "foo.com"]);
    home.await_fact("one more connection", || (connections() == Some(3)).then_some(()));
    home.kill_daemon();
    home.await_fact("it is back", || (connections() == Some(3)).then_some(()));
    assert!(!waits.has_ended());
    gate.open();
    holder.wait().is_silent(0);
    waits.wait().is_silent(0);
}
