//! Requests of commands that run under a turn themselves.

use std::os::unix::fs::MetadataExt;
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
    let (ticket, token) = (number(TICKET_VARIABLE)?, number(TOKEN_VARIABLE)?);
    let is_of_daemon = is_same_socket(Path::new(&std::env::var_os(TURN_SOCKET_VARIABLE)?), socket);
    is_of_daemon.then_some(OuterTurn { ticket, token })
}

/// Whether two paths, which may be spelled differently, lead to the same socket. It need not be there, for the daemon may
/// have yet to be started.
fn is_same_socket(one: &Path, other: &Path) -> bool {
    let are_beside = || one.parent().zip(other.parent()).is_some_and(|(one, other)| is_same_file(one, other));
    one == other || is_same_file(one, other) || one.file_name() == other.file_name() && are_beside()
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    identity(one).is_some_and(|found| Some(found) == identity(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_the_same_however_its_path_is_spelled() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        std::fs::create_dir(path("home")).unwrap();
        std::fs::create_dir(path("elsewhere")).unwrap();
        std::os::unix::fs::symlink("home", path("link")).unwrap();
        let socket = path("home/seqd.sock");
        assert!(is_same_socket(&socket, &socket));
        for is_there in [false, true] {
            if is_there {
                std::fs::write(&socket, "").unwrap();
                std::fs::write(path("elsewhere/seqd.sock"), "").unwrap();
                std::os::unix::fs::symlink(&socket, path("to-socket")).unwrap();
            }
            assert!(is_same_socket(&socket, &path("link/seqd.sock")));
            assert!(is_same_socket(&path("elsewhere/../home/seqd.sock"), &socket));
            assert!(!is_same_socket(&socket, &path("elsewhere/seqd.sock")));
            assert!(!is_same_socket(&socket, &path("home/other.sock")));
        }
        assert!(is_same_socket(&socket, &path("to-socket")));
    }
}
