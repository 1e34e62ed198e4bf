//! `seq status`: what it shows of policies and wishes, and that nothing that matters is lost on a narrow terminal.

use crate::support::{Home, Running, Terminal};
use rustix::process::Signal;
use serde_json::json;

/// As long as a domain of a repository and its branch.
const DOMAIN: &str = "deploy/production.eu-central-1.example.com/some-long-service";

#[track_caller]
fn quietly(home: &Home, words: &[&str]) {
    home.seq(words).is_silent(0);
}

/// Starts `seq run` with these options, for a worker that passes `gate`.
fn worker(home: &Home, options: &[&str], name: &str) -> Running {
    home.start(&[&["run", "-d", "foo.com"], options, &["--", "./worker", name, "gate"]].concat())
}

/// What `seq status` shows on a terminal of so many columns.
fn on_terminal(home: &Home, columns: u16) -> Vec<String> {
    shown(home, "status", columns)
}

/// What a command of seq shows on a terminal of so many columns.
fn shown(home: &Home, subcommand: &str, columns: u16) -> Vec<String> {
    let mut command = home.seq_command(&[subcommand]);
    command.env("NO_COLOR", "1");
    let mut terminal = Terminal::start(home, &command, columns);
    assert_eq!(terminal.wait().status.code(), Some(0));
    terminal.shown.lines().map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn every_value_and_every_wish_is_shown() {
    let home = Home::new();
    let gate = home.gate("gate");
    quietly(&home, &["policy", "set", "foo.*", "--concurrency", "3", "--max-queue", "9", "--max-run", "1h"]);
    quietly(&home, &["policy", "set", "foo.com", "--default-max-wait", "10m", "--max-run", "none"]);
    quietly(&home, &["policy", "set", "bar.com", "--concurrency", "2"]);
    let first = worker(&home, &["--take", "2", "--priority", "4", "--supersede=web"], "a");
    home.await_line("start a");
    let second = worker(&home, &["-d", "bar.com", "--take", "2", "--priority", "-5", "--supersede"], "b");
    home.await_waiters("foo.com", 1);
    let third = worker(&home, &["--shared", "--priority", "-6", "--supersede=api", "--cancel-running"], "c");
    home.await_waiters("foo.com", 2);
    let shown = home.seq(&["status", "-d", "foo.com"]).stdout();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[..2], ["foo.com: 2 wait", "  policy: concurrency 3, max-queue 9, default-max-wait 10m"]);
    assert_eq!(lines[4], "    with --take 2 --priority 4 --supersede=web");
    assert_eq!(lines[6], "    with -d bar.com --take 2 --priority -5 --supersede");
    assert_eq!(lines[8], "    with --shared --priority -6 --supersede=api --cancel-running");
    let status = home.wire().ask(&json!({"op": "status", "domain": "foo.com"})).expect("an answer");
    let line = &status["domains"][0];
    assert_eq!(line["policy"], json!({"concurrency": 3, "max_queue": 9, "default_max_wait_ms": 600_000}));
    assert_eq!((&line["holders"][0]["take"], &line["holders"][0]["supersede"]), (&json!(2), &json!("web")));
    assert_eq!(line["waiters"][1]["cancel_running"], true);
    gate.open();
    for running in [first, second, third] {
        running.wait().is_silent(0);
    }
}

#[test]
fn a_narrow_terminal_loses_nothing_of_why_nobody_begins() {
    let home = Home::new();
    quietly(
        &home,
        &["policy", "set", DOMAIN, "--min-interval", "20h", "--max-queue", "20", "--default-max-wait", "1h"],
    );
    quietly(&home, &["run", "-d", DOMAIN, "--", "true"]);
    quietly(
        &home,
        &["pause", DOMAIN, "--reason", "the new disk for the database comes today, ask ana when it is done"],
    );
    for columns in [40, 60, 80, 120] {
        let lines = on_terminal(&home, columns);
        let widest = lines.iter().map(|line| line.chars().count()).max();
        assert!(widest <= Some(columns.into()), "{columns}: {lines:#?}");
        assert!(lines[0].starts_with("deploy/") && lines[0].contains(": nobody waits"), "{lines:#?}");
        let text = lines.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("policy: max-queue 20, min-interval 20h, default-max-wait 1h"), "{text}");
        assert!(text.contains("comes today, ask ana when it is done;"), "{text}");
        let (_, rest) = text.split_once("its min-interval lets nobody begin until ").expect(&text);
        assert!(rest.ends_with(" (in 19h 59m)"), "{text}");
    }
    let piped = home.seq(&["status"]).stdout();
    assert!(piped.lines().any(|line| line.contains("begin for another 19h 59m, until 20")), "{piped}");
    assert!(piped.starts_with(&format!("{DOMAIN}: nobody waits")), "{piped}");
}

#[test]
fn on_forty_columns_each_column_that_is_left_says_something() {
    let home = Home::new();
    let gate = home.gate("gate");
    quietly(&home, &["run", "-d", "foo.com", "--", "sleep", "0.3"]);
    let first = home.hold("foo.com", "a", "gate");
    let second = home.queue("foo.com", "b", 1);
    for subcommand in ["status", "info", "log"] {
        let lines = shown(&home, subcommand, 40);
        let text = lines.join("\n");
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{text}");
        assert!(!text.contains("……"), "{text}");
    }
    let text = shown(&home, "status", 40).join("\n");
    assert!(text.contains("COMMAND") && text.contains("./worker") && !text.contains("ABOUT"), "{text}");
    let info = shown(&home, "info", 40).concat().replace(' ', "");
    assert!(info.contains(home.socket().to_str().expect("UTF-8")), "nothing is lost: {info}");
    gate.open();
    for running in [first, second] {
        running.wait().is_silent(0);
    }
}

#[test]
fn who_was_stopped_is_shown_with_the_way_to_let_it_go_on() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = home.hold("foo.com", "a", "gate");
    let second = home.queue("foo.com", "b", 1);
    second.signal(Signal::STOP);
    home.await_fact("it is stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", second.pid())).ok()?;
        stat.contains(") T ").then_some(())
    });
    gate.open();
    first.wait().is_silent(0);
    let pid = second.pid();
    home.await_holder("foo.com", "attached");
    let shown = home.seq(&["status"]).stdout();
    assert!(shown.lines().any(|line| line.trim_start().starts_with("suspended")), "{shown}");
    assert!(
        shown.ends_with(&format!("  ticket 2: pid {pid} is suspended, 'kill -CONT {pid}' lets it go on\n")),
        "{shown}"
    );
    let waiting = home.start(&["run", "-d", "foo.com", "-v", "--", "true"]);
    home.await_fact("it says so", || {
        let said = waiting.stderr_so_far();
        said.contains(&format!("is suspended: 'kill -CONT {pid}' lets it go on")).then_some(())
    });
    second.signal(Signal::CONT);
    second.wait().is_silent(0);
    assert_eq!(waiting.wait().status.code(), Some(0));
}

#[test]
fn what_is_left_of_a_lease_is_not_guessed_by_past_runs() {
    let home = Home::new();
    quietly(&home, &["run", "-d", "foo.com", "--", "true"]);
    quietly(&home, &["sequence", "-d", "foo.com", "--lease", "1h"]);
    let waiter = home.start(&["run", "-d", "foo.com", "--", "true"]);
    home.await_waiters("foo.com", 1);
    let status = home.wire().ask(&json!({"op": "status", "domain": "foo.com"})).expect("an answer");
    let line = &status["domains"][0];
    for ticket in [&line["holders"][0], &line["waiters"][0]] {
        let left = ticket["left_ms"].as_u64().expect("a number");
        assert!((3_500_000..=3_600_000).contains(&left), "{status}");
    }
    quietly(&home, &["done", "--ticket", &line["holders"][0]["ticket"].to_string()]);
    waiter.wait().is_silent(0);
}

#[test]
fn a_stopped_seq_whose_command_has_ended_is_shown_too() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a", "gate");
    let seq = holder.pid();
    let command = home.await_fact("seq has named its command", || {
        let pid = home.await_holder("foo.com", "attached")["pid"].to_string();
        (pid != seq.to_string()).then_some(pid)
    });
    holder.signal(Signal::STOP);
    let state = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    home.await_fact("seq is stopped", || state(&seq.to_string()).contains(") T ").then_some(()));
    gate.open();
    home.await_fact("the command has ended", || state(&command).contains(") Z ").then_some(()));
    let shown = home.seq(&["status"]).stdout();
    assert!(
        shown.ends_with(&format!("  ticket 1: pid {seq} is suspended, 'kill -CONT {seq}' lets it go on\n")),
        "{shown}"
    );
    holder.signal(Signal::CONT);
    holder.wait().is_silent(0);
}

#[test]
fn the_policy_of_an_idle_domain_is_shown() {
    let home = Home::new();
    quietly(&home, &["policy", "set", "foo.*", "--concurrency", "3", "--max-queue", "9"]);
    for was_used in [false, true] {
        let said = "foo.com is idle\n  policy: concurrency 3, max-queue 9\n";
        home.seq(&["status", "-d", "foo.com"]).says(0, said, "");
        let status: serde_json::Value =
            serde_json::from_str(&home.seq(&["status", "-d", "foo.com", "--json"]).stdout()).expect("JSON");
        assert_eq!(status["domains"][0]["policy"], json!({"concurrency": 3, "max_queue": 9}), "{status}");
        assert_eq!(status["domains"][0]["holders"], json!([]), "{status}");
        if !was_used {
            quietly(&home, &["run", "-d", "foo.com", "--", "true"]);
            quietly(&home, &["run", "-d", "bar.com", "--", "true"]);
        }
    }
    home.seq(&["status", "-d", "bar.com"]).says(0, "bar.com is idle\n", "");
    home.seq(&["status", "-d", "bar.com", "--json"]).says(0, "{\"domains\":[]}\n", "");
    home.seq(&["status"]).says(0, "nothing has a turn, and nothing waits\n", "");
}

#[test]
fn a_shell_that_has_its_turn_for_too_long_is_shown_with_the_way_to_take_it() {
    let home = Home::new();
    quietly(&home, &["policy", "set", "foo.com", "--max-run", "1ms"]);
    let gate = home.gate("gate");
    let shell = home.launch(home.command("sh").args(["-c", "\"$SEQ\" sequence -d foo.com; read -r line <gate"]));
    home.await_status("foo.com", "it is over", |line| line["holders"][0]["is_over"] == true);
    let shown = home.seq(&["status"]).stdout();
    assert!(
        shown.ends_with(
            "  ticket 1 has its turn for too long, but no seq is there to stop what works;\n  \
             'seq release 1' takes the turn away, what works goes on\n"
        ),
        "{shown}"
    );
    gate.open();
    shell.wait().is_silent(0);
}

#[test]
fn what_is_set_and_who_rests_is_told_when_the_daemon_is_gone_as_well() {
    let home = Home::new();
    quietly(&home, &["policy", "set", "foo.com", "--min-interval", "1h"]);
    quietly(&home, &["policy", "set", "bar.*", "--concurrency", "3"]);
    quietly(&home, &["run", "-d", "foo.com", "--", "true"]);
    let leave_by: [&dyn Fn(); 2] = [&|| home.kill_daemon(), &|| quietly(&home, &["stop"])];
    for leave in leave_by {
        leave();
        home.seq(&["status", "-d", "bar.com"]).says(0, "bar.com is idle\n  policy: concurrency 3\n", "");
        for words in [&["status"][..], &["status", "-d", "foo.com"]] {
            leave();
            let shown = home.seq(words).stdout();
            let said = "\n  policy: min-interval 1h\n  its min-interval lets nobody begin for another 59m";
            assert!(shown.starts_with("foo.com: nobody waits") && shown.contains(said), "{shown}");
            leave();
            let status: serde_json::Value =
                serde_json::from_str(&home.seq(&[words, &["--json"]].concat()).stdout()).expect("JSON");
            assert_eq!(status["domains"][0]["rest"]["waits_for"], "min_interval", "{status}");
        }
    }
}

#[test]
fn what_only_a_file_says_is_told_when_no_daemon_was_there_yet() {
    let home = Home::new();
    std::fs::create_dir_all(home.file(".config/seq")).expect("a directory");
    std::fs::write(home.file(".config/seq/seqd.toml"), "[policy.\"foo.*\"]\nmax-queue = 2\n").expect("a file");
    home.seq(&["status", "-d", "foo.com"]).says(0, "foo.com is idle\n  policy: max-queue 2\n", "");
}

#[test]
fn no_daemon_is_started_for_a_status_where_nothing_is_set() {
    let home = Home::new();
    home.seq(&["status", "-d", "foo.com"]).says(0, "foo.com is idle\n", "");
    quietly(&home, &["policy", "set", "foo.com", "--cooldown", "1h"]);
    quietly(&home, &["run", "-d", "foo.com", "--", "true"]);
    quietly(&home, &["policy", "unset", "foo.com"]);
    for is_stopped in [false, true] {
        if is_stopped {
            home.warm();
            quietly(&home, &["stop"]);
        } else {
            home.kill_daemon();
        }
        home.seq(&["status", "-d", "foo.com"]).says(0, "foo.com is idle\n", "");
        home.seq(&["status"]).says(0, "nothing has a turn, and nothing waits\n", "");
        assert!(home.daemons().is_empty(), "none is started for nothing");
    }
}

#[test]
fn what_the_first_waits_for_in_its_other_domain_is_told_as_in_a_domain_alone() {
    let home = Home::new();
    quietly(&home, &["policy", "set", "m?", "--concurrency", "2"]);
    quietly(&home, &["policy", "set", "m2", "--cooldown", "1h"]);
    let gate = home.gate("gate");
    let in_m2 = |take: &str| home.start(&["run", "-d", "m2", "--take", take, "--", "./worker", "a", "gate"]);
    let waits = |words: &str, told: serde_json::Value| {
        home.await_status("m1", "why the 1st waits", |line| line["head"]["line_waits_for"] == told);
        let shown = home.seq(&["status", "-d", "m1"]).stdout();
        assert!(
            shown.lines().any(|line| line.starts_with(&format!("  the 1st waits for m2, too: {words}"))),
            "{shown}"
        );
    };
    let first = in_m2("1");
    home.await_line("start a");
    let mut both = vec![home.start(&["run", "-d", "m1", "-d", "m2", "--take", "2", "--", "true"])];
    waits("not enough slots are free there at once", json!("slots"));
    gate.open();
    first.wait().is_silent(0);
    waits("its cooldown lets nobody begin for another 59m", json!("cooldown"));
    let head = home.await_status("m1", "its head", |line| line["head"]["line"] == "m2")["head"].clone();
    assert_eq!(head["waits_for"], "line", "{head}");
    assert!(head["left_ms"].as_u64().is_some_and(|left| left > 3_500_000) && head["until"].is_string(), "{head}");
    quietly(&home, &["pause", "m2"]);
    waits("it is paused", json!("resume"));
    both.push(home.start(&["run", "-d", "m3", "-d", "m2", "--", "true"]));
    home.await_waiters("m2", 2);
    let shown = home.seq(&["status", "-d", "m3"]).stdout();
    assert!(shown.ends_with("  the 1st waits for m2, too: others are ahead of it there\n"), "{shown}");
    quietly(&home, &["policy", "unset", "m2"]);
    quietly(&home, &["resume", "m2"]);
    for running in both {
        running.wait().is_silent(0);
    }
}
