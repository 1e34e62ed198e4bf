//! What cannot be done is refused with one sentence, and nobody else is harmed.

use std::fs;
use std::time::Duration;

use crate::support::Home;
use rustix::process::Signal;

#[test]
fn a_domain_that_cannot_be_is_refused() {
    let home = Home::new();
    let long = "x".repeat(256);
    let cases = [
        ("", "the domain is empty"),
        (" . ", "the domain is empty"),
        ("foo..", "the domain ends in more than one dot"),
        ("a\nb", "the domain has a control character"),
        ("a\x1b[31mb", "the domain has a control character"),
        (&long, "the domain has 256 bytes: use at most 255"),
    ];
    for (domain, words) in cases {
        home.seq(&["run", "-d", domain, "--", "touch", "ran"]).complains_of_usage(125, words);
    }
    assert!(!home.file("ran").exists());
    home.seq(&["run", "-d", &long[1..], "--", "echo", "hello"]).says(0, "hello\n", "");
    home.seq(&["run", "-d", "licence/größe & more", "--", "echo", "hello"]).says(0, "hello\n", "");
}

#[test]
fn a_request_id_that_cannot_be_is_refused() {
    let home = Home::new();
    for (id, words) in [("", "the request id is empty"), ("a\tb", "the request id has a control character")] {
        home.seq(&["run", "-d", "foo.com", "--request-id", id, "--", "touch", "ran"]).complains_of_usage(125, words);
    }
    assert!(!home.file("ran").exists());
}

#[test]
fn no_start_without_a_daemon_says_so() {
    let home = Home::new();
    let socket = home.socket();
    home.seq(&["run", "--no-start", "-d", "foo.com", "--", "true"]).says(
        125,
        "",
        &format!("seq: no daemon listens at {}: start seqd, or leave out --no-start\n", socket.display()),
    );
    assert!(home.daemons().is_empty());
    home.warm();
    home.seq(&["run", "--no-start", "-d", "foo.com", "--", "true"]).is_silent(0);
}

#[test]
fn a_socket_path_that_is_too_long_is_refused() {
    let home = Home::new();
    let path = |length: usize| {
        let directory = home.path().display().to_string();
        format!("{directory}/{}", "x".repeat(length - directory.len() - 1))
    };
    let long = path(108);
    home.seq(&["run", "--socket", &long, "-d", "foo.com", "--", "true"]).says(
        125,
        "",
        &format!(
            "seq: the socket path {long} has 108 bytes, the system allows 107: \
             name a shorter one with --socket or SEQ_SOCKET\n"
        ),
    );
    home.seq(&["run", "--socket", &path(107), "-d", "foo.com", "--", "echo", "hello"]).says(0, "hello\n", "");
}

#[test]
fn a_file_in_the_sockets_place_is_left_alone() {
    let home = Home::new();
    fs::create_dir_all(home.state()).expect("a directory");
    fs::write(home.socket(), "precious").expect("a file");
    let socket = home.socket();
    home.seq(&["run", "-d", "foo.com", "--", "true"]).says(
        125,
        "",
        &format!("seq: {} is not a socket: move it away, or name another path with --socket\n", socket.display()),
    );
    assert_eq!(fs::read_to_string(&socket).expect("a file"), "precious");
}

#[test]
fn the_environment_names_the_socket_and_the_option_overrules_it() {
    let home = Home::new();
    let run = |variable: &str, options: &[&str]| {
        let command = [options, &["run", "-d", "foo.com", "--", "true"]].concat();
        home.finish(home.seq_command(&command).env("SEQ_SOCKET", variable)).is_silent(0);
    };
    let [one, other] = ["one.sock", "other.sock"].map(|name| home.file(name).display().to_string());
    run(&one, &[]);
    assert!(home.file("one.sock").exists() && !home.socket().exists());
    run(&one, &["--socket", &other]);
    assert!(home.file("other.sock").exists());
    run("", &[]);
    assert!(home.socket().exists(), "an empty variable is none");
    assert_eq!(home.daemons().len(), 3);
}

#[test]
fn a_daemon_that_stops_answering_is_named_with_the_way_out() {
    let home = Home::new();
    home.warm();
    let daemon = home.daemon();
    daemon.signal(Signal::STOP);
    let ended = home.seq(&["run", "-d", "foo.com", "--", "touch", "ran"]);
    let pid = daemon.pid;
    let words = format!(
        "seq: the daemon at {} (pid {pid}) is stopped and did not answer for 5 s: let it go on with 'kill -CONT {pid}'\n",
        home.socket().display()
    );
    ended.says(125, "", &words);
    assert!(ended.took < Duration::from_secs(8), "it took {:?}", ended.took);
    assert!(!home.file("ran").exists());
    daemon.signal(Signal::CONT);
    home.seq(&["run", "-d", "foo.com", "--", "true"]).is_silent(0);
    assert_eq!(home.daemon().pid, pid, "no second one was started");
}

#[test]
fn a_command_runs_on_undisturbed_while_the_daemon_does_not_answer() {
    let home = Home::new();
    let gate = home.gate("gate");
    let running =
        home.start(&["run", "-d", "foo.com", "--", "sh", "-c", "echo start >>log; read -r line <gate; exit 9"]);
    home.await_line("start");
    let daemon = home.daemon();
    daemon.signal(Signal::STOP);
    gate.open();
    let ended = running.wait();
    assert_eq!((ended.status.code(), ended.stdout().as_str()), (Some(9), ""));
    daemon.signal(Signal::CONT);
    home.seq(&["run", "-w", "20s", "-d", "foo.com", "--", "true"]).is_silent(0);
}

#[test]
fn a_mistyped_subcommand_gets_a_suggestion_and_starts_nothing() {
    let home = Home::new();
    let ended = home.seq(&["rnu", "-d", "foo.com", "--", "true"]);
    assert_eq!((ended.status.code(), ended.stdout().as_str()), (Some(2), ""));
    assert!(ended.stderr().contains("'run'"), "{}", ended.stderr());
    assert!(!home.state().exists());
}

#[test]
fn a_home_that_is_not_there_is_said_so() {
    let home = Home::new();
    home.finish(home.seq_command(&["run", "-d", "foo.com", "--", "true"]).env("HOME", "/dev/null")).says(
        125,
        "",
        "seq: the home directory /dev/null is not a directory: set HOME to yours, or name a socket with --socket\n",
    );
    let mut command = home.seq_command(&["run", "-d", "foo.com", "--", "true"]);
    home.finish(command.env("HOME", "/proc/no/such/home")).complains(125, "/proc/no/such/home");
}
