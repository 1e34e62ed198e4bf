//! What is asked for with a key, and what is said where it is done, or is another command's.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::process::geteuid;
use serde_json::json;

use crate::support::{Ended, Home, Terminal, without_age};

/// Ended with 0, without running, and said so.
#[track_caller]
fn is_already_done(ended: &Ended) {
    let words = "seq: foo.com: already done some time ago, status 0\n";
    assert_eq!(
        (ended.status.code(), ended.stdout(), without_age(&ended.stderr())),
        (Some(0), String::new(), words.into())
    );
}

/// Not run, for the key is another command's.
#[track_caller]
fn is_conflict(ended: &Ended, key: &str, ticket: u64) {
    let words = format!(
        "seq: key {key} was used for another command, by ticket {ticket}: use another key, or see `seq key show`\n"
    );
    ended.says(65, "", &words);
}

#[test]
fn a_second_use_runs_nothing_and_says_so_in_one_line() {
    let home = Home::new();
    home.once("k", &[], &["sh", "-c", "echo out; echo err >&2"]).wait().says(0, "out\n", "err\n");
    let record = home.key("k");
    is_already_done(&home.once("k", &[], &["sh", "-c", "echo out; echo err >&2"]).wait());
    home.once("k", &["-q"], &["sh", "-c", "echo out; echo err >&2"]).wait().is_silent(0);
    // It took no place in line: the record is as it was, and the next ticket is the next.
    assert_eq!(home.key("k")["ticket"], record["ticket"]);
    home.seq(&["run", "-d", "bar.org", "--", "sh", "-c", "echo $SEQ_TICKET"]).says(0, "2\n", "");
}

#[test]
fn what_is_done_is_told_though_somebody_has_the_turn() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.once("k", &[], &["true"]).wait().is_silent(0);
    let holder = home.hold("foo.com", "a", "gate");
    is_already_done(&home.once("k", &[], &["true"]).wait());
    is_already_done(&home.once("k", &["--no-wait"], &["true"]).wait());
    home.seq(&["pause", "foo.com"]).is_silent(0);
    is_already_done(&home.once("k", &[], &["true"]).wait());
    gate.open();
    holder.wait().is_silent(0);
}

#[test]
fn who_waits_for_an_outcome_says_so_where_somebody_looks() {
    let told = |options: &[&str], ci: Option<&str>| {
        let home = Home::new();
        let gate = home.gate("gate");
        let first = home.once("k", &[], &["./worker", "a", "gate"]);
        home.await_line("start a");
        let ticket = home.key("k")["ticket"].to_string();
        let arguments = [&["run", "-d", "foo.com", "--key", "k"], options, &["--", "./worker", "a", "gate"]].concat();
        let second = home.launch(home.seq_command(&arguments).envs(ci.map(|ci| ("CI", ci))));
        home.await_followers("k", 1);
        gate.open();
        first.wait().is_silent(0);
        let ended = second.wait();
        assert_eq!((ended.status.code(), ended.stdout().as_str()), (Some(0), ""));
        ended.stderr().replace(&format!("ticket {ticket}"), "ticket N")
    };
    let words = "seq: foo.com: ticket N has the same key: waiting for its outcome\n\
                 seq: foo.com: done by ticket N, status 0\n";
    assert_eq!(told(&[], None), "");
    assert_eq!(told(&["-v"], None), words);
    assert_eq!(told(&[], Some("true")), words);
    assert_eq!(told(&["-q"], Some("true")), "");
}

#[test]
fn at_a_terminal_a_line_says_what_is_waited_for() {
    let home = Home::new();
    let gate = home.gate("gate");
    let first = home.once("k", &[], &["./worker", "a", "gate"]);
    home.await_line("start a");
    let command = home.seq_command(&["run", "-d", "foo.com", "--key", "k", "--", "./worker", "a", "gate"]);
    let mut terminal = Terminal::start(&home, &command, 120);
    terminal.await_text("has the same key: waiting for its outcome");
    gate.open();
    terminal.await_text("done by ticket 1, status 0");
    assert_eq!(terminal.wait().status.code(), Some(0));
    first.wait().is_silent(0);
}

#[test]
fn white_space_around_a_key_does_not_count_and_letters_do() {
    let home = Home::new();
    home.once("  k k\t", &[], &["true"]).wait().is_silent(0);
    is_already_done(&home.once("k k", &[], &["true"]).wait());
    home.once("K k", &[], &["true"]).wait().is_silent(0);
    assert_eq!((home.key("k k")["key"].clone(), home.key("K k")["key"].clone()), (json!("k k"), json!("K k")));
}

#[test]
fn a_key_has_1_to_255_bytes() {
    let home = Home::new();
    for empty in ["", "  ", "\t\n"] {
        let ended = home.once(empty, &[], &["true"]).wait();
        ended.complains_of_usage(125, "the key is empty: give it at least one character");
    }
    let longest = "ä".repeat(127) + "k";
    assert_eq!(longest.len(), 255);
    home.once(&longest, &[], &["true"]).wait().is_silent(0);
    assert_eq!(home.key(&longest)["state"], "completed");
    let ended = home.once(&(longest + "k"), &[], &["true"]).wait();
    ended.complains_of_usage(125, "the key has 256 bytes: use at most 255");
}

#[test]
fn keys_of_different_domains_have_nothing_to_do_with_each_other() {
    let home = Home::new();
    home.once("k", &[], &["true"]).wait().is_silent(0);
    home.seq(&["run", "-d", "bar.org", "--key", "k", "--", "echo", "ran"]).says(0, "ran\n", "");
    // A domain is one however it is spelled.
    is_already_done(&home.seq(&["run", "-d", " FOO.com.", "--key", "k", "--", "true"]));
}

#[test]
fn of_several_domains_the_first_has_the_key() {
    let home = Home::new();
    home.seq(&["run", "-d", "foo.com", "-d", "bar.org", "--key", "k", "--", "true"]).is_silent(0);
    assert_eq!(home.key("k")["domain"], "foo.com");
    is_already_done(&home.seq(&["run", "-d", "foo.com", "-d", "other", "--key", "k", "--", "true"]));
    home.seq(&["run", "-d", "bar.org", "-d", "foo.com", "--key", "k", "--", "echo", "ran"]).says(0, "ran\n", "");
}

#[test]
fn the_record_and_the_fingerprint_can_be_computed_by_anybody() {
    let home = Home::new();
    home.once("k", &[], &["printf", ""]).wait().is_silent(0);
    let record = home.key("k");
    let sum = |parts: &[&str]| {
        let part = |part: &&str| format!("printf '\\0\\0\\0\\0\\0\\0\\0\\{:o}%s' '{part}'; ", part.len());
        let script = format!("{{ {} }} | sha256sum", parts.iter().map(part).collect::<String>());
        home.sh(&script).stdout().split(' ').next().unwrap().to_owned()
    };
    assert_eq!(record["id"], sum(&[&geteuid().as_raw().to_string(), "foo.com", "k"]));
    assert_eq!(record["fingerprint"], sum(&["printf", ""]));
    home.once("text", &["--fingerprint", "it is this"], &["true"]).wait().is_silent(0);
    assert_eq!(home.key("text")["fingerprint"], sum(&["it is this"]));
}

#[test]
fn arguments_that_differ_in_any_byte_are_another_command() {
    let home = Home::new();
    let run = |arguments: &[&[u8]]| {
        let mut command = home.seq_command(&["run", "-d", "foo.com", "--key", "k", "--", "echo"]);
        home.finish(command.args(arguments.iter().map(|bytes| OsStr::from_bytes(bytes))))
    };
    let first = run(&[b"a\xff b", b"c"]);
    assert_eq!((first.status.code(), &first.stdout[..]), (Some(0), &b"a\xff b c\n"[..]));
    is_already_done(&run(&[b"a\xff b", b"c"]));
    let others: [&[&[u8]]; 6] = [
        &[b"a\xfe b", b"c"],
        &[b"a\xff", b"b", b"c"],
        &[b"a\xff b c"],
        &[b"a\xff b", b"c", b""],
        &[b"a\xef\xbf\xbd b", b"c"],
        &[],
    ];
    for other in others {
        is_conflict(&run(other), "k", 1);
    }
    assert_eq!(home.key("k")["conflicts"], 6);
    assert_eq!(home.key("k")["conflicting"].as_array().map(Vec::len), Some(6));
    is_already_done(&run(&[b"a\xff b", b"c"]));
}

#[test]
fn another_command_is_refused_while_the_first_waits_and_runs_too() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let first = home.once("k", &[], &["./worker", "a", "second"]);
    home.await_key_state("k", "reserved");
    is_conflict(&home.once("k", &[], &["./worker", "b"]).wait(), "k", 2);
    let second = home.gate("second");
    gate.open();
    home.await_key_state("k", "running");
    is_conflict(&home.once("k", &["-q"], &["./worker", "b"]).wait(), "k", 2);
    second.open();
    holder.wait().is_silent(0);
    first.wait().is_silent(0);
    is_conflict(&home.once("k", &["-E", "9"], &["./worker", "b"]).wait(), "k", 2);
    assert_eq!(home.log(), ["start holder", "end holder", "start a", "end a"]);
    let record = home.key("k");
    assert_eq!((&record["conflicts"], record["conflicting"].as_array().map(Vec::len)), (&json!(3), Some(1)));
}

#[test]
fn a_text_or_a_file_can_stand_for_the_command() {
    let home = Home::new();
    home.once("k", &["--fingerprint", "v1"], &["echo", "a"]).wait().says(0, "a\n", "");
    is_already_done(&home.once("k", &["--fingerprint", "v1"], &["echo", "another"]).wait());
    is_conflict(&home.once("k", &["--fingerprint", "v2"], &["echo", "a"]).wait(), "k", 1);
    is_conflict(&home.once("k", &[], &["echo", "a"]).wait(), "k", 1);
    let file = home.file("request.json");
    std::fs::write(&file, b"v1").unwrap();
    is_already_done(&home.once("k", &["--fingerprint-file", "request.json"], &["echo"]).wait());
    std::fs::write(&file, b"v1\n\xff").unwrap();
    is_conflict(&home.once("k", &["--fingerprint-file", "request.json"], &["echo"]).wait(), "k", 1);
    let missing = home.once("k", &["--fingerprint-file", "missing"], &["echo"]).wait();
    missing.says(
        125,
        "",
        "seq: cannot read missing: No such file or directory (os error 2): name a file that tells what is run\n",
    );
    let ended = home.once("k", &["--fingerprint", "v1", "--fingerprint-file", "request.json"], &["echo"]).wait();
    assert_eq!(ended.status.code(), Some(125));
    assert!(ended.stderr().contains("cannot be used with"), "{}", ended.stderr());
}

#[test]
fn options_of_keys_want_a_key() {
    let home = Home::new();
    let options: [&[&str]; 6] = [
        &["--key-ttl", "1h"],
        &["--keep-failures"],
        &["--fingerprint", "a"],
        &["--fingerprint-file", "a"],
        &["--replay"],
        &["--retry-unknown"],
    ];
    for option in options {
        let ended = home.seq(&[&["run", "-d", "foo.com"], option, &["--", "true"]].concat());
        ended.complains_of_usage(125, "--key <KEY>");
    }
    for ttl in ["0", "-1s", "0.1ms", "10001d", "soon"] {
        let ended = home.once("k", &["--key-ttl", ttl], &["true"]).wait();
        assert_eq!(ended.status.code(), Some(125), "{ttl}: {}", ended.stderr());
    }
    home.once("k", &["--key-ttl", "10000d"], &["true"]).wait().is_silent(0);
}
