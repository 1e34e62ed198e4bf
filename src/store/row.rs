//! One row of the database: a ticket, and what there is to know of it.

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::change::Change;
use super::digest::first_eight;
use crate::protocol::Ticket;

/// States of a row.
pub(super) const LIVE: u8 = 0;
pub(super) const ENDED: u8 = 1;
pub(super) const LEFT: u8 = 2;
/// Of a row that is to be removed; never in the database.
pub(super) const GONE: u8 = 3;

const WRITE: &str = "INSERT INTO turns (ticket, domain, state, body, ended_at, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
    ON CONFLICT (ticket) DO UPDATE \
    SET state = excluded.state, body = excluded.body, ended_at = excluded.ended_at, sum = excluded.sum";

/// What a row is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) ticket: Ticket,
    pub(super) state: u8,
    pub(super) domain: &'a str,
    /// When it came to its end, in milliseconds since 1970; zero while it lives.
    pub(super) at_ms: i64,
    pub(super) body: &'a [u8],
    /// The [`checksum`] of the row; zero of one that is gone.
    pub(super) sum: i64,
}

impl<'a> Row<'a> {
    /// What a change makes of the row of its ticket; nothing when it is about none.
    pub(super) fn of(change: &'a Change) -> Option<Row<'a>> {
        let (ticket, state, domain, at_ms, body) = match change {
            Change::Live { ticket, domain, body } => (*ticket, LIVE, domain, 0, body),
            Change::Ended { ticket, domain, ended_at, body } | Change::Amended { ticket, domain, ended_at, body } => {
                (*ticket, ENDED, domain, *ended_at, body)
            }
            Change::Left { ticket, why: Some((domain, left_at, body)) } => (*ticket, LEFT, domain, *left_at, body),
            Change::Left { ticket, why: None } => {
                return Some(Row { ticket: *ticket, state: GONE, domain: "", at_ms: 0, body: &[], sum: 0 });
            }
            Change::Setting { .. } | Change::Output { .. } => return None,
        };
        Some(Row { ticket, state, domain: domain.as_str(), at_ms, body, sum: checksum(ticket, state, body) })
    }

    /// Whether it is what it was when its checksum was made.
    pub(super) fn is_sound(&self) -> bool {
        let is_gone = self.state == GONE;
        self.state <= GONE && self.sum == if is_gone { 0 } else { checksum(self.ticket, self.state, self.body) }
    }

    /// Brings it into the database.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let Row { ticket, state, domain, at_ms, body, sum } = *self;
        // SQLite's integers are signed; tickets stay far below the sign.
        let ticket = ticket.0.cast_signed();
        if state == GONE {
            connection.prepare_cached("DELETE FROM turns WHERE ticket = ?1")?.execute([ticket])?;
        } else {
            let ended_at = (state != LIVE).then_some(at_ms);
            connection.prepare_cached(WRITE)?.execute(params![ticket, domain, state, body, ended_at, sum])?;
        }
        Ok(())
    }
}

/// Over the ticket, the state and the body of a row. The domain and the moment beside them only serve to look rows up, and
/// to let go of old ones.
pub(super) fn checksum(ticket: Ticket, state: u8, body: &[u8]) -> i64 {
    let digest = Sha256::new().chain_update(ticket.0.to_be_bytes()).chain_update([state]).chain_update(body);
    i64::from_be_bytes(first_eight(digest))
}
