//! The one clock that order, deadlines and leases go by.

use std::fmt;
use std::ops::Add;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment in nanoseconds since the machine started, suspended time included (`CLOCK_BOOTTIME`, `clock_gettime(2)`).
///
/// It never jumps and never goes back while the machine is up. It means nothing on another machine or after a reboot.
/// It is the same in every time namespace, so that a daemon in a container can go on with what one outside of it wrote
/// down, and the other way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(u64);

impl Time {
    /// The moment the machine started.
    pub const ZERO: Time = Time(0);

    /// The present moment. This is the only place that reads the clock.
    pub fn now() -> Time {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
        Time((seconds * 1_000_000_000 + nanoseconds).saturating_add_signed(-namespace_offset()))
    }

    /// What this process's own `CLOCK_BOOTTIME` shows at that moment, in nanoseconds: for a timer of the system.
    pub fn on_own_clock(self) -> u64 {
        self.0.saturating_add_signed(namespace_offset())
    }

    /// The moment `nanoseconds` after the machine started.
    pub const fn from_nanos(nanoseconds: u64) -> Time {
        Time(nanoseconds)
    }

    /// Nanoseconds since the machine started.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// By how many nanoseconds `CLOCK_BOOTTIME` of this process is ahead of the machine's (`time_namespaces(7)`). It cannot
/// change any more once a process is in the namespace.
pub fn namespace_offset() -> i64 {
    static OFFSET: OnceLock<i64> = OnceLock::new();
    // Before Linux 5.6 there is no such file, and no such namespace.
    *OFFSET.get_or_init(|| std::fs::read_to_string("/proc/self/timens_offsets").map_or(0, |text| boottime_of(&text)))
}

fn boottime_of(offsets: &str) -> i64 {
    let find = || {
        let line = offsets.lines().find_map(|line| line.strip_prefix("boottime"))?;
        let mut fields = line.split_ascii_whitespace().map(str::parse::<i64>);
        let (seconds, nanoseconds) = (fields.next()?.ok()?, fields.next()?.ok()?);
        seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
    };
    find().unwrap_or(0)
}

impl Add<Duration> for Time {
    type Output = Time;

    /// A moment later; saturates at the end of time, some 584 years after the start.
    fn add(self, later: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// Whole milliseconds, as durations are on the wire.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration for people, in at most two units: `350ms`, `4.2s`, `1m 5s`, `3m`, `2h 3m`, `1d 4h`.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds, duration.subsec_millis() / 100) {
        (0, _) => format!("{}ms", duration.as_millis()),
        (1..10, tenths @ 1..) => format!("{seconds}.{tenths}s"),
        (1..60, _) => format!("{seconds}s"),
        (60..3_600, _) => two_units(seconds / 60, "m", seconds % 60, "s"),
        (3_600..86_400, _) => two_units(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => two_units(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

fn two_units(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit} {small}{small_unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_the_time_namespace_is_read() {
        let offsets = "monotonic           0         0\nboottime        86400         7\n";
        assert_eq!(boottime_of(offsets), 86_400_000_000_007);
        assert_eq!(boottime_of("monotonic 1 1\nboottime -3600 0\n"), -3_600_000_000_000);
        assert_eq!(boottime_of(""), 0);
    }

    #[test]
    fn durations_are_shown_in_at_most_two_units() {
        let cases = [
            (0, "0ms"),
            (999, "999ms"),
            (4_000, "4s"),
            (4_250, "4.2s"),
            (59_999, "59s"),
            (65_000, "1m 5s"),
            (180_000, "3m"),
            (7_380_000, "2h 3m"),
            (100_800_000, "1d 4h"),
        ];
        for (milliseconds, shown) in cases {
            assert_eq!(show_duration(Duration::from_millis(milliseconds)), shown);
        }
    }
}
