//! The words on the wire: one JSON object a line, both ways, over a Unix stream socket.
//!
//! The protocol in prose, with each request's replies and an example session, is `man/seq-protocol.7`.

mod name;
mod values;
mod policy;
mod key;
mod request;
mod reply;
mod status;
mod event;
mod making_way;
mod log;
mod info;
mod error;
mod frame;
pub mod limits;

pub use error::{ErrorCode, ErrorReply};
pub use event::{Event, EventKind, Lagged, Outcome, PolicyEvent, PolicyEventKind, Watching};
pub use frame::{Framed, LineBuffer, encode};
pub use info::{Counts, IN_MEMORY, InfoReply, Limits};
pub use key::{
    Fingerprint, Following, KeyDone, KeyForget, KeyForgotten, KeyList, KeyListReply, KeyOutput, KeyStateName,
    KeyStatus, KeyWish, OutputPart, OutputRequest, Stream, key_record_id,
};
pub use log::{EndedTurn, LogReply};
pub use making_way::MADE_WAY_STATUS;
pub use name::{Domain, Key, NameError, RequestId, Ticket, Token};
pub use policy::{Paused, PolicySetReply, PolicyShowReply, PolicyStatus, PolicyUnsetReply, PolicyValueSource, Resumed};
pub use reply::{
    Active, Cancelled, Confirmed, DoneReply, HelloReply, Idle, QueuePosition, Queued, Released, Reply, Restarting,
    Stalled, Stopping,
};
pub use request::{
    Binding, Cancel, Confirm, Done, Hello, Info, Log, OuterTurn, Pause, PolicySet, PolicyShow, PolicyUnset, Release,
    Request, Restart, Resume, Sequence, Started, Status, Stop, Wait, Watch,
};
pub use status::{
    DomainStatus, HeadStatus, HeadWait, HolderState, HolderStatus, PausedStatus, StatusReply, WaiterStatus,
};
pub use values::{PolicyValue, PolicyValues, RateValue, ValueSet};

/// The version of the protocol that this program speaks. It changes when an old client or daemon would misunderstand
/// a new one; added fields and operations do not change it.
pub const PROTOCOL_VERSION: u32 = 1;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}
