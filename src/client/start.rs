//! Starting the daemon: one for all who find none, however many ask at once.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, flock};

use crate::clock::Time;
use crate::daemon::{DAEMON_START_TIMEOUT, Place, prepare_as_before, with_modes_as_given};
use crate::error::{Cure, Error, way_to_write, with_limit};

use super::link::timespec;
use super::process::{is_stopped, lock_holder};

/// How long a daemon may take to start, and another client to start it: longer than what a daemon gives itself, so that
/// what it says of that is heard.
pub(super) const START_TIMEOUT: Duration = DAEMON_START_TIMEOUT.saturating_add(Duration::from_millis(500));

/// How long to wait before looking again whether somebody else's daemon is there. The pause doubles up to the longest,
/// so that many who wait do not keep the daemon from starting.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
const LOOK_AGAIN_LONGEST: Duration = Duration::from_millis(16);

/// How often to look whether the client that keeps the others from starting a daemon is stopped.
const LOOK_FOR_STOPPED: Duration = Duration::from_millis(250);

/// How long to wait before another daemon is started after one died while it started: it may have been killed, or die of
/// something that lasts. The pause doubles with each.
const START_AGAIN: Duration = Duration::from_millis(10);

/// Bytes of the log's end that are shown when a daemon does not start.
const LOG_TAIL_BYTES: u64 = 2_000;

/// What a daemon that was started says about it.
enum Answer {
    Ready,
    /// Another daemon is there, or is just leaving.
    Busy,
    /// It ended before it was ready: somebody has killed it, or it cannot start and could not say why.
    Died,
    Failed(String),
    /// It was asked, and has not answered.
    Silent(String),
}

/// Starts a daemon at `place` unless `connect` finds one, and gives the connection to it.
///
/// Clients that come at the same time go one by one through `start.lock`; each looks again before it starts one
/// (ssh-agent and tmux users know what happens otherwise). One that is stopped on its way through holds up nobody: the
/// lock is for order alone, what lets in one daemon only is that daemon's own.
///
/// # Errors
///
/// When there is no daemon within `patience`.
pub(super) fn start<T>(
    place: &Place,
    patience: Duration,
    connect: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    start_through(&open_lock(place)?, place, patience, connect)
}

/// Keeps every other client from starting a daemon at `place` for as long as what it gives lives.
pub(super) fn forbid_start(place: &Place) -> Result<File, Error> {
    let deadline = Time::now() + START_TIMEOUT;
    let lock = open_lock(place)?;
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Time::now() >= deadline {
            return Err(failed(place, None, &hindrance(place)));
        }
        thread::sleep(LOOK_AGAIN);
    }
    Ok(lock)
}

/// What became of a daemon that ended too early.
const DIED: &str = "it ended before it was ready";

/// As [`start`], through a lock that is open already, and may be this client's.
pub(super) fn start_through<T>(
    lock: &File,
    place: &Place,
    patience: Duration,
    mut connect: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let deadline = Time::now() + patience.min(START_TIMEOUT);
    let mut last = None;
    let mut look_at = Time::now() + LOOK_FOR_STOPPED;
    let (mut pause, mut pause_after_death) = (LOOK_AGAIN, START_AGAIN);
    // What it says is behind this in the log.
    let mut spawned_at = None;
    loop {
        let mut may_start = flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !may_start && look_at <= Time::now() {
            may_start = lock_holder(&place.start_lock).is_some_and(is_stopped);
            look_at = Time::now() + LOOK_FOR_STOPPED;
        }
        if let Some(link) = connect()? {
            return Ok(link);
        }
        if may_start {
            spawned_at = Some(log_bytes(place));
            match spawn(place, deadline)? {
                Answer::Failed(why) => {
                    let words = format_args!("cannot start the daemon: {why}");
                    return Err(Error::failure(words).with_cure(Cure::Person));
                }
                Answer::Silent(why) => {
                    // That those before it died says more of why than that time was up for the last one.
                    let why = last.filter(|last| *last == DIED).map_or(why, str::to_owned);
                    return Err(failed(place, spawned_at, &who_has_life(place).unwrap_or(why)));
                }
                Answer::Died => {
                    last = Some(DIED);
                    thread::sleep(pause_after_death.min(deadline.since(Time::now())));
                    pause_after_death *= 2;
                }
                Answer::Ready => last = Some("it started and did not listen"),
                Answer::Busy => last = Some("another daemon has its place and does not listen"),
            }
            if let Some(link) = connect()? {
                return Ok(link);
            }
        }
        if Time::now() >= deadline {
            let why = match last {
                Some(last) => who_has_life(place).unwrap_or_else(|| last.to_owned()),
                None => hindrance(place),
            };
            return Err(failed(place, spawned_at, &why));
        }
        thread::sleep(pause);
        pause = LOOK_AGAIN_LONGEST.min(pause * 2);
    }
}

/// Who kept this client from starting a daemon, and the way out. A client that starts one is not to blame if the daemon
/// hangs, and a `seq run` is never to be ended: its command would go with it.
fn hindrance(place: &Place) -> String {
    if let Some(daemon) = who_has_life(place) {
        return daemon;
    }
    match lock_holder(&place.start_lock) {
        Some(pid) if is_stopped(pid) => {
            format!("another client (pid {pid}) is starting it and is stopped: let it go on with 'kill -CONT {pid}'")
        }
        Some(pid) => format!("another client (pid {pid}) is starting it and is not done: try again"),
        None => "another client is starting it and is not done: try again".to_owned(),
    }
}

/// Who has the lock that the daemon has for life, though none listens, and the way out.
fn who_has_life(place: &Place) -> Option<String> {
    let pid = lock_holder(&place.life_lock)?;
    let lock = place.life_lock.display();
    let way_out = if is_stopped(pid) {
        format!("is stopped: let it go on with 'kill -CONT {pid}'")
    } else {
        format!("does not listen: try again, or end it with 'kill {pid}'")
    };
    Some(format!("process {pid} has locked {lock}, as a daemon does, and {way_out}"))
}

/// Gives a daemon that is about to leave a moment to do so.
pub(super) fn await_departure() {
    thread::sleep(LOOK_AGAIN);
}

fn open_lock(place: &Place) -> Result<File, Error> {
    prepare_as_before(place).map_err(|error| error.with_cure(Cure::Person))?;
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(false).mode(0o600);
    open.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    with_modes_as_given(|| open.open(&place.start_lock)).map_err(|error| unwritable(&place.start_lock, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    let way_out = way_to_write(error, path);
    let words = format_args!("cannot start the daemon: cannot write {}: {error}: {way_out}", path.display());
    Error::failure(words).with_cure(Cure::Person)
}

/// Starts the daemon by this very program: nothing needs to be found on PATH, and an upgrade does not disturb it.
fn spawn(place: &Place, deadline: Time) -> Result<Answer, Error> {
    ask_program(place, &["--detach", "--as-before"], deadline)
}

/// Finds out whether the daemon could start that is started next at `place`, by this very program if it is `from_here`.
/// Nothing is changed.
///
/// # Errors
///
/// With what would keep it from starting.
pub(super) fn try_out(place: &Place, from_here: bool) -> Result<(), Error> {
    let arguments: &[&str] = if from_here { &["--try-out", "--detach"] } else { &["--try-out"] };
    match ask_program(place, arguments, Time::now() + START_TIMEOUT)? {
        Answer::Failed(why) | Answer::Silent(why) => Err(Error::failure(why)),
        Answer::Died => Err(Error::failure("it ended before it could tell")),
        Answer::Ready | Answer::Busy => Ok(()),
    }
}

/// Runs this very program as the daemon, with these arguments, and gives the one line that it says.
fn ask_program(place: &Place, arguments: &[&str], deadline: Time) -> Result<Answer, Error> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("seqd").args(arguments).arg("--socket").arg(&place.socket).env_clear().current_dir("/");
    // What the daemon needs of the environment: where its tools and its config file are, and in which time zone people
    // read its log.
    command.envs(["PATH", "HOME", "TZ"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(
        |error| match error.kind() {
            io::ErrorKind::NotFound => Error::failure("cannot start the daemon: there is no /proc: mount it"),
            io::ErrorKind::PermissionDenied => Error::failure(format_args!(
                "cannot start the daemon: {error}: make {} executable again",
                std::env::current_exe().unwrap_or_else(|_| "seq".into()).display()
            ))
            .with_cure(Cure::Person),
            _ => Error::failure(format_args!("cannot start the daemon: {}", with_limit(&error))),
        },
    )?;
    let answer = match child.stdout.take() {
        Some(stdout) => read_answer(stdout, deadline),
        None => Answer::Silent("it has no standard output".to_owned()),
    };
    // The process that was started only starts the daemon, and ends at once if that does not hang.
    if let Answer::Silent(_) = answer {
        _ = child.kill();
    }
    _ = child.wait();
    Ok(answer)
}

fn read_answer(mut stdout: ChildStdout, deadline: Time) -> Answer {
    let mut said = Vec::new();
    let mut bytes = [0; 512];
    while !said.ends_with(b"\n") {
        let left = timespec(deadline.since(Time::now()));
        match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Answer::Silent("it did not get ready in time".to_owned()),
            Ok(_) => {}
            Err(_) => continue,
        }
        match stdout.read(&mut bytes) {
            Ok(0) => return Answer::Died,
            Ok(read) => said.extend_from_slice(&bytes[..read]),
            Err(error) => return Answer::Silent(error.to_string()),
        }
    }
    let said = String::from_utf8_lossy(&said);
    let said = said.trim_end();
    match said.strip_prefix("error: ") {
        Some(why) => Answer::Failed(why.to_owned()),
        None if said == "busy" => Answer::Busy,
        None => Answer::Ready,
    }
}

/// Why no daemon is there. `spawned_at` is where the log ended before the one that was started here.
fn failed(place: &Place, spawned_at: Option<u64>, why: &str) -> Error {
    match spawned_at.and_then(|start| last_words(place, start)) {
        Some(line) if !line.contains(why) => Error::failure(format_args!(
            "cannot start the daemon: {why}; its log {} ends with: {line}",
            place.log.display()
        )),
        _ => Error::failure(format_args!("cannot start the daemon: {why}")),
    }
}

fn log_bytes(place: &Place) -> u64 {
    std::fs::metadata(&place.log).map_or(0, |log| log.len())
}

/// The last line of the log behind its first `start` bytes, or in a new log.
fn last_words(place: &Place, start: u64) -> Option<String> {
    let mut log = File::open(&place.log).ok()?;
    let length = log.metadata().ok()?.len();
    let start = if start <= length { start } else { 0 };
    log.seek(SeekFrom::Start(start.max(length.saturating_sub(LOG_TAIL_BYTES)))).ok()?;
    let mut tail = Vec::new();
    log.read_to_end(&mut tail).ok()?;
    String::from_utf8_lossy(&tail).lines().last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_a_daemon_behind_the_lock_starts_none() {
        let directory = tempfile::tempdir().unwrap();
        let mut place = Place::of_socket(&directory.path().join("seq/seqd.sock")).unwrap();
        // No program can be given this argument.
        place.socket = "no\0daemon".into();
        assert_eq!(start(&place, START_TIMEOUT, || Ok(Some("the daemon"))).unwrap(), "the daemon");
        let mut looks = 0;
        let nobody = start(&place, START_TIMEOUT, || {
            looks += 1;
            Ok(None::<()>)
        });
        assert!(nobody.unwrap_err().to_string().starts_with("cannot start the daemon: "));
        assert_eq!(looks, 1);
    }

    /// A place whose daemon dies at once: it is this test program, which knows none of the daemon's arguments.
    fn deadly_place(directory: &Path) -> Place {
        Place::of_socket(&directory.join("seq/seqd.sock")).unwrap()
    }

    #[test]
    fn another_daemon_is_started_however_many_have_died() {
        let directory = tempfile::tempdir().unwrap();
        let mut looks = 0;
        let found = start(&deadly_place(directory.path()), START_TIMEOUT, || {
            looks += 1;
            // Before and after each of seven daemons.
            Ok((looks == 14).then_some("the daemon"))
        });
        assert_eq!(found.unwrap(), "the daemon");
    }

    #[test]
    fn the_words_of_an_earlier_daemon_are_not_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let place = deadly_place(directory.path());
        prepare_as_before(&place).unwrap();
        std::fs::write(&place.log, "INFO an earlier one serves\n").unwrap();
        let failed = start(&place, START_TIMEOUT, || Ok(None::<()>)).unwrap_err();
        assert_eq!(failed.to_string(), "cannot start the daemon: it ended before it was ready");
        assert_eq!(last_words(&place, 0).as_deref(), Some("INFO an earlier one serves"));
        assert_eq!(last_words(&place, 1_000).as_deref(), Some("INFO an earlier one serves"), "a new log");
    }
}
