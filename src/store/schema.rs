//! The tables, their version, and how a database of an earlier version becomes one of this.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::machine::Machine;
use super::problem::{Problem, problem};

/// `PRAGMA application_id` of our databases: `seqd`.
pub(super) const APPLICATION_ID: i32 = 0x7365_7164;

/// What makes each version of the schema out of the one before; the first out of an empty database.
const MIGRATIONS: [&str; 3] = [
    // A live ticket (state 0) and what it ends as, a turn that is over (state 1) or a place that was lost (state 2), are
    // one row, in order of tickets. There is no index: it would be one page more in each commit. The mark says where
    // the live ones begin.
    "CREATE TABLE turns (
         ticket INTEGER PRIMARY KEY,
         domain TEXT NOT NULL,
         state INTEGER NOT NULL,
         body BLOB NOT NULL,
         ended_at INTEGER,
         sum INTEGER NOT NULL
     ) STRICT;
     CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;",
    // What is no ticket: policies, pauses, and what has to be known of turns that have ended.
    "CREATE TABLE settings (
         kind INTEGER NOT NULL,
         name TEXT NOT NULL,
         body BLOB NOT NULL,
         sum INTEGER NOT NULL,
         PRIMARY KEY (kind, name)
     ) STRICT, WITHOUT ROWID;",
    // What the commands of keys wrote, by the id of the key's record. It is large, so it is read only when it is asked for.
    "CREATE TABLE outputs (name TEXT PRIMARY KEY, body BLOB NOT NULL, sum INTEGER NOT NULL) STRICT;",
];

/// The tables, and the version that each is there since.
const TABLES: [(&str, i32); 4] =
    [("turns", 1), ("facts", 1), ("settings", SETTINGS_VERSION), ("outputs", OUTPUTS_VERSION)];

/// The first version with settings.
const SETTINGS_VERSION: i32 = 2;

/// The first version with outputs.
const OUTPUTS_VERSION: i32 = 3;

/// Who used the database last.
pub(super) struct Before {
    /// The version of its tables; zero when it holds nothing, not even tables.
    version: i32,
    /// The machine; all empty when there was none.
    pub(super) machine: Machine,
    /// The number of the last journal that it took in; zero when there was none.
    pub(super) taken_in: u64,
}

impl Before {
    pub(super) fn is_new(&self) -> bool {
        self.version == 0
    }

    pub(super) fn has_settings(&self) -> bool {
        self.version >= SETTINGS_VERSION
    }
}

/// Says who used the database last, and changes nothing. One that holds nothing is refused when it `must_hold`
/// something: what was in it may still be found in what is left of its log.
pub(super) fn look(
    connection: &Connection,
    path: &Path,
    must_hold: impl Fn() -> Option<Problem>,
) -> Result<Before, Problem> {
    let at = |error: rusqlite::Error| problem(path, error);
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(at);
    let (version, application) = (number("user_version")?, number("application_id")?);
    let known = known_version();
    if version > known && application == APPLICATION_ID {
        return Err(Problem::newer(path, version, known));
    }
    let is_new = version == 0 && application == 0 && !has_tables(connection).map_err(at)?;
    if (application != APPLICATION_ID && !is_new) || version < 0 {
        return Err(Problem::foreign(path));
    }
    if is_new {
        let machine = Machine { boot_id: String::new(), host: String::new(), host_name: String::new() };
        return must_hold().map_or(Ok(Before { version, machine, taken_in: 0 }), Err);
    }
    for (table, since) in TABLES {
        if has_table(connection, table).map_err(at)? != (version >= since) {
            return Err(Problem::broken(path, &format!("its tables are not those of version {version}")));
        }
    }
    let fact = |name: &str| {
        let value = connection.query_row("SELECT value FROM facts WHERE name = ?1", [name], |row| row.get(0));
        value.optional().map(Option::unwrap_or_default).map_err(at)
    };
    let machine = Machine { boot_id: fact("boot_id")?, host: fact("host")?, host_name: fact("host_name")? };
    let taken_in = match fact("journal")? {
        text if text.is_empty() => 0,
        text => text.parse().map_err(|_| Problem::broken(path, "it does not say which journal it took in"))?,
    };
    Ok(Before { version, machine, taken_in })
}

/// Brings the database to this version, once all that it was before is checked.
pub(super) fn migrate(connection: &Connection, path: &Path, before: &Before) -> Result<(), Problem> {
    let missing = MIGRATIONS.get(usize::try_from(before.version).unwrap_or(0)..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    let script = format!(
        "BEGIN IMMEDIATE; {} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}; COMMIT;",
        missing.concat(),
        known_version()
    );
    connection.execute_batch(&script).map_err(|error| problem(path, error))
}

pub(super) fn known_version() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// The journal of this number is in the database; part of the transaction that takes it in.
pub(super) fn set_taken_in(connection: &Connection, number: u64) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO facts (name, value) VALUES ('journal', ?1)")?;
    insert.execute([number.to_string()])?;
    Ok(())
}

/// From now on what lives in it lives on this machine.
pub(super) fn set_machine(connection: &Connection, machine: &Machine) -> rusqlite::Result<()> {
    let mut insert = connection.prepare("INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)")?;
    insert.execute(["host", &machine.host])?;
    insert.execute(["host_name", &machine.host_name])?;
    // Last: it is what the others are believed by.
    insert.execute(["boot_id", &machine.boot_id])?;
    Ok(())
}

fn has_tables(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) > 0 FROM sqlite_schema", [], |row| row.get(0))
}

fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let find = "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    connection.query_row(find, [name], |row| row.get(0))
}
