//! `seq log`: the turns that have ended.

use std::io::Write;

use jiff::Timestamp;

use crate::cli::{self, Since};
use crate::clock::milliseconds;
use crate::error::{Error, status};
use crate::protocol::{Domain, EndedTurn, ErrorCode, IN_MEMORY, Info, Log, Reply, Request};

use super::connect::Daemon;
use super::moment::day_and_clock;
use super::refusal::refused;
use super::status::{Users, json, show_milliseconds, shown_command};
use super::table::{Screen, Side, columns, printable};
use super::watch::ending;

/// When it ended, domain, ticket, user, how long it waited and ran, how it ended, command.
type Row = [String; 8];

const HEADINGS: [&str; 8] = ["ENDED", "DOMAIN", "TICKET", "USER", "WAITED", "RAN", "HOW", "COMMAND"];

const SIDES: [Side; 8] =
    [Side::Left, Side::Left, Side::Right, Side::Left, Side::Right, Side::Right, Side::Left, Side::Left];

/// The columns that are left out first on a narrow terminal: user, ticket, how long it waited and ran, command.
const DISPENSABLE: [usize; 5] = [3, 2, 4, 5, 7];

/// Prints them, newest last.
pub(super) fn log(daemon: &Daemon, args: &cli::Log, out: &mut dyn Write) -> Result<u8, Error> {
    let request = Log {
        domain: args.domain.clone(),
        request_id: None,
        since_ms: args.since.map(ago),
        failed: args.failed,
        turns_max: Some(args.turns),
    };
    let turns = match daemon.ask(&Request::Log(request))? {
        Reply::Log(reply) => reply.turns,
        Reply::Error(error) if error.code == ErrorCode::UnknownOperation => {
            return Err(Error::failure(
                "the daemon is too old to have a history: end it with 'seq stop' when nothing waits, \
                 and the next 'seq run' starts the new one",
            ));
        }
        other => return Err(refused(other)),
    };
    let text = if args.json {
        turns.iter().map(json).collect()
    } else if turns.is_empty() && args.turns > 0 && keeps_none(daemon)? {
        "this daemon keeps everything in memory, and so no history\n".to_owned()
    } else {
        describe(&turns, args.domain.is_some(), args.turns)
    };
    out.write_all(text.as_bytes()).map_err(|error| Error::output(&error))?;
    Ok(status::OK)
}

/// Whether the daemon has no history at all.
fn keeps_none(daemon: &Daemon) -> Result<bool, Error> {
    let info = daemon.ask(&Request::Info(Info::default()))?;
    Ok(matches!(info, Reply::Info(info) if info.storage == IN_MEMORY))
}

/// Milliseconds from then to now; none for what lies ahead.
fn ago(since: Since) -> u64 {
    match since {
        Since::Ago(duration) => milliseconds(duration),
        Since::At(moment) => {
            u64::try_from(Timestamp::now().as_millisecond() - moment.as_millisecond()).unwrap_or_default()
        }
    }
}

fn describe(turns: &[EndedTurn], is_one_domain: bool, turns_max: usize) -> String {
    if turns.is_empty() && turns_max == 0 {
        return String::new();
    }
    if turns.is_empty() {
        return "no turn has ended\n".to_owned();
    }
    let (screen, users) = (Screen::of(std::io::stdout()), Users::read());
    let mut rows: Vec<Row> = vec![HEADINGS.map(str::to_owned)];
    rows.extend(turns.iter().map(|turn| row(turn, &users)));
    if is_one_domain {
        // It is the same in every row.
        for row in &mut rows {
            row[1].clear();
        }
    }
    columns(&rows, SIDES, &DISPENSABLE, screen.width).iter().map(|line| screen.cut(line) + "\n").collect()
}

fn row(turn: &EndedTurn, users: &Users) -> Row {
    [
        day_and_clock(&turn.ended_at),
        several(&turn.domain, &turn.also),
        turn.ticket.to_string(),
        users.name(turn.uid),
        show_milliseconds(turn.wait_ms),
        show_milliseconds(turn.run_ms),
        ending(Some(turn.outcome), turn.exit_status, turn.superseded_by),
        shown_command(turn.command.as_deref()),
    ]
}

/// A domain, and the further ones.
pub(super) fn several(domain: &Domain, also: &[Domain]) -> String {
    let names = std::iter::once(domain).chain(also).map(|name| printable(name.as_str()));
    names.collect::<Vec<_>>().join(", ")
}
