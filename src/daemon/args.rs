//! What the command line of `seqd` says, as data.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;

use crate::cli::parse_duration;
use crate::clock::exact_duration;

/// How long a daemon that a client started stays when nothing uses it.
pub const IDLE_EXIT_DEFAULT: Duration = Duration::from_mins(10);

/// Turns that the history keeps.
pub const HISTORY_TURNS_DEFAULT: u64 = 100_000;

/// How long the history keeps them.
pub const HISTORY_AGE_DEFAULT: &str = "90d";

/// Keep the lines that `seq` waits in
///
/// seqd answers `seq` and every other client of its socket. `seq` starts it by itself when it is needed, so running
/// it by hand is for those who want it supervised, shared, or in sight.
#[derive(Clone, Debug, Parser)]
#[command(name = "seqd", version, max_term_width = 100)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent options of one command line")]
pub struct SeqdArgs {
    /// Listen on this socket [default: `$SEQ_SOCKET`, else `~/.local/state/seq/seqd.sock`]
    #[arg(long, value_name = "PATH", conflicts_with = "system")]
    pub socket: Option<PathBuf>,

    /// Serve the whole system, on /run/seqd/seqd.sock
    #[arg(long)]
    pub system: bool,

    /// Let the members of this group use the socket
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,

    /// Leave after this long without a connection and without a turn, or `never`
    ///
    /// Without it a daemon that was started by `seq` leaves after 10 minutes, any other never does.
    #[arg(long, value_name = "DURATION")]
    pub idle_exit: Option<IdleExit>,

    /// Write the log to this file
    ///
    /// Without it a detached daemon writes beside its socket, any other to its standard error.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Read policies from this file [default: `~/.config/seq/seqd.toml`, with --system `/etc/seq/seqd.toml`]
    ///
    /// SIGHUP reads it again. When there is a mistake in it, what it said before goes on to count.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Keep nothing on disk: a daemon that is killed forgets its lines, and there is no history
    ///
    /// Commands of before run on then, and the next daemon does not know of them: one that is given the turn may run
    /// beside one of those.
    #[arg(long)]
    pub in_memory: bool,

    /// Keep at most so many turns in the history
    #[arg(long, value_name = "N", default_value_t = HISTORY_TURNS_DEFAULT)]
    pub history_turns: u64,

    /// Keep turns in the history for so long
    #[arg(long, value_name = "DURATION", default_value = HISTORY_AGE_DEFAULT, value_parser = parse_duration)]
    pub history_age: Duration,

    /// Run in the background, and say `ready PID`, `busy` or `error: REASON` on standard output
    ///
    /// When this returns the daemon is there.
    #[arg(long)]
    pub detach: bool,

    /// Take the options of the daemon that was there before, with which a client started none
    #[arg(long, hide = true, requires = "detach")]
    pub as_before: bool,

    /// Say, as `--detach` does, whether a daemon with the options of the one before could start, and start none
    #[arg(long, hide = true)]
    pub try_out: bool,

    /// Be what `--detach` runs in the background
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub detached: bool,
}

impl SeqdArgs {
    /// The command line that says the same, but for a process that is in the background already.
    pub(super) fn for_second_stage(&self, socket: PathBuf) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--detached".into()];
        if !self.system {
            arguments.extend(["--socket".into(), socket.into_os_string()]);
        }
        if self.in_memory {
            arguments.push("--in-memory".into());
        }
        if let Some(config) = &self.config {
            arguments.extend(["--config".into(), config.into()]);
        }
        arguments.extend(self.to_hand_on());
        arguments
    }

    /// What the next daemon goes on with when a client starts it. Not `--in-memory`: who asked for that once may have
    /// forgotten what it means by then. The config file is kept with what it says.
    pub(super) fn to_hand_on(&self) -> Vec<OsString> {
        let mut options: Vec<OsString> = Vec::new();
        if self.system {
            options.push("--system".into());
        }
        let mut add = |name: &str, value: Option<OsString>| {
            if let Some(value) = value {
                options.extend([name.into(), value]);
            }
        };
        add("--group", self.group.clone().map(OsString::from));
        add("--idle-exit", self.idle_exit.map(|idle_exit| idle_exit.to_string().into()));
        add("--log", self.log.clone().map(PathBuf::into_os_string));
        let turns = Some(self.history_turns).filter(|turns| *turns != HISTORY_TURNS_DEFAULT);
        add("--history-turns", turns.map(|turns| turns.to_string().into()));
        let age = Some(self.history_age).filter(|age| parse_duration(HISTORY_AGE_DEFAULT) != Ok(*age));
        add("--history-age", age.map(|age| as_written(age).into()));
        options
    }
}

/// When a daemon that nothing uses leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleExit {
    /// After this long.
    After(Duration),
    /// Not by itself.
    Never,
}

impl FromStr for IdleExit {
    type Err = String;

    fn from_str(text: &str) -> Result<IdleExit, String> {
        if text == "never" {
            return Ok(IdleExit::Never);
        }
        parse_duration(text).map(IdleExit::After).map_err(|wrong| format!("{wrong}, or never"))
    }
}

impl fmt::Display for IdleExit {
    /// As [`FromStr`] reads it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdleExit::After(duration) => f.write_str(&as_written(*duration)),
            IdleExit::Never => f.write_str("never"),
        }
    }
}

/// As [`parse_duration`] reads it back, and as people write it.
fn as_written(duration: Duration) -> String {
    exact_duration(duration).replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_exit_is_a_duration_or_never() {
        let read = |text: &str| text.parse::<IdleExit>();
        assert_eq!(read("never"), Ok(IdleExit::Never));
        assert_eq!(read("90"), Ok(IdleExit::After(Duration::from_secs(90))));
        assert_eq!(read("0.5"), Ok(IdleExit::After(Duration::from_millis(500))));
        assert_eq!(read("1h30m"), Ok(IdleExit::After(Duration::from_mins(90))));
        assert_eq!(read("500ms"), Ok(IdleExit::After(Duration::from_millis(500))));
        for text in ["", "soon", "-1", "-10s", "inf", "NaN", "1e300"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_second_stage_is_told_everything_the_first_was() {
        let typed = [
            "seqd",
            "--detach",
            "--socket",
            "a b",
            "--group",
            "ops",
            "--idle-exit",
            "1.5",
            "--log",
            "/l",
            "--config",
            "/c",
            "--history-turns",
            "7",
            "--history-age",
            "1d",
        ];
        let first = SeqdArgs::try_parse_from(typed).unwrap();
        let arguments = first.for_second_stage("/x/a b".into());
        let second = SeqdArgs::try_parse_from([OsString::from("seqd")].into_iter().chain(arguments)).unwrap();
        assert_eq!(second.socket, Some(PathBuf::from("/x/a b")));
        assert_eq!((second.group, second.log, second.config), (first.group, first.log, first.config));
        assert_eq!(second.idle_exit, first.idle_exit);
        assert!(second.detached && !second.detach);
        assert_eq!((second.history_turns, second.history_age), (first.history_turns, first.history_age));
    }
}
