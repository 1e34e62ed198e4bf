//! What must outlive the process: small files beside the socket.

mod file;
mod numbers;
mod turns;

pub use numbers::Numbers;
pub use turns::{HeldTurn, ProcessIdentity, forget_turns, load_turns, save_turns};
