//! What is asked for with a key is done once.

use super::*;
use crate::protocol::{Fingerprint, Key};
use crate::sequencer::{KeyAsk, KeyChange, KeyName, KeyOutcome, KeyRecord, KeyState, KeyTold, Within};

/// `k reserved by #1, c1 held`.
pub(super) fn changed(change: &KeyChange) -> String {
    let hold: Vec<String> = change.hold.iter().map(|connection| format!("c{}", connection.0)).collect();
    let who_is_held = if hold.is_empty() { String::new() } else { format!(", {} held", hold.join(" ")) };
    let state = change.record.as_deref().map_or("as if never used".to_owned(), state);
    format!("{} {state}{who_is_held}", change.name.key)
}

fn state(record: &KeyRecord) -> String {
    let ticket = record.ticket;
    let learned = record.learned.map(|status| format!(", learned {status}")).unwrap_or_default();
    let conflicts = if record.conflicts == 0 { String::new() } else { format!(", conflicts {}", record.conflicts) };
    let state = match record.state {
        KeyState::Reserved => format!("reserved by #{ticket}"),
        KeyState::Running { token, .. } => format!("run by #{ticket}, token {token}"),
        KeyState::Completed(outcome) => format!("completed by #{ticket}, status {}", outcome.exit_status),
        KeyState::Freed(outcome) => format!("freed by #{ticket}, status {}", outcome.exit_status),
        KeyState::Unknown { .. } => format!("unknown of #{ticket}"),
    };
    format!("{state}{learned}{conflicts}")
}

pub(super) fn outcome(told: &KeyTold) -> String {
    let how = if told.followed { "now" } else { "before" };
    format!("{}, {how}", state(&told.record))
}

/// Key `k` for one command, remembered for an hour.
fn once() -> KeyAsk {
    KeyAsk {
        key: Key::parse("k").unwrap(),
        fingerprint: Fingerprint([0; 32]),
        ttl: Duration::from_hours(1),
        keep_failures: false,
        retry_unknown: false,
        replay: false,
        follows: None,
    }
}

fn another_command() -> KeyAsk {
    KeyAsk { fingerprint: Fingerprint([1; 32]), ..once() }
}

fn retrying() -> KeyAsk {
    KeyAsk { retry_unknown: true, ..once() }
}

impl Story {
    fn ask_once(&mut self, connection: u64, ask: KeyAsk) -> Vec<String> {
        self.ask_once_with(connection, ask, |_| {})
    }

    fn ask_once_with(&mut self, connection: u64, ask: KeyAsk, change: impl FnOnce(&mut Enqueue)) -> Vec<String> {
        let mut request = request(connection, &format!("r{connection}"));
        request.key = Some(Box::new(ask));
        change(&mut request);
        self.take(Input::Sequence(request))
    }

    fn ended_with(&mut self, connection: u64, ticket: u64, exit_status: i32) -> Vec<String> {
        let (connection, peer) = (ConnectionId(connection), user(1_000));
        let (which, exit_status) = (Which::Ticket(Ticket(ticket)), Some(exit_status));
        self.take(Input::Done { connection, peer, which, exit_status, processes: Vec::new(), request_id: None })
    }

    fn release_turn(&mut self, ticket: u64) -> Vec<String> {
        let (connection, which) = (ConnectionId(0), Which::Ticket(Ticket(ticket)));
        self.take(Input::Release { connection, peer: operator(), which, request_id: None })
    }

    fn cancel_place(&mut self, ticket: u64) -> Vec<String> {
        let which = Which::Ticket(Ticket(ticket));
        self.take(Input::Cancel { connection: ConnectionId(0), peer: operator(), which })
    }

    fn forget(&mut self, peer: Peer) -> Vec<String> {
        let (connection, key) = (ConnectionId(9), once().key);
        self.take(Input::ForgetKey { connection, peer, uid: None, domain: None, key, request_id: None })
    }

    /// What is seen of keys.
    fn keys(&self) -> Vec<String> {
        let followers = |record: &KeyRecord| match self.sequencer.followers(&record.name) {
            0 => String::new(),
            number => format!(", {number} wait"),
        };
        self.sequencer.keys(None, None, None).map(|record| state(record) + &followers(record)).collect()
    }
}

/// A key of an earlier daemon, of ticket 1.
fn past(state: KeyState) -> KeyRecord {
    KeyRecord {
        name: KeyName { uid: 1_000, domain: foo(), key: once().key },
        fingerprint: once().fingerprint,
        ttl: once().ttl,
        keep_failures: false,
        records_output: false,
        ticket: Ticket(1),
        pid: 101,
        reserved_at: Time::ZERO.into(),
        state,
        expires_at: None,
        displaced: None,
        learned: None,
        conflicts: 0,
        conflicting: Vec::new(),
    }
}

fn past_outcome(exit_status: i32) -> KeyOutcome {
    let at = Time::ZERO.into();
    KeyOutcome { exit_status, token: Token(1), started_at: at, ended_at: at }
}

fn running() -> KeyState {
    KeyState::Running { token: Token(1), started_at: Time::ZERO.into() }
}

#[test]
fn the_second_use_is_told_what_became_of_the_first() {
    let mut story = Story::new();
    assert_eq!(
        story.ask_once(1, once()),
        [
            "#1 admitted",
            "#1 queued",
            "k reserved by #1, c1 held",
            "#1 active, token 1, waited 0ns",
            "k run by #1, token 1, c1 held",
            "c1: active #1, token 1"
        ]
    );
    assert_eq!(
        story.ended_with(1, 1, 0),
        ["#1 ended Done 0, token 1, waited 0ns, held 0ns", "k completed by #1, status 0, c1 held", "c1: done #1"]
    );
    assert_eq!(story.ask_once(2, once()), ["c2: completed by #1, status 0, before"]);
}

#[test]
fn whoever_comes_meanwhile_waits_for_the_outcome() {
    let mut story = Story::new();
    story.ask_once(1, once());
    assert_eq!(story.ask_once(2, once())[0], "follower 0");
    assert_eq!(
        story.ask_once_with(3, once(), |ask| ask.no_wait = true),
        ["c3: busy: ticket 1 has key k and has not ended"]
    );
    story.ask_once(4, once());
    assert_eq!(story.keys(), ["run by #1, token 1, 2 wait"]);
    assert_eq!(
        story.ended_with(1, 1, 0),
        [
            "#1 ended Done 0, token 1, waited 0ns, held 0ns",
            "k completed by #1, status 0, c1 c2 c4 held",
            "follower 0 no more",
            "c2: completed by #1, status 0, now",
            "follower 1 no more",
            "c4: completed by #1, status 0, now",
            "c1: done #1"
        ]
    );
}

#[test]
fn another_command_is_refused_and_counted() {
    let mut story = Story::new();
    story.ask_once(1, once());
    for connection in [2, 3] {
        let told = story.ask_once(connection, another_command());
        assert_eq!(
            told.last().unwrap(),
            &format!(
                "c{connection}: key_conflict: key k was used for another command, by ticket 1: use another key, or see \
                 `seq key show`"
            )
        );
    }
    story.ended_with(1, 1, 0);
    story.ask_once(4, another_command());
    assert_eq!(story.keys(), ["completed by #1, status 0, conflicts 3"]);
}

#[test]
fn a_failure_frees_the_key_and_is_told_to_those_who_waited() {
    let mut story = Story::new();
    story.ask_once(1, once());
    story.ask_once(2, once());
    let told = story.ended_with(1, 1, 3);
    assert_eq!(
        told[1..4],
        ["k freed by #1, status 3, c1 c2 held", "follower 0 no more", "c2: freed by #1, status 3, now"]
    );
    assert!(story.keys().is_empty());
    // Who waited for it by a connection that was lost is told still, and nobody else.
    let lost = KeyAsk { follows: Some(Ticket(1)), ..once() };
    assert_eq!(story.ask_once(3, lost), ["c3: freed by #1, status 3, now"]);
    assert_eq!(story.ask_once(4, once()).last().unwrap(), "c4: active #2, token 2");
}

#[test]
fn a_failure_may_be_kept() {
    let mut story = Story::new();
    story.ask_once(1, KeyAsk { keep_failures: true, ..once() });
    story.ended_with(1, 1, 3);
    assert_eq!(story.ask_once(2, once()), ["c2: completed by #1, status 3, before"]);
}

#[test]
fn whoever_waits_longest_is_next_where_the_first_never_had_its_turn() {
    let mut story = Story::new();
    story.ask(9, "holder");
    story.ask_once(1, once());
    story.ask_once(2, once());
    story.ask_once(3, once());
    assert_eq!(
        story.cancel_place(2),
        [
            "#2 left Cancelled, waited 0ns",
            "k as if never used, c1 held",
            "c1: cancelled: ticket 2 was cancelled while it waited: ask again for a new place",
            "c0: cancelled #2",
            "#3 admitted, follower 0",
            "#3 queued",
            "k reserved by #3, c2 held",
            "c2: queued #3, position 1, ahead 1",
            "c3: following #3"
        ]
    );
    let gone = story.disconnect(2);
    assert!(gone.contains(&"#4 admitted, follower 1".to_owned()), "{gone:?}");
}

#[test]
fn who_is_next_waits_no_longer_than_it_said() {
    let mut story = Story::new();
    story.ask(9, "holder");
    story.ask_once_with(1, once(), |ask| ask.max_wait = Some(Duration::from_secs(1)));
    story.ask_once_with(2, once(), |ask| ask.max_wait = Some(Duration::from_secs(3)));
    story.ask_once_with(3, once(), |ask| ask.max_wait = Some(Duration::from_secs(1)));
    let told = story.later(1_000);
    assert!(told.contains(&"#3 admitted, follower 0".to_owned()), "{told:?}");
    assert_eq!(
        told.last().unwrap(),
        "c3: timed_out: ticket 3 has key k and has not ended after 1s: allow a longer wait, or see `seq status`"
    );
    assert_eq!(story.timeout(), Some(2_000));
    assert_eq!(story.later(2_000)[0], "#3 left TimedOut, waited 2s");
}

#[test]
fn those_who_waited_for_a_replaced_one_go_with_it() {
    let mut story = Story::new();
    story.ask(9, "holder");
    story.ask_once_with(1, once(), |ask| ask.wishes.supersede = Some("".into()));
    story.ask_once(2, once());
    let told = story.ask_with(3, "newer", |ask| ask.wishes.supersede = Some("".into()));
    assert_eq!(
        told[..4],
        [
            "#2 left Superseded by #3, waited 0ns",
            "k as if never used, c1 held",
            "follower 0 no more",
            "c2: superseded: ticket 2 was replaced by ticket 3 (pid 103, uid 1000), which came later"
        ]
    );
}

#[test]
fn a_turn_that_was_told_to_stop_has_done_it_if_it_succeeds_all_the_same() {
    let stop = |how: &dyn Fn(&mut Story) -> Vec<String>| {
        let mut story = Story::new();
        story.ask_once_with(1, once(), |ask| ask.wishes.supersede = Some("".into()));
        story.ask_with(3, "newer", |ask| {
            ask.wishes.supersede = Some("".into());
            ask.wishes.cancel_running = true;
        });
        how(&mut story)[1].clone()
    };
    assert_eq!(stop(&|story| story.ended_with(1, 1, 0)), "k completed by #1, status 0, c1 held");
    assert_eq!(stop(&|story| story.ended_with(1, 1, 76)), "k as if never used, c1 held");
    assert_eq!(stop(&|story| story.ended_with(1, 1, 3)), "k freed by #1, status 3, c1 held");
    assert_eq!(stop(&|story| story.disconnect(1)), "k unknown of #1");
}

#[test]
fn nobody_knows_what_became_of_a_turn_that_was_lost() {
    let mut story = Story::new();
    story.ask_once(1, once());
    story.ask_once(2, once());
    story.ask_once(3, retrying());
    let told = story.disconnect(1);
    let unknown = "key_unknown: nobody knows how the command of key k ended, which ticket 1 ran: find out, and then run it \
                   again with --retry-unknown, or let the key go with `seq key forget`";
    assert_eq!(told[1..4], ["k unknown of #1, c2 c3 held", "follower 0 no more", &format!("c2: {unknown}")]);
    assert_eq!(told.last().unwrap(), "c3: active #2, token 2");
    story.disconnect(3);
    assert_eq!(story.ask_once(4, once()), [format!("c4: {}", unknown.replace("ticket 1", "ticket 2"))]);
    assert_eq!(story.ask_once(5, retrying()).last().unwrap(), "c5: active #3, token 3");
}

#[test]
fn word_that_comes_late_counts() {
    let mut story = Story::new();
    story.ask_once(1, once());
    story.release_turn(1);
    assert_eq!(story.keys(), ["unknown of #1"]);
    assert_eq!(story.ended_with(1, 1, 0), ["k completed by #1, status 0, c1 held", "c1: done, nothing released"]);
}

#[test]
fn word_for_another_request_does_not_count() {
    let mut story = Story::new();
    story.ask_once(1, once());
    let (connection, peer) = (ConnectionId(2), user(1_000));
    let which = Which::TicketOf(Ticket(1), Some(domain("bar.org")), None);
    let done = Input::Done { connection, peer, which, exit_status: Some(0), processes: Vec::new(), request_id: None };
    assert_eq!(story.take(done), ["c2: done, nothing released"]);
    story.disconnect(1);
    assert_eq!(story.keys(), ["unknown of #1"]);
}

#[test]
fn word_left_before_a_turn_is_lost_is_its_outcome() {
    let mut story = Story::new();
    story.ask_once(1, once());
    let learned = Input::KeyLearned { ticket: Ticket(1), exit_status: 0 };
    assert_eq!(story.take(learned), ["k run by #1, token 1, learned 0"]);
    assert_eq!(story.disconnect(1)[1], "k completed by #1, status 0");
}

#[test]
fn an_expired_key_is_as_if_never_used() {
    let mut story = Story::new();
    story.ask_once(1, KeyAsk { ttl: Duration::from_secs(5), ..once() });
    story.ended_with(1, 1, 0);
    story.pass(4_999);
    assert_eq!(story.ask_once(2, once()), ["c2: completed by #1, status 0, before"]);
    story.pass(1);
    assert_eq!(story.ask_once(3, once())[..2], ["k as if never used", "#2 admitted"]);
    story.ended_with(3, 2, 0);
    // What nobody asks for goes at a whole minute.
    assert_eq!(story.timeout(), Some(3_660_000 - 5_000));
    assert_eq!(story.later(3_655_000), ["k as if never used"]);
    assert_eq!(story.timeout(), None);
}

#[test]
fn a_key_goes_on_as_its_ticket_does_after_a_restart() {
    let next = |ticket: Option<Restored>, record: KeyRecord| {
        let mut story = Story::new();
        if let Some(ticket) = ticket {
            story.take(Input::Restore(ticket));
        }
        (story.take(Input::PastKey(Box::new(record))), story.keys())
    };
    let waits = || Some(waiter(1, "a"));
    let works = || Some(Restored { turn: Some(turn(1)), ..waiter(1, "a") });
    let nothing = Vec::<String>::new;
    assert_eq!(next(waits(), past(KeyState::Reserved)), (nothing(), vec!["reserved by #1".to_owned()]));
    assert_eq!(next(works(), past(running())), (nothing(), vec!["run by #1, token 1".to_owned()]));
    assert_eq!(next(None, past(KeyState::Reserved)), (vec!["k as if never used".to_owned()], nothing()));
    assert_eq!(next(None, past(running())).0, ["k unknown of #1"]);
    let learned = KeyRecord { learned: Some(3), ..past(running()) };
    assert_eq!(next(None, learned).0, ["k freed by #1, status 3"]);
    let expires_at = Some(Time::from_nanos(1));
    let completed = KeyRecord { expires_at, ..past(KeyState::Completed(past_outcome(0))) };
    assert_eq!(next(None, completed.clone()), (nothing(), vec!["completed by #1, status 0".to_owned()]));
    let expired = KeyRecord { expires_at: Some(Time::ZERO), ..completed };
    assert_eq!(next(None, expired), (vec!["k as if never used".to_owned()], nothing()));
}

#[test]
fn what_is_known_already_is_not_told_anew() {
    let mut story = Story::new();
    story.ask_once(1, once());
    story.ask_once(2, once());
    assert!(story.take(Input::PastKey(Box::new(past(KeyState::Completed(past_outcome(0)))))).is_empty());
    assert_eq!(story.keys(), ["run by #1, token 1, 1 wait"]);
}

#[test]
fn a_key_is_let_go_of_by_its_user_or_an_operator() {
    let mut story = Story::new();
    assert_eq!(story.forget(user(1_000)), ["c9: not_found: there is no key k"]);
    story.ask_once(1, once());
    assert_eq!(
        story.forget(user(1_000)),
        ["c9: key_in_use: key k is in use: end ticket 1 first, with `seq cancel 1` or `seq release 1`"]
    );
    story.ended_with(1, 1, 0);
    assert_eq!(story.forget(user(1_001)), ["c9: not_found: there is no key k"]);
    story.ask_once_with(2, once(), |ask| ask.domain = domain("bar.org"));
    story.ended_with(2, 2, 0);
    assert_eq!(
        story.forget(operator()),
        ["c9: several_keys: there are several keys k, in bar.org, foo.com: name the domain"]
    );
    let (connection, key) = (ConnectionId(9), once().key);
    let (peer, domain) = (operator(), Some(foo()));
    let forget = Input::ForgetKey { connection, peer, uid: None, domain, key, request_id: None };
    assert_eq!(story.take(forget)[0], "k as if never used, c9 held");
}

#[test]
fn who_would_run_it_again_and_never_does_leaves_it_unknown() {
    let mut story = Story::new();
    story.ask_once(1, once());
    story.disconnect(1);
    story.ask(2, "holder");
    assert_eq!(story.keys(), ["unknown of #1"]);
    story.ask_once(3, retrying());
    story.ask_once(4, once());
    story.ask_once(5, retrying());
    assert_eq!(story.keys(), ["reserved by #3, 2 wait"]);
    let told = story.cancel_place(3);
    assert!(told.iter().any(|effect| effect.starts_with("c4: key_unknown: ")), "{told:?}");
    assert_eq!(story.keys(), ["reserved by #4"], "who would run it again as well is next");
    let told = story.disconnect(5);
    assert!(told.contains(&"k unknown of #1, c5 held".to_owned()), "{told:?}");
    assert!(story.ask_once(6, once())[0].starts_with("c6: key_unknown: "));
    let mut record = past(KeyState::Reserved);
    let unknown = KeyState::Unknown { token: Token(1), started_at: Time::ZERO.into(), ended_at: Time::ZERO.into() };
    record.displaced =
        Some(Box::new(KeyRecord { expires_at: Some(Time::ZERO + Duration::from_secs(1)), ..past(unknown) }));
    record.ticket = Ticket(9);
    let mut next = Story::new();
    next.take(Input::PastKey(Box::new(record)));
    assert_eq!(next.keys(), ["unknown of #1"], "also where the daemon has ended meanwhile");
}

#[test]
fn an_operator_names_the_user_whose_key_is_meant() {
    let mut story = Story::new();
    story.ask_once(1, once());
    story.ended_with(1, 1, 0);
    story.ask_once_with(2, once(), |ask| ask.peer = user(1_001));
    let done = Input::Done {
        connection: ConnectionId(2),
        peer: user(1_001),
        which: Which::Ticket(Ticket(2)),
        exit_status: Some(0),
        processes: Vec::new(),
        request_id: None,
    };
    story.take(done);
    let mut forget = |peer: Peer, uid: Option<u32>| {
        let (connection, key) = (ConnectionId(9), once().key);
        story.take(Input::ForgetKey { connection, peer, uid, domain: None, key, request_id: None })
    };
    assert_eq!(
        forget(operator(), None),
        ["c9: several_keys: several users have a key k, of uid 1000, 1001: name one of them"]
    );
    assert_eq!(
        forget(user(1_000), Some(1_001)),
        ["c9: forbidden: keys of other users are for root and the daemon's own user: name your own, or none"]
    );
    assert_eq!(forget(operator(), Some(1_001))[0], "k as if never used, c9 held");
    assert_eq!(forget(operator(), Some(1_001)), ["c9: not_found: there is no key k"]);
    assert_eq!(forget(user(1_000), Some(1_000))[0], "k as if never used, c9 held");
}

#[test]
fn keys_are_each_users_own_and_so_is_their_number() {
    let mut story = Story::with_limits(Limits { keys: 3, keys_per_user: 1, ..Limits::default() });
    story.ask_once(1, once());
    story.ended_with(1, 1, 0);
    let other = story.ask_once_with(2, once(), |ask| ask.peer = user(1_001));
    assert_eq!(other.last().unwrap(), "c2: active #2, token 2");
    let one_more = KeyAsk { key: Key::parse("l").unwrap(), ..once() };
    assert_eq!(
        story.ask_once(3, one_more),
        ["c3: too_many_keys: 1 keys are remembered already: let some go with `seq key forget`, or use a shorter ttl"]
    );
}

#[test]
fn a_request_id_belongs_to_a_key() {
    let mut story = Story::new();
    story.ask(9, "holder");
    story.ask_once(1, once());
    let told = "request_id_taken: request id r1 belongs to ticket 2, for another key or command: use another one";
    assert_eq!(story.ask(2, "r1"), [format!("c2: {told}")]);
    let again = story.ask_once_with(3, another_command(), |ask| ask.request_id = Some(id("r1")));
    assert_eq!(again, [format!("c3: {told}")]);
    let again = story.ask_once_with(4, once(), |ask| ask.request_id = Some(id("r1")));
    assert_eq!(again.last().unwrap(), "c4: queued #2, position 1, ahead 1");
}

#[test]
fn a_turn_is_not_waited_for_from_within() {
    let mut story = Story::new();
    story.ask_once(1, once());
    let within = Some(Within { ticket: Ticket(1), token: Token(1) });
    assert_eq!(
        story.ask_once_with(2, once(), |ask| ask.wishes.within = within),
        [
            "c2: would_deadlock: a deadlock: ticket 1 (pid 101) has key k and would wait for key k: leave out the key, or \
             run it outside of that turn"
        ]
    );
    // Nor one that waits for the turn around.
    story.ask_once_with(3, KeyAsk { key: Key::parse("l").unwrap(), ..once() }, |_| {});
    let told =
        story.ask_once_with(4, KeyAsk { key: Key::parse("l").unwrap(), ..once() }, |ask| ask.wishes.within = within);
    assert_eq!(
        told,
        ["c4: would_deadlock: a deadlock: ticket 2 (pid 103) has key l and waits for foo.com; \
          ticket 1 (pid 101) has foo.com and would wait for key l"]
    );
}

impl Story {
    /// Waits for what becomes of a key in foo.com, within the turn with this ticket.
    fn follow_within(&mut self, outer: u64, connection: u64, ask: KeyAsk) -> Vec<String> {
        let key = Some(Box::new(ask));
        self.ask_within_with(outer, connection, &["foo.com"], |request| request.key = key)
    }
}

/// Ticket 1 has a, ticket 2 has foo.com and is the first to use k.
fn one_with_a_domain_and_one_with_a_key() -> Story {
    let mut story = Story::new();
    story.ask_within(0, 1, &["a"]);
    story.ask_once(2, once());
    story
}

#[test]
fn a_circle_through_one_that_waits_for_a_key_is_spelled_out() {
    let mut story = one_with_a_domain_and_one_with_a_key();
    assert_eq!(story.follow_within(1, 3, once())[0], "follower 0");
    assert_eq!(
        story.ask_within(2, 4, &["a"]),
        ["c4: would_deadlock: a deadlock: ticket 1 (pid 101) has a and waits for key k; \
          ticket 2 (pid 102) has key k and would wait for a"]
    );
    // Also further in, on both sides.
    let mut story = one_with_a_domain_and_one_with_a_key();
    story.ask_within(1, 3, &["b"]);
    assert_eq!(story.follow_within(3, 4, once())[0], "follower 0");
    story.ask_within(2, 5, &["c"]);
    assert_eq!(
        story.ask_within(4, 6, &["a"]),
        ["c6: would_deadlock: a deadlock: ticket 1 (pid 101) has a and waits for key k; \
          ticket 2 (pid 102) has key k and would wait for a"]
    );
}

#[test]
fn a_circle_that_is_closed_by_one_that_waits_for_a_key_is_spelled_out() {
    let mut story = one_with_a_domain_and_one_with_a_key();
    story.ask_within(2, 3, &["a"]);
    assert_eq!(
        story.follow_within(1, 4, once()),
        ["c4: would_deadlock: a deadlock: ticket 2 (pid 102) has key k and waits for a; \
          ticket 1 (pid 101) has a and would wait for key k"]
    );
    assert_eq!(story.keys(), ["run by #2, token 2"], "it waits no more");
}

#[test]
fn a_circle_through_two_keys_is_spelled_out_as_a_terminal_can_show_it() {
    let red = || KeyAsk { key: Key::parse("k\u{1b}[31m").unwrap(), ..once() };
    let mut story = Story::new();
    story.ask_once(1, red());
    story.ask_once_with(2, once(), |ask| ask.domain = domain("b"));
    let in_b = |request: &mut Enqueue| {
        request.domain = domain("b");
        request.key = Some(Box::new(once()));
    };
    assert_eq!(story.ask_within_with(1, 3, &["b"], in_b)[0], "follower 0");
    assert_eq!(
        story.follow_within(2, 4, red()),
        ["c4: would_deadlock: a deadlock: ticket 1 (pid 101) has key k\\u{1b}[31m and waits for key k; \
          ticket 2 (pid 102) has key k and would wait for key k\\u{1b}[31m"]
    );
}

#[test]
fn a_policy_that_makes_a_circle_through_a_key_refuses_whoever_waits_for_it() {
    let slots = |concurrency| Policy { concurrency: Some(concurrency), ..Policy::default() };
    let mut story = Story::new();
    story.set("foo.com", slots(2));
    story.ask(1, "independent");
    story.ask(2, "outer");
    story.ask_once(3, once());
    assert_eq!(story.follow_within(2, 4, once())[0], "follower 0", "the slot of ticket 1 will be free");
    assert_eq!(
        story.set("foo.com", slots(1))[2..],
        [
            "follower 0 no more",
            "c4: would_deadlock: a deadlock: ticket 3 (pid 103) has key k and waits for foo.com; \
             ticket 2 (pid 102) has foo.com and would wait for key k",
        ]
    );
}

#[test]
fn the_daemon_leaves_nobody_waiting_for_an_outcome() {
    for (keep_places, code) in [(false, "leaving"), (true, "restarting")] {
        let mut story = Story::new();
        story.ask_once(1, once());
        story.ask_once(2, once());
        let told = story.take(Input::Leave { keep_places });
        let no_more = told.iter().position(|effect| effect == "follower 0 no more").unwrap();
        assert!(told[no_more + 1].starts_with(&format!("c2: {code}: ")), "{told:?}");
        assert!(!told.iter().any(|effect| effect.contains("admitted")), "{told:?}");
    }
}
