//! `seq log`: the turns that have ended.

use crate::support::{Home, Terminal};
use rustix::process::Signal;
use serde_json::Value;

/// Three turns: one that went well, one that ended with status 3, one in another domain.
fn three_turns() -> Home {
    let home = Home::new();
    home.seq(&["run", "-d", "foo.com", "--", "true"]).is_silent(0);
    home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", "exit 3"]).is_silent(3);
    home.seq(&["run", "-d", "bar.com", "--", "true"]).is_silent(0);
    home
}

/// Domain and status of each turn that `seq log --json` prints with `options`.
#[track_caller]
fn logged(home: &Home, options: &[&str]) -> Vec<String> {
    let ended = home.seq(&[&["log", "--json"], options].concat());
    assert_eq!((ended.status.code(), ended.stderr()), (Some(0), String::new()));
    let turn = |line: &str| {
        let turn: Value = serde_json::from_str(line).expect("one object a line");
        format!("{} {}", turn["domain"].as_str().expect("a domain"), turn["exit_status"])
    };
    ended.stdout().lines().map(turn).collect()
}

#[test]
fn where_no_turn_has_ended_it_says_so() {
    let home = Home::new();
    home.seq(&["log"]).says(0, "no turn has ended\n", "");
    home.seq(&["log", "--json"]).is_silent(0);
}

#[test]
fn the_newest_turn_is_the_last() {
    let home = three_turns();
    assert_eq!(logged(&home, &[]), ["foo.com 0", "foo.com 3", "bar.com 0"]);
    assert_eq!(logged(&home, &["-n", "2"]), ["foo.com 3", "bar.com 0"]);
    assert_eq!(logged(&home, &["-d", "FOO.com"]), ["foo.com 0", "foo.com 3"]);
    assert_eq!(logged(&home, &["--failed"]), ["foo.com 3"]);
    assert_eq!(logged(&home, &["--since", "1h"]).len(), 3);
    assert_eq!(logged(&home, &["--since", "2020-01-01"]).len(), 3);
    assert_eq!(logged(&home, &["--since", "2999-01-01T00:00:00Z"]).len(), 0);
}

#[test]
fn history_outlives_the_daemon() {
    let home = three_turns();
    home.seq(&["stop"]).is_silent(0);
    assert_eq!(logged(&home, &[]).len(), 3, "a daemon is started to read it");
    home.seq(&["stop"]).is_silent(0);
    home.seq(&["log", "--no-start"]).complains(125, "no daemon listens at");
}

#[test]
fn people_get_a_table() {
    let home = three_turns();
    let ended = home.seq(&["log"]);
    assert_eq!((ended.status.code(), ended.stderr()), (Some(0), String::new()));
    let stdout = ended.stdout();
    let lines: Vec<Vec<&str>> = stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ENDED", "DOMAIN", "TICKET", "USER", "WAITED", "RAN", "HOW", "COMMAND"]);
    assert_eq!(lines[2][2..4], ["foo.com", "2"]);
    assert_eq!(lines[2][7..], ["status", "3", "sh", "-c", "exit", "3"]);
    assert_eq!(lines.len(), 4);
    let one_domain = home.seq(&["log", "-d", "foo.com"]).stdout();
    assert!(!one_domain.contains("DOMAIN") && !one_domain.contains("foo.com"), "{one_domain}");
}

#[test]
fn the_table_fits_the_terminal() {
    let home = three_turns();
    let long = "x".repeat(200);
    home.seq(&["run", "-d", "foo.com", "--", "true", &long]).is_silent(0);
    let mut terminal = Terminal::start(&home, &home.seq_command(&["log"]), 60);
    assert_eq!(terminal.wait().status.code(), Some(0));
    let widths: Vec<usize> = terminal.shown.lines().map(|line| line.chars().count()).collect();
    assert_eq!(widths.len(), 5, "{:?}", terminal.shown);
    assert!(widths.iter().all(|width| *width <= 60), "{:?}", terminal.shown);
}

#[test]
fn a_moment_that_is_none_is_refused() {
    let home = Home::new();
    let ended = home.seq(&["log", "--since", "yesterday"]);
    ended.complains_of_usage(2, "'yesterday' is no moment: write how long ago, as in 2h, or when, as in 2026-03-01");
}

#[test]
fn a_domain_that_would_turn_a_line_around_is_written_out() {
    let home = Home::new();
    let gate = home.gate("gate");
    let domain = "a\u{202e}b\u{200b}";
    let running = home.hold(domain, "one", "gate");
    let shown = home.seq(&["status"]).stdout();
    assert!(shown.starts_with("a\\u{202e}b\\u{200b}: nobody waits"), "{shown}");
    gate.open();
    running.wait().is_silent(0);
    let log = home.seq(&["log"]).stdout();
    assert!(log.contains("  a\\u{202e}b\\u{200b}  ") && !log.contains('\u{202e}'), "{log}");
}

#[test]
fn a_history_that_cannot_be_read_is_a_failure() {
    let home = Home::new();
    home.seq(&["run", "-d", "foo.com", "--", "true"]).is_silent(0);
    let (daemon, database) = (home.daemon(), home.state().join("seq.db"));
    // It would put the file back.
    daemon.signal(Signal::STOP);
    std::fs::rename(&database, home.file("away")).unwrap();
    std::fs::create_dir(&database).unwrap();
    daemon.signal(Signal::CONT);
    home.seq(&["log"]).complains(125, "seq.db");
}

#[test]
fn a_daemon_that_keeps_everything_in_memory_is_said_to_have_no_history() {
    let home = Home::new();
    let mut daemon = home.command(crate::support::seqd_program());
    daemon.args(["--in-memory", "--detach", "--socket"]).arg(home.socket());
    assert!(home.finish(&mut daemon).status.success());
    home.seq(&["run", "-d", "foo.com", "--", "true"]).is_silent(0);
    home.seq(&["log"]).says(0, "this daemon keeps everything in memory, and so no history\n", "");
    home.seq(&["log", "--json"]).is_silent(0);
}
