//! What signals ask of the daemon.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::Sender;

use super::wake::{Signal, Wake};

/// Hands signals to the owner from now on. They would end the process otherwise.
///
/// # Errors
///
/// When the system refuses, which it has no reason to.
pub(super) fn watch(owner: Sender<Wake>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::task::spawn_local(async move {
        loop {
            let asked = tokio::select! {
                _ = terminate.recv() => Signal::Leave,
                _ = interrupt.recv() => Signal::Leave,
                _ = hang_up.recv() => Signal::HangUp,
            };
            if owner.send(Wake::Signal(asked)).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}
