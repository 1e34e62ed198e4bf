//! Sees when something in the directories of the daemon's files is removed or put there, or when one of these goes
//! somewhere else.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::place::Place;

/// A watch on the directories of a daemon (`inotify(7)`).
#[derive(Debug)]
pub(super) struct PlaceWatch {
    inotify: AsyncFd<OwnedFd>,
}

impl PlaceWatch {
    /// Watches the directories of `place`. Only within the runtime.
    ///
    /// # Errors
    ///
    /// When the system has no more watches for this user.
    pub(super) fn new(place: &Place) -> io::Result<PlaceWatch> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let mut watch = PlaceWatch { inotify: crate::sys::readable(inotify)? };
        watch.look_at(place)?;
        Ok(watch)
    }

    /// Watches the directories of `place` too, which may be new ones with old names, and whether one of those above them
    /// is moved. Of one that may not be read that cannot be seen.
    ///
    /// # Errors
    ///
    /// When one is not there.
    pub(super) fn look_at(&mut self, place: &Place) -> io::Result<()> {
        let what = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        for directory in [&place.directory, &place.state] {
            inotify::add_watch(self.inotify.get_ref(), directory, what)?;
        }
        // Not those that were just added, or these would be watched for less.
        let above = place.directory.ancestors().skip(1).chain(place.state.ancestors().skip(1));
        for above in above.filter(|above| *above != place.directory && *above != place.state) {
            let what = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
            _ = inotify::add_watch(self.inotify.get_ref(), above, what);
        }
        Ok(())
    }

    /// Waits until something was removed or put there; for ever when nothing is watched.
    pub(super) async fn changed(watch: &mut Option<PlaceWatch>) {
        let Some(watch) = watch else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = watch.inotify.readable().await else { return std::future::pending().await };
            let mut space = [MaybeUninit::uninit(); 4096];
            if ready.try_io(|inotify| drain(inotify.get_ref(), &mut space)).is_ok() {
                return;
            }
        }
    }
}

/// Forgets all events that are there: what matters is how the directory looks now.
fn drain(inotify: &OwnedFd, space: &mut [MaybeUninit<u8>]) -> io::Result<()> {
    let mut events = inotify::Reader::new(inotify, space);
    events.next()?;
    while events.next().is_ok() {}
    Ok(())
}
