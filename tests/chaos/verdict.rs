//! What must be so after a storm.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;

use serde_json::Value;

use crate::stamp::{Stamp, What};
use crate::world::{Fate, SAID, World};

/// What a shell says of a command that was killed with -9.
const KILLED: i32 = 137;

/// What was found wrong, each with the domain that it concerns.
#[derive(Default)]
struct Faults(Vec<(String, String)>);

impl Faults {
    fn find(&mut self, domain: &str, what: String) {
        self.0.push((domain.to_owned(), what));
    }
}

/// Fails, with the history of the domains in question, unless turns were exclusive and in order, and none was lost.
/// `history` is what the daemon has written down.
#[track_caller]
pub(crate) fn judge(world: &World, history: &[Value]) {
    let mut faults = Faults::default();
    let mut domains: BTreeMap<&str, Vec<&Stamp>> = BTreeMap::new();
    for stamp in world.stamps.iter().filter(|stamp| stamp.what != What::Note) {
        domains.entry(&stamp.domain).or_default().push(stamp);
    }
    for (domain, stamps) in &domains {
        no_overlaps(domain, stamps, &mut faults);
        in_order(domain, stamps, &mut faults);
    }
    none_lost(world, &mut faults);
    all_written_down(world, history, &mut faults);
    let said = world.home.read(SAID);
    if !said.is_empty() {
        faults.find("", format!("seq run is not silent: {said}"));
    }
    assert!(faults.0.is_empty(), "{}", explain(world, &faults));
}

/// By two witnesses: the order of the stamps, and the lock that each command takes. One that was killed before has left
/// neither a stamp nor, maybe, the lock: a process is cleared away bit by bit, but does nothing any more.
fn no_overlaps(domain: &str, stamps: &[&Stamp], faults: &mut Faults) {
    let mut inside: Option<usize> = None;
    let mut before: Option<usize> = None;
    let mut killed = BTreeSet::new();
    for stamp in stamps {
        match stamp.what {
            What::Start => {
                if let Some(other) = inside.filter(|other| !killed.contains(other)) {
                    faults.find(domain, format!("overlap: turn {} began inside turn {other}", stamp.turn));
                }
                (before, inside) = (inside, Some(stamp.turn));
            }
            What::Blocked if before.is_some_and(|before| killed.contains(&before)) => {}
            What::Blocked => faults.find(domain, format!("overlap: turn {} found the lock taken", stamp.turn)),
            What::End => {
                if inside == Some(stamp.turn) {
                    inside = None;
                } else {
                    faults.find(domain, format!("overlap: turn {} ended while {inside:?} was inside", stamp.turn));
                }
            }
            What::Kill => _ = killed.insert(stamp.turn),
            What::Note => {}
        }
    }
}

fn in_order(domain: &str, stamps: &[&Stamp], faults: &mut Faults) {
    let starts: Vec<_> = stamps.iter().filter(|stamp| stamp.what == What::Start).collect();
    for pair in starts.windows(2) {
        let (turn, next) = (pair[0], pair[1]);
        if next.ticket <= turn.ticket {
            faults.find(domain, format!("order: ticket {} began after ticket {}", next.ticket, turn.ticket));
        }
        if next.token <= turn.token {
            faults.find(domain, format!("order: token {} came after token {}", next.token, turn.token));
        }
    }
}

fn none_lost(world: &World, faults: &mut Faults) {
    let mut starts: HashMap<usize, Vec<&Stamp>> = HashMap::new();
    let mut killed = BTreeSet::new();
    let mut ended = BTreeSet::new();
    for stamp in &world.stamps {
        match stamp.what {
            What::Start => starts.entry(stamp.turn).or_default().push(stamp),
            What::Kill => _ = killed.insert(stamp.turn),
            What::End => _ = ended.insert(stamp.turn),
            What::Blocked | What::Note => {}
        }
    }
    for fate in &world.fates {
        let Fate { turn, domain, .. } = fate;
        let runs = starts.get(turn).map_or(0, Vec::len);
        let was_killed = killed.contains(turn);
        if runs > 1 {
            faults.find(domain, format!("turn {turn} ran {runs} times"));
        }
        if runs == 1 && !was_killed && !ended.contains(turn) {
            faults.find(domain, format!("the command of turn {turn} did not come to its end"));
        }
        if is_wrapper_killed(fate) {
            continue;
        }
        if runs == 0 {
            faults.find(domain, format!("lost: turn {turn} never ran, and ended with {:?}", fate.ended));
        }
        if !may_end_with(fate, was_killed).contains(&fate.ended.and_then(|status| status.code())) {
            faults.find(domain, format!("turn {turn} ended with {:?} instead of {}", fate.ended, fate.status));
        }
        let ticket = starts.get(turn).map(|starts| starts[0].ticket);
        if fate.place.is_some() && fate.place != ticket {
            faults.find(domain, format!("turn {turn} waited with ticket {:?} and ran with {ticket:?}", fate.place));
        }
    }
}

fn is_wrapper_killed(fate: &Fate) -> bool {
    fate.ended.is_some_and(|status| status.signal() == Some(9))
}

/// A command that is killed may just have ended.
fn may_end_with(fate: &Fate, was_killed: bool) -> [Option<i32>; 2] {
    let own = Some(i32::from(fate.status));
    [own, if was_killed { Some(KILLED) } else { own }]
}

/// Each turn whose wrapper lived to tell is in the history once, with its command's status.
fn all_written_down(world: &World, history: &[Value], faults: &mut Faults) {
    let mut rows: HashMap<u64, Vec<&Value>> = HashMap::new();
    for row in history {
        rows.entry(row["ticket"].as_u64().expect("a ticket")).or_default().push(row);
    }
    let starts: HashMap<usize, &Stamp> =
        world.stamps.iter().filter(|stamp| stamp.what == What::Start).map(|stamp| (stamp.turn, stamp)).collect();
    for fate in world.fates.iter().filter(|fate| !is_wrapper_killed(fate)) {
        let Some(start) = starts.get(&fate.turn) else { continue };
        let found = rows.get(&start.ticket).map_or(&[][..], Vec::as_slice);
        let status = fate.ended.and_then(|status| status.code());
        let is_right = |row: &&&Value| row["exit_status"].as_i64() == status.map(i64::from) && row["outcome"] == "done";
        if found.len() != 1 || found.iter().filter(is_right).count() != 1 {
            let turn = fate.turn;
            faults.find(&fate.domain, format!("turn {turn} ended with {status:?}; its history is {found:?}"));
        }
    }
}

fn explain(world: &World, faults: &Faults) -> String {
    let mut text = String::from("\n");
    for (domain, what) in &faults.0 {
        _ = writeln!(text, "{domain}: {what}");
    }
    let domains: BTreeSet<&str> = faults.0.iter().map(|(domain, _)| domain.as_str()).collect();
    for domain in domains {
        _ = writeln!(text, "--- the history of {domain}");
        for stamp in world.stamps.iter().filter(|stamp| stamp.domain == domain || stamp.what == What::Note) {
            _ = writeln!(text, "{}", stamp.line);
        }
    }
    _ = writeln!(text, "--- the daemons' log\n{}", world.home.read(".local/state/seq/seqd.log"));
    text
}
