//! The daemon: sockets, one owner loop, timers.
//!
//! A request comes in through the door (`accept`), is read by its connection's task (`client`), understood
//! (`understand`) and handed to the `owner`, which asks the sequencer what follows, and puts the answers into the
//! outboxes (`link`) of those concerned. What `seqd` is told on its command line is in `args`, how it comes to be the one
//! daemon of its place in `start`, what it does until it goes in `serve`.

mod args;
mod place;
mod options;
mod start;
mod try_out;
mod inherited;
mod descriptors;
mod detach;
mod directory;
mod lock;
mod listen;
mod log;
mod storage;
mod recover;
mod pipes;
mod heirs;
mod serve;
mod accept;
mod place_watch;
mod client;
mod crowd;
mod share;
mod link;
mod durable;
mod keys;
mod read;
mod understand;
mod wake;
mod signals;
mod owner;
mod settings;
mod rests;
mod config;
mod stall;
mod ledger;
mod kept;
mod watch;
mod aside;
mod process;
mod sight;
mod timer;
mod answers;
mod audience;
mod tell;
mod report;
mod history;
mod facts;
mod restore;
mod leave;

pub use args::{HISTORY_AGE_DEFAULT, HISTORY_TURNS_DEFAULT, IDLE_EXIT_DEFAULT, IdleExit, SeqdArgs};
pub use config::usual_config;
pub use detach::DAEMON_START_TIMEOUT;
pub use directory::{prepare_as_before, with_modes_as_given};
pub use lock::was_stopped;
pub use place::{Place, SOCKET_PATH_BYTES_MAX, SOCKET_VARIABLE, SYSTEM_SOCKET, default_socket, home_directory};
pub use start::run;
