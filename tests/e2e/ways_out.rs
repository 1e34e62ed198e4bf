//! What is said when something cannot be done says what to do, and is true.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixDatagram, UnixListener};

use crate::support::{Home, seqd_program};
use rustix::process::Signal;

#[test]
fn wrong_values_are_named_with_right_ones() {
    let home = Home::new();
    let run = |options: &[&str]| home.seq(&[&["run", "-d", "foo.com"], options].concat());
    let usage = |ended: crate::support::Ended, status: i32, words: &str| ended.complains_of_usage(status, words);
    usage(run(&[]), 125, "no command: say what to run, as in 'seq run --domain foo.com -- COMMAND'");
    usage(home.seq(&["wait"]), 2, "something is missing: add --domain <DOMAIN>");
    usage(run(&["-w", "-1", "--", "true"]), 125, "invalid value '-1' for '--max-wait <DURATION>'");
    usage(run(&["-E", "-1", "--", "true"]), 125, "'-1' is no exit status: give a number from 0 to 255");
    usage(run(&["-E", "abc", "--", "true"]), 125, "'abc' is no exit status: give a number from 0 to 255");
    let ticket = "is no ticket: give a number, as 'seq status' shows it";
    usage(home.seq(&["cancel", "abc"]), 2, &format!("'abc' {ticket}"));
    usage(home.seq(&["done", "--ticket", "99999999999999999999"]), 2, &format!("'99999999999999999999' {ticket}"));
    run(&["--", ""]).complains(127, "cannot run a command without a name: say what to run behind '--'");
    home.seq(&["release", "-d", "foo.com"]).says(
        1,
        "",
        "seq: nobody has the turn in foo.com: there is nothing to end\n",
    );
    usage(home.seq(&["cancel", "-1"]), 2, &format!("'-1' {ticket}"));
    for pid in ["abc", "-1", "0", "99999999999999"] {
        let ended = home.seq(&["sequence", "-d", "foo.com", "--for-pid", pid]);
        usage(ended, 2, &format!("'{pid}' is no process: give its number, as ps shows it"));
    }
    for number in ["abc", "-1"] {
        let ended = home.seq(&["log", "-n", number]);
        usage(ended, 2, &format!("'{number}' is no number of turns: give 0 or more"));
    }
    usage(home.seq(&["log", "-n", "20001"]), 2, "'20001' is too many turns: give 20000 at most, or look at one domain");
    home.seq(&["log", "-n", "0"]).is_silent(0);
    assert_eq!(home.seq(&["log", "-n", "20000"]).status.code(), Some(0));
}

#[test]
fn what_cannot_be_executed_says_why() {
    let home = Home::new();
    fs::write(home.file("text"), "echo hello\n").expect("a file");
    let run = |command: &str| home.seq(&["run", "-d", "foo.com", "--", command]);
    run("./text").says(126, "", "seq: cannot run ./text: it is not executable: 'chmod +x ./text' makes it so\n");
    run("/tmp").says(126, "", "seq: cannot run /tmp: it is a directory: name a program in it\n");
}

#[test]
fn too_few_descriptors_to_connect_are_named() {
    let home = Home::new();
    home.warm();
    for limit in 3..7 {
        let ended = home.sh(&format!("ulimit -n {limit}; exec \"$SEQ\" run -d foo.com -- true"));
        ended.complains(125, "raise the limit on open files (ulimit -n)");
    }
}

#[test]
fn wrong_usage_of_the_daemon_is_said_in_its_name() {
    let home = Home::new();
    let ended = home.finish(home.command(seqd_program()).arg("--frobnicate"));
    assert_eq!((ended.status.code(), ended.stdout().as_str()), (Some(2), ""));
    assert!(ended.stderr().starts_with("seqd: unexpected argument '--frobnicate'"), "{}", ended.stderr());
    assert!(ended.stderr().lines().all(|line| line.starts_with("seqd: ")), "{}", ended.stderr());
}

#[test]
fn who_listens_and_says_nothing_is_named() {
    let home = Home::new();
    DirBuilder::new().recursive(true).mode(0o700).create(home.state()).expect("a directory");
    let _listener = UnixListener::bind(home.socket()).expect("a socket");
    let said = format!(
        "seq: what listens at {} (pid {}) did not answer for 5 s, and is no seqd: end it, or name another socket with \
         --socket\n",
        home.socket().display(),
        std::process::id()
    );
    home.seq(&["run", "-d", "foo.com", "--", "true"]).says(125, "", &said);
}

#[test]
fn the_time_of_a_command_does_not_count_the_search_for_a_daemon() {
    let home = Home::new();
    home.warm();
    let gate = home.gate("gate");
    let script = "echo start >>log; read -r line <gate; exit 9";
    let run = home.start(&["--no-start", "run", "-v", "-d", "foo.com", "--", "sh", "-c", script]);
    home.await_line("start");
    home.daemon().signal(Signal::KILL);
    gate.open();
    let ended = run.wait();
    assert_eq!(ended.status.code(), Some(9));
    assert!(ended.took.as_secs() >= 5, "no daemon was looked for");
    let said = ended.stderr();
    let last = said.lines().last().expect("a last word");
    let (words, after) = last.rsplit_once(" after ").expect("how long it ran");
    assert!(words.ends_with("ended with status 9"), "{said}");
    let ran = seq::cli::parse_duration(after).expect("a duration");
    assert!(ran + std::time::Duration::from_secs(4) < ended.took, "{after} of {:?}", ended.took);
}

#[test]
fn what_a_turn_is_bound_to_is_told() {
    let home = Home::new();
    let script = r#"echo $$; "$SEQ" sequence -d foo.com --json -v; exit $?"#;
    let ended = home.sh(script);
    let said = ended.stdout();
    let (pid, turn) = said.split_once('\n').expect("two lines");
    let turn: serde_json::Value = serde_json::from_str(turn).expect("JSON");
    assert_eq!(turn["bound_to"].to_string(), pid);
    assert!(
        ended.stderr().contains(&format!("ticket 1 has the turn, bound to process {pid} (sh -c ")),
        "{}",
        ended.stderr()
    );
    let lease = home.seq(&["sequence", "-d", "bar.com", "--lease", "1h", "--json", "-v"]);
    assert!(!lease.stdout().contains("bound_to"), "{}", lease.stdout());
    assert!(lease.stderr().ends_with("ticket 2 has the turn, for 1h\n"), "{}", lease.stderr());
}

#[test]
fn processes_of_another_pid_namespace_are_not_taken_for_ours() {
    let home = Home::new();
    home.warm();
    let gate = home.gate("gate");
    let script = r#""$SEQ" sequence -d foo.com; echo mine >>log; read -r line <gate"#;
    // Without a /proc of its own.
    let container = ["--user", "--map-root-user", "--pid", "--fork", "sh", "-c"];
    if !home.finish(home.command("unshare").args(container).arg("true")).status.success() {
        return; // Where no container can be made there is nothing to see.
    }
    let shell = home.launch(home.command("unshare").args(container).arg(script));
    home.await_line("mine");
    let holder = home.await_holder("foo.com", "process");
    assert!(holder["command"].is_null(), "{holder}");
    let shown = fs::read_to_string(format!("/proc/{}/cmdline", holder["pid"])).expect("as the daemon sees it");
    assert!(shown.starts_with("sh\0-c"), "{shown}");
    gate.open();
    shell.wait().is_silent(0);
}

#[test]
fn what_cannot_be_a_socket_is_named_with_what_can() {
    let home = Home::new();
    let run = |socket: &str| home.seq(&["--socket", socket, "run", "-d", "foo.com", "--", "true"]);
    let here = home.path().display();
    let words = format!("{here} is a directory: name a path in one with --socket, as {here}/seqd.sock");
    run(".").says(125, "", &format!("seq: {words}\n"));
    let words =
        "cannot use / as a socket: it names no file: name one in a directory of yours with --socket or SEQ_SOCKET";
    run("/").says(125, "", &format!("seq: {words}\n"));
    let _datagrams = UnixDatagram::bind(home.file("datagrams")).expect("a socket");
    let words = format!("{here}/datagrams is not a socket of seqd: move it away, or name another path with --socket");
    run("datagrams").says(125, "", &format!("seq: {words}\n"));
}

#[test]
fn who_has_the_daemons_lock_without_being_one_is_named() {
    let home = Home::new();
    DirBuilder::new().recursive(true).mode(0o700).create(home.state()).expect("a directory");
    let lock = home.state().join("life.lock");
    let locked = fs::File::create(&lock).expect("a file");
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).expect("nobody has it");
    let pid = std::process::id();
    let words = format!(
        "cannot start the daemon: process {pid} has locked {}, as a daemon does, and does not listen: try again, or end \
         it with 'kill {pid}'",
        lock.display()
    );
    home.seq(&["run", "-d", "foo.com", "--", "true"]).says(125, "", &format!("seq: {words}\n"));
}

#[test]
fn a_directory_in_the_place_of_a_file_is_to_be_moved_away() {
    for name in ["start.lock", "life.lock", "seqd.log"] {
        let home = Home::new();
        DirBuilder::new().recursive(true).mode(0o700).create(home.state().join(name)).expect("a directory");
        let ended = home.seq(&["run", "-d", "foo.com", "--", "true"]);
        let words = "Is a directory (os error 21): a directory is in its place: move that away, or name a socket \
                     elsewhere with --socket";
        ended.complains(125, &format!("{name}: {words}"));
    }
}

#[test]
fn a_log_that_cannot_be_written_is_to_be_another_file() {
    let home = Home::new();
    let seqd = |log: &str| home.finish(home.command(seqd_program()).args(["--socket", "seq/s", "--log", log]));
    let said = "seqd: cannot write the log /tmp: Is a directory (os error 21): name another file with --log\n";
    seqd("/tmp").says(125, "", said);
}

#[test]
fn a_thread_is_no_process_to_bind_a_turn_to() {
    let home = Home::new();
    let (send, receive) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        send.send(rustix::thread::gettid().as_raw_nonzero().to_string()).expect("the test hears");
        _ = ended.recv();
    });
    let tid = receive.recv().expect("a thread");
    let said = format!("seq: {tid} is a thread of a process: name the process with --for-pid\n");
    home.seq(&["sequence", "-d", "foo.com", "--for-pid", &tid]).says(125, "", &said);
    drop(end);
    thread.join().expect("it ends");
}

#[test]
fn too_few_descriptors_to_start_a_daemon_are_named() {
    let home = Home::new();
    for limit in 5..8 {
        let ended = home.sh(&format!("ulimit -n {limit}; exec \"$SEQ\" run -d foo.com -- true"));
        ended.complains(125, "raise the limit on open files (ulimit -n)");
    }
}
