//! The directory of the socket: nobody else may put anything into it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{FileType, Gid, Mode, OFlags, Stat};

use super::args::SeqdArgs;
use super::options;
use super::place::Place;
use crate::error::{Error, way_to_write_in};

/// Who may use the daemon besides the user who runs it, and root.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Access {
    /// Whether any user that the file system lets through is served.
    pub(super) everybody: bool,
    /// The group that directory and socket are opened to.
    pub(super) group: Option<Gid>,
}

impl Access {
    /// What these arguments ask for.
    ///
    /// # Errors
    ///
    /// When there is no such group.
    pub(super) fn of(args: &SeqdArgs) -> Result<Access, Error> {
        let group = args.group.as_deref().map(find_group).transpose()?;
        Ok(Access { everybody: args.system || group.is_some(), group })
    }

    /// Mode of the socket.
    pub(super) fn socket_mode(self) -> Mode {
        Mode::from_raw_mode(if self.group.is_some() { 0o660 } else { 0o600 })
    }

    /// Mode of the directory.
    fn directory_mode(self) -> u32 {
        if self.group.is_some() { 0o750 } else { 0o700 }
    }

    /// Bits that the directory must not have: others must not write, and unless shared on purpose not even look.
    fn forbidden_bits(self) -> u32 {
        if self.everybody { 0o022 } else { 0o077 }
    }
}

/// Makes `directory` if it is missing, and checks that it is a real directory, of this user or root, and closed to
/// others as far as `access` says.
///
/// # Errors
///
/// With the reason and the way out.
pub(super) fn prepare(directory: &Path, access: Access) -> Result<(), Error> {
    let found = match rustix::fs::lstat(directory) {
        Err(rustix::io::Errno::NOENT) => {
            create(directory, access).map_err(|error| unusable(directory, &error))?;
            rustix::fs::lstat(directory)
        }
        found => found,
    };
    let found = found.map_err(|error| unusable(directory, &error.into()))?;
    check(directory, &found, access)
}

/// What is to be said of a directory that was opened to a group no member of which can come to it, if it is so: another
/// one above it, or it itself, was there before and is closed to them (`path_resolution(7)`).
pub(super) fn closed_to_group(place: &Place, access: Access, group: Option<&str>) -> Option<String> {
    let gid = access.group?.as_raw();
    let is_closed = |directory: &&Path| {
        let mode = |found: Stat| (found.st_gid, found.st_mode);
        rustix::fs::stat(*directory).map(mode).is_ok_and(|(owner, mode)| {
            // They may be in the other group as well.
            if owner == gid { mode & 0o010 == 0 } else { mode & 0o011 == 0 }
        })
    };
    let closed = place.directory.ancestors().filter(is_closed).last()?;
    Some(format!(
        "no member of the group {} can reach {}: {} is closed to them: let them enter it (chmod), or name a socket \
         elsewhere with --socket",
        group.unwrap_or_default(),
        place.socket.display(),
        closed.display()
    ))
}

/// Whether the folder `done` is there, if this is a daemon that has to make it.
pub(super) fn has_done(done: &Path, access: Access) -> bool {
    !access.everybody || done.symlink_metadata().is_ok()
}

/// Makes the folder `done` of a shared daemon, into which each user who is let through to it can put files, and nobody
/// else can remove them. A user's own daemon needs none: its clients make it.
///
/// # Errors
///
/// When it cannot be made, or something else is there.
pub(super) fn prepare_done(done: &Path, access: Access) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(done) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(done, flags, Mode::empty())?;
    let mode = if access.everybody { 0o1733 } else { 0o700 };
    Ok(rustix::fs::fchmod(folder, Mode::from_raw_mode(mode))?)
}

/// Makes the directory of a daemon that a client is about to start, if it is missing, and checks that it is one: as open
/// as the daemon of before had it, for the next one goes on with that one's options.
///
/// # Errors
///
/// With the reason and the way out. Nothing is made then.
pub fn prepare_as_before(place: &Place) -> Result<(), Error> {
    let before = options::find(place)?.as_ref().map_or(Ok(Access::default()), Access::of);
    let before = before.map_err(|error| Error::failure(format_args!("{error}; {}", options::whose(place))))?;
    with_modes_as_given(|| prepare(&place.directory, before))
}

/// Lets `make` make files with the modes that it names, as far as they are the user's own, whatever the user's umask is.
/// Not while another thread makes files: the umask is the whole process's.
pub fn with_modes_as_given<T>(make: impl FnOnce() -> T) -> T {
    let before = rustix::process::umask(Mode::from_raw_mode(0o077));
    let result = make();
    rustix::process::umask(before);
    result
}

/// A group by its name in `/etc/group`, or by its number.
fn find_group(name: &str) -> Result<Gid, Error> {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() == Some(name) { fields.nth(1)?.parse().ok() } else { None }
    });
    number.or_else(|| name.parse().ok()).map(Gid::from_raw).ok_or_else(|| {
        Error::failure(format_args!("there is no group {name} in /etc/group: name another, or give its number"))
    })
}

fn create(directory: &Path, access: Access) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if let Some(group) = access.group {
        rustix::fs::chown(directory, None, Some(group))?;
        rustix::fs::chmod(directory, Mode::from_raw_mode(access.directory_mode()))?;
    }
    Ok(())
}

fn check(directory: &Path, found: &Stat, access: Access) -> Result<(), Error> {
    let path = directory.display();
    let me = rustix::process::geteuid().as_raw();
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => {}
        FileType::Symlink => {
            return Err(Error::failure(format_args!(
                "{path} is a symbolic link: name the real directory with --socket DIRECTORY/seqd.sock"
            )));
        }
        _ => return Err(Error::failure(format_args!("{path} is not a directory: move it away"))),
    }
    if found.st_uid != me && found.st_uid != 0 {
        return Err(Error::failure(format_args!(
            "the directory {path} belongs to uid {}, not to uid {me}: name one of your own with --socket",
            found.st_uid
        )));
    }
    let mode = found.st_mode & 0o7777;
    if mode & access.forbidden_bits() == 0 {
        return Ok(());
    }
    // Not every directory is there to be closed: /tmp is not, and neither is /etc or a home directory.
    let is_for_all = found.st_uid != me || mode & 0o1000 != 0;
    let way_out = if is_for_all {
        "name a socket in a directory of your own with --socket".to_owned()
    } else {
        let mode = access.directory_mode();
        format!(
            "name a socket in a directory of its own with --socket, or chmod {mode:o} {path} if it is there for nothing else"
        )
    };
    Err(Error::failure(format_args!("the directory {path} is open to other users (mode {mode:04o}): {way_out}")))
}

fn unusable(directory: &Path, error: &io::Error) -> Error {
    let way_out = way_to_write_in(error, directory);
    Error::failure(format_args!("cannot use the directory {}: {error}: {way_out}", directory.display()))
}
