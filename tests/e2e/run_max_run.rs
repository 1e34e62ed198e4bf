//! `--max-run`: stopping a command that takes too long, and all that it has started.

use std::time::Duration;

use crate::support::Home;

/// What is said when a command is stopped.
const STOPPING: &str = "seq: the command ran longer than 300ms: stopping it\n";

#[test]
fn a_command_that_runs_too_long_is_stopped_with_124() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.seq(&["run", "-d", "foo.com", "--max-run", "300ms", "--", "./worker", "slow", "gate"]).says(124, "", STOPPING);
    assert_eq!(home.log(), ["start slow"]);
    home.seq(&["run", "-d", "foo.com", "--max-run", "1m", "--", "./worker", "quick"]).is_silent(0);
    drop(gate);
}

#[test]
fn its_children_and_grandchildren_are_stopped_too() {
    let home = Home::new();
    let _gate = home.gate("gate");
    // A child in the same group, a grandchild whose parent has ended, and one that has left group and session.
    home.script(
        "family",
        "#!/bin/sh\n\
         sh -c 'echo $$ >child; read -r line <gate' &\n\
         sh -c 'sh -c \"echo \\$\\$ >grandchild; read -r line <gate\" &' \n\
         setsid sh -c 'echo $$ >runaway; read -r line <gate' &\n\
         wait\n",
    );
    let running = home.start(&["run", "-d", "foo.com", "--max-run", "1s", "--", "./family"]);
    let family = ["child", "grandchild", "runaway"].map(|file| home.await_process(file));
    running.wait().says(124, "", &STOPPING.replace("300ms", "1s"));
    for process in family {
        assert!(!process.is_alive(), "{} is left\n{}", process.pid, home.read("child"));
    }
    home.await_idle("foo.com");
}

#[test]
fn a_command_may_tidy_up_when_it_is_stopped() {
    let home = Home::new();
    let _gate = home.gate("gate");
    home.script(
        "tidy",
        "#!/bin/bash\ntrap 'echo tidied >>log; exit 3' TERM\nwhile :; do read -r -t 1 line <>gate; done\n",
    );
    home.seq(&["run", "-d", "foo.com", "--max-run", "300ms", "--", "./tidy"]).says(124, "", STOPPING);
    assert_eq!(home.log(), ["tidied"], "TERM came once");
}

#[test]
fn a_command_that_ignores_term_is_killed_after_its_grace() {
    let home = Home::new();
    let _gate = home.gate("gate");
    home.script("deaf", "#!/bin/sh\ntrap '' TERM\n(echo deaf >>log; read -r line <gate) &\nwait\n");
    let ended = home.seq(&["run", "-d", "foo.com", "--max-run", "300ms", "--kill-grace", "500ms", "--", "./deaf"]);
    ended.says(124, "", STOPPING);
    assert!(ended.took >= Duration::from_millis(800), "its grace was cut short: {:?}", ended.took);
    assert_eq!(home.log(), ["deaf"]);
    home.await_idle("foo.com");
}

#[test]
fn without_grace_it_is_killed_at_once() {
    let home = Home::new();
    let _gate = home.gate("gate");
    home.script("deaf", "#!/bin/sh\ntrap '' TERM\nread -r line <gate\n");
    home.seq(&["run", "-d", "foo.com", "--max-run", "300ms", "--kill-grace", "0", "--", "./deaf"])
        .says(124, "", STOPPING);
}

#[test]
fn the_turn_is_kept_until_the_command_is_gone() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let grace = home.gate("grace");
    home.script("slow-end", "#!/bin/bash\ntrap 'echo term >>log; read -r line <grace; echo end slow >>log; exit' TERM\nread -r line <gate &\nwait\nwait\n");
    let slow =
        home.start(&["run", "-q", "-d", "foo.com", "--max-run", "300ms", "--kill-grace", "1h", "--", "./slow-end"]);
    home.await_line("term");
    let next = home.queue("foo.com", "next", 1);
    grace.open();
    slow.wait().is_silent(124);
    next.wait().is_silent(0);
    assert_eq!(home.log(), ["term", "end slow", "start next", "end next"]);
}

#[test]
fn quiet_says_nothing_about_it() {
    let home = Home::new();
    let _gate = home.gate("gate");
    home.seq(&["run", "-q", "-d", "foo.com", "--max-run", "300ms", "--", "./worker", "slow", "gate"]).is_silent(124);
}

#[test]
fn a_stopped_command_is_stopped_for_good() {
    let home = Home::new();
    home.seq(&["run", "-q", "-d", "foo.com", "--max-run", "300ms", "--", "sh", "-c", "kill -STOP $$"]).is_silent(124);
}

#[test]
fn an_init_that_reaps_nobody_does_not_hold_the_turn() {
    let home = Home::new();
    let gate = home.gate("gate");
    // A parent that adopts all orphans and waits for none, as the first process of many containers.
    let init = "import ctypes, os, subprocess, sys\n\
                ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n\
                sys.exit(subprocess.run(sys.argv[1:]).returncode)\n";
    home.script("init.py", init);
    let script = r#""$SEQ" run -q -d foo.com --max-run 300ms -- sh -c '(read -r line <gate) & echo $! >left; wait'
        test $? = 124 && exec "$SEQ" run -d foo.com -- ./worker next"#;
    home.finish(home.command("python3").args(["init.py", "sh", "-c", script])).is_silent(0);
    assert_eq!(home.log(), ["start next", "end next"]);
    drop(gate);
}

#[test]
fn no_time_is_no_limit() {
    let home = Home::new();
    let gate = home.gate("gate");
    let run = home.start(&["run", "-d", "foo.com", "--max-run", "0", "--", "./worker", "slow", "gate"]);
    home.await_line("start slow");
    gate.open();
    run.wait().is_silent(0);
    assert_eq!(home.log(), ["start slow", "end slow"]);
}
