//! What must outlive the process: small files beside the socket.

mod database;
mod schema;
mod mark;
mod checkpoint;
mod problem;
mod file;
mod numbers;
mod turns;

pub use database::{Change, Database, Found, Retention};
pub use numbers::Numbers;
pub use problem::Problem;
pub use turns::{HeldTurn, ProcessIdentity, forget_turns, load_turns, save_turns};
