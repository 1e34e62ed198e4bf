//! The daemon dies between what it does and what it says: nothing is done twice, and what was done is not called refused.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{Ended, Home};
use serde_json::{Value, json};

/// Stands between `seq` and the daemon: swallows the first answer of one type, and closes the connection instead.
struct Proxy {
    socket: PathBuf,
    swallowed: Arc<AtomicBool>,
}

impl Proxy {
    fn start(home: &Home, swallow: &'static str) -> Proxy {
        let socket = home.out().with_extension("sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let swallowed = Arc::new(AtomicBool::new(false));
        let (daemon, is_swallowed) = (home.socket(), Arc::clone(&swallowed));
        thread::spawn(move || {
            for client in listener.incoming() {
                serve(&client.expect("a connection"), &daemon, swallow, &is_swallowed);
            }
        });
        Proxy { socket, swallowed }
    }

    /// Runs `seq` with `arguments` through it; the answer was lost once.
    fn seq(&self, home: &Home, arguments: &[&str]) -> Ended {
        let ended = home.finish(home.seq_command(arguments).env("SEQ_SOCKET", &self.socket));
        assert!(self.swallowed.load(Ordering::SeqCst), "no answer was lost: {}", ended.stderr());
        ended
    }
}

/// Passes on what the client says, and what the daemon answers but for what is swallowed. Both directions end together.
fn serve(client: &UnixStream, daemon: &Path, swallow: &str, swallowed: &AtomicBool) {
    let daemon = UnixStream::connect(daemon).expect("the daemon");
    thread::scope(|scope| {
        scope.spawn(|| {
            _ = std::io::copy(&mut &*client, &mut &daemon);
            _ = daemon.shutdown(std::net::Shutdown::Both);
        });
        for line in BufReader::new(&daemon).lines().map_while(Result::ok) {
            let reply: Value = serde_json::from_str(&line).expect("JSON");
            if reply["type"] == swallow && !swallowed.swap(true, Ordering::SeqCst) {
                break;
            }
            if (&*client).write_all(format!("{line}\n").as_bytes()).is_err() {
                break;
            }
        }
        _ = client.shutdown(std::net::Shutdown::Both);
        _ = daemon.shutdown(std::net::Shutdown::Both);
    });
}

/// Takes the turn in foo.com for an hour, and gives its ticket.
fn hold(home: &Home, request_id: &str) -> String {
    let ended =
        home.seq(&["sequence", "-d", "foo.com", "--lease", "1h", "--request-id", request_id, "--json"]).stdout();
    let turn: Value = serde_json::from_str(&ended).expect("JSON");
    turn["ticket"].to_string()
}

/// A turn in foo.com with two behind it, the second of which must still wait after the first has got the turn.
fn with_two_behind(ending: &str, answer: &'static str, by_ticket: bool) {
    let home = Home::new();
    let ticket = hold(&home, "first");
    let next = home.start(&["sequence", "-d", "foo.com", "--lease", "1h", "--request-id", "next"]);
    home.await_waiters("foo.com", 1);
    let last = home.start(&["sequence", "-d", "foo.com", "--lease", "1h", "--request-id", "last"]);
    home.await_waiters("foo.com", 2);
    let named: &[&str] = match (by_ticket, ending) {
        (false, _) => &["-d", "foo.com"],
        (true, "done") => &["--ticket", &ticket],
        (true, _) => &[&ticket],
    };
    Proxy::start(&home, answer).seq(&home, &[&[ending][..], named].concat()).is_silent(0);
    next.wait().is_silent(0);
    let line = home.wire().ask(&json!({"op": "status", "domain": "foo.com"})).expect("an answer")["domains"][0].clone();
    assert_eq!(line["holders"][0]["request_id"], "next", "the turn of another was taken: {line}");
    assert_eq!(line["waiters"][0]["request_id"], "last", "{line}");
    last.kill();
}

#[test]
fn a_release_of_a_domain_takes_one_turn() {
    with_two_behind("release", "released", false);
}

#[test]
fn a_release_of_a_ticket_is_no_failure() {
    with_two_behind("release", "released", true);
}

#[test]
fn a_done_of_a_domain_gives_one_turn_back() {
    with_two_behind("done", "done", false);
}

#[test]
fn a_done_of_a_ticket_gives_one_turn_back() {
    with_two_behind("done", "done", true);
}

#[test]
fn a_done_for_a_named_process_is_no_failure() {
    let home = Home::new();
    let gate = home.gate("gate");
    let shell = home.launch(home.command("sh").args(["-c", "read -r line <gate"]));
    home.seq(&["sequence", "-d", "foo.com", "--for-pid", &shell.pid().to_string()]).is_silent(0);
    let last = home.gate("last");
    let next = home.start(&["run", "-d", "foo.com", "--", "./worker", "next", "last"]);
    home.await_waiters("foo.com", 1);
    Proxy::start(&home, "done").seq(&home, &["done", "-d", "foo.com"]).is_silent(0);
    last.open();
    next.wait().is_silent(0);
    gate.open();
    shell.wait().is_silent(0);
}

#[test]
fn a_done_of_the_calling_shell_is_no_failure() {
    let home = Home::new();
    let script = r#"
        "$SEQ" sequence -d foo.com || exit
        echo $$ >shell
        read -r line <gate
        SEQ_SOCKET=$PROXY "$SEQ" done -d foo.com
    "#;
    let gate = home.gate("gate");
    let last = home.gate("last");
    home.warm();
    let proxy = Proxy::start(&home, "done");
    let shell = home.launch(home.command("sh").args(["-c", script]).env("PROXY", &proxy.socket));
    home.await_file("shell");
    let next = home.start(&["run", "-d", "foo.com", "--", "./worker", "next", "last"]);
    home.await_waiters("foo.com", 1);
    gate.open();
    shell.wait().is_silent(0);
    assert!(proxy.swallowed.load(Ordering::SeqCst), "no answer was lost");
    last.open();
    next.wait().is_silent(0);
}

#[test]
fn a_cancel_is_no_failure_and_ends_one_request() {
    for by_ticket in [false, true] {
        let home = Home::new();
        hold(&home, "first");
        let waiter = home.start(&["sequence", "-d", "foo.com", "--lease", "1h", "--request-id", "mine"]);
        home.await_waiters("foo.com", 1);
        let line = home.wire().ask(&json!({"op": "status", "domain": "foo.com"})).expect("an answer");
        let ticket = line["domains"][0]["waiters"][0]["ticket"].to_string();
        let named: &[&str] = if by_ticket { &[&ticket] } else { &["-d", "foo.com", "--request-id", "mine"] };
        Proxy::start(&home, "cancelled").seq(&home, &[&["cancel"][..], named].concat()).is_silent(0);
        assert_eq!(waiter.wait().status.code(), Some(76));
    }
}

#[test]
fn what_the_daemon_refuses_is_still_refused() {
    let home = Home::new();
    let ticket = hold(&home, "first");
    home.seq(&["cancel", &ticket]).complains(1, "release");
    home.seq(&["release", "4711"]).complains(1, "4711");
    home.seq(&["release", "-d", "nobody.com"]).complains(1, "nobody.com");
}
