//! Moments in the past, as people write them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::parse_duration;

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long before now.
    Ago(Duration),
    /// This moment.
    At(Timestamp),
}

/// Reads a duration, an RFC 3339 date and time, or a date, with or without a time, of the user's own time zone.
///
/// # Errors
///
/// A sentence that says what it looks like.
pub fn parse_since(text: &str) -> Result<Since, String> {
    parse_in(text, &TimeZone::system())
}

fn parse_in(text: &str, zone: &TimeZone) -> Result<Since, String> {
    let text = text.trim();
    if let Ok(duration) = parse_duration(text) {
        return Ok(Since::Ago(duration));
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(Since::At(moment));
    }
    let local = text.parse::<DateTime>().and_then(|local| local.to_zoned_datetime(zone.clone()));
    local.map(|zoned| Since::At(zoned.timestamp())).map_err(|_| {
        format!("'{text}' is no moment: write how long ago, as in 2h, or when, as in 2026-03-01 or '2026-03-01 09:30'")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Since {
        Since::At(text.parse().unwrap())
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(parse_in("2h", &zone), Ok(Since::Ago(Duration::from_hours(2))));
        assert_eq!(parse_in(" 90 ", &zone), Ok(Since::Ago(Duration::from_secs(90))));
        for (text, moment) in [
            ("2026-03-01T09:30:00Z", "2026-03-01T09:30:00Z"),
            ("2026-03-01T09:30:00+05:00", "2026-03-01T04:30:00Z"),
            ("2026-03-01", "2026-02-28T23:00:00Z"),
            ("2026-03-01 09:30", "2026-03-01T08:30:00Z"),
            ("2026-03-01T09:30:15", "2026-03-01T08:30:15Z"),
        ] {
            assert_eq!(parse_in(text, &zone), Ok(at(moment)), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused_with_the_way_out() {
        for text in ["", "yesterday", "2026-13-01", "-2h", "09:30"] {
            assert!(parse_in(text, &TimeZone::UTC).unwrap_err().contains("is no moment: write how long ago"), "{text}");
        }
    }
}
