//! Whether a request waits for a turn that it runs under.

use std::time::Duration;

use crate::protocol::{Domain, HolderState, Request, Sequence, Status, StatusReply};

use super::process::ancestry;

/// How long a request waits before it is looked for whether it runs under the turn that it waits for.
pub(super) const LOOK_AFTER: Duration = Duration::from_secs(1);

/// What the status for that is called.
pub(super) const LOOK_ID: &str = "around";

/// What [`turn_around`] is to look at.
pub(super) fn look_request(sequence: &Sequence) -> Request {
    // One that stands in several lines looks at all there are.
    let domain = Some(sequence.domain.clone()).filter(|_| sequence.also.is_empty());
    Request::Status(Status { domain, waiters_max: Some(0), request_id: Some(LOOK_ID.to_owned()), ..Status::default() })
}

/// What there is to say when this process runs under the very turn that it waits for, and the daemon cannot know: its
/// environment was cleaned, or it is a shell's by `seq sequence`.
pub(super) fn turn_around(status: &StatusReply, sequence: &Sequence) -> Option<String> {
    let wanted: Vec<Domain> =
        std::iter::once(&sequence.domain).chain(&sequence.also).filter_map(|name| Domain::parse(name).ok()).collect();
    let lines = status.domains.iter().filter(|line| wanted.contains(&line.domain));
    let ancestors = ancestry();
    let holder = lines
        .flat_map(|line| &line.holders)
        .find(|holder| !holder.unseen && holder.state != HolderState::Lease && ancestors.contains(&holder.pid))?;
    let way_out = if holder.state == HolderState::Process {
        "'seq done' must give it back first"
    } else {
        "with SEQ_TICKET, SEQ_TOKEN and SEQ_TURN_SOCKET of that turn in its environment it would go on within it"
    };
    Some(format!("pid {}, which this runs under, has the turn, so this may wait for ever: {way_out}", holder.pid))
}
