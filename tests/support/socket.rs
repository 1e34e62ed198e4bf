//! A bare connection to the daemon: what is asked and answered is JSON, as in the manual.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::DEADLINE;

/// An open connection.
#[derive(Debug)]
pub struct Wire {
    stream: BufReader<UnixStream>,
}

impl Wire {
    /// Connects; nothing when no daemon listens.
    pub fn connect(socket: &Path) -> Option<Wire> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        Some(Wire { stream: BufReader::new(stream) })
    }

    /// Sends a request.
    pub fn send(&mut self, request: &Value) -> std::io::Result<()> {
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes())
    }

    /// The next reply; nothing at the end of the connection.
    pub fn receive(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(read) if read > 0 => Some(serde_json::from_str(&line).expect("JSON")),
            _ => None,
        }
    }

    /// Sends a request and gives the next reply.
    pub fn ask(&mut self, request: &Value) -> Option<Value> {
        self.send(request).ok()?;
        self.receive()
    }
}
