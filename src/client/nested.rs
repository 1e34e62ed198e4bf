//! Requests of commands that run under a turn themselves.

use std::path::Path;

use crate::protocol::OuterTurn;

/// The ticket of the turn that a command runs under.
pub(super) const TICKET_VARIABLE: &str = "SEQ_TICKET";

/// The fencing number of that turn.
pub(super) const TOKEN_VARIABLE: &str = "SEQ_TOKEN";

/// The socket of the daemon that gave it: another one's turns have the same numbers.
pub(super) const TURN_SOCKET_VARIABLE: &str = "SEQ_TURN_SOCKET";

/// The turn that this process runs under, if it is of the daemon at `socket`. Whether it still is one is for the daemon
/// to say.
pub(super) fn outer_turn(socket: &Path) -> Option<OuterTurn> {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let is_of_daemon = std::env::var_os(TURN_SOCKET_VARIABLE).is_some_and(|found| found == socket);
    let (ticket, token) = (number(TICKET_VARIABLE)?, number(TOKEN_VARIABLE)?);
    is_of_daemon.then_some(OuterTurn { ticket, token })
}
