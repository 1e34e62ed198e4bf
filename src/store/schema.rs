//! The tables, their version, and how a database of an earlier version becomes one of this.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::problem::{Problem, problem};

/// `PRAGMA application_id` of our databases: `seqd`.
const APPLICATION_ID: i32 = 0x7365_7164;

/// What makes each version of the schema out of the one before; the first out of an empty database.
const MIGRATIONS: [&str; 1] = [
    // A live ticket (state 0) and the turn that it ends as (state 1) are one row, in order of tickets. An ended row
    // says nothing that a running daemon needs, so only the live ones are in an index.
    "CREATE TABLE turns (
         ticket INTEGER PRIMARY KEY,
         domain TEXT NOT NULL,
         state INTEGER NOT NULL,
         body BLOB NOT NULL,
         ended_at INTEGER,
         sum INTEGER NOT NULL
     ) STRICT;
     CREATE INDEX live ON turns (ticket) WHERE state = 0;
     CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;",
];

/// Brings the database to this version, and says under which boot id it was last used; empty when new.
pub(super) fn prepare(connection: &Connection, path: &Path) -> Result<String, Problem> {
    let at = |error: rusqlite::Error| problem(path, error);
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(at);
    let (version, application) = (number("user_version")?, number("application_id")?);
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    if version > known {
        return Err(Problem::newer(path, version, known));
    }
    let is_foreign =
        application != APPLICATION_ID && (application != 0 || version != 0 || has_tables(connection).map_err(at)?);
    if is_foreign || version < 0 {
        return Err(Problem::foreign(path));
    }
    if version < known {
        let missing = &MIGRATIONS[usize::try_from(version).unwrap_or(0)..];
        let script = format!(
            "BEGIN IMMEDIATE; {} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {known}; COMMIT;",
            missing.concat()
        );
        connection.execute_batch(&script).map_err(at)?;
    }
    let boot_id = connection
        .query_row("SELECT value FROM facts WHERE name = 'boot_id'", [], |row| row.get(0))
        .optional()
        .map_err(at)?;
    Ok(boot_id.unwrap_or_default())
}

/// From now on what lives in it lives under this boot id.
pub(super) fn set_boot_id(connection: &Connection, boot_id: &str) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES ('boot_id', ?1)", [boot_id])?;
    Ok(())
}

fn has_tables(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) > 0 FROM sqlite_schema", [], |row| row.get(0))
}
