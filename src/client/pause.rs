//! How long to wait before the next try to reach a daemon that has gone.

use std::time::Duration;

/// After the first try that failed.
const FIRST: Duration = Duration::from_millis(20);

/// The pause doubles up to this.
const LONGEST: Duration = Duration::from_secs(1);

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
        let now = self.0;
        self.0 = LONGEST.min(now * 2);
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
