//! How long to wait before the next try to reach a daemon that has gone.

use std::time::Duration;

/// After the first try that failed.
const FIRST: Duration = Duration::from_millis(20);

/// The pause doubles up to this.
const LONGEST: Duration = Duration::from_secs(1);

/// As far as it goes while the daemon says why it cannot start.
const LONGEST_AFTER_REFUSAL: Duration = Duration::from_secs(5);

/// How long a client that waits looks for the next daemon.
pub(super) const RETURN_TIMEOUT: Duration = Duration::from_mins(10);

/// Pauses between tries, each longer than the one before.
#[derive(Debug)]
pub(super) struct Pause(Duration);

impl Pause {
    /// Begins with the shortest.
    pub(super) fn new() -> Pause {
        Pause(FIRST)
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Duration {
        self.next_up_to(LONGEST)
    }

    /// The next one, while a daemon cannot start before somebody has done something about it: each try is a line in its
    /// log.
    pub(super) fn next_after_refusal(&mut self) -> Duration {
        self.next_up_to(LONGEST_AFTER_REFUSAL)
    }

    fn next_up_to(&mut self, longest: Duration) -> Duration {
        let now = self.0;
        self.0 = longest.min(now * 2);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second() {
        let mut pause = Pause::new();
        let pauses: Vec<u128> = (0..9).map(|_| pause.next().as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1_000, 1_000, 1_000]);
    }
}
