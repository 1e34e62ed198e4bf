//! The storage at the start of a daemon: opened, checked, and brought up to date, before anybody is let in.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::args::SeqdArgs;
use super::descriptors::Budget;
use super::history::{Past, amended, ended_turn, past};
use super::ledger::form;
use super::place::Place;
use super::recover::{self, Recovered};
use super::settings::PastSettings;
use crate::clock::Time;
use crate::error::Error;
use crate::protocol::{Domain, EndedTurn, Outcome, Ticket};
use crate::sequencer::Secret;
use crate::store::{
    Change, Database, DoneNote, Found, FoundNote, Machine, Problem, Retention, SavedTicket, read_notes,
};

/// Domains in which a turn ended, and when, in milliseconds since 1970; and when it was given if nobody had said yet that
/// it began.
pub(super) type Ended = Vec<(Domain, i64, Option<Time>)>;

/// With which statuses turns ended.
pub(super) type Told = Vec<(Ticket, i32)>;

/// What a daemon goes on with.
#[derive(Default)]
pub(super) struct Storage {
    /// None in a daemon that keeps everything in memory.
    pub(super) database: Option<Database>,
    /// The tickets of before, in order.
    pub(super) tickets: Vec<Recovered>,
    pub(super) past: Past,
    pub(super) settings: PastSettings,
    /// Turns that ended while there was no daemon, by the word of their clients.
    pub(super) ended: Ended,
    /// The statuses with which those ended.
    pub(super) told: Told,
    /// The keys of which it is recorded what their commands wrote.
    pub(super) outputs: Vec<String>,
}

/// Opens what is at `place`.
///
/// # Errors
///
/// With one sentence about what cannot be used, why, and the way out. Nothing is replaced then.
pub(super) fn open(args: &SeqdArgs, place: &Place, budget: Budget) -> Result<Storage, Error> {
    if args.in_memory {
        // Those would have their turns beside whoever this daemon gives one to.
        let is_left = place.files().outlive_a_daemon();
        return if is_left { Err(Problem::left_for_memory(&place.database)) } else { Ok(Storage::default()) };
    }
    let age_ms = i64::try_from(args.history_age.as_millis()).unwrap_or(i64::MAX);
    let retention = Retention { turns: args.history_turns, age_ms };
    let is_understood = |found: &[Found]| recover::read(&place.database, found).map(drop);
    let (mut database, found) = Database::open_if(&place.files(), &Machine::this(), retention, bury, is_understood)?;
    let tickets = recover::read(&place.database, &found)?;
    let notes = read_notes(&place.done);
    let (tickets, ended, told) = apply_notes(&mut database, tickets, &notes)?;
    database.catch_up()?;
    let past = past(&place.database)?;
    let settings = PastSettings::read(database.take_settings());
    let outputs = database.outputs()?;
    let tickets = recover::look(tickets, budget);
    Ok(Storage { database: Some(database), tickets, past, settings, ended, told, outputs })
}

/// What becomes of a ticket from before the machine was restarted: a turn is over, and a place in line is lost.
fn bury(found: &Found) -> Option<Change> {
    let saved: SavedTicket = serde_json::from_slice(&found.body)
        .inspect_err(|why| warn!("ticket {} of before the restart is not understood: {why}", found.ticket))
        .ok()?;
    info!("ticket {} in {} ended with the restart of the machine", found.ticket, saved.ticket.domain);
    // Nobody saw it end, but then it had.
    let booted = Timestamp::now().as_millisecond() - i64::try_from(Time::now().as_nanos() / 1_000_000).unwrap_or(0);
    ended_without_daemon(&saved, booted, Outcome::Gone, None)
}

/// The end of a turn at `ended_at_ms` since 1970, as far as that can be; nothing for a ticket that had none.
fn ended_without_daemon(
    saved: &SavedTicket,
    ended_at_ms: i64,
    outcome: Outcome,
    exit_status: Option<i32>,
) -> Option<Change> {
    let ended_at = ended_at_ms.min(Timestamp::now().as_millisecond());
    let (ended_at, turn) = ended_turn(saved, ended_at, outcome, exit_status)?;
    Some(change(&turn, ended_at))
}

fn change(turn: &EndedTurn, ended_at: i64) -> Change {
    Change::Ended { ticket: turn.ticket, domain: turn.domain.clone(), ended_at, body: form(turn) }
}

/// Ends the turns whose clients left word that they are done, and gives those that live on, where turns ended when, and
/// with which statuses.
fn apply_notes(
    database: &mut Database,
    mut tickets: Vec<SavedTicket>,
    notes: &[FoundNote],
) -> Result<(Vec<SavedTicket>, Ended, Told), Error> {
    let (mut changes, mut ended, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for FoundNote { path, uid, note } in notes {
        let holds = |saved: &SavedTicket| saved.ticket.ticket.0 == note.ticket && saved.ticket.turn.is_some();
        let done = match tickets.iter().position(holds) {
            Some(index) if is_secret(&tickets[index], &note.secret) => {
                let saved = tickets.remove(index);
                let (at, given_at) = (note.ended_at_ms, saved.ticket.to_begin_since());
                ended.extend(saved.ticket.lines_of_its_own().map(|domain| (domain.clone(), at, given_at)));
                ended_without_daemon(&saved, note.ended_at_ms, Outcome::Done, note.exit_status)
            }
            Some(_) => None,
            None => amend(database, *uid, note)?,
        };
        if done.is_none() {
            warn!("{} is about no turn that ended unheard: let go of it", path.display());
        }
        if done.is_some() {
            told.extend(note.exit_status.map(|exit_status| (Ticket(note.ticket), exit_status)));
        }
        changes.extend(done);
    }
    database.commit(&changes)?;
    for FoundNote { path, .. } in notes {
        if let Err(error) = std::fs::remove_file(path) {
            warn!("cannot remove {}: {error}", path.display());
        }
    }
    Ok((tickets, ended, told))
}

fn is_secret(saved: &SavedTicket, secret: &str) -> bool {
    saved.ticket.secret == Some(Secret(Sha256::digest(secret.as_bytes()).into()))
}

/// A turn that an earlier daemon saw end with its processes, and nobody tell how. Its secret is not kept, so it is
/// believed to whoever may write for its user.
fn amend(database: &mut Database, writer: u32, note: &DoneNote) -> Result<Option<Change>, Error> {
    let Some((ended_at, body)) = database.ended(Ticket(note.ticket))? else { return Ok(None) };
    let Ok(turn) = serde_json::from_slice::<EndedTurn>(&body) else { return Ok(None) };
    let amended = amended(turn, ended_at, writer, note);
    Ok(amended.map(|(turn, ended_at)| {
        let (ticket, domain) = (turn.ticket, turn.domain.clone());
        Change::Amended { ticket, domain, ended_at, body: form(&turn) }
    }))
}
