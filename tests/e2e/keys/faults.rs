//! The daemon dies at each single point at which it may: at most one execution is completed, exactly one where nothing
//! killed the command, and nobody hangs. The faults are enumerated, see `src/store/fault.rs`.

use crate::support::{Home, Running, size, without_age};

/// How many ask for the same at once.
fn processes() -> usize {
    size("SEQ_KEY_FAULT_PROCESSES", 5)
}

/// Lets all ask a daemon with this fault for the same, once in a line and once when that is over; gives whether it was
/// alive at the end, and what was written.
fn tell(fault: &str, options: &[&str], command: &str) -> (bool, Home, Vec<crate::support::Ended>) {
    let home = Home::new();
    let mut daemon = home.faulty_daemon(fault);
    let pid = daemon.pid();
    let all: Vec<Running> = (0..processes()).map(|_| home.once("k", options, &["sh", "-c", command])).collect();
    let ended = all.into_iter().map(Running::wait).collect();
    let survived = !daemon.has_ended() && home.daemon_pid() == Some(pid);
    (survived, home, ended)
}

/// Goes through all points until none is met any more.
fn each(kind: &str, options: &[&str], command: &str, check: impl Fn(&str, &Home, &[crate::support::Ended])) -> u64 {
    for number in 1.. {
        let fault = format!("{kind}:{number}");
        let (survived, home, ended) = tell(&fault, options, command);
        check(&fault, &home, &ended);
        if survived {
            return number - 1;
        }
    }
    0
}

fn told(ended: &crate::support::Ended) -> (Option<i32>, String) {
    (ended.status.code(), without_age(&ended.stderr()))
}

#[test]
fn a_success_is_one_execution_wherever_the_daemon_is_killed() {
    let count = each("kill", &[], "echo start >>log; echo end >>log", |fault, home, all| {
        assert_eq!(home.log(), ["start", "end"], "{fault}");
        for ended in all {
            let (status, said) = told(ended);
            let is_right = said.is_empty() || said == "seq: foo.com: already done some time ago, status 0\n";
            assert!(status == Some(0) && is_right, "{fault}: {status:?} {said}");
        }
        let again = home.once("k", &["-q"], &["sh", "-c", "echo start >>log; echo end >>log"]).wait();
        assert_eq!(told(&again), (Some(0), String::new()), "{fault}");
        assert_eq!(home.log(), ["start", "end"], "{fault}");
    });
    assert!(count >= 10, "only {count} points were met");
}

#[test]
fn a_failure_that_is_kept_is_one_execution_wherever_the_daemon_is_killed() {
    let count = each("kill", &["--keep-failures", "-q"], "echo start >>log; exit 7", |fault, home, all| {
        assert_eq!(home.log(), ["start"], "{fault}");
        for ended in all {
            assert_eq!(told(ended), (Some(7), String::new()), "{fault}");
        }
    });
    assert!(count >= 10, "only {count} points were met");
}

#[test]
fn output_comes_back_whole_or_is_said_to_be_missing_wherever_the_daemon_is_killed() {
    each("kill", &["--replay", "-v"], "echo start >>log; printf 'o\\377'", |fault, home, all| {
        assert_eq!(home.log(), ["start"], "{fault}");
        for ended in all {
            let said = ended.stderr();
            assert_eq!(ended.status.code(), Some(0), "{fault}: {said}");
            let is_missing = said.contains("what it wrote was not recorded");
            assert!(if is_missing { ended.stdout.is_empty() } else { ended.stdout == b"o\xff" }, "{fault}: {said}");
        }
    });
}

#[test]
fn a_disk_that_fails_makes_nobody_run_twice() {
    each("sync", &["-q"], "echo start >>log; echo end >>log", |fault, home, all| {
        assert_eq!(home.log(), ["start", "end"], "{fault}");
        for ended in all {
            assert_eq!(told(ended), (Some(0), String::new()), "{fault}");
        }
    });
}
