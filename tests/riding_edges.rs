//! What went wrong once when the daemon was killed, told to leave, or found its storage incomplete.

mod support;

use support::Home;

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
