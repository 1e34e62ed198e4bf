//! The clock jumps by an hour or a day: nobody has a turn early, and nobody loses one before its time.

use super::*;

const JUMPS_MS: [u64; 2] = [3_600_000, 86_400_000];
const MINUTE_MS: u64 = 60_000;

/// Days after the machine was started.
fn story() -> Story {
    Story { now: Time::from_nanos(500_000_000_000_000), ..Story::new() }
}

impl Story {
    fn back(&mut self, milliseconds: u64) {
        self.now = Time::from_nanos(self.now.as_nanos() - milliseconds * 1_000_000);
    }

    /// Asks with a lease of a minute.
    fn lease(&mut self, connection: u64) -> Vec<String> {
        self.ask_with(connection, &format!("r{connection}"), |request| {
            request.binding = Binding::Lease;
            request.lease = Some(Duration::from_mins(1));
        })
    }
}

#[test]
fn a_clock_that_goes_back_only_delays() {
    for jump in JUMPS_MS {
        let mut story = story();
        story.lease(1);
        story.ask_with(2, "b", |request| request.max_wait = Some(Duration::from_secs(90)));
        story.later(MINUTE_MS / 2);
        story.back(jump);
        // What is asked for now counts from the latest moment that was heard of.
        story.ask_with(3, "c", |request| {
            request.domain = domain("bar.org");
            request.binding = Binding::Lease;
            request.lease = Some(Duration::from_mins(1));
        });
        assert!(story.take(Input::Tick).is_empty());
        assert!(story.later(jump + MINUTE_MS / 2 - 1).is_empty(), "not before the clock has caught up");
        let ended = story.later(1);
        assert_eq!(ended[0], "#1 ended Expired, token 1, waited 0ns, held 60s");
        assert_eq!(ended[3], "c2: active #2, token 3");
        assert!(story.later(MINUTE_MS / 2 - 1).is_empty(), "a minute after it was given");
        assert_eq!(story.later(1)[0], "#3 ended Expired, token 2, waited 0ns, held 60s");
        story.back(jump);
        assert!(story.later(2 * jump).is_empty(), "the longest wait was over with the turn");
    }
}

#[test]
fn a_clock_that_goes_ahead_gives_no_turn_that_no_time_frees() {
    for jump in JUMPS_MS {
        let mut story = story();
        story.ask(1, "a");
        story.ask_with(2, "b", |request| request.pipe = true);
        story.ask_with(3, "c", |request| request.max_wait = Some(Duration::from_millis(jump + 1)));
        assert!(story.later(jump).is_empty());
        story.disconnect(1);
        assert!(story.disconnect(2).iter().all(|words| words == "#2 orphaned, token 2"));
        assert!(story.later(jump).iter().all(|words| !words.contains("active")), "its pipe is open");
        story.back(jump);
        assert!(story.later(0).is_empty());
    }
}

#[test]
fn a_clock_that_goes_ahead_ends_one_lease_of_a_line_and_not_all() {
    for jump in JUMPS_MS {
        let mut story = story();
        for connection in 1..=3 {
            story.lease(connection);
        }
        assert_eq!(story.later(jump).last().unwrap(), "c2: active #2, token 2");
        story.back(jump);
        assert!(story.later(jump + MINUTE_MS - 1).is_empty());
        assert_eq!(story.later(1).last().unwrap(), "c3: active #3, token 3");
    }
}

#[test]
fn a_clock_behind_that_of_the_last_daemon_only_delays() {
    for jump in JUMPS_MS {
        let (mut story, hour) = (story(), Duration::from_hours(1));
        let began = story.now + Duration::from_millis(jump);
        let turn = Some(RestoredTurn { active_at: began, lease_until: Some(began + hour), ..turn(1) });
        let (binding, lease) = (Binding::Lease, Some(hour));
        story.take(Input::Restore(Restored { turn, binding, lease, queued_at: began, ..waiter(1, "a") }));
        let wait_until = Some(began + hour);
        story.take(Input::Restore(Restored { wait_until, queued_at: began, ..waiter(2, "b") }));
        story.take(resuming(2, secretly(2, "b", 2)));
        assert!(story.later(jump + 3_599_999).is_empty());
        assert_eq!(story.later(1)[0], "#1 ended Expired, token 1, waited 0ns, held 3600s");
    }
}

#[test]
fn the_grace_of_those_who_are_away_is_over_once_however_far_the_clock_jumps() {
    for jump in JUMPS_MS {
        let mut story = story();
        story.take(Input::Restore(waiter(1, "a")));
        story.take(Input::Restore(waiter(2, "b")));
        story.take(resuming(2, secretly(2, "b", 2)));
        story.back(jump);
        assert!(story.later(jump + 9_999).is_empty(), "the head is waited for");
        assert_eq!(story.later(jump).last().unwrap(), "c2: active #2, token 1");
    }
}
