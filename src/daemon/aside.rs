//! Work that takes its time, on a thread of its own beside the owner's loop.

use std::io;
use std::thread;

use tokio::sync::oneshot;

/// Does `work`, and gives what comes of it.
///
/// # Errors
///
/// When there can be no thread, as where the user has no further process.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (give, given) = oneshot::channel();
    // Whoever does not wait for it any more does not need it.
    thread::Builder::new().spawn(move || _ = give.send(work()))?;
    given.await.map_err(io::Error::other)
}
