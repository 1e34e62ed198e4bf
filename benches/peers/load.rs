//! The one driver of all servers: so many connections, each asking for the next thing as soon as it has its answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::stage::Server;

/// What is said to a server, and which answer means what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// A turn of seq, taken and given back.
    Seq,
    /// The same with a key, set unless it is there, and deleted.
    Redis,
    /// What is said to seq, said back by a server that does nothing else.
    Echo,
}

/// How often pairs were counted.
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// One connection.
struct Client {
    stream: UnixStream,
    speech: Speech,
    take: Vec<u8>,
    give_back: Vec<u8>,
    heard: Vec<u8>,
    has_turn: bool,
}

/// Pairs a second of `connections` to `server` within `time`, each with a name of its own or all with one.
pub(crate) fn pairs(server: &Server, speech: Speech, connections: usize, is_shared: bool, time: Duration) -> f64 {
    // A key outlives the connection that has set it, so each time has names of its own.
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let mut clients: Vec<Client> =
        (0..connections).map(|number| Client::new(server, speech, (run, number), is_shared)).collect();
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    for (number, client) in (0..).zip(&mut clients) {
        epoll::add(&poll, &client.stream, epoll::EventData::new_u64(number), epoll::EventFlags::IN).expect("epoll");
        client.ask();
    }
    let mut events = Vec::with_capacity(connections);
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < time {
        // With one connection a read waits as well.
        if let [client] = &mut clients[..] {
            count += client.hear();
            continue;
        }
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None).expect("epoll");
        for event in &events {
            let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            count += clients[number].hear();
        }
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

impl Client {
    fn new(server: &Server, speech: Speech, (run, number): (usize, usize), is_shared: bool) -> Client {
        let name = if is_shared { format!("all{run}") } else { format!("d{run}-{number}") };
        let (take, give_back) = match speech {
            Speech::Seq | Speech::Echo => (
                format!("{{\"op\":\"sequence\",\"domain\":\"{name}\",\"request_id\":\"r{number}\"}}\n"),
                format!("{{\"op\":\"done\",\"domain\":\"{name}\",\"request_id\":\"r{number}\"}}\n"),
            ),
            Speech::Redis => {
                (command(&["SET", &name, &format!("token{number}"), "NX", "PX", "30000"]), command(&["DEL", &name]))
            }
        };
        let stream = server.connect();
        let (take, give_back) = (take.into_bytes(), give_back.into_bytes());
        Client { stream, speech, take, give_back, heard: Vec::new(), has_turn: false }
    }

    fn ask(&mut self) {
        let line = if self.has_turn { &self.give_back } else { &self.take };
        self.stream.write_all(line).expect("the server reads");
    }

    /// Hears what there is, and asks for the next thing; gives the pairs that are complete by that.
    fn hear(&mut self) -> u32 {
        let mut bytes = [0; 4096];
        let read = self.stream.read(&mut bytes).expect("the server answers");
        assert!(read > 0, "the server has gone");
        let mut pairs = 0;
        for byte in &bytes[..read] {
            self.heard.push(*byte);
            if *byte == b'\n' {
                pairs += self.understand();
                self.heard.clear();
            }
        }
        pairs
    }

    fn understand(&mut self) -> u32 {
        let is_waiting = match self.speech {
            Speech::Seq if self.heard.starts_with(b"{\"type\":\"queued\"") => true,
            Speech::Seq => {
                let expected: &[u8] = if self.has_turn { b"{\"type\":\"done\"" } else { b"{\"type\":\"active\"" };
                assert!(self.heard.starts_with(expected), "{}", self.heard.escape_ascii());
                false
            }
            // Somebody else has it: all that a client can do is ask again.
            Speech::Redis if self.heard.starts_with(b"$-1") => {
                self.ask();
                true
            }
            Speech::Redis => {
                assert!(matches!(self.heard.first(), Some(b'+' | b':')), "{}", self.heard.escape_ascii());
                false
            }
            Speech::Echo => false,
        };
        if is_waiting {
            return 0;
        }
        let is_pair = self.has_turn;
        self.has_turn = !self.has_turn;
        self.ask();
        u32::from(is_pair)
    }
}

/// A command as Redis takes it (RESP, "Sending commands to a Redis server").
fn command(words: &[&str]) -> String {
    let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
    format!("*{}\r\n{}", words.len(), words.iter().map(word).collect::<String>())
}
