//! What the commands of keys wrote: large, and read only when it is asked for.

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::database::Database;
use super::digest::first_eight;
use super::history::History;
use super::problem::{Problem, problem};

/// Writes one, or removes it.
pub(super) fn write(connection: &Connection, name: &str, body: Option<&[u8]>) -> rusqlite::Result<()> {
    match body {
        Some(body) => connection
            .prepare_cached("INSERT OR REPLACE INTO outputs (name, body, sum) VALUES (?1, ?2, ?3)")?
            .execute(params![name, body, checksum(name, body)])?,
        None => connection.prepare_cached("DELETE FROM outputs WHERE name = ?1")?.execute([name])?,
    };
    Ok(())
}

impl Database {
    /// The ids of the records that have one.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn outputs(&self) -> Result<Vec<String>, Problem> {
        let read = || {
            let mut statement = self.connection.prepare("SELECT name FROM outputs")?;
            statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
        };
        read().map_err(|error| problem(&self.path, error))
    }
}

impl History {
    /// What the command wrote whose key has the record of this id.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or has a wrong checksum.
    pub fn output(&self, name: &str) -> Result<Option<Vec<u8>>, Problem> {
        let find = "SELECT body, sum FROM outputs WHERE name = ?1";
        let found =
            self.connection.query_row(find, [name], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?)));
        match found.optional().map_err(|error| problem(&self.path, error))? {
            Some((body, sum)) if checksum(name, &body) == sum => Ok(Some(body)),
            Some(_) => Err(Problem::damaged(&self.path, "what a command wrote")),
            None => Ok(None),
        }
    }
}

/// Over all that a row says.
fn checksum(name: &str, body: &[u8]) -> i64 {
    let length = (name.len() as u64).to_be_bytes();
    i64::from_be_bytes(first_eight(Sha256::new().chain_update(length).chain_update(name).chain_update(body)))
}
