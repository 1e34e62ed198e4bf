//! Opening the database: it is all that was told, or it is refused, and nothing is changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::change::{Change, Found, Retention};
use super::checkpoint::{Checkpointer, make_room};
use super::database::{Database, oldest};
use super::history;
use super::inspect::{
    Identities, Missing, check_all, check_beginning, check_file, check_openable, check_owner, check_writable, connect,
    log_of, read_live, remove_new_log,
};
use super::journal::Journal;
use super::machine::Machine;
use super::mark::{Mark, Seen, Summary};
use super::numbers::{Known, Numbers};
use super::problem::{Problem, problem};
use super::row::LIVE;
use super::schema::{self, Before};
use super::setting::{self, Setting};
use crate::protocol::Ticket;

/// Where the database is, and what is beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The database.
    pub database: PathBuf,
    /// What was written last, and what it held.
    pub mark: PathBuf,
    /// How far the ticket and token numbers have risen.
    pub numbers: PathBuf,
}

/// All that lives in the database and the journal together.
struct Contents {
    journal: Journal,
    /// The bodies of the tickets, and their sums.
    live: BTreeMap<Ticket, (Vec<u8>, i64)>,
    settings: Vec<(Setting, i64)>,
    summary: Summary,
}

impl Files {
    /// Those in a directory of their own.
    pub fn in_directory(directory: &Path) -> Files {
        let at = |name| directory.join(name);
        Files { database: at("seq.db"), mark: at("seq.mark"), numbers: at("numbers") }
    }

    /// Whether they say that somebody has a turn or waits, or that a domain is paused, now that there is no daemon; or
    /// whether they say nothing that can be believed, so that only a daemon can tell. For clients that would not start
    /// one just to hear that there is nothing.
    pub fn outlive_a_daemon(&self) -> bool {
        let machine = Machine::this();
        let Ok(seen) = Mark::look(&self.mark, &machine.boot_id) else { return true };
        if !seen.is_there {
            let is_alone = !self.database.try_exists().unwrap_or(true);
            return !is_alone || Numbers::may_be_in_use(&self.numbers, &machine).unwrap_or(true);
        }
        seen.outlives_a_daemon() || self.is_older(&seen).unwrap_or(true)
    }

    /// Whether they say that a policy is set, or that a domain rests, now that there is no daemon; or may say so.
    pub fn have_settings(&self) -> bool {
        Mark::look(&self.mark, &Machine::this().boot_id).map_or(true, |seen| seen.has_settings())
    }

    /// Whether a daemon of this version could use them, as far as their first bytes and their modes tell: also while
    /// another daemon has them open. Nothing is changed.
    ///
    /// # Errors
    ///
    /// As [`Database::open`].
    pub fn check_usable(&self) -> Result<(), Problem> {
        check_beginning(&self.database)?;
        if self.mark.exists() { check_openable(&self.mark) } else { Ok(()) }
    }

    /// Whether the database and its mark are copies of an earlier time: a daemon has started beside these numbers since
    /// then. Each one says so in the mark first. Across a restart of the machine nobody knows whether the mark is as it
    /// was last, and nothing lives.
    fn is_older(&self, seen: &Seen) -> Result<bool, Problem> {
        match seen.numbers {
            Some(known) if seen.is_current => Ok(known.starts < Numbers::starts(&self.numbers)?),
            _ => Ok(false),
        }
    }

    /// What says that a database with nothing in it cannot be the one, if anything does. Where it `is_a_file`, what was in
    /// it is in its log.
    fn must_hold(&self, seen: &Seen, machine: &Machine, is_a_file: bool) -> Option<Problem> {
        if seen.holds_something() {
            let missing = if is_a_file { Problem::log_missing } else { Problem::missing };
            return Some(missing(&self.database, &self.mark));
        }
        // Somebody who made an empty mark knows that nothing lives.
        if seen.is_there {
            return None;
        }
        match Numbers::may_be_in_use(&self.numbers, machine) {
            Ok(false) => None,
            Ok(true) => Some(Problem::all_missing(&self.database, &self.mark, &self.numbers)),
            Err(problem) => Some(problem),
        }
    }
}

impl Database {
    /// Opens the database whose `files` these are, or makes it, and gives what lived in it if that was in this run of this `machine`.
    /// After a restart nothing of before lives: `buried` makes the history's line of each ticket that did.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written, is damaged, is of a later version, is missing or not what the
    /// files beside it say, or when what lives in it may live on another machine. Nothing is changed then.
    pub fn open(
        files: &Files,
        machine: &Machine,
        retention: Retention,
        buried: impl Fn(&Found) -> Option<Change>,
    ) -> Result<(Database, Vec<Found>), Problem> {
        Database::open_if(files, machine, retention, buried, |_| Ok(()))
    }

    /// As [`open`](Database::open), if what lives in it `is_understood`.
    ///
    /// # Errors
    ///
    /// As [`open`](Database::open), and what `is_understood` says.
    pub fn open_if(
        files: &Files,
        machine: &Machine,
        retention: Retention,
        buried: impl Fn(&Found) -> Option<Change>,
        is_understood: impl Fn(&[Found]) -> Result<(), Problem>,
    ) -> Result<(Database, Vec<Found>), Problem> {
        let had_log = log_of(&files.database).exists();
        let opened = Database::open_as_is(files, machine, retention, buried, is_understood);
        if opened.is_err() {
            remove_new_log(&files.database, had_log);
        }
        opened
    }

    fn open_as_is(
        files: &Files,
        machine: &Machine,
        retention: Retention,
        buried: impl Fn(&Found) -> Option<Change>,
        is_understood: impl Fn(&[Found]) -> Result<(), Problem>,
    ) -> Result<(Database, Vec<Found>), Problem> {
        let path = &files.database;
        let seen =
            Mark::look(&files.mark, &machine.boot_id).map_err(|error| Problem::file("read", &files.mark, &error))?;
        check_file(path, || files.must_hold(&seen, machine, false))?;
        let connection = connect(path, Missing::Made).map_err(|error| problem(path, error))?;
        check_writable(&connection, path)?;
        let before = schema::look(&connection, path, || files.must_hold(&seen, machine, true))?;
        if !before.is_new() && !seen.was_closed {
            check_all(&connection, path)?;
        }
        let contents = Contents::read(&connection, files, &seen, &before)?;
        check_owner(&seen, &before.machine, machine, (contents.summary, !contents.live.is_empty()), files)?;
        if files.is_older(&seen)? {
            return Err(Problem::older(path, &files.mark, &files.numbers));
        }
        let starts = Numbers::starts(&files.numbers)?;
        let found = contents.found();
        let is_of_this_run = before.machine.boot_id == machine.boot_id;
        if is_of_this_run {
            is_understood(&found)?;
        }
        if !before.is_new() {
            history::check_newest(&connection, path)?;
        }
        // Up to here nothing has changed.
        let mark =
            Mark::open(&files.mark, &machine.boot_id).map_err(|error| Problem::file("write", &files.mark, &error))?;
        make_room(&connection, path).map_err(|error| problem(path, error))?;
        schema::migrate(&connection, path, &before)?;
        let mut database =
            Database::begin(connection, mark, path, contents, (&seen, starts, !is_of_this_run), retention)?;
        if is_of_this_run {
            return Ok((database, found));
        }
        database.bury(&found, machine, buried)?;
        Ok((database, Vec::new()))
    }

    /// Goes on with these contents.
    fn begin(
        connection: Connection,
        mut mark: Mark,
        path: &Path,
        contents: Contents,
        (seen, starts, is_turning): (&Seen, u64, bool),
        retention: Retention,
    ) -> Result<Database, Problem> {
        let at = |error: rusqlite::Error| problem(path, error);
        let Contents { journal, live, settings, summary } = contents;
        let sums = live.into_iter().map(|(ticket, (_, sum))| (ticket, sum)).collect();
        let setting_sums = settings.iter().map(|(setting, sum)| ((setting.kind, setting.name.clone()), *sum)).collect();
        let ended = match seen.history {
            Some(ended) => ended,
            None => history::count(&connection).map_err(at)?,
        };
        let known = seen.numbers.unwrap_or_default();
        let known = Known { starts: known.starts.max(starts) + 1, ..known };
        mark.start(known);
        mark.begin_journal(journal.number(), journal.length());
        mark.turn(is_turning);
        mark.settle(summary, oldest(&sums), ended);
        let mut database = Database {
            connection,
            mark,
            known,
            journal,
            checkpointer: Checkpointer::new(connect(path, Missing::Refused).map_err(at)?),
            path: path.to_owned(),
            identities: Identities::at(path)?,
            sums,
            setting_sums,
            summary,
            settings: settings.into_iter().map(|(setting, _)| setting).collect(),
            transactions: 0,
            is_just_opened: true,
            retention,
            ended,
        };
        database.begin_journal()?;
        Ok(database)
    }

    /// Turns a database of before a restart of the machine over to this run of it: nothing of what was found lives.
    fn bury(
        &mut self,
        found: &[Found],
        machine: &Machine,
        buried: impl Fn(&Found) -> Option<Change>,
    ) -> Result<(), Problem> {
        let bury = |found: &Found| buried(found).unwrap_or(Change::Left { ticket: found.ticket, why: None });
        self.commit(&found.iter().map(bury).collect::<Vec<_>>())?;
        self.catch_up()?;
        schema::set_machine(&self.connection, machine).map_err(|error| problem(&self.path, error))?;
        self.mark.turn(false);
        Ok(())
    }
}

impl Contents {
    fn read(connection: &Connection, files: &Files, seen: &Seen, before: &Before) -> Result<Contents, Problem> {
        let path = &files.database;
        let due = before.taken_in + 1;
        // Beside an empty database that may be empty there is no journal.
        let journal = if before.is_new() { Some(Journal::new(due)) } else { Journal::find(seen, before.taken_in) };
        let journal = journal.ok_or_else(|| Problem::lost(path, &files.mark, true))?;
        let in_database = if before.is_new() { Vec::new() } else { read_live(connection, path, seen.oldest())? };
        let live = live_with(in_database, &journal);
        let settings = if before.has_settings() { setting::read(connection, path)? } else { Vec::new() };
        let of_tickets = live.iter().map(|(ticket, (_, sum))| Summary::of(*ticket, *sum));
        let of_settings = settings.iter().map(|(setting, sum)| setting::summary(setting.kind, *sum));
        let summary = of_tickets.chain(of_settings).sum();
        Ok(Contents { journal, live, settings, summary })
    }

    fn found(&self) -> Vec<Found> {
        self.live.iter().map(|(ticket, (body, _))| Found { ticket: *ticket, body: body.clone() }).collect()
    }
}

/// What lives in the database together with the journal, each with its sum.
fn live_with(in_database: Vec<(Found, i64)>, journal: &Journal) -> BTreeMap<Ticket, (Vec<u8>, i64)> {
    let mut live: BTreeMap<_, _> =
        in_database.into_iter().map(|(found, sum)| (found.ticket, (found.body, sum))).collect();
    for (ticket, row) in journal.rows() {
        if row.state == LIVE {
            live.insert(ticket, (row.body.to_vec(), row.sum));
        } else {
            live.remove(&ticket);
        }
    }
    live
}
