//! Moments by the user's own clock.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use super::table::printable;

/// The time of day, to the second.
pub(super) fn clock(at: &str) -> String {
    shown(at, |_| "%H:%M:%S")
}

/// The day, and the time of day.
pub(super) fn day_and_clock(at: &str) -> String {
    shown(at, |_| "%Y-%m-%d %H:%M:%S")
}

/// The time of day, and the day if it is not today.
pub(super) fn short(at: &str) -> String {
    let is_today = |moment: &ZonedDateTime| moment.date() == ZonedDateTime::now().date();
    shown(at, |moment| if is_today(moment) { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" })
}

/// A moment of the protocol in some form; as it came when it is no moment.
fn shown(at: &str, form: impl FnOnce(&ZonedDateTime) -> &'static str) -> String {
    match at.parse::<Timestamp>() {
        Ok(moment) => {
            let moment = moment.to_zoned_datetime(TimeZone::system());
            moment.strftime(form(&moment)).to_string()
        }
        Err(_) => printable(at),
    }
}
