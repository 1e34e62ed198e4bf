//! `--replay`: what the command wrote is written again.

use std::io::Write;

use crate::support::{Home, without_age};

const WORDS: &str = "seq: foo.com: already done some time ago, status 0";

/// Writes to both, in an order that matters, with bytes that are no text.
const WRITER: &[&str] = &["sh", "-c", r"printf 'a\000\377\n'; printf 'b\r\376' >&2; printf c"];

/// What comes back, and what is said behind it.
#[track_caller]
fn replays(home: &Home, options: &[&str], command: &[&str], (stdout, stderr, words): (&[u8], &[u8], &str)) {
    let ended = home.once("k", options, command).wait();
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(0), stdout.len()), "{}", ended.stderr());
    assert!(ended.stdout == stdout);
    assert_eq!(&ended.stderr[..stderr.len().min(ended.stderr.len())], stderr);
    let said = String::from_utf8(ended.stderr[stderr.len()..].to_vec()).unwrap();
    assert_eq!(without_age(&said), words);
}

#[test]
fn both_streams_come_back_to_the_byte() {
    let home = Home::new();
    let first = home.once("k", &["--replay"], WRITER).wait();
    assert_eq!(
        (first.status.code(), &first.stdout[..], &first.stderr[..]),
        (Some(0), &b"a\0\xff\nc"[..], &b"b\r\xfe"[..])
    );
    assert_eq!(home.key("k")["records_output"], true);
    let words = format!("{WORDS}\n");
    replays(&home, &["--replay"], WRITER, (b"a\0\xff\nc", b"b\r\xfe", &words));
    replays(&home, &["--replay", "-q"], WRITER, (b"a\0\xff\nc", b"b\r\xfe", ""));
    replays(&home, &[], WRITER, (b"", b"", &words));
    for _ in 0..2 {
        home.kill_daemon();
        replays(&home, &["--replay"], WRITER, (b"a\0\xff\nc", b"b\r\xfe", &words));
        home.seq(&["stop"]).is_silent(0);
        replays(&home, &["--replay"], WRITER, (b"a\0\xff\nc", b"b\r\xfe", &words));
        assert_eq!(home.seq(&["restart"]).status.code(), Some(0));
        replays(&home, &["--replay"], WRITER, (b"a\0\xff\nc", b"b\r\xfe", &words));
    }
}

#[test]
fn who_waits_for_the_outcome_has_the_output_too() {
    let home = Home::new();
    let gate = home.gate("gate");
    let command = ["sh", "-c", "echo start >>log; echo out; echo err >&2; read -r line <gate; exit 3"];
    let first = home.once("k", &["--replay"], &command);
    home.await_line("start");
    let loud = home.once("k", &["--replay"], &command);
    let silent = home.once("k", &[], &command);
    home.await_followers("k", 2);
    gate.open();
    first.wait().says(3, "out\n", "err\n");
    loud.wait().says(3, "out\n", "err\n");
    silent.wait().is_silent(3);
}

#[test]
fn nothing_is_replayed_that_was_not_recorded() {
    let home = Home::new();
    home.once("k", &[], &["echo", "out"]).wait().says(0, "out\n", "");
    assert_eq!(home.key("k")["records_output"], serde_json::Value::Null);
    replays(&home, &["--replay"], &["echo", "out"], (b"", b"", &format!("{WORDS}; what it wrote was not recorded\n")));
}

#[test]
fn a_command_that_wrote_nothing_is_replayed_without_a_word_about_that() {
    let home = Home::new();
    home.once("k", &["--replay"], &["true"]).wait().is_silent(0);
    replays(&home, &["--replay"], &["true"], (b"", b"", &format!("{WORDS}\n")));
}

#[test]
fn up_to_256_kib_are_recorded_and_all_of_it_is_written_the_first_time() {
    let limit = 256 * 1024;
    for (bytes, words) in [
        (limit, format!("{WORDS}\n")),
        (limit + 1, format!("{WORDS}; of what it wrote only the first 256 KiB were recorded\n")),
        (3 * limit, format!("{WORDS}; of what it wrote only the first 256 KiB were recorded\n")),
    ] {
        let home = Home::new();
        // No two bytes in a row are the same, so that nothing can be lost or moved unseen.
        let all: Vec<u8> = (0..=250).cycle().take(bytes).collect();
        std::fs::File::create(home.file("all")).unwrap().write_all(&all).unwrap();
        let first = home.once("k", &["--replay"], &["cat", "all"]).wait();
        assert!(first.status.success() && first.stdout == all && first.stderr.is_empty(), "{}", first.stderr());
        replays(&home, &["--replay"], &["cat", "all"], (&all[..limit.min(bytes)], b"", &words));
        home.kill_daemon();
        replays(&home, &["--replay"], &["cat", "all"], (&all[..limit.min(bytes)], b"", &words));
    }
}

#[test]
fn the_limit_is_one_of_both_streams_together() {
    let home = Home::new();
    let command = ["sh", "-c", "head -c 200000 /dev/zero >&2; head -c 100000 /dev/zero"];
    let first = home.once("k", &["--replay"], &command).wait();
    assert_eq!((first.stdout.len(), first.stderr.len()), (100_000, 200_000));
    let again = home.once("k", &["--replay", "-q"], &command).wait();
    assert_eq!(again.stdout.len() + again.stderr.len(), 256 * 1024);
}

#[test]
fn a_later_run_has_its_own_output() {
    let home = Home::new();
    home.once("k", &["--replay"], &["echo", "first"]).wait().says(0, "first\n", "");
    home.seq(&["key", "forget", "k"]).is_silent(0);
    home.once("k", &[], &["echo", "second"]).wait().says(0, "second\n", "");
    replays(
        &home,
        &["--replay"],
        &["echo", "second"],
        (b"", b"", &format!("{WORDS}; what it wrote was not recorded\n")),
    );
    home.seq(&["key", "forget", "k"]).is_silent(0);
    home.once("k", &["--replay"], &["echo", "third"]).wait().says(0, "third\n", "");
    replays(&home, &["--replay", "-q"], &["echo", "third"], (b"third\n", b"", ""));
}

#[test]
fn what_a_child_left_behind_writes_is_not_waited_for() {
    let home = Home::new();
    let gate = home.gate("gate");
    let _ready = home.gate("ready");
    let command = ["sh", "-c", "echo mine; (echo >ready; read -r line <gate; echo late) & read -r line <ready"];
    let first = home.once("k", &["--replay"], &command).wait();
    assert_eq!((first.status.code(), first.stdout().as_str()), (Some(0), "mine\n"), "{}", first.stderr());
    replays(&home, &["--replay", "-q"], &command, (b"mine\n", b"", ""));
    gate.open();
}

#[test]
fn a_reader_that_goes_ends_the_command_as_without_a_recording() {
    let home = Home::new();
    let ended =
        home.sh("\"$SEQ\" run -d foo.com --key k --replay -- sh -c 'yes; echo $? >status' | head -n 1; cat status");
    let without = home.sh("\"$SEQ\" run -d foo.com -- sh -c 'yes; echo $? >status' | head -n 1; cat status");
    assert_eq!((ended.stdout(), ended.stderr()), (without.stdout(), without.stderr()));
}

#[test]
fn a_stream_that_does_not_block_takes_all_as_well() {
    let home = Home::new();
    // The reader begins only when the pipe takes no more.
    home.script(
        "reader",
        "#!/usr/bin/env python3\n\
         import array, fcntl, sys, termios\n\
         size = array.array('i', [0])\n\
         while size[0] < 65536:\n    fcntl.ioctl(0, termios.FIONREAD, size)\n\
         print(len(sys.stdin.buffer.read()))\n",
    );
    let open = "import os, sys; os.set_blocking(1, False); os.execvp(sys.argv[1], sys.argv[1:])";
    let script = "python3 -c \"$0\" \"$SEQ\" run -d foo.com --key k --replay -- head -c 400000 /dev/zero | ./reader";
    home.finish(home.command("sh").args(["-c", script, open])).says(0, "400000\n", "");
}

#[test]
fn a_stream_that_seq_has_not_is_not_recorded_and_the_other_is() {
    let home = Home::new();
    home.sh("\"$SEQ\" run -d foo.com --key k --replay -- sh -c 'echo out; echo err >&2; true' 2>&- >out").is_silent(0);
    assert_eq!(home.read("out"), "out\n");
    let command = ["sh", "-c", "echo out; echo err >&2; true"];
    replays(&home, &["--replay", "-q"], &command, (b"out\n", b"", ""));
    // Nor is anything lost when the replay has nowhere to go.
    let ended =
        home.sh("\"$SEQ\" run -q -d foo.com --key k --replay -- sh -c 'echo out; echo err >&2; true' >/dev/full");
    ended.complains(125, "No space left on device");
    replays(&home, &["--replay", "-q"], &command, (b"out\n", b"", ""));
}

#[test]
fn in_memory_output_comes_back_too() {
    let home = Home::new();
    let mut daemon = home.command(crate::support::seqd_program());
    daemon.args(["--in-memory", "--detach", "--socket"]).arg(home.socket());
    assert!(home.finish(&mut daemon).stdout().starts_with("ready"));
    home.once("k", &["--replay"], &["echo", "out"]).wait().says(0, "out\n", "");
    replays(&home, &["--replay"], &["echo", "out"], (b"out\n", b"", &format!("{WORDS}\n")));
    home.seq(&["key", "forget", "k"]).is_silent(0);
    home.once("k", &[], &["echo", "out"]).wait().says(0, "out\n", "");
    replays(&home, &["--replay"], &["echo", "out"], (b"", b"", &format!("{WORDS}; what it wrote was not recorded\n")));
}
