//! What went wrong once when the daemon was killed, told to leave, or found its storage incomplete.

use crate::support::Home;
use rustix::process::Signal;

#[test]
fn a_daemon_started_anew_is_not_one_of_those_that_until_all_exit_waits_for() {
    let home = Home::new();
    let gate = home.gate("gate");
    let script = "(read -r line <gate; echo child >>log) & echo start >>log; exit 6";
    let running = home.start(&["run", "--until-all-exit", "-d", "foo.com", "--", "bash", "-c", script]);
    home.await_line("start");
    let before = home.daemon_pid();
    home.kill_daemon();
    home.await_fact("the next daemon", || home.daemon_pid().filter(|pid| Some(*pid) != before));
    gate.open();
    running.wait().is_silent(6);
    assert_eq!(home.log(), ["start", "child"]);
}

#[test]
fn nobody_is_told_idle_while_the_storage_is_incomplete() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.warm();
    let script = "echo start >>log; read -r line <gate";
    let running = home.start(&["run", "--no-start", "-d", "foo.com", "--", "sh", "-c", script]);
    home.await_line("start");
    let (mark, hidden) = (home.state().join("seq.mark"), home.file("hidden"));
    std::fs::rename(&mark, &hidden).unwrap();
    home.kill_daemon();
    for arguments in [&["status"][..], &["wait", "-d", "foo.com"], &["done", "-d", "foo.com"]] {
        home.seq(arguments).complains(125, "seq.mark");
    }
    std::fs::rename(&hidden, &mark).unwrap();
    home.seq(&["run", "-n", "-d", "foo.com", "--", "true"]).complains(75, "foo.com is busy");
    gate.open();
    running.wait().is_silent(0);
}

#[test]
fn a_wait_for_an_idle_domain_starts_no_daemon_that_was_told_to_leave() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a", "gate");
    let waiting = home.start(&["wait", "-d", "foo.com"]);
    home.await_fact("the wait is heard", || {
        let info = home.seq(&["info", "--json"]).stdout();
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        (info["counts"]["connections"].as_u64() == Some(3)).then_some(())
    });
    home.seq(&["stop"]).is_silent(0);
    waiting.wait().complains(125, "the daemon was told to leave while foo.com was waited for: wait again");
    gate.open();
    holder.wait().is_silent(0);
    assert!(home.daemons().is_empty(), "nobody starts a daemon that was stopped");
}

/// A waiter that hangs does not come back in time. Who looks is told why nobody has the turn, and the waiter is told
/// what became of its place.
#[test]
fn a_place_that_was_not_taken_up_in_time_is_lost_with_a_word() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a", "gate");
    let slow = home.queue("foo.com", "b", 1);
    let quick = home.queue("foo.com", "c", 2);
    slow.signal(Signal::STOP);
    home.kill_daemon();
    home.await_status("foo.com", "the holder and one waiter are back", |line| {
        line["holders"][0]["state"] == "attached"
            && line["waiters"][0]["away"] == true
            && line["waiters"][1]["away"].is_null()
    });
    let other_gate = home.gate("other-gate");
    let newcomer = home.start(&["run", "-d", "foo.com", "--", "./worker", "d", "other-gate"]);
    home.await_waiters("foo.com", 3);
    gate.open();
    holder.wait().is_silent(0);
    home.await_status("foo.com", "nobody has the turn", |line| {
        line["awaited_ms"].as_u64().is_some_and(|left| left > 0)
    });
    let shown = home.seq(&["status", "-d", "foo.com"]).stdout();
    let why = "\n  nobody has the turn: the 1st is away since the daemon was started anew;\n  its place is kept for ";
    assert!(shown.contains(why) && shown.contains("1st, away"), "{shown}");
    quick.wait().is_silent(0);
    home.await_line("start d");
    slow.signal(Signal::CONT);
    home.await_waiters("foo.com", 1);
    other_gate.open();
    newcomer.wait().is_silent(0);
    let lost = "seq: foo.com: the daemon has lost the place of this request: it asked again";
    slow.wait().says(0, "", &format!("{lost}, and is 1st in line now, 1 ahead\n"));
    let order = ["a", "c", "d", "b"].map(|name| [format!("start {name}"), format!("end {name}")]);
    assert_eq!(home.log(), order.concat());
}
