//! What is refused about keys, in words.

use std::fmt;
use std::time::Duration;

use crate::clock::show_wait;
use crate::protocol::{Domain, ErrorCode, Key, Ticket};

/// Why a key cannot be used, or forgotten.
#[derive(Debug)]
pub(super) enum KeyRefusal {
    TooMany { keys: usize },
    Conflict { key: Key, ticket: Ticket },
    Unknown { key: Key, ticket: Ticket },
    Busy { key: Key, ticket: Ticket },
    TimedOut { key: Key, ticket: Ticket, waited: Duration, longest: Option<Duration> },
    WaitsForItself { key: Key, ticket: Ticket },
    InUse { key: Key, ticket: Ticket },
    NoSuch { key: Key, domain: Option<Domain> },
    Several { key: Key, domains: Vec<Domain>, users: Vec<u32> },
    OfOthers,
}

impl KeyRefusal {
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            KeyRefusal::TooMany { .. } => ErrorCode::TooManyKeys,
            KeyRefusal::Conflict { .. } => ErrorCode::KeyConflict,
            KeyRefusal::Unknown { .. } => ErrorCode::KeyUnknown,
            KeyRefusal::Busy { .. } => ErrorCode::Busy,
            KeyRefusal::TimedOut { .. } => ErrorCode::TimedOut,
            KeyRefusal::WaitsForItself { .. } => ErrorCode::WouldDeadlock,
            KeyRefusal::InUse { .. } => ErrorCode::KeyInUse,
            KeyRefusal::NoSuch { .. } => ErrorCode::NotFound,
            KeyRefusal::Several { .. } => ErrorCode::SeveralKeys,
            KeyRefusal::OfOthers => ErrorCode::Forbidden,
        }
    }
}

impl fmt::Display for KeyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyRefusal::TooMany { keys } => {
                write!(f, "{keys} keys are remembered already: let some go with `seq key forget`, or use a shorter ttl")
            }
            KeyRefusal::Conflict { key, ticket } => write!(
                f,
                "key {} was used for another command, by ticket {ticket}: use another key, or see `seq key show`",
                Shown(key)
            ),
            KeyRefusal::Unknown { key, ticket } => write!(
                f,
                "nobody knows how the command of key {} ended, which ticket {ticket} ran: find out, and then run it again \
                 with --retry-unknown, or let the key go with `seq key forget`",
                Shown(key)
            ),
            KeyRefusal::Busy { key, ticket } => {
                write!(f, "ticket {ticket} has key {} and has not ended", Shown(key))
            }
            KeyRefusal::TimedOut { key, ticket, waited, longest } => write!(
                f,
                "ticket {ticket} has key {} and has not ended after {}: allow a longer wait, or see `seq status`",
                Shown(key),
                show_wait(*waited, *longest)
            ),
            KeyRefusal::WaitsForItself { key, ticket } => write!(
                f,
                "ticket {ticket} has key {} and cannot end before the turn that this is run within: leave out the key, or \
                 run it outside of that turn",
                Shown(key)
            ),
            KeyRefusal::InUse { key, ticket } => write!(
                f,
                "key {} is in use: end ticket {ticket} first, with `seq cancel {ticket}` or `seq release {ticket}`",
                Shown(key)
            ),
            KeyRefusal::NoSuch { key, domain: None } => write!(f, "there is no key {}", Shown(key)),
            KeyRefusal::NoSuch { key, domain: Some(domain) } => {
                write!(f, "there is no key {} in {domain}", Shown(key))
            }
            KeyRefusal::OfOthers => {
                f.write_str("keys of other users are for root and the daemon's own user: name your own, or none")
            }
            KeyRefusal::Several { key, domains, users } if users.len() > 1 => {
                let users: Vec<String> = users.iter().map(u32::to_string).collect();
                write!(f, "several users have a key {}, of uid {}: name one of them", Shown(key), users.join(", "))?;
                if domains.len() > 1 { f.write_str(", and the domain") } else { Ok(()) }
            }
            KeyRefusal::Several { key, domains, .. } => {
                let names: Vec<&str> = domains.iter().map(Domain::as_str).collect();
                write!(f, "there are several keys {}, in {}: name the domain", Shown(key), names.join(", "))
            }
        }
    }
}

/// A key as it can be shown at a terminal.
pub(super) struct Shown<'a>(pub(super) &'a Key);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_str().chars().try_for_each(|character| match character {
            it if it.is_control() => write!(f, "{}", it.escape_default()),
            it => write!(f, "{it}"),
        })
    }
}
