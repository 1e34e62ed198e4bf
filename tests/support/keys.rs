//! Keys: what is recorded of them, and commands that run once.

use serde_json::{Value, json};

use super::{Home, Running, Wire, look_for, seqd_program};

/// The name of the domain in which keys are used.
pub const DOMAIN: &str = "foo.com";

impl Home {
    /// Starts a command that is to run once.
    #[track_caller]
    pub fn once(&self, key: &str, options: &[&str], command: &[&str]) -> Running {
        self.start(&[&["run", "-d", DOMAIN, "--key", key], options, &["--"], command].concat())
    }

    /// What is recorded of a key; `null` when there is nothing, or no daemon that answers.
    pub fn key(&self, key: &str) -> Value {
        let request = json!({"op": "key_list", "domain": DOMAIN, "key": key});
        let answer = Wire::connect(&self.socket()).and_then(|mut wire| wire.ask(&request));
        answer.map(|answer| answer["keys"][0].clone()).unwrap_or_default()
    }

    /// Waits until what is recorded of a key is as it should be, and gives it.
    #[track_caller]
    pub fn await_key(&self, key: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        self.await_fact(&format!("key {key}: {what}"), || Some(self.key(key)).filter(|found| is_so(found)))
    }

    /// Waits until a key is in this state, and gives what is recorded of it.
    #[track_caller]
    pub fn await_key_state(&self, key: &str, state: &str) -> Value {
        self.await_key(key, state, |found| found["state"] == state)
    }

    /// Waits until so many wait for the outcome of a key.
    #[track_caller]
    pub fn await_followers(&self, key: &str, followers: u64) {
        let what = format!("{followers} wait for its outcome");
        self.await_key(key, &what, |found| !found.is_null() && found["followers"].as_u64().unwrap_or(0) == followers);
    }

    /// Starts a daemon that makes a fault on purpose (`src/store/fault.rs`), and waits until it listens, or has ended.
    #[track_caller]
    pub fn faulty_daemon(&self, fault: &str) -> Running {
        let mut daemon = self.launch(self.command(seqd_program()).env("SEQD_FAULT", fault));
        look_for(|| (daemon.has_ended() || Wire::connect(&self.socket()).is_some()).then_some(()))
            .expect("a daemon that listens, or ends");
        daemon
    }
}

/// What was said, without how long ago something was.
pub fn without_age(said: &str) -> String {
    let mut text = said.to_owned();
    let Some(start) = text.find("already done ").map(|start| start + "already done ".len()) else { return text };
    if let Some(end) = text[start..].find(" ago") {
        text.replace_range(start..start + end, "some time");
    }
    text
}
