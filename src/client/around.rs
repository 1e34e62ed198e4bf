//! Whether a request waits for a turn that it runs under.

use std::time::Duration;

use crate::protocol::{Domain, HolderState, Request, Sequence, Status, StatusReply, Ticket};

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
/// environment was cleaned, or it is a shell's by `seq sequence`. The turn of `own` is the one that came meanwhile.
pub(super) fn turn_around(status: &StatusReply, sequence: &Sequence, own: Option<Ticket>) -> Option<String> {
    let wanted: Vec<Domain> =
        std::iter::once(&sequence.domain).chain(&sequence.also).filter_map(|name| Domain::parse(name).ok()).collect();
    let lines = status.domains.iter().filter(|line| wanted.contains(&line.domain));
    let ancestors = ancestry();
    let holder = lines
        .flat_map(|line| &line.holders)
        .filter(|holder| Some(holder.ticket) != own && !holder.unseen && holder.state != HolderState::Lease)
        .find(|holder| ancestors.contains(&holder.pid))?;
    let way_out = if holder.state == HolderState::Process {
        "'seq done' must give it back first"
    } else {
        "with SEQ_TICKET, SEQ_TOKEN and SEQ_TURN_SOCKET of that turn in its environment it would go on within it"
    };
    Some(format!("pid {}, which this runs under, has the turn, so this may wait for ever: {way_out}", holder.pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_turn_that_is_not_its_own_is_around_a_request() {
        let pid = std::os::unix::process::parent_id();
        let status = format!(
            r#"{{"domains":[{{"domain":"foo.com","waiting":0,"waiters":[],"holders":[{{"request_id":"t-7","ticket":7,"token":7,
            "uid":0,"pid":{pid},"state":"process","since":"","held_ms":0,"waited_ms":0}}]}}]}}"#
        );
        let status: StatusReply = serde_json::from_str(&status).unwrap();
        let sequence = Sequence { domain: "foo.com".to_owned(), ..Sequence::default() };
        let around = |own| turn_around(&status, &sequence, own);
        assert!(around(None).is_some_and(|why| why.contains("'seq done'")));
        assert!(around(Some(Ticket(8))).is_some());
        assert_eq!(around(Some(Ticket(7))), None);
    }
}
