//! The one clock that order, deadlines and leases go by.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Add;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::small_file;

/// A moment in nanoseconds since the machine started, suspended time included (`CLOCK_BOOTTIME`, `clock_gettime(2)`).
///
/// It never jumps and never goes back while the machine is up. It means nothing on another machine or after a reboot.
/// It is the same in every time namespace, so that a daemon in a container can go on with what one outside of it wrote
/// down, and the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct Time(
    /// One more than the nanoseconds, so that there is room for no moment at all: an `Option<Time>` is as small.
    NonZeroU64,
);

impl Time {
    /// The moment the machine started.
    pub const ZERO: Time = Time(NonZeroU64::MIN);

    /// The present moment. This is the only place that reads the clock.
    pub fn now() -> Time {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
        Time::from_nanos((seconds * 1_000_000_000 + nanoseconds).saturating_add_signed(-namespace_offset()))
    }

    /// What this process's own `CLOCK_BOOTTIME` shows at that moment, in nanoseconds: for a timer of the system.
    pub fn on_own_clock(self) -> u64 {
        self.as_nanos().saturating_add_signed(namespace_offset())
    }

    /// The moment `nanoseconds` after the machine started.
    pub const fn from_nanos(nanoseconds: u64) -> Time {
        Time(NonZeroU64::MIN.saturating_add(nanoseconds))
    }

    /// Nanoseconds since the machine started.
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for Time {
    fn default() -> Time {
        Time::ZERO
    }
}

impl From<u64> for Time {
    fn from(nanoseconds: u64) -> Time {
        Time::from_nanos(nanoseconds)
    }
}

impl From<Time> for u64 {
    fn from(time: Time) -> u64 {
        time.as_nanos()
    }
}

/// A moment for people, which may lie before the machine was started: in milliseconds since then, negative before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(i64);

impl Moment {
    /// The moment so many milliseconds after the machine was started.
    pub const fn from_millis(milliseconds: i64) -> Moment {
        Moment(milliseconds)
    }

    /// Milliseconds since the machine was started.
    pub const fn as_millis(self) -> i64 {
        self.0
    }
}

impl From<Time> for Moment {
    fn from(time: Time) -> Moment {
        Moment(i64::try_from(time.as_nanos() / 1_000_000).unwrap_or(i64::MAX))
    }
}

/// By how many nanoseconds `CLOCK_BOOTTIME` of this process is ahead of the machine's (`time_namespaces(7)`). It cannot
/// change any more once a process is in the namespace.
pub fn namespace_offset() -> i64 {
    static OFFSET: OnceLock<i64> = OnceLock::new();
    // Before Linux 5.6 there is no such file, and no such namespace.
    *OFFSET.get_or_init(|| small_file::parse("/proc/self/timens_offsets", boottime_of).unwrap_or(0))
}

fn boottime_of(offsets: &str) -> Option<i64> {
    let line = offsets.lines().find_map(|line| line.strip_prefix("boottime"))?;
    let mut fields = line.split_ascii_whitespace().map(str::parse::<i64>);
    let (seconds, nanoseconds) = (fields.next()?.ok()?, fields.next()?.ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
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
        write!(f, "{}.{:09}", self.as_nanos() / 1_000_000_000, self.as_nanos() % 1_000_000_000)
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

/// A duration to the nanosecond, as [`parse_duration`](crate::cli::parse_duration) reads it back: `1.25s`, `0.1ms`,
/// `1h 30m`, `5d`.
pub fn exact_duration(duration: Duration) -> String {
    let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
    if seconds == 0 {
        return fraction(u64::from(nanoseconds / 1_000_000), nanoseconds % 1_000_000, 6, "ms");
    }
    let whole = [(seconds / 86_400, "d"), (seconds % 86_400 / 3_600, "h"), (seconds % 3_600 / 60, "m")];
    let mut parts: Vec<String> =
        whole.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if seconds % 60 > 0 || nanoseconds > 0 {
        parts.push(fraction(seconds % 60, nanoseconds, 9, "s"));
    }
    parts.join(" ")
}

/// A number with a fraction of so many digits, without those that say nothing.
fn fraction(whole: u64, fraction: u32, digits: usize, unit: &str) -> String {
    let number = format!("{whole}.{fraction:0digits$}");
    format!("{}{unit}", number.trim_end_matches('0').trim_end_matches('.'))
}

/// How long somebody waited that did not want to wait for longer than `longest`: that, unless it took much longer.
pub fn show_wait(waited: Duration, longest: Option<Duration>) -> String {
    let is_it = |longest: &Duration| waited.saturating_sub(*longest) < Duration::from_secs(1);
    longest.filter(is_it).map_or_else(|| show_duration(waited), exact_duration)
}

/// Whole milliseconds, at least so long.
pub fn milliseconds_at_least(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
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
        assert_eq!(boottime_of(offsets), Some(86_400_000_000_007));
        assert_eq!(boottime_of("monotonic 1 1\nboottime -3600 0\n"), Some(-3_600_000_000_000));
        assert_eq!(boottime_of(""), None);
    }

    #[test]
    fn an_exact_duration_is_read_back_as_it_was() {
        let nanoseconds = |nanoseconds: u64| Duration::from_nanos(nanoseconds);
        let cases = [
            (Duration::ZERO, "0ms"),
            (nanoseconds(100_000), "0.1ms"),
            (nanoseconds(1), "0.000001ms"),
            (Duration::from_millis(350), "350ms"),
            (Duration::from_millis(1_250), "1.25s"),
            (Duration::from_mins(1), "1m"),
            (Duration::from_millis(5_400_500), "1h 30m 0.5s"),
            (Duration::from_hours(120), "5d"),
            (Duration::from_secs(34_560_001), "400d 1s"),
        ];
        for (duration, shown) in cases {
            assert_eq!(exact_duration(duration), shown);
            assert_eq!(crate::cli::parse_duration(shown), Ok(duration));
            assert_eq!(crate::cli::parse_duration(&shown.replace(' ', "")), Ok(duration));
        }
        for _ in 0..1_000 {
            let duration = nanoseconds(fastrand::u64(..2_000_000_000_000_000));
            let shown = exact_duration(duration);
            let read = crate::cli::parse_duration(&shown).unwrap();
            assert!(read.abs_diff(duration) < nanoseconds(1_000), "{shown}");
        }
    }

    #[test]
    fn a_wait_is_shown_as_it_was_asked_for_unless_it_took_much_longer() {
        let (longest, soon) = (Duration::from_millis(1_250), Duration::from_millis(1_253));
        assert_eq!(show_wait(soon, Some(longest)), "1.25s");
        assert_eq!(show_wait(soon, None), "1.2s");
        assert_eq!(show_wait(Duration::from_secs(65), Some(longest)), "1m 5s");
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
