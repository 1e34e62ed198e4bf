//! `seq key list`, `show` and `forget`.

use serde_json::Value;

use crate::support::{DOMAIN, Gate, Home, Running, seqd_program};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Three keys: one that is done, one that runs, one that waits; and two of another domain.
fn with_some() -> (Home, Gate, Vec<Running>) {
    let home = Home::new();
    let gate = home.gate("gate");
    home.once("done", &["--keep-failures"], &["sh", "-c", "exit 3"]).wait().is_silent(3);
    for key in ["done", "other"] {
        home.seq(&["run", "-d", "bar.org", "--key", key, "--", "true"]).is_silent(0);
    }
    let running = home.once("runs", &[], &["./worker", "a", "gate"]);
    home.await_line("start a");
    let waiting = home.once("waits", &[], &["./worker", "b"]);
    home.await_key_state("waits", "reserved");
    (home, gate, vec![running, waiting])
}

#[test]
fn where_there_are_none_that_is_what_is_said() {
    let home = Home::new();
    home.warm();
    home.seq(&["key", "list"]).says(0, "no keys are in use or remembered\n", "");
    home.seq(&["key", "list", "--json"]).is_silent(0);
    home.seq(&["key", "show", "k"]).says(1, "", "seq: there is no key k: see 'seq key list'\n");
    home.seq(&["key", "show", "k", "-d", "foo.com"]).says(
        1,
        "",
        "seq: there is no key k in foo.com: see 'seq key list'\n",
    );
    home.seq(&["key", "forget", "k"]).says(1, "", "seq: there is no key k\n");
    home.seq(&["key", "forget", "k", "-d", "foo.com"]).says(1, "", "seq: there is no key k in foo.com\n");
    home.seq(&["key", "forget", " "]).complains_of_usage(2, "the key is empty");
}

#[test]
fn a_list_is_a_table_by_domain_and_key() {
    let (home, _gate, _running) = with_some();
    let table = home.seq(&["key", "list"]).stdout();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows[0],
        ["DOMAIN", "KEY", "STATE", "SINCE", "UNTIL"],
        "what is the same in each row is left out: {table}"
    );
    let firsts: Vec<(&str, &str, &str)> = rows[1..].iter().map(|row| (row[0], row[1], row[2])).collect();
    assert_eq!(
        firsts,
        [
            ("bar.org", "done", "completed,"),
            ("bar.org", "other", "completed,"),
            ("foo.com", "done", "completed,"),
            ("foo.com", "runs", "running,"),
            ("foo.com", "waits", "reserved,"),
        ],
        "{table}"
    );
    let of_one = home.seq(&["key", "list", "-d", "bar.org"]).stdout();
    let rows: Vec<&str> = of_one.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(rows, ["KEY", "done", "other"]);
    let few = home.seq(&["key", "list", "-n", "2"]).stdout();
    assert_eq!((few.lines().count(), few.lines().last()), (4, Some("and 3 more")), "{few}");
    home.once("done", &[], &["true"]).wait().complains(65, "key done was used for another command");
    let table = home.seq(&["key", "list", "-d", DOMAIN]).stdout();
    let row = table.lines().find(|line| line.starts_with("done")).unwrap();
    assert!(table.lines().next().unwrap().ends_with("CONFLICTS") && row.ends_with(" 1"), "{table}");
}

#[test]
fn json_is_one_object_a_line() {
    let (home, _gate, _running) = with_some();
    let all = lines(&home.seq(&["key", "list", "--json"]).stdout());
    let states: Vec<(&str, &str)> =
        all.iter().map(|key| (key["key"].as_str().unwrap(), key["state"].as_str().unwrap())).collect();
    assert_eq!(
        states,
        [
            ("done", "completed"),
            ("other", "completed"),
            ("done", "completed"),
            ("runs", "running"),
            ("waits", "reserved")
        ]
    );
    let done = &all[2];
    assert_eq!((&done["exit_status"], &done["ticket"], &done["keep_failures"]), (&3.into(), &1.into(), &true.into()));
    for field in ["id", "fingerprint", "reserved_at", "started_at", "ended_at", "expires_at", "token", "pid", "uid"] {
        assert!(!done[field].is_null(), "{field} in {done}");
    }
    assert!(all[4]["token"].is_null() && all[4]["expires_at"].is_null(), "{}", all[4]);
    assert_eq!(lines(&home.seq(&["key", "list", "--json", "-d", "bar.org"]).stdout()).len(), 2);
    assert_eq!(lines(&home.seq(&["key", "show", "done", "--json"]).stdout()).len(), 2);
}

#[test]
fn show_tells_all_that_is_recorded() {
    let home = Home::new();
    home.once("k", &["--keep-failures", "--replay", "--key-ttl", "90m"], &["sh", "-c", "exit 3"]).wait().is_silent(3);
    home.once("k", &[], &["true"]).wait().complains(65, "another command");
    let key = home.key("k");
    let shown = home.seq(&["key", "show", "k"]);
    assert_eq!((shown.status.code(), shown.stderr().as_str()), (Some(0), ""));
    let facts: Vec<(String, String)> =
        shown.stdout().lines().map(|line| (line[..12].trim_end().to_owned(), line[13..].to_owned())).collect();
    let names: Vec<&str> = facts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "key",
            "domain",
            "user",
            "state",
            "ticket",
            "token",
            "pid",
            "reserved",
            "started",
            "ended",
            "expires",
            "ttl",
            "failures",
            "output",
            "fingerprint",
            "conflicts",
            "",
            "record"
        ]
    );
    let value = |name: &str| facts.iter().find(|(known, _)| known == name).unwrap().1.clone();
    assert_eq!(value("state"), "completed, status 3");
    assert_eq!(
        (value("ttl").as_str(), value("failures").as_str(), value("output").as_str()),
        ("1h 30m", "are kept", "is recorded")
    );
    assert_eq!((value("conflicts").as_str(), value("")), ("1", key["conflicting"][0].as_str().unwrap().to_owned()));
    assert_eq!(value("record"), key["id"].as_str().unwrap());
    assert_eq!(value("fingerprint"), key["fingerprint"].as_str().unwrap());
}

#[test]
fn conflicts_are_all_counted_and_the_last_16_kept() {
    let home = Home::new();
    home.once("k", &[], &["true"]).wait().is_silent(0);
    for number in 0..20 {
        let ended = home.once("k", &["--fingerprint", &number.to_string()], &["true"]).wait();
        assert_eq!(ended.status.code(), Some(65));
    }
    let key = home.key("k");
    assert_eq!((&key["conflicts"], key["conflicting"].as_array().map(Vec::len)), (&20.into(), Some(16)));
    home.kill_daemon();
    home.warm();
    assert_eq!(home.key("k")["conflicts"], 20);
}

#[test]
fn forget_wants_one_key_that_is_over() {
    let (home, _gate, running) = with_some();
    home.seq(&["key", "forget", "done"]).says(
        1,
        "",
        "seq: there are several keys done, in bar.org, foo.com: name the domain\n",
    );
    home.seq(&["key", "forget", "done", "-d", "bar.org"]).is_silent(0);
    home.seq(&["key", "forget", "done"]).is_silent(0);
    home.once("done", &[], &["echo", "ran"]).kill();
    home.seq(&["key", "forget", "runs"])
        .complains(1, "key runs is in use: end ticket 4 first, with `seq cancel 4` or ");
    home.seq(&["key", "forget", "waits"])
        .complains(1, "key waits is in use: end ticket 5 first, with `seq cancel 5` or ");
    assert_eq!(home.seq(&["key", "list", "--json", "-d", "bar.org"]).stdout().lines().count(), 1);
    drop(running);
}

#[test]
fn what_a_terminal_would_obey_is_not_shown_as_it_is() {
    let home = Home::new();
    let key = "a\u{1b}[31mb";
    home.once(key, &["--keep-failures"], &["false"]).wait().is_silent(1);
    let conflict = home.once(key, &[], &["true"]).wait();
    conflict.complains(65, "key a\\u{1b}[31mb was used for another command");
    for arguments in [
        &["key", "list"][..],
        &["key", "show", key],
        &["key", "forget", key, "-d", "x"],
        &["key", "show", key, "-d", "x"],
    ] {
        let ended = home.seq(arguments);
        assert!(!ended.stdout.contains(&0x1b) && !ended.stderr.contains(&0x1b), "{}{}", ended.stdout(), ended.stderr());
    }
}

#[test]
fn in_memory_keys_last_as_long_as_the_daemon() {
    let home = Home::new();
    let mut daemon = home.command(seqd_program());
    daemon.args(["--in-memory", "--detach", "--socket"]).arg(home.socket());
    assert!(home.finish(&mut daemon).stdout().starts_with("ready"));
    home.once("k", &[], &["echo", "ran"]).wait().says(0, "ran\n", "");
    home.once("k", &["-q"], &["echo", "ran"]).wait().is_silent(0);
    let gate = home.gate("gate");
    let first = home.once("l", &[], &["./worker", "a", "gate"]);
    home.await_line("start a");
    let second = home.once("l", &[], &["./worker", "a", "gate"]);
    home.await_followers("l", 1);
    gate.open();
    first.wait().is_silent(0);
    second.wait().is_silent(0);
    assert_eq!(home.log(), ["start a", "end a"]);
    home.seq(&["stop"]).is_silent(0);
    home.once("k", &[], &["echo", "ran"]).wait().says(0, "ran\n", "");
}
