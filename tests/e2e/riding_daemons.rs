//! What a client says to the next daemon, word for word, and what it makes of the answers: the daemon is played here.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use crate::support::{DEADLINE, Home, Running};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

/// A daemon that says what the test says.
struct Played {
    socket: PathBuf,
    listener: UnixListener,
}

/// A client of it.
struct Caller(BufReader<UnixStream>);

impl Played {
    fn new(home: &Home) -> Played {
        let socket = home.file("played.sock");
        let listener = listen(&socket);
        Played { socket, listener }
    }

    /// `seq run` with it, in foo.com.
    fn run(&self, home: &Home, options: &[&str], command: &[&str]) -> Running {
        let socket = self.socket.to_str().expect("UTF-8");
        let begin = ["run", "--socket", socket, "--no-start", "-d", "foo.com"];
        home.start(&[&begin, options, &["--"], command].concat())
    }

    /// The next client that calls, and its request.
    fn accept(&self) -> (Caller, Value) {
        let (stream, _) = self.listener.accept().expect("a client");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        let mut caller = Caller(BufReader::new(stream));
        let request = caller.request();
        (caller, request)
    }

    /// The daemon dies, and another takes its place.
    fn dies(&mut self) {
        fs::remove_file(&self.socket).expect("it is there");
        self.listener = listen(&self.socket);
    }
}

impl Caller {
    /// The next request that is not a greeting, which is answered.
    fn request(&mut self) -> Value {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("a line");
            let request: Value = serde_json::from_str(&line).expect("JSON");
            if request["op"] != "hello" {
                return request;
            }
            self.says(&json!({"type": "hello", "protocol": 1, "version": "9.9.9", "pid": 1}));
        }
    }

    fn says(&mut self, reply: &Value) {
        self.0.get_mut().write_all(format!("{reply}\n").as_bytes()).expect("the client reads");
    }

    /// Gives the turn.
    fn gives_turn(&mut self, ticket: u64) {
        self.says(&json!({
            "type": "active", "domain": "foo.com", "request_id": format!("t-{ticket}"), "ticket": ticket, "token": ticket
        }));
    }

    fn puts_in_line(&mut self, ticket: u64) {
        self.says(&json!({
            "type": "queued", "domain": "foo.com", "request_id": format!("t-{ticket}"), "ticket": ticket,
            "position": 1, "total_ahead": 1
        }));
    }

    fn refuses(&mut self, code: &str, message: &str) {
        self.says(&json!({"type": "error", "code": code, "message": message}));
    }

    /// Hears that the command has started, and that it has ended well.
    fn hears_the_end(&mut self, ticket: u64) {
        let started = self.request();
        assert_eq!((&started["op"], &started["ticket"]), (&"started".into(), &ticket.into()));
        let done = self.request();
        assert_eq!((&done["op"], &done["ticket"], &done["exit_status"]), (&"done".into(), &ticket.into(), &0.into()));
        self.says(&json!({"type": "done", "released": true}));
    }

    /// Hears that the command was tied to this daemon anew, and then nothing for as long as the command runs.
    fn hears_started(&mut self, ticket: u64) {
        let started = self.request();
        assert_eq!((&started["op"], &started["ticket"]), (&"started".into(), &ticket.into()));
    }
}

fn listen(socket: &PathBuf) -> UnixListener {
    // It appears with somebody who listens.
    let draft = socket.with_extension("draft");
    let listener = UnixListener::bind(&draft).expect("a socket");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).expect("its mode");
    fs::rename(&draft, socket).expect("its name");
    listener
}

#[test]
fn a_place_is_taken_up_again_with_the_secret_that_it_was_asked_for_with() {
    let home = Home::new();
    let mut daemon = Played::new(&home);
    let running = daemon.run(&home, &["-w", "1h"], &["true"]);
    let (mut caller, first) = daemon.accept();
    let secret = first["secret"].as_str().expect("a secret");
    assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{secret}");
    caller.puts_in_line(5);
    daemon.dies();
    drop(caller);
    let (mut caller, again) = daemon.accept();
    let mut expected = first.clone();
    expected["resume"] = 5.into();
    expected["request_id"] = "t-5".into();
    assert_eq!(again, expected);
    caller.gives_turn(5);
    caller.hears_the_end(5);
    running.wait().is_silent(0);
}

#[test]
fn a_place_that_is_lost_is_asked_for_anew() {
    for code in ["not_found", "forbidden", "bad_request"] {
        let home = Home::new();
        let mut daemon = Played::new(&home);
        let running = daemon.run(&home, &[], &["true"]);
        let (mut caller, first) = daemon.accept();
        caller.puts_in_line(5);
        daemon.dies();
        drop(caller);
        let (mut caller, _) = daemon.accept();
        caller.refuses(code, "no such ticket");
        let mut request = caller.request();
        while request["op"] == "status" {
            request = caller.request();
        }
        assert_eq!(request, first);
        caller.gives_turn(1);
        caller.hears_the_end(1);
        let lost = "seq: foo.com: the daemon has lost the place of this request: it asked again";
        running.wait().says(0, "", &format!("{lost}, and has the turn now\n"));
    }
}

#[test]
fn whoever_lost_the_place_is_told_the_new_one_unless_it_wants_to_hear_nothing() {
    let lost = "seq: foo.com: the daemon has lost the place of this request: it asked again";
    for (options, said) in [(&[][..], format!("{lost}, and is 1st in line now, 1 ahead\n")), (&["-q"], String::new())] {
        let home = Home::new();
        let mut daemon = Played::new(&home);
        let running = daemon.run(&home, options, &["true"]);
        let (mut caller, _) = daemon.accept();
        caller.puts_in_line(5);
        daemon.dies();
        drop(caller);
        let (mut caller, _) = daemon.accept();
        caller.refuses("not_found", "no such ticket");
        caller.request();
        caller.puts_in_line(9);
        caller.gives_turn(9);
        caller.hears_the_end(9);
        running.wait().says(0, "", &said);
    }
}

#[test]
fn a_place_that_ended_meanwhile_is_not_asked_for_again() {
    let home = Home::new();
    let mut daemon = Played::new(&home);
    let running = daemon.run(&home, &[], &["true"]);
    let (mut caller, _) = daemon.accept();
    caller.puts_in_line(5);
    daemon.dies();
    drop(caller);
    let (mut caller, _) = daemon.accept();
    caller.refuses("cancelled", "ticket 5 was cancelled while it waited");
    running.wait().says(76, "", "seq: ticket 5 was cancelled while it waited\n");
}

#[test]
fn a_place_that_another_has_by_the_same_name_meanwhile_is_left_to_it() {
    let home = Home::new();
    let mut daemon = Played::new(&home);
    let running = daemon.run(&home, &["--request-id", "me"], &["true"]);
    let (mut caller, _) = daemon.accept();
    caller.puts_in_line(5);
    daemon.dies();
    drop(caller);
    let (mut caller, _) = daemon.accept();
    caller.refuses("forbidden", "ticket 5 was not asked for with this secret");
    running.wait().says(76, "", "seq: request me came again by another connection, which has its place now\n");
}

#[test]
fn who_waits_for_an_idle_domain_is_told_that_the_daemon_was_stopped_meanwhile() {
    let home = Home::new();
    let socket = home.file("played.sock");
    let at = ["--socket", socket.to_str().expect("UTF-8")];
    home.seq(&[&["run"], &at[..], &["-d", "foo.com", "--", "true"]].concat()).is_silent(0);
    home.seq(&[&["stop"], &at[..]].concat()).is_silent(0);
    home.await_fact("it has left", || (!socket.exists()).then_some(()));
    // As if that daemon had been stopped after this one died.
    let daemon = Played::new(&home);
    let wait = home.start(&[&["wait"], &at[..], &["-d", "foo.com"]].concat());
    let (caller, request) = daemon.accept();
    assert_eq!(request["op"], "wait");
    fs::remove_file(&daemon.socket).expect("it is there");
    drop((daemon, caller));
    let told = "seq: the daemon was told to leave while foo.com was waited for: wait again\n";
    wait.wait().says(125, "", told);
    assert!(!socket.exists(), "started behind its user's back");
}

/// The daemon wrote the turn down, and died before it said so.
#[test]
fn a_turn_that_was_never_told_is_found() {
    let home = Home::new();
    let mut daemon = Played::new(&home);
    let running = daemon.run(&home, &[], &["true"]);
    let (caller, first) = daemon.accept();
    daemon.dies();
    drop(caller);
    // It knows no ticket; the next daemon knows it by its secret.
    let (mut caller, again) = daemon.accept();
    assert_eq!(again, first);
    assert!(first["secret"].is_string(), "{first}");
    caller.gives_turn(4);
    caller.hears_the_end(4);
    running.wait().is_silent(0);
}

#[test]
fn a_request_that_nobody_heard_is_made_again() {
    let home = Home::new();
    let mut daemon = Played::new(&home);
    let running = daemon.run(&home, &[], &["true"]);
    let (caller, first) = daemon.accept();
    daemon.dies();
    drop(caller);
    let (mut caller, again) = daemon.accept();
    assert_eq!(again, first);
    caller.gives_turn(1);
    caller.hears_the_end(1);
    running.wait().is_silent(0);
}

#[test]
fn a_running_command_is_tied_to_the_next_daemon() {
    let home = Home::new();
    let gate = home.gate("gate");
    let mut daemon = Played::new(&home);
    let running = daemon.run(&home, &[], &["./worker", "a", "gate"]);
    let (mut caller, first) = daemon.accept();
    caller.gives_turn(5);
    caller.hears_started(5);
    daemon.dies();
    // It says so itself.
    caller.refuses("restarting", "the daemon makes room for the next one");
    let (mut caller, again) = daemon.accept();
    assert_eq!((&again["resume"], &again["secret"], &again["descriptors"]), (&5.into(), &first["secret"], &1.into()));
    caller.gives_turn(5);
    caller.hears_started(5);
    gate.open();
    // The command may end before seq has taken over the new connection; then it says so on one more.
    let mut ready = [PollFd::new(caller.0.get_ref(), PollFlags::IN), PollFd::new(&daemon.listener, PollFlags::IN)];
    assert_ne!(poll(&mut ready, Some(&DEADLINE.try_into().expect("a time-out"))), Ok(0));
    let says_it_anew = ready[0].revents().is_empty();
    let (mut caller, done) = if says_it_anew {
        daemon.accept()
    } else {
        let done = caller.request();
        (caller, done)
    };
    assert_eq!((&done["op"], &done["ticket"]), (&"done".into(), &5.into()));
    caller.says(&json!({"type": "done", "released": true}));
    running.wait().is_silent(0);
}

#[test]
fn a_turn_that_was_taken_away_is_told_and_the_command_runs_on() {
    let lost = "the daemon does not know of ticket 5 any more, so another command may run in foo.com";
    for (code, message) in [("not_found", lost), ("released", "the turn of ticket 5 was taken away")] {
        let home = Home::new();
        let gate = home.gate("gate");
        let mut daemon = Played::new(&home);
        let running = daemon.run(&home, &[], &["./worker", "a", "gate"]);
        let (mut caller, _) = daemon.accept();
        caller.gives_turn(5);
        caller.hears_started(5);
        daemon.dies();
        drop(caller);
        let (mut caller, _) = daemon.accept();
        caller.refuses(code, message);
        home.await_fact("the line", || (!running.stderr_so_far().is_empty()).then_some(()));
        gate.open();
        assert_eq!(caller.request()["op"], "done");
        caller.says(&json!({"type": "done", "released": false}));
        running.wait().says(0, "", &format!("seq: {message}: the command runs on\n"));
    }
}

/// It takes no notice of `resume`, and puts the request at the end of the line.
#[test]
fn a_daemon_that_cannot_resume_gets_no_second_request_of_a_running_command() {
    let home = Home::new();
    let gate = home.gate("gate");
    let mut daemon = Played::new(&home);
    let running = daemon.run(&home, &["-q"], &["./worker", "a", "gate"]);
    let (mut caller, _) = daemon.accept();
    caller.gives_turn(5);
    caller.hears_started(5);
    daemon.dies();
    drop(caller);
    let (mut caller, _) = daemon.accept();
    caller.puts_in_line(6);
    let mut rest = String::new();
    assert_eq!(caller.0.read_line(&mut rest).expect("the end"), 0, "{rest}");
    gate.open();
    running.wait().is_silent(0);
}

/// Whoever has no room, or cannot store it, has not taken note of how a command ended.
#[test]
fn how_a_command_ended_is_told_again_or_left_for_the_next_daemon_when_it_is_refused() {
    let full = json!({"type": "error", "code": "too_many_connections", "message": "try again later"});
    let broken = json!({"type": "error", "code": "storage", "message": "seq.db cannot be read"});
    let done = json!({"type": "done", "released": true});
    for (answers, notes) in [(&[full.clone(), full, done][..], 0), (&[broken][..], 1)] {
        let home = Home::new();
        let gate = home.gate("gate");
        let mut daemon = Played::new(&home);
        let running = daemon.run(&home, &[], &["./worker", "a", "gate"]);
        let (mut caller, _) = daemon.accept();
        caller.gives_turn(5);
        caller.hears_started(5);
        daemon.dies();
        drop(caller);
        gate.open();
        let mut kept = Vec::new();
        for answer in answers {
            let (mut caller, mut request) = daemon.accept();
            // It may have begun to take up the turn.
            while request["op"] != "done" {
                kept.push(caller);
                (caller, request) = daemon.accept();
            }
            assert_eq!((&request["ticket"], &request["exit_status"]), (&5.into(), &0.into()));
            caller.says(answer);
        }
        running.wait().is_silent(0);
        let left = fs::read_dir(home.file("played.sock.done")).map_or(0, Iterator::count);
        assert_eq!(left, notes, "{answers:?}");
    }
}

#[test]
fn a_daemon_of_another_protocol_is_named() {
    // Each is told at once, although no answer to what it asked ever comes.
    for words in [
        &["run", "-d", "foo.com", "--", "true"][..],
        &["sequence", "-d", "foo.com"],
        &["wait", "-d", "foo.com"],
        &["watch"],
        &["status"],
        &["done", "-d", "foo.com"],
        &["cancel", "1"],
        &["release", "1"],
        &["log"],
        &["info"],
        &["restart"],
        &["stop"],
    ] {
        let home = Home::new();
        let daemon = Played::new(&home);
        let running = home.start(&[&words[..1], &["--socket", "played.sock"], &words[1..]].concat());
        let (stream, _) = daemon.listener.accept().expect("a client");
        let mut caller = Caller(BufReader::new(stream));
        caller.says(&json!({"type": "hello", "protocol": 2, "version": "9.9.9", "pid": 1}));
        let words = format!(
            "(it is version 9.9.9 and speaks protocol 2, this seq speaks 1): use the seq of its version, or end it with \
             'kill {}'",
            std::process::id()
        );
        running.wait().complains(125, &words);
    }
}

#[test]
fn a_daemon_that_cannot_restart_or_has_no_history_is_named() {
    for (command, words) in [
        ("restart", "the daemon (seqd 0.0.1, pid 1) is too old to hand its turns over: end it with 'seq stop'"),
        ("log", "the daemon is too old to have a history: end it with 'seq stop'"),
    ] {
        let home = Home::new();
        let daemon = Played::new(&home);
        let socket = daemon.socket.to_str().expect("UTF-8");
        let running = home.start(&[command, "--socket", socket]);
        let (mut caller, mut request) = daemon.accept();
        if request["op"] == "info" {
            caller.says(&json!({
                "type": "info", "version": "0.0.1", "protocol": 1, "pid": 1, "uid": 0, "socket": socket, "uptime_ms": 0,
                "since": "", "counts": {"connections": 1, "domains": 0, "holders": 0, "waiters": 0, "turns": 0},
                "limits": {
                    "line_bytes": 1, "connections": 1, "tickets_per_connection": 1, "waiters_per_domain": 1, "domains": 1
                }
            }));
            request = caller.request();
        }
        assert_eq!(request["op"], *command);
        caller.refuses("unknown_operation", "no such operation");
        running.wait().complains(125, words);
    }
}
