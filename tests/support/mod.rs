//! What the end-to-end tests share: a home of one's own with a daemon of one's own, commands in it, and waiting for facts.
//!
//! Nothing in here sleeps for a while and hopes: every wait is for a fact, has a deadline, and fails with what there is
//! to see.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test program uses its own part of it")]

mod home;
mod running;
mod gate;
mod socket;
mod processes;
mod terminal;
mod signals;
mod keys;

pub use gate::Gate;
pub use home::{Home, daemon_pid, explain};
pub use keys::{DOMAIN, without_age};
pub use processes::{Process, is_alive, of_home, signal};
pub use running::{Ended, Running};
pub use socket::Wire;
pub use terminal::Terminal;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a fact may take to become true. Generous: it is only ever reached when something is broken.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks at something that cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The program under test: the one just built, or that in the directory `SEQ_UNDER_TEST`.
pub fn seq_program() -> PathBuf {
    under_test("seq", assert_cmd::cargo::cargo_bin!("seq"))
}

/// The daemon's program.
pub fn seqd_program() -> PathBuf {
    under_test("seqd", assert_cmd::cargo::cargo_bin!("seqd"))
}

fn under_test(name: &str, built: &Path) -> PathBuf {
    std::env::var_os("SEQ_UNDER_TEST").map_or_else(|| built.to_owned(), |directory| PathBuf::from(directory).join(name))
}

/// Looks until `fact` gives something; nothing when it does not before the deadline.
pub fn look_for<T>(mut fact: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = fact() {
            return Some(found);
        }
        if start.elapsed() > DEADLINE {
            return None;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// A number from the environment, for tests that have a long mode.
pub fn size(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().map_or(usual, |text| text.parse().expect("a number"))
}
