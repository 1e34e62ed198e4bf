//! Durations as people write them.

use std::time::Duration;

/// Longest duration taken: hundreds of years would overflow what counts nanoseconds.
const SECONDS_MAX: f64 = 10_000.0 * 86_400.0;

/// The units, each with its seconds.
const UNITS: [(&str, f64); 5] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("d", 86_400.0)];

/// Reads `500ms`, `10s`, `1h30m`, `1.5h`, or a bare number of seconds, fractions too.
///
/// # Errors
///
/// A sentence that says what a duration looks like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration: write 500ms, 10s, 1h30m, or a number of seconds");
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    if let Some(bare) = parse_number(rest) {
        seconds = bare;
        rest = "";
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number = parse_number(&rest[..digits]).ok_or_else(wrong)?;
        let after = &rest[digits..];
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &after[..letters]).ok_or_else(wrong)?;
        seconds += number * unit;
        rest = after[letters..].trim_start();
    }
    if seconds > SECONDS_MAX {
        return Err(format!("'{text}' is too long: use at most 10000d"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// A plain decimal number, without sign or exponent.
fn parse_number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let cases = [
            ("500ms", 500),
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("2d", 172_800_000),
            ("10", 10_000),
            ("0.25", 250),
            (".5", 500),
            ("0", 0),
            (" 3 ", 3_000),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_way_out() {
        for text in ["", " ", "-1", "+1", "1e3", "inf", "nan", "10x", "s", "1h30", "1..5s", ".", "10 s", "1,5s", "ms5"]
        {
            let refusal = parse_duration(text).unwrap_err();
            assert!(
                refusal.ends_with("is not a duration: write 500ms, 10s, 1h30m, or a number of seconds"),
                "{text:?}"
            );
        }
        for text in ["99999999999", "10001d", "240001h"] {
            assert_eq!(parse_duration(text).unwrap_err(), format!("'{text}' is too long: use at most 10000d"));
        }
        assert_eq!(parse_duration("10000d"), Ok(Duration::from_hours(240_000)));
    }
}
