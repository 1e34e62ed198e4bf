//! Whether the next daemon could start, found out while the one before still serves: once that is gone nobody has one.

use super::args::SeqdArgs;
use super::directory::{self, Access};
use super::inherited;
use super::log;
use super::options;
use super::place::Place;
use super::start::{find_place, log_path};
use crate::error::Error;
use crate::store::Numbers;

/// Looks at all that a daemon needs that goes on for the one before, as far as that can be seen while that one has it.
/// With `--detach` it would be started from here, and have this process's limits.
///
/// # Errors
///
/// With what would keep it from starting, and the way out.
pub(super) fn try_out(args: &SeqdArgs) -> Result<(), Error> {
    let place = find_place(args)?;
    let next = options::as_before(args, &place)?;
    if args.detach {
        inherited::shake_off(true)?;
    }
    let access = Access::of(&next).map_err(|error| of_options(error, &place))?;
    directory::prepare(&place.directory, access)?;
    if place.state != place.directory {
        directory::prepare(&place.state, Access::default())?;
    }
    let next = SeqdArgs { detached: args.detach, ..next };
    if let Some(path) = log_path(&next, &place) {
        let is_chosen = next.log.is_some();
        log::check(&path, is_chosen).map_err(|error| if is_chosen { of_options(error, &place) } else { error })?;
    }
    Numbers::check(&place.numbers)?;
    place.files().check_usable()
}

/// Where an option comes from that does not do any more. The file alone is no way out: the daemon that serves puts it
/// back.
fn of_options(error: Error, place: &Place) -> Error {
    if !place.options.exists() {
        return error;
    }
    Error::failure(format_args!(
        "{error}; that is an option of the one that serves, in {}: mend what it names, or end that one with 'seq stop' \
         when nothing waits, and start 'seqd --detach' with other options",
        place.options.display()
    ))
}
