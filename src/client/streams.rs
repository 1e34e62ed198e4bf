//! The standard descriptors, as they are for whatever seq becomes or starts.

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::stdio::{stderr, stdin, stdout};

use crate::sys::was_closed;

/// From now on what is executed finds those closed that seq was started with as closed: what was put in
/// their place, so that nothing else gets their numbers, is for seq alone.
pub(super) fn keep_closed() {
    for (number, descriptor) in [stdin(), stdout(), stderr()].into_iter().enumerate() {
        if was_closed(number) {
            // It fails only for a descriptor that is closed, which would be as well.
            _ = fcntl_setfd(descriptor, FdFlags::CLOEXEC);
        }
    }
}
