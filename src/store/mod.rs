//! What must outlive the process: a database, usually beside the socket, and a few small files.

mod database;
mod opening;
mod schema;
mod machine;
mod mark;
mod journal;
mod row;
mod checkpoint;
mod history;
mod saved;
mod setting;
mod notes;
mod problem;
mod file;
mod numbers;
mod fault;
#[cfg(test)]
mod tests;

pub use database::{Change, Database, Found, Retention};
pub(crate) use fault::point as fault_point;
pub use history::History;
pub use machine::Machine;
pub use mark::outlives_a_daemon;
pub use notes::{DoneNote, FoundNote, find_note, read_notes};
pub use numbers::Numbers;
pub use problem::Problem;
pub use saved::{LeftTicket, ProcessIdentity, SavedTicket};
pub use setting::{Setting, SettingKind};
