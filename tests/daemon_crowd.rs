//! Many clients, and silent ones: none harms another.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![expect(clippy::print_stdout, reason = "a figure is what a failure is looked into with")]

#[path = "support/wire.rs"]
mod wire;

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use wire::{Client, DEADLINE, Daemon, Sleeper, raise_descriptor_limit, until};

#[test]
fn five_thousand_connects_to_a_stopped_daemon_are_answered_or_time_out() {
    raise_descriptor_limit();
    let daemon = Daemon::start();
    let before = rustix::fs::lstat(&daemon.socket).unwrap().st_ino;
    daemon.signal(Signal::STOP);
    let address = SocketAddrUnix::new(&daemon.socket).unwrap();
    let mut connected = Vec::new();
    let mut full = 0;
    for _ in 0..5_000 {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket: OwnedFd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        match rustix::net::connect(&socket, &address) {
            Ok(()) => {
                let stream = UnixStream::from(socket);
                (&stream).write_all(b"{\"op\":\"hello\",\"protocol\":1}\n").unwrap();
                connected.push(stream);
            }
            // The backlog is full: the client waits and tries again, and nobody removes the socket.
            Err(Errno::AGAIN) => full += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(connected.len() >= 4_000, "{} connected, {full} found the backlog full", connected.len());
    daemon.signal(Signal::CONT);
    for stream in connected {
        stream.set_nonblocking(false).unwrap();
        let mut client = Client::from(stream);
        assert_eq!(client.reply()["type"], "hello");
    }
    assert_eq!(rustix::fs::lstat(&daemon.socket).unwrap().st_ino, before);
    daemon.connect().takes_turn("a");
}

#[test]
fn an_idle_connection_costs_little() {
    raise_descriptor_limit();
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.takes_turn("a");
    let before = daemon.memory();
    let idle: Vec<Client> = (0..2_000).map(|_| daemon.connect()).collect();
    until("all are in", || {
        client.send(r#"{"op":"info"}"#);
        (client.reply()["counts"]["connections"] == 2_001).then_some(())
    });
    let each = (daemon.memory() - before) / 2_000;
    println!("an idle connection costs {each} bytes of resident memory");
    assert!(each < 4_096, "{each} bytes");
    drop(idle);
}

#[test]
fn a_waiting_ticket_costs_little() {
    const BATCH: usize = 500;
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    client.takes_turn("a");
    let mut wait = |batch: usize| {
        let request = |number| {
            let of_run =
                format!(r#""request_id":"r{number:06}","secret":"{number:032}","command":"./deploy.sh --all""#);
            format!(r#"{{"op":"sequence","domain":"a",{of_run}}}"#)
        };
        let requests: Vec<String> = (batch * BATCH..(batch + 1) * BATCH).map(request).collect();
        client.send(&requests.join("\n"));
        assert!((0..BATCH).all(|_| client.line().contains("queued")));
    };
    // What the daemon needs whoever waits is there by then.
    (0..40).for_each(&mut wait);
    let before = daemon.memory();
    (40..80).for_each(&mut wait);
    let each = (daemon.memory() - before) / (40 * BATCH as u64);
    println!("a waiting ticket costs {each} bytes of resident memory");
    assert!(each <= 380, "{each} bytes");
}

#[test]
fn too_many_connections_are_turned_away_and_later_ones_are_let_in_again() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("seq/seqd.sock");
    // 124 descriptors: 64 for the daemon, and 3 for each of 20 clients.
    let daemon = start_with_descriptors(&socket, 124);
    let mut clients = twenty_with_a_turn(&socket);
    let refusal = r#"{"type":"error","code":"too_many_connections","message":"20 connections are open already: try again later"}"#;
    // A few more may run short errands, and nothing else.
    for ask in [r#"{"op":"sequence","domain":"new"}"#, r#"{"op":"wait","domain":"0"}"#, r#"{"op":"watch"}"#] {
        let mut refused = Client::connect(&socket);
        refused.send(ask);
        refused.hears(&[refusal]);
        refused.hears_the_end();
    }
    let mut errands: Vec<Client> = (0..8).map(|_| Client::connect(&socket)).collect();
    for errand in &mut errands {
        assert!(errand.ask(r#"{"op":"status"}"#).contains("status"));
    }
    // One more waits until the first of them has asked for nothing for a moment.
    let mut further = Client::connect(&socket);
    assert!(further.ask(r#"{"op":"release","domain":"0"}"#).contains("released"));
    errands[0].hears(&[
        r#"{"type":"error","code":"too_many_connections","message":"this connection made room for another: it asked for nothing"}"#,
    ]);
    errands[0].hears_the_end();
    drop(errands);
    clients.pop();
    until("there is room again", || {
        let mut client = Client::connect(&socket);
        client.tries(r#"{"op":"sequence","domain":"new"}"#).contains("active").then_some(())
    });
    drop(daemon);
}

#[test]
fn who_asks_for_nothing_makes_room_for_others() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("seq/seqd.sock");
    let daemon = start_with_descriptors(&socket, 124);
    // The last eight have the places that are for errands.
    let mut idle: Vec<Client> = (0..28).map(|_| Client::connect(&socket)).collect();
    for client in &mut idle {
        assert!(client.ask(r#"{"op":"hello","protocol":1}"#).contains("hello"));
    }
    // The first of them watches, the second waits for a turn that the third has.
    idle[0].send(r#"{"op":"watch"}"#);
    assert_eq!(idle[0].reply()["type"], "watching");
    idle[0].reply();
    idle[2].takes_turn("a");
    assert!(idle[1].ask(r#"{"op":"sequence","domain":"a"}"#).contains("queued"));
    let newcomers: Vec<Client> = (0..10)
        .map(|number| {
            until("one of the others is idle", || {
                let mut client = Client::connect(&socket);
                let ask = format!(r#"{{"op":"sequence","domain":"new {number}"}}"#);
                client.tries(&ask).contains("active").then_some(client)
            })
        })
        .collect();
    idle[3].hears(&[
        r#"{"type":"error","code":"too_many_connections","message":"this connection made room for another: it asked for nothing"}"#,
    ]);
    idle[3].hears_the_end();
    idle[2].ask(r#"{"op":"done","domain":"a"}"#);
    assert_eq!(idle[1].reply()["type"], "active");
    drop((newcomers, daemon));
}

#[test]
fn who_gives_up_while_it_waits_for_a_place_leaves_its_connection() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("seq/seqd.sock");
    let daemon = start_with_descriptors(&socket, 124);
    let mut clients = twenty_with_a_turn(&socket);
    let mut errand = Client::connect(&socket);
    // For a moment the last of them may ask for more: so long a new turn is waited for.
    assert!(clients[19].ask(r#"{"op":"done","domain":"19"}"#).contains("done"));
    for _ in 0..3 {
        let lines = "{\"op\":\"hello\",\"protocol\":1}\n{\"op\":\"sequence\",\"domain\":\"new\"}";
        // What comes together is heard together.
        let mut client = Client::connect(&socket);
        assert!(client.ask(lines).contains("hello"));
        // What it says now is read only once it has its turn.
        client.send(r#"{"op":"hello","protocol":1}"#);
    }
    until("they are gone", || {
        errand.send(r#"{"op":"info"}"#);
        (errand.reply()["counts"]["connections"] == 21).then_some(())
    });
    drop((clients, daemon));
}

#[test]
fn a_burst_of_connections_that_say_nothing_keeps_nobody_out() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("seq/seqd.sock");
    let daemon = start_with_descriptors(&socket, 124);
    let mut worker = Client::connect(&socket);
    worker.takes_turn("worker");
    let silent: Vec<UnixStream> = (0..500).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let since = Instant::now();
    let take_turn = |number: u32| {
        let mut client = Client::connect(&socket);
        client.takes_turn(&number.to_string());
        client
    };
    let clients: Vec<Client> = (0..10).map(take_turn).collect();
    assert!(Client::connect(&socket).ask(r#"{"op":"release","domain":"0"}"#).contains("released"));
    assert!(since.elapsed() < DEADLINE / 2, "{:?}", since.elapsed());
    worker.ask(r#"{"op":"done","domain":"worker"}"#);
    drop((silent, clients, daemon));
}

#[test]
fn a_burst_of_connections_that_only_said_hello_keeps_nobody_out() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("seq/seqd.sock");
    let daemon = start_with_descriptors(&socket, 124);
    let say_hello = |_| {
        let mut client = Client::connect(&socket);
        // It may be sent away before it has said that.
        client.tries_to_say(r#"{"op":"hello","protocol":1}"#);
        client
    };
    let idle: Vec<Client> = (0..200).map(say_hello).collect();
    let since = Instant::now();
    // All places are taken, and nobody has been idle for long: a turn is waited for, not refused.
    let take_turn = |number: u32| {
        let mut client = Client::connect(&socket);
        client.takes_turn(&number.to_string());
        client
    };
    let clients: Vec<Client> = (0..10).map(take_turn).collect();
    assert!(since.elapsed() < DEADLINE / 2, "{:?}", since.elapsed());
    drop((idle, clients, daemon));
}

#[test]
fn those_who_wait_for_room_do_not_fill_the_log() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("seq/seqd.sock");
    let daemon = start_with_descriptors(&socket, 124);
    let _clients = twenty_with_a_turn(&socket);
    let silent: Vec<UnixStream> = (0..40).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    assert!(Client::connect(&socket).ask(r#"{"op":"info"}"#).contains("info"));
    drop(silent);
    drop(daemon);
    let log = std::fs::read_to_string(socket.with_file_name("seqd.log")).unwrap();
    let lines = log.lines().filter(|line| line.contains("waits for room")).count();
    assert!((1..=5).contains(&lines), "{log}");
}

/// As many clients as there may be, each with a turn.
fn twenty_with_a_turn(socket: &std::path::Path) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(socket)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.takes_turn(&number.to_string());
    }
    clients
}

#[test]
fn pipes_of_one_client_do_not_use_up_what_others_need() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("seq/seqd.sock");
    let daemon = start_with_descriptors(&socket, 124);
    let (mut greedy, mut other) = (Client::connect(&socket), Client::connect(&socket));
    other.takes_turn("other");
    let mut given = Vec::new();
    let refusal = loop {
        let (reading, writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let domain = given.len();
        greedy.send_with(&format!(r#"{{"op":"sequence","domain":"{domain}","descriptors":1}}"#), &[reading.as_fd()]);
        let reply = greedy.reply();
        if reply["type"] == "error" {
            break reply;
        }
        given.push(writing);
        assert!(given.len() < 124);
    };
    assert_eq!(refusal["code"], "too_many_requests");
    let message = refusal["message"].as_str().unwrap();
    assert!(message.contains("limit on open files, 124 (ulimit -Hn)"), "{message}");
    // It has no place, and what there is stays kept by its pipe.
    let status = other.ask(&format!(r#"{{"op":"status","domain":"{}"}}"#, given.len()));
    assert!(!status.contains("holder"), "{status}");
    // Others are let in, and the process of a turn that there is can be told.
    let sleeper = Sleeper::start();
    let ask = r#"{"op":"started","ticket":1,"pid":1,"descriptors":1}"#;
    other.send_with(ask, &[sleeper.pidfd().as_fd()]);
    other.hears_nothing();
    let mut later: Vec<Client> = (0..10).map(|_| Client::connect(&socket)).collect();
    for (number, client) in later.iter_mut().enumerate() {
        client.takes_turn(&format!("later {number}"));
    }
    drop((greedy, given));
    until("there is room again", || {
        let (reading, _writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        other.send_with(r#"{"op":"sequence","domain":"free","descriptors":1}"#, &[reading.as_fd()]);
        (other.reply()["type"] != "error").then_some(())
    });
    drop(daemon);
}

/// The next daemon may be started where a process may have fewer open files than where the last one was.
#[test]
fn a_daemon_with_few_descriptors_starts_and_no_turn_is_free_that_it_cannot_watch() {
    const TURNS: usize = 140;
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("seq/seqd.sock");
    let daemon = Daemon::start_at(&socket);
    let mut client = daemon.connect();
    let mut given = Vec::new();
    for domain in 0..TURNS {
        let (reading, writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        client.send_with(&format!(r#"{{"op":"sequence","domain":"{domain}","descriptors":1}}"#), &[reading.as_fd()]);
        assert_eq!(client.reply()["type"], "active");
        given.push(writing);
    }
    drop(client);
    let holders = |client: &mut Client| {
        client.send(r#"{"op":"status"}"#);
        client.reply()["domains"].as_array().unwrap().clone()
    };
    until("their client is gone", || {
        let lines = holders(&mut daemon.connect());
        lines.iter().all(|line| line["holders"][0]["state"] == "orphaned").then_some(())
    });
    daemon.kill();
    let daemon = start_with_descriptors(&socket, 130);
    let mut client = Client::connect(&socket);
    assert_eq!(holders(&mut client).len(), TURNS);
    let log = std::fs::read_to_string(socket.with_file_name("seqd.log")).unwrap();
    let unseen = log.lines().filter(|line| line.contains("there are no descriptors left for it")).count();
    assert!((1..TURNS).contains(&unseen), "{log}");
    drop(given);
    let left = until("those that it watches end", || {
        let left = holders(&mut client);
        (left.len() == unseen).then_some(left)
    });
    let ticket = &left[0]["holders"][0]["ticket"];
    assert_eq!(left[0]["holders"][0]["unseen"], true);
    assert!(client.ask(&format!(r#"{{"op":"release","ticket":{ticket}}}"#)).contains("released"));
    assert_eq!(holders(&mut client).len(), unseen - 1);
    drop(daemon);
}

/// A daemon that may have so many descriptors.
fn start_with_descriptors(socket: &std::path::Path, descriptors: u32) -> impl Drop {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    struct Ending(Child);
    impl Drop for Ending {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    let script = format!("ulimit -n {descriptors}; exec \"$0\" --detached --socket \"$1\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_seqd")]).arg(socket);
    let mut daemon = Ending(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    let mut said = String::new();
    BufReader::new(daemon.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with("ready "), "{said}");
    daemon
}
