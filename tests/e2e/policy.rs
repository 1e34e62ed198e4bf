//! Policies of domains: set by hand and in the config file, what they do, and that they outlive every daemon.

use std::fs;

use crate::support::{Home, Running};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Runs `seq` with these words, which must be silent and go well.
#[track_caller]
fn quietly(home: &Home, words: &str) {
    home.seq(&words.split(' ').collect::<Vec<_>>()).is_silent(0);
}

/// What `seq policy show` says of a domain, as JSON.
#[track_caller]
fn shown(home: &Home, domain: &str) -> Value {
    let ended = home.seq(&["policy", "show", domain, "--json"]);
    assert_eq!((ended.status.code(), ended.stderr()), (Some(0), String::new()));
    serde_json::from_slice(&ended.stdout).expect("JSON")
}

/// Starts a worker and waits until it has its turn.
#[track_caller]
fn hold_with(home: &Home, words: &[&str], name: &str) -> Running {
    let running = home.start(&[&["run", "-d", "foo.com"], words, &["--", "./worker", name, "gate"]].concat());
    home.await_line(&format!("start {name}"));
    running
}

fn write_config(home: &Home, text: &str) {
    fs::create_dir_all(home.file(".config/seq")).expect("a directory");
    fs::write(home.file(".config/seq/seqd.toml"), text).expect("a file");
}

/// Makes the daemon read its config file, and waits until it has done so.
#[track_caller]
fn reload(home: &Home, is_so: impl Fn(&Value) -> bool) -> Value {
    assert!(home.daemon().signal(Signal::HUP));
    home.await_fact("what the config file says", || {
        let mut wire = home.wire();
        let answer = wire.ask(&json!({"op": "policy_show"}))?;
        is_so(&answer).then_some(answer)
    })
}

#[test]
fn values_are_set_one_by_one_and_shown_with_where_they_come_from() {
    let home = Home::new();
    quietly(&home, "policy set deploy/* --concurrency 3 --max-run 1h");
    quietly(&home, "policy set Deploy/Web. --max-queue 5");
    quietly(&home, "policy set deploy/web --rate 10/1m --min-interval 1.5 --cooldown 2s --default-max-wait 10m");
    let table = "VALUE                    FROM\n\
        concurrency       3      deploy/* (set)\n\
        max-queue         5      deploy/web (set)\n\
        min-interval      1.5s   deploy/web (set)\n\
        cooldown          2s     deploy/web (set)\n\
        rate              10/1m  deploy/web (set)\n\
        max-run           1h     deploy/* (set)\n\
        default-max-wait  10m    deploy/web (set)\n";
    home.seq(&["policy", "show", "deploy/web"]).says(0, table, "");
    let web = shown(&home, "deploy/web");
    assert_eq!(
        web["policy"],
        json!({"concurrency": 3, "max_queue": 5, "min_interval_ms": 1500, "cooldown_ms": 2000,
            "rate": {"starts": 10, "per_ms": 60_000}, "max_run_ms": 3_600_000, "default_max_wait_ms": 600_000})
    );
    let all = "PATTERN     POLICY                                                                                FROM\n\
        deploy/web  max-queue 5, min-interval 1.5s, cooldown 2s, rate 10/1m, default-max-wait 10m  (set)\n\
        deploy/*    concurrency 3, max-run 1h                                                      (set)\n";
    let found = home.seq(&["policy", "show"]).stdout();
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeezed(&found), squeezed(all));
    quietly(&home, "policy unset deploy/web");
    assert_eq!(shown(&home, "deploy/web")["policy"], json!({"concurrency": 3, "max_run_ms": 3_600_000}));
    let words = "seq: no policy is set for deploy/web: see 'seq policy show'\n";
    home.seq(&["policy", "unset", "deploy/web"]).says(1, "", words);
    home.seq(&["policy", "show", "foo.com"]).says(
        0,
        "foo.com has no policy: one turn at a time, in order of arrival\n",
        "",
    );
}

#[test]
fn a_policy_that_cannot_be_is_refused_with_a_sentence() {
    let home = Home::new();
    let refused = |words: &str, sentence: &str| {
        let ended = home.seq(&words.split(' ').collect::<Vec<_>>());
        assert_eq!(ended.status.code(), Some(2), "{words}");
        assert!(ended.stderr().contains(sentence), "{words}: {}", ended.stderr());
    };
    refused("policy set foo.com", "something is missing: add <--concurrency <N>|--max-queue <N>|");
    refused("policy set foo.com --concurrency 0", "concurrency must be at least 1");
    refused("policy set foo.com --rate often", "'often' is not a rate: write how many starts in how long");
    refused("policy set foo.com --rate 0/1m", "the rate must be at least one start");
    refused("pause deploy/*", "a pause is for one domain, and deploy/* is a pattern: pause each by its name");
    refused("policy set foo.com --concurrency -1", "'-1' is no number of slots: give one from 1 to 65536");
    refused("policy set foo.com --concurrency 70000", "'70000' is no number of slots: give one from 1 to 65536");
    refused("policy set foo.com --concurrency none", "'none' is no number of slots");
    refused("policy set foo.com --max-queue -1", "'-1' is no number of waiters: give 0 or more, or none");
    refused("policy set foo.com --max-run -1", "'-1' is not a duration");
    refused("policy set foo.com --rate -1/1m", "'-1/1m' is not a rate: write how many starts in how long");
    refused("sequence -d foo.com --priority x", "'x' is no priority: give a number from -100 to 100");
    refused("sequence -d foo.com --priority 101", "'101' is no priority: give a number from -100 to 100");
    refused("sequence -d foo.com --take 70000", "'70000' is no number of slots: give one from 1 to 65536");
    refused("sequence -d foo.com --take 0", "nobody can take no slot");
    let long = "x".repeat(1025);
    refused(&format!("pause foo.com --reason {long}"), "a reason of 1025 bytes is too long: use at most 1024");
    assert!(home.daemons().is_empty(), "no daemon is needed to see that");
}

#[test]
fn a_value_can_be_none_against_a_broader_pattern() {
    let home = Home::new();
    write_config(
        &home,
        "[policy.\"*\"]\nmax-run = \"1h\"\ncooldown = 5\n\n[policy.\"deploy/*\"]\ncooldown = \"none\"\n",
    );
    let config = home.file(".config/seq/seqd.toml").display().to_string();
    quietly(&home, "policy set * --max-queue 5 --rate 10/1m --min-interval 1s --default-max-wait 1m");
    quietly(&home, "policy set deploy/web --max-queue none --rate None --min-interval none --default-max-wait none");
    quietly(&home, "policy set deploy/web --max-run 0");
    let table = home.seq(&["policy", "show", "deploy/web"]).stdout();
    let expected = [
        "max-queue         none  deploy/web (set)",
        "min-interval      none  deploy/web (set)",
        &format!("cooldown          none  deploy/* ({config}:5)"),
        "rate              none  deploy/web (set)",
        "max-run           none  deploy/web (set)",
        "default-max-wait  none  deploy/web (set)",
    ];
    assert_eq!(table.lines().skip(1).collect::<Vec<_>>(), expected);
    home.kill_daemon();
    let none = ["max-queue", "min-interval", "cooldown", "rate", "max-run", "default-max-wait"];
    assert_eq!(shown(&home, "deploy/web")["policy"], json!({ "none": none }));
    quietly(&home, "policy set deploy/web --max-queue 7");
    assert_eq!(shown(&home, "deploy/web")["policy"]["max_queue"], 7);
    quietly(&home, "policy unset deploy/web");
    assert_eq!(shown(&home, "deploy/web")["policy"]["max_queue"], 5);
}

#[test]
fn a_reason_stays_until_another_is_given_and_the_empty_one_removes_it() {
    let home = Home::new();
    let status = |home: &Home| home.wire().ask(&json!({"op": "status", "domain": "foo.com"})).expect("an answer");
    let reason = || status(&home)["domains"][0]["paused"]["reason"].clone();
    home.seq(&["pause", "foo.com", "--reason", "new disk"]).is_silent(0);
    quietly(&home, "pause foo.com");
    assert_eq!(reason(), "new disk");
    home.seq(&["pause", "foo.com", "--reason", "old disk"]).is_silent(0);
    assert_eq!(reason(), "old disk");
    home.seq(&["pause", "foo.com", "--reason", ""]).is_silent(0);
    assert_eq!(reason(), Value::Null);
    home.kill_daemon();
    let after = home.seq(&["status", "-d", "foo.com"]).stdout();
    assert!(after.contains("  paused by ") && after.contains("Z;") || after.contains("00;"), "{after}");
    let refused = home.wire().ask(&json!({"op": "pause", "domain": "foo.com", "reason": "x".repeat(1025)}));
    assert_eq!(refused.expect("an answer")["message"], "a reason of 1025 bytes is too long: use at most 1024");
}

#[test]
fn policies_and_pauses_outlive_the_daemon() {
    let home = Home::new();
    quietly(&home, "policy set foo.com --concurrency 2");
    quietly(&home, "policy set gone --concurrency 2");
    quietly(&home, "policy unset gone");
    home.seq(&["pause", "foo.com", "--reason", "new disk"]).is_silent(0);
    quietly(&home, "pause gone");
    quietly(&home, "resume gone");
    home.kill_daemon();
    let status = home.seq(&["status"]);
    assert_eq!((status.status.code(), status.stderr()), (Some(0), String::new()));
    let text = status.stdout();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["foo.com: nobody waits", "  policy: concurrency 2"]);
    assert!(lines[2].starts_with("  paused by ") && lines[2].ends_with(": new disk;"), "{text}");
    assert_eq!(lines[3..], ["  'seq resume foo.com' lets turns begin again"]);
    assert_eq!(shown(&home, "foo.com")["policy"], json!({"concurrency": 2}));
    assert_eq!(shown(&home, "gone")["policy"], json!({}));
    quietly(&home, "run -d gone -- true");
}

#[test]
fn a_paused_domain_gives_out_no_turns_and_those_running_end_in_peace() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a", "gate");
    home.seq(&["pause", "foo.com", "--reason", "new disk"]).is_silent(0);
    let waiter = home.queue("foo.com", "b", 1);
    gate.open();
    holder.wait().is_silent(0);
    let refused = "seq: foo.com is paused (new disk): `seq resume foo.com` lets turns begin again\n";
    home.seq(&["run", "-d", "foo.com", "-n", "--", "true"]).says(75, "", refused);
    let late = home.seq(&["run", "-d", "bar.com", "-d", "foo.com", "-w", "10ms", "--", "true"]);
    late.complains(75, "ms: foo.com is paused (new disk): `seq resume foo.com` lets turns begin again\n");
    home.kill_daemon();
    home.await_waiters("foo.com", 1);
    assert_eq!(home.log(), ["start a", "end a"]);
    quietly(&home, "resume foo.com");
    waiter.wait().is_silent(0);
    quietly(&home, "resume foo.com");
}

#[test]
fn a_named_config_file_goes_on_to_count_wherever_the_next_daemon_starts_and_also_when_it_is_gone() {
    let home = Home::new();
    let directory = home.file("conf");
    fs::create_dir(&directory).expect("a directory");
    fs::write(directory.join("seqd.toml"), "[policy.\"foo.com\"]\ncooldown = \"1h\"\n").expect("a file");
    let mut daemon = home.command(crate::support::seqd_program());
    daemon.args(["--config", "seqd.toml", "--detach", "--socket"]).arg(home.socket()).current_dir(&directory);
    assert!(home.finish(&mut daemon).status.success());
    quietly(&home, "run -d foo.com -- true");
    let is_resting =
        || home.seq(&["run", "-d", "foo.com", "-n", "--", "true"]).complains(75, "its cooldown lets no turn");
    home.kill_daemon();
    is_resting();
    fs::remove_file(directory.join("seqd.toml")).expect("it is there");
    home.kill_daemon();
    is_resting();
    assert!(home.read(".local/state/seq/seqd.log").contains("what it said before goes on to count"));
}

#[test]
fn a_licence_with_three_seats() {
    let home = Home::new();
    let gate = home.gate("gate");
    quietly(&home, "policy set foo.com --concurrency 3");
    let mut seated: Vec<Running> = ["a", "b"].map(|name| hold_with(&home, &[], name)).into();
    // Needs two, and one is free: it waits at the head, and nobody passes it.
    let pair = home.start(&["run", "-d", "foo.com", "--take", "2", "--", "./worker", "pair", "gate"]);
    home.await_waiters("foo.com", 1);
    let last = home.start(&["run", "-d", "foo.com", "--", "./worker", "last", "gate"]);
    home.await_waiters("foo.com", 2);
    let status = home.seq(&["status", "-d", "foo.com"]).stdout();
    assert!(status.contains("    with --take 2\n") && status.contains("until enough slots are free"), "{status}");
    gate.let_one_pass();
    home.await_line("start pair");
    gate.let_one_pass();
    home.await_line("start last");
    gate.open();
    seated.extend([pair, last]);
    for running in seated {
        running.wait().is_silent(0);
    }
    let refused = home.seq(&["run", "-d", "foo.com", "--take", "4", "--", "true"]);
    refused.complains(125, "foo.com has 3 slots, so nobody can take 4: take fewer, or raise its concurrency");
}

#[test]
fn three_turns_at_once_are_taken_over_by_the_next_daemon() {
    let home = Home::new();
    let gate = home.gate("gate");
    quietly(&home, "policy set foo.com --concurrency 3");
    let seated = ["a", "b", "c"].map(|name| hold_with(&home, &[], name));
    home.kill_daemon();
    let fourth = home.queue("foo.com", "d", 1);
    quietly(&home, "policy set foo.com --concurrency 4");
    home.await_line("start d");
    fourth.wait().is_silent(0);
    gate.open();
    for running in seated {
        running.wait().is_silent(0);
    }
}

#[test]
fn a_full_line_refuses_at_once() {
    let home = Home::new();
    let gate = home.gate("gate");
    quietly(&home, "policy set foo.com --max-queue 1");
    let holder = home.hold("foo.com", "a", "gate");
    let waiter = home.queue("foo.com", "b", 1);
    let refused = "seq: the line of foo.com is full: 1 waits already, try again later\n";
    home.seq(&["run", "-d", "foo.com", "--", "true"]).says(75, "", refused);
    gate.open();
    holder.wait().is_silent(0);
    waiter.wait().is_silent(0);
}

#[test]
fn no_command_runs_longer_than_the_domain_lets_it() {
    let home = Home::new();
    let _gate = home.gate("gate");
    quietly(&home, "policy set foo.com --max-run 300ms");
    let stopping = "seq: the command ran longer than 300ms: stopping it\n";
    home.seq(&["run", "-d", "foo.com", "--max-run", "0", "--", "./worker", "a", "gate"]).says(124, "", stopping);
    home.seq(&["run", "-d", "foo.com", "--max-run", "1h", "--", "./worker", "b", "gate"]).says(124, "", stopping);
}

#[test]
fn who_does_not_say_how_long_it_waits_waits_as_long_as_the_domain_says() {
    let home = Home::new();
    let gate = home.gate("gate");
    quietly(&home, "policy set foo.com --default-max-wait 100ms");
    let holder = home.hold("foo.com", "a", "gate");
    home.seq(&["run", "-d", "foo.com", "--", "true"]).complains(75, "no turn in foo.com after 1");
    home.seq(&["run", "-d", "foo.com", "-w", "1.25", "--", "true"])
        .complains(75, "no turn in foo.com after 1.25s: foo.com is busy: ticket 1 ");
    home.seq(&["sequence", "-d", "foo.com", "-w", "0.0001"]).complains(75, "no turn in foo.com after 1ms: ");
    home.seq(&["wait", "-d", "foo.com", "-w", "0.0001"]).complains(75, "foo.com is not idle after 0.1ms");
    let waiter = home.start(&["run", "-d", "foo.com", "-w", "1h", "--", "./worker", "b"]);
    home.await_waiters("foo.com", 1);
    gate.open();
    holder.wait().is_silent(0);
    waiter.wait().is_silent(0);
}

#[test]
fn the_config_file_is_read_at_the_start_and_at_sighup() {
    let home = Home::new();
    write_config(&home, "# ours\n[policy.\"deploy/*\"]\nconcurrency = 3\n\n[policy.\"deploy/web\"]\nmax-queue = 1\n");
    let config = home.file(".config/seq/seqd.toml").display().to_string();
    quietly(&home, "policy set deploy/web --max-run 1h");
    let table = home.seq(&["policy", "show", "deploy/web"]).stdout();
    let expected = [
        format!("concurrency  3   deploy/* ({config}:2)"),
        format!("max-queue    1   deploy/web ({config}:5)"),
        "max-run      1h  deploy/web (set)".to_owned(),
    ];
    assert_eq!(table.lines().skip(1).collect::<Vec<_>>(), expected);
    write_config(&home, "[policy.\"deploy/*\"]\nconcurrency = 4\n");
    reload(&home, |answer| answer["policies"][1]["policy"]["concurrency"] == 4);
    assert_eq!(shown(&home, "deploy/web")["policy"], json!({"concurrency": 4, "max_run_ms": 3_600_000}));
    fs::remove_file(&config).expect("a file");
    reload(&home, |answer| answer["policies"].as_array().is_some_and(|all| all.len() == 1));
}

#[test]
fn a_mistake_in_the_config_file_is_told_with_its_place_and_keeps_the_old_policy() {
    let home = Home::new();
    let config = home.file(".config/seq/seqd.toml").display().to_string();
    let mistake = format!("{config}:2:1: a policy has no 'concurency': use concurrency, max-queue");
    write_config(&home, "[policy.\"foo.com\"]\nconcurency = 3\n");
    // Nothing is known of earlier, and what was meant may be what keeps others safe.
    home.seq(&["run", "-d", "foo.com", "--", "true"]).complains(125, &mistake);
    write_config(&home, "[policy.\"foo.com\"]\nconcurrency = 3\n");
    home.warm();
    write_config(&home, "[policy.\"foo.com\"]\nconcurency = 5\n");
    let answer = reload(&home, |answer| !answer["mistake"].is_null());
    assert!(answer["mistake"].as_str().is_some_and(|found| found.starts_with(&mistake)), "{answer}");
    assert_eq!(shown(&home, "foo.com")["policy"], json!({"concurrency": 3}));
    let text = home.seq(&["policy", "show"]).stdout();
    assert!(text.lines().last().is_some_and(|line| line.starts_with(&mistake)), "{text}");
    assert!(home.read(".local/state/seq/seqd.log").contains(&mistake), "the log has it");
    home.kill_daemon();
    assert_eq!(shown(&home, "foo.com")["policy"], json!({"concurrency": 3}), "the next daemon goes on with it");
}

#[test]
fn policies_and_pauses_complete_what_there_is() {
    let home = Home::new();
    quietly(&home, "policy set deploy/* --concurrency 2");
    quietly(&home, "pause mine");
    let complete = |words: &[&str]| {
        let mut command = home.seq_command(&[&["--"], words].concat());
        let index = (words.len() - 1).to_string();
        command.env("SEQ_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index);
        command.envs([("_CLAP_IFS", "\n"), ("_CLAP_COMPLETE_COMP_TYPE", "9"), ("_CLAP_COMPLETE_SPACE", "true")]);
        home.finish(&mut command).stdout().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["seq", "policy", "unset", "de"]), ["deploy/*"]);
    assert_eq!(complete(&["seq", "resume", "m"]), ["mine"]);
}

#[test]
fn a_daemon_that_a_client_starts_goes_on_with_the_config_file_of_the_last_one() {
    let home = Home::new();
    fs::write(home.file("ours.toml"), "[policy.\"foo.com\"]\nconcurrency = 3\n").expect("a file");
    let config = home.file("ours.toml").display().to_string();
    let mut daemon = home.command(crate::support::seqd_program());
    let started = home.finish(daemon.args(["--detach", "--config", &config]));
    assert!(started.stdout().starts_with("ready"), "{}", started.stdout());
    assert_eq!(shown(&home, "foo.com")["config"], config);
    home.kill_daemon();
    assert_eq!(shown(&home, "foo.com")["policy"], json!({"concurrency": 3}));
    assert_eq!(home.seq(&["restart"]).status.code(), Some(0));
    assert_eq!(shown(&home, "foo.com")["policy"], json!({"concurrency": 3}));
}

#[test]
fn the_config_file_that_was_named_last_is_gone_on_with_whatever_it_says() {
    let home = Home::new();
    let text = "[policy.\"foo.com\"]\nconcurrency = 3\n";
    // The second says the same as the first, and the third nothing.
    for (name, text) in [("one.toml", text), ("two.toml", text), ("three.toml", ""), ("four.toml", text)] {
        fs::write(home.file(name), text).expect("a file");
        let config = home.file(name).display().to_string();
        let mut daemon = home.command(crate::support::seqd_program());
        let started = home.finish(daemon.args(["--detach", "--config", &config]));
        assert!(started.stdout().starts_with("ready"), "{}", started.stdout());
        for _ in 0..2 {
            home.kill_daemon();
            // A client starts the next one.
            assert_eq!(shown(&home, "foo.com")["config"], config);
        }
        home.kill_daemon();
    }
}
