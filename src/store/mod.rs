//! What must outlive the process: a database, usually beside the socket, and a few small files.

mod change;
mod database;
mod open;
mod inspect;
mod commit;
mod schema;
mod machine;
mod mark;
mod journal;
mod row;
mod digest;
mod checkpoint;
mod history;
mod saved;
mod setting;
mod output;
mod sync;
mod notes;
mod problem;
mod file;
mod numbers;
mod fault;
#[cfg(test)]
mod tests;

pub use change::{Change, Found, Retention};
pub use database::Database;
pub(crate) use fault::point as fault_point;
pub(crate) use file::replace as replace_file;
pub use history::History;
pub use machine::Machine;
pub use notes::{DoneNote, FoundNote, find_note, read_notes};
pub use numbers::{Known, Numbers};
pub use open::Files;
pub use problem::Problem;
pub use saved::{LeftTicket, ProcessIdentity, SavedTicket};
pub use setting::{Setting, SettingKind};
pub use sync::sync;
