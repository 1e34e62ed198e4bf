//! What was set by hand, or has to be remembered for longer than a ticket lives.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::digest::first_eight;
use super::mark::Summary;
use super::problem::{Problem, problem};

/// What a setting is about. The numbers are in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettingKind {
    /// Values that were set for a pattern.
    Policy = 0,
    /// A domain that is paused.
    Pause = 1,
    /// What the config file said when it could be read last.
    File = 2,
    /// When the last turns of a domain began, and the last one ended.
    Rest = 3,
    /// What is known of a run-once key.
    Key = 4,
}

/// One setting, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What it is about.
    pub kind: SettingKind,
    /// Which one of its kind.
    pub name: String,
    /// What it says, in the caller's own form.
    pub body: Vec<u8>,
}

impl SettingKind {
    const ALL: [SettingKind; 5] =
        [SettingKind::Policy, SettingKind::Pause, SettingKind::File, SettingKind::Rest, SettingKind::Key];

    fn from_number(number: i64) -> Option<SettingKind> {
        SettingKind::ALL.into_iter().find(|kind| *kind as i64 == number)
    }

    /// Whether the commit waits until not even a power cut takes it, since it was promised for good. For keys
    /// [`sync`](super::sync()) does that, for many at once.
    pub(super) fn is_for_good(self) -> bool {
        !matches!(self, SettingKind::Rest | SettingKind::Key)
    }
}

/// The checksums of all settings.
pub(super) type SettingSums = HashMap<(SettingKind, String), i64>;

/// That of one setting. A pause counts as something that a daemon has to be asked about.
pub(super) fn summary(kind: SettingKind, sum: i64) -> Summary {
    Summary::of_setting(kind == SettingKind::Pause, sum)
}

/// Writes one, or removes it.
pub(super) fn write(
    connection: &Connection,
    (kind, name): (SettingKind, &str),
    body: Option<&[u8]>,
) -> rusqlite::Result<()> {
    let number = kind as i64;
    match body {
        Some(body) => connection
            .prepare_cached("INSERT OR REPLACE INTO settings (kind, name, body, sum) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![number, name, body, checksum(kind, name, body)])?,
        None => connection
            .prepare_cached("DELETE FROM settings WHERE kind = ?1 AND name = ?2")?
            .execute(params![number, name])?,
    };
    Ok(())
}

/// Reads all of them with their sums, each checked. One of a kind that this version does not know is passed over: a
/// later version wrote it.
pub(super) fn read(connection: &Connection, path: &Path) -> Result<Vec<(Setting, i64)>, Problem> {
    let at = |error: rusqlite::Error| problem(path, error);
    let mut statement =
        connection.prepare("SELECT kind, name, body, sum FROM settings ORDER BY kind, name").map_err(at)?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?)))
        .map_err(at)?;
    let mut found = Vec::new();
    for row in rows {
        let (number, name, body, sum): (i64, String, Vec<u8>, i64) = row.map_err(at)?;
        let Some(kind) = SettingKind::from_number(number) else { continue };
        if checksum(kind, &name, &body) != sum {
            return Err(Problem::damaged(path, "a policy, a pause or a key"));
        }
        found.push((Setting { kind, name, body }, sum));
    }
    Ok(found)
}

/// Over all that a row says.
pub(super) fn checksum(kind: SettingKind, name: &str, body: &[u8]) -> i64 {
    let length = (name.len() as u64).to_be_bytes();
    let digest = Sha256::new()
        .chain_update((kind as u64).to_be_bytes())
        .chain_update(length)
        .chain_update(name)
        .chain_update(body);
    i64::from_be_bytes(first_eight(digest))
}
