//! Signals as a login shell leaves them, whatever the tests were started by.

use std::sync::Once;

use nix::sys::signal::{SigHandler, Signal, signal};

/// Undoes what `nohup`, a CI system or a background job has set to be ignored: what the tests start inherits it.
#[expect(unsafe_code, reason = "signal(2) is unsafe because of handlers; the default is none")]
pub(super) fn default_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for number in Signal::iterator().filter(|number| !matches!(number, Signal::SIGPIPE)) {
            // SAFETY: no handler is installed. KILL and STOP are refused, which is as well.
            _ = unsafe { signal(number, SigHandler::SigDfl) };
        }
    });
}
