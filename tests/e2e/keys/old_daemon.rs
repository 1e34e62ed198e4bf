//! A daemon from before there were keys.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};

use crate::support::Home;

/// Stands between `seq` and the daemon, which hears of no keys, as one that passes by what it does not know.
fn old_daemon(home: &Home) -> PathBuf {
    home.warm();
    let (socket, daemon) = (home.out().with_extension("sock"), home.socket());
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let daemon = daemon.clone();
            thread::spawn(move || serve(&client.unwrap(), &daemon));
        }
    });
    socket
}

fn serve(client: &UnixStream, daemon: &Path) {
    let Ok(daemon) = UnixStream::connect(daemon) else { return };
    thread::scope(|scope| {
        scope.spawn(|| {
            _ = std::io::copy(&mut &daemon, &mut &*client);
            _ = client.shutdown(std::net::Shutdown::Both);
        });
        for line in BufReader::new(client).lines().map_while(Result::ok) {
            let mut request: Value = serde_json::from_str(&line).expect("JSON");
            request.as_object_mut().unwrap().remove("key");
            if request["op"].as_str().unwrap().starts_with("key_") {
                request["op"] = json!("not known yet");
            }
            _ = (&daemon).write_all(format!("{request}\n").as_bytes());
        }
        _ = daemon.shutdown(std::net::Shutdown::Both);
    });
}

const WAY_OUT: &str = "seq: the daemon is too old to know of keys: put the new one in its place with 'seq restart'\n";

#[test]
fn nothing_runs_under_a_daemon_that_knows_no_keys_and_the_turn_is_given_back() {
    let home = Home::new();
    let socket = old_daemon(&home);
    let run = |options: &[&str]| {
        // Without a descriptor, which would not come through.
        let arguments = [&["run", "--close", "-d", "foo.com"], options, &["--", "sh", "-c", "echo ran >>log"]].concat();
        home.finish(home.seq_command(&arguments).env("SEQ_SOCKET", &socket))
    };
    run(&["--key", "k"]).says(125, "", WAY_OUT);
    assert!(home.log().is_empty());
    home.await_idle("foo.com");
    run(&["--key", "k", "-q"]).says(125, "", WAY_OUT);
    run(&[]).is_silent(0);
    assert_eq!(home.log(), ["ran"]);
}

#[test]
fn who_waits_in_line_there_runs_nothing_either() {
    let home = Home::new();
    let socket = old_daemon(&home);
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a", "gate");
    let arguments = ["run", "--close", "-d", "foo.com", "--key", "k", "--", "./worker", "b"];
    let waiter = home.launch(home.seq_command(&arguments).env("SEQ_SOCKET", &socket));
    home.await_waiters("foo.com", 1);
    gate.open();
    holder.wait().is_silent(0);
    waiter.wait().says(125, "", WAY_OUT);
    home.await_idle("foo.com");
    assert_eq!(home.log(), ["start a", "end a"]);
}

#[test]
fn its_keys_cannot_be_listed_shown_or_forgotten() {
    let home = Home::new();
    let socket = old_daemon(&home);
    for arguments in [&["key", "list"][..], &["key", "list", "--json"], &["key", "show", "k"], &["key", "forget", "k"]]
    {
        home.finish(home.seq_command(arguments).env("SEQ_SOCKET", &socket)).says(125, "", WAY_OUT);
    }
}
