//! Durations as the sequencer's sentences have them.

use std::fmt;
use std::time::Duration;

/// A duration as people say it, by its two largest units: `2m 3s`; below a second in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spoken(pub(super) Duration);

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
        match seconds {
            0 => write!(f, "{}ms", self.0.as_millis()),
            1..60 => write!(f, "{seconds}s"),
            60..3_600 => write!(f, "{minutes}m {}s", seconds % 60),
            3_600..86_400 => write!(f, "{hours}h {}m", minutes % 60),
            _ => write!(f, "{days}d {}h", hours % 24),
        }
    }
}
