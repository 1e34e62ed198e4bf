//! The daemon: sockets, one owner loop, timers.

mod place;

pub use place::{Place, SOCKET_PATH_BYTES_MAX, SOCKET_VARIABLE, SYSTEM_SOCKET, default_socket};
