//! Commands that run once: keys, from first use to last.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod once;
mod asked;
mod failures;
mod unknown;
mod expiry;
mod replay;
mod list;
mod nested;
mod old_daemon;
mod protocol;
mod users;
mod durable;
mod faults;
mod storm;
