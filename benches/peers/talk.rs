//! Many requests at once on one connection, whose answers are read and thrown away.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use super::stage::Server;

/// What is asked last: answers come in the order of their requests, so all are here once this one is.
const LAST: &[u8] = b"{\"op\":\"hello\",\"protocol\":1,\"request_id\":\"last\"}\n";

/// What must be in no answer: `bad_request` and its like, `busy`, `too_many_connections` and its like.
const REFUSALS: [&[u8]; 2] = [b"\"type\":\"error\",\"code\":\"b", b"\"type\":\"error\",\"code\":\"too_many_"];

pub(crate) struct Talk(UnixStream);

impl Talk {
    pub(crate) fn new(server: &Server) -> Talk {
        Talk(server.connect())
    }

    /// Sends all of them in one piece, and returns when they are answered.
    pub(crate) fn send(&mut self, requests: impl IntoIterator<Item = String>) {
        let mut bytes: Vec<u8> = requests.into_iter().collect::<String>().into_bytes();
        bytes.extend_from_slice(LAST);
        let mut writer = self.0.try_clone().expect("a descriptor");
        // What is read must not wait for what is written: both may be more than there is room for.
        thread::scope(|scope| {
            scope.spawn(move || writer.write_all(&bytes).expect("the daemon reads"));
            self.read_to_last();
        });
    }

    fn read_to_last(&mut self) {
        let mut bytes = vec![0; 64 * 1024];
        let mut end = Vec::new();
        while !is_last(&end) {
            let read = self.0.read(&mut bytes).expect("an answer in time");
            assert!(read > 0, "the daemon has gone");
            let is_refused = REFUSALS.iter().any(|refusal| contains(&bytes[..read], refusal));
            assert!(!is_refused, "{}", bytes[..read].escape_ascii());
            end.extend_from_slice(&bytes[..read]);
            end.drain(..end.len().saturating_sub(200));
        }
    }
}

/// Whether the answer to the last request is at the end.
fn is_last(end: &[u8]) -> bool {
    end.ends_with(b"\n") && contains(end, b"\"request_id\":\"last\"")
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
