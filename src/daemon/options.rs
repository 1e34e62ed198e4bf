//! What a daemon was started with, as the next one finds it: whoever starts that one by the way names a socket and
//! nothing else.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use clap::Parser;
use rustix::fs::OFlags;

use super::args::SeqdArgs;
use super::place::Place;
use crate::error::{Error, way_past_limit};
use crate::store::replace_file;

/// Bytes that the file may have: more than any command line of ours.
const OPTIONS_BYTES_MAX: u64 = 64 * 1024;

/// Leaves the options for the next daemon, in place of those that were there.
///
/// # Errors
///
/// When that cannot be written; what was there stays then. A path that is not UTF-8 cannot.
pub(super) fn leave(args: &SeqdArgs, place: &Place) -> io::Result<()> {
    let mut args = args.clone();
    // The next daemon has another working directory.
    args.log = args.log.map(std::path::absolute).transpose()?;
    let options = args.to_hand_on();
    if options.is_empty() {
        return match std::fs::remove_file(&place.options) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let words: Result<Vec<String>, OsString> = options.into_iter().map(OsString::into_string).collect();
    let words = words.map_err(|word| io::Error::other(format!("{} is not UTF-8", word.display())))?;
    let mut content = serde_json::to_vec(&words)?;
    content.push(b'\n');
    if read(place).ok().flatten().as_ref() == Some(&content) {
        return Ok(());
    }
    replace_file(&place.options, &content)
}

/// What the daemon before was started with, if it was anything.
///
/// # Errors
///
/// When it cannot be read, or is not understood: without it the history would be cut, and the group be locked out.
pub(super) fn find(place: &Place) -> Result<Option<SeqdArgs>, Error> {
    let failed = |why: &dyn std::fmt::Display| {
        Error::failure(format_args!(
            "cannot read {}, which says how the last daemon was started: {why}: restore it, or remove it and start \
             'seqd --detach' as it should be",
            place.options.display()
        ))
    };
    let unread = |error: io::Error| match way_past_limit(&error) {
        Some(way_out) => Error::failure(format_args!("cannot read {}: {error}: {way_out}", place.options.display())),
        None => failed(&error),
    };
    let Some(content) = read(place).map_err(unread)? else { return Ok(None) };
    let words: Vec<String> = serde_json::from_slice(&content).map_err(|error| failed(&error))?;
    let typed = std::iter::once("seqd".to_owned()).chain(words);
    let args = SeqdArgs::try_parse_from(typed);
    let wrong = |error: clap::Error| {
        let text = error.to_string();
        failed(&text.lines().next().unwrap_or_default().trim_start_matches("error: "))
    };
    args.map(Some).map_err(wrong)
}

/// Where the options came from that a daemon could not start with, as the end of a sentence.
pub(super) fn whose(place: &Place) -> String {
    let path = place.options.display();
    format!("its options are those of the last daemon, in {path}: remove that to start without them")
}

/// The arguments of a daemon that goes on for the one before: those that it was told, and that one's options.
///
/// # Errors
///
/// As [`find`].
pub(super) fn as_before(args: &SeqdArgs, place: &Place) -> Result<SeqdArgs, Error> {
    let Some(before) = find(place)? else { return Ok(args.clone()) };
    Ok(SeqdArgs { socket: args.socket.clone(), detach: args.detach, ..before })
}

/// What is in the file, if there is one. Not every directory has been looked at when this is called, so nothing that
/// somebody else may have put there is waited for, or believed.
fn read(place: &Place) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut open = OpenOptions::new();
    let file: File = match open.read(true).custom_flags(flags.bits().cast_signed()).open(&place.options) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let found = file.metadata()?;
    let me = rustix::process::geteuid().as_raw();
    if !found.is_file() || found.uid() != me || found.len() > OPTIONS_BYTES_MAX {
        return Err(io::Error::other(format!("it is no file of user {me} of a reasonable size")));
    }
    let mut content = Vec::new();
    file.take(OPTIONS_BYTES_MAX).read_to_end(&mut content)?;
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &[&str]) -> SeqdArgs {
        SeqdArgs::try_parse_from(["seqd"].iter().chain(words)).unwrap()
    }

    #[test]
    fn the_next_daemon_goes_on_with_what_was_asked_for_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::of_socket(&directory.path().join("seqd.sock")).unwrap();
        assert!(find(&place).unwrap().is_none());
        let words =
            ["--group", "7", "--idle-exit", "never", "--log", "l", "--history-turns", "5", "--history-age", "1.5"];
        leave(&typed(&[&words[..], &["--socket", "/a", "--in-memory", "--config", "/c"]].concat()), &place).unwrap();
        let next = as_before(&typed(&["--detach", "--as-before", "--socket", "/b"]), &place).unwrap();
        let here = std::env::current_dir().unwrap();
        let expected = typed(&[&words[..], &["--socket", "/b", "--detach"]].concat());
        assert_eq!(format!("{next:?}"), format!("{:?}", SeqdArgs { log: Some(here.join("l")), ..expected }));
        leave(&typed(&["--socket", "/a"]), &place).unwrap();
        assert!(!place.options.exists());
    }

    #[test]
    fn options_that_are_not_understood_are_named_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::of_socket(&directory.path().join("seqd.sock")).unwrap();
        for (content, why) in
            [("[\"--hist", "EOF while"), ("[\"--later\"]", "unexpected argument '--later' found: restore it, or ")]
        {
            std::fs::write(&place.options, content).unwrap();
            let said = find(&place).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
        std::fs::remove_file(&place.options).unwrap();
        std::os::unix::fs::symlink("/dev/null", &place.options).unwrap();
        assert!(find(&place).is_err());
    }
}
