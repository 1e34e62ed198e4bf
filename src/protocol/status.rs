//! Who has a turn and who waits.

use serde::{Deserialize, Serialize};

use super::name::{Domain, RequestId, Ticket, Token};
use super::values::PolicyValues;

/// Body of `status`: domains in alphabetical order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// From the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The domains asked for that are in use.
    pub domains: Vec<DomainStatus>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainStatus {
    /// Its name.
    pub domain: Domain,
    /// Those who have a turn, oldest first.
    pub holders: Vec<HolderStatus>,
    /// Those who wait, in order, as many as were asked for.
    pub waiters: Vec<WaiterStatus>,
    /// How many wait in all.
    pub waiting: u64,
    /// While the turn is free but the head of the line is away: how long it is waited for still, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaited_ms: Option<u64>,
    /// The median of the last runs, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_run_ms: Option<u64>,
    /// Turns that it gives out at once.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub concurrency: u32,
    /// All values of its policy that there are.
    #[serde(default, skip_serializing_if = "PolicyValues::is_empty")]
    pub policy: PolicyValues,
    /// Whether it is paused, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PausedStatus>,
    /// By which value of its policy it lets no turn begin for a while, whether or not somebody waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<HeadStatus>,
    /// What the first of those who wait waits for, if somebody waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadStatus>,
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedStatus {
    /// Why, as whoever paused it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The user who paused it.
    pub uid: u32,
    /// Since when, for people: RFC 3339.
    pub since: String,
}

/// What the head of a line waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadStatus {
    /// What.
    pub waits_for: HeadWait,
    /// Which other line, if that is it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<Domain>,
    /// What it waits for in that other line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line_waits_for: Option<HeadWait>,
    /// Milliseconds until that is over, if it is only a matter of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
    /// When that is over, for people: RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// What the head of a line can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadWait {
    /// For a `resume` of the domain.
    Resume,
    /// For its own client, which has not come back after a restart.
    Client,
    /// For those who have the turn.
    Holders,
    /// For as many free slots as it takes; some are free.
    Slots,
    /// For the least time from one start to the next to be over.
    MinInterval,
    /// For the least time from an end to the next start to be over.
    Cooldown,
    /// For the rate of starts to allow one more.
    Rate,
    /// For a turn that was given to begin: by `min_interval`, or `rate`, none may begin so soon before or after it.
    Start,
    /// For another line in which it stands as well.
    Line,
    /// In that other line: for those ahead of it.
    Ahead,
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field on the wire")]
pub struct HolderStatus {
    /// Its request.
    pub request_id: RequestId,
    /// Its ticket.
    pub ticket: Ticket,
    /// Its fencing number.
    pub token: Token,
    /// The user who asked.
    pub uid: u32,
    /// The process that works under it.
    pub pid: u32,
    /// What it runs, for people; arguments that are not UTF-8 are shown with replacement characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What keeps it.
    pub state: HolderState,
    /// When the turn came, for people: RFC 3339, by the daemon's wall clock and time zone.
    pub since: String,
    /// How long it has had the turn, in milliseconds.
    pub held_ms: u64,
    /// How long it had waited, in milliseconds.
    pub waited_ms: u64,
    /// How long it may still take by past runs, in milliseconds; zero when it takes longer than usual. Of a turn of
    /// binding `lease`: what is left of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
    /// Slots that it takes.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub take: u32,
    /// The other lines in which it stands as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Domain>,
    /// The ticket whose slots in this domain it has, for it was made within that turn. That one may have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Ticket>,
    /// Whether it goes together with others that are shared.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub shared: bool,
    /// Its priority.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i8,
    /// The group in which it is replaced by a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersede: Option<String>,
    /// Whether it made those of its group that had a turn be told `superseded`.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub cancel_running: bool,
    /// The ticket that made its client be told `superseded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Ticket>,
    /// Milliseconds that it may take by the policy with which it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_run_ms: Option<u64>,
    /// Whether it takes longer than that.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub is_over: bool,
    /// Whether the process that took this lease has ended, as far as the daemon sees it.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub is_left: bool,
    /// Whether all that keeps it is in a pid namespace that the daemon cannot see, or more than it has descriptors for, so
    /// that its end cannot be seen either.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub unseen: bool,
}

/// What keeps a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HolderState {
    /// The client that asked is there.
    Attached,
    /// The client that asked is gone, what it started runs on.
    Orphaned,
    /// It is bound to a process that was named by its pid.
    Process,
    /// It ends by itself at a set time.
    Lease,
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

/// One place in line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiterStatus {
    /// Its request.
    pub request_id: RequestId,
    /// Its ticket.
    pub ticket: Ticket,
    /// The user who asked.
    pub uid: u32,
    /// The process that asked.
    pub pid: u32,
    /// What it will run, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Place among those who wait, from 1.
    pub position: u64,
    /// When it took its place, for people: RFC 3339.
    pub since: String,
    /// Whether its client has not come back yet since the daemon was started anew.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub away: bool,
    /// How long it has waited, in milliseconds.
    pub waited_ms: u64,
    /// About how long until its turn by past runs, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
    /// Slots that it takes.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub take: u32,
    /// The other lines in which it stands as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Domain>,
    /// Whether it goes together with others that are shared.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub shared: bool,
    /// Its priority.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i8,
    /// The group in which it is replaced by a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersede: Option<String>,
    /// Whether it made those of its group that had a turn be told `superseded`.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub cancel_running: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &i8) -> bool {
    *number == 0
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_one(number: &u32) -> bool {
    *number == 1
}
