//! The words on the wire: one JSON object a line, both ways, over a Unix stream socket.
//!
//! The protocol in prose, with each request's replies and an example session, is `man/seq-protocol.7`.

mod name;
mod request;
mod reply;
mod frame;
pub mod limits;

pub use frame::{Framed, LineBuffer, encode};
pub use name::{Domain, NameError, RequestId, Ticket, Token};
pub use reply::{
    Active, Cancelled, Counts, DomainStatus, DoneReply, EndedTurn, ErrorCode, ErrorReply, Event, EventKind, HelloReply,
    HolderState, HolderStatus, Idle, InfoReply, Lagged, Limits, LogReply, Outcome, QueuePosition, Queued, Released,
    Reply, Restarting, Stalled, StatusReply, Stopping, WaiterStatus, Watching,
};
pub use request::{
    Binding, Cancel, Done, Hello, Info, Log, Release, Request, Restart, Sequence, Started, Status, Stop, Wait, Watch,
};

/// The version of the protocol that this program speaks. It changes when an old client or daemon would misunderstand
/// a new one; added fields and operations do not change it.
pub const PROTOCOL_VERSION: u32 = 1;
