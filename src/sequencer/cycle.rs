//! Deadlocks: found before they are made, and undone when a change of policy makes one.
//!
//! A turn waits for the requests made within it, for it may not end before they do. A request that waits, waits in each
//! of its lines for whoever has too much there, and for whoever is ahead. A newcomer that would never get its turn is
//! refused; one who is ahead of others has to be looked at for their sake. A `Wait` within a turn waits for everybody in
//! its line, so whoever comes there from another line has to be looked at as well. A request that waits for the outcome
//! of a key stands in no line: it waits for the ticket that has the key.
//!
//! Without a request or a `Wait` that waits within a turn there is no deadlock: all turns end, and all lines have the
//! same order. A newcomer that is within no turn, ahead of nobody, and in no second line makes none either. So no others
//! pay for this.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::protocol::{Domain, Key, Outcome, Ticket};

use super::follow::Follower;
use super::key_refusal::KeyRefusal;
use super::nested::{Arrival, Who, is_guest_in};
use super::reach::Reach;
use super::refusal::Refusal;
use super::ticket::Entry;
use super::{Effect, Sequencer, Wishes};

/// Waiters that stand in more than one line, by line and place.
pub(super) type Wide = BTreeSet<(Domain, Rank)>;

/// A place in any line: whoever has a lesser one is ahead.
pub(super) type Rank = (Reverse<i8>, Who);

/// Somebody who waits, or a newcomer who would.
#[derive(Clone, Debug)]
pub(super) struct Waiter<'a> {
    pub(super) rank: Rank,
    pub(super) wishes: &'a Wishes,
    pub(super) lines: Vec<&'a Domain>,
    /// Whose outcome it waits for instead, by which key.
    pub(super) follows: Option<(Ticket, &'a Key)>,
    /// The turn that it is made within.
    pub(super) parent: Option<Ticket>,
}

impl Waiter<'_> {
    pub(super) fn who(&self) -> Who {
        self.rank.1
    }

    /// Whether it waits until its line is idle.
    fn waits_for_all(&self) -> bool {
        self.rank.0 == Reverse(i8::MIN)
    }

    /// What it waits for in one of its lines.
    pub(super) fn goal_in(&self, domain: &Domain) -> Goal {
        if self.waits_for_all() { Goal::Idle(domain.clone()) } else { Goal::Turn(domain.clone()) }
    }
}

/// One of those who would wait for each other.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) ticket: Ticket,
    pub(super) pid: u32,
    pub(super) hold: Hold,
    pub(super) waits_for: Goal,
}

/// What makes others wait for somebody.
#[derive(Clone, Debug)]
pub(super) enum Hold {
    /// It has slots of this line.
    Slots(Domain),
    /// It is ahead of them in this line.
    Place(Domain),
    /// It is in this line at all, for they wait until nobody is.
    Presence(Domain),
    /// It was the first to use this key.
    Key(Key),
}

/// What somebody waits for, or a request within its turn.
#[derive(Clone, Debug)]
pub(super) enum Goal {
    /// A turn in this domain.
    Turn(Domain),
    /// That this domain is idle.
    Idle(Domain),
    /// The outcome of this key.
    Key(Key),
}

/// Who of a circle would wait for the newcomer.
#[derive(Clone, Debug)]
pub(super) enum Closing {
    /// The turn that it is made within.
    Outer,
    /// One whom it would be ahead of in this line.
    Passed(Domain),
    /// One who waits until this line is idle.
    Entered(Domain),
}

impl Sequencer {
    /// Why a newcomer that has to wait would wait for ever, if so.
    pub(super) fn refusal_of_cycle(&self, arrival: Arrival<'_>, replaced: &[Ticket]) -> Option<Refusal> {
        let wishes = arrival.wishes();
        let parent = self.parent(arrival.request.peer.uid, wishes.within).map(|parent| parent.ticket);
        let rank = (Reverse(wishes.priority), Who::Newcomer);
        let lines = arrival.lines().collect();
        self.refusal_of_waiting(&Waiter { rank, wishes, lines, follows: None, parent }, replaced)
    }

    /// Why this newcomer would wait for ever, if so.
    pub(super) fn refusal_of_waiting(&self, newcomer: &Waiter<'_>, replaced: &[Ticket]) -> Option<Refusal> {
        if !self.may_make_a_cycle(newcomer) {
            return None;
        }
        let reach = self.reach(newcomer, replaced, None);
        reach.closed_by?;
        let reached = reach.members().chain([Who::Newcomer]).collect();
        let stuck = self.stuck(reached, Some(newcomer), replaced);
        if !stuck.contains(&Who::Newcomer) {
            return None;
        }
        self.circle(newcomer, &self.reach(newcomer, replaced, Some(&stuck)))
    }

    /// Whether anybody may wait for ever because of somebody who begins to wait now.
    fn may_make_a_cycle(&self, waiter: &Waiter<'_>) -> bool {
        let Reverse(priority) = waiter.rank.0;
        let comes_from_elsewhere = waiter.lines.len() > 1;
        let is_waited_for = |domain: &&Domain| {
            let Some(line) = self.lines.get(*domain) else { return false };
            line.order.ahead(priority) < line.order.len() || comes_from_elsewhere && line.inner_waits > 0
        };
        waiter.parent.is_some() || self.somebody_waits_within() && waiter.lines.iter().any(is_waited_for)
    }

    /// After the lines have changed otherwise than by a newcomer: refuses the newest request of each circle that is
    /// within a turn, or a `Wait` within one, so that nobody waits for ever.
    pub(super) fn break_cycles(&mut self, out: &mut Vec<Effect>) {
        while self.somebody_waits_within() {
            let stuck = self.stuck(self.may_be_stuck(), None, &[]);
            let Some((who, refusal)) = self.find_cycle(&stuck) else {
                let Some(number) = self.newest_stuck_follower(&stuck) else { return };
                self.refuse_stuck_follower(number, &stuck, out);
                continue;
            };
            if let Who::Wait(id) = who {
                out.extend(self.remove_wait(id).map(|wait| wait.refuse(&refusal)));
                continue;
            }
            let Some(ticket) = who.ticket() else { return };
            let Some(entry) = self.end(self.now, ticket, Outcome::Deadlock, None, out) else { return };
            out.extend(entry.connection.map(|connection| refusal.tell(connection, entry.about())));
            self.settle_lines_of(&entry, out);
        }
    }

    /// The like for one that an earlier daemon let in, maybe by another policy.
    pub(super) fn break_cycles_of(&mut self, ticket: Ticket, out: &mut Vec<Effect>) {
        let entry = self.tickets.get(&ticket).filter(|entry| entry.turn().is_none());
        let may_be_in_one = entry.is_some_and(|entry| {
            let waiter = self.waiter(entry);
            self.may_make_a_cycle(&waiter) && self.reach(&waiter, &[], None).closed_by.is_some()
        });
        if may_be_in_one {
            self.break_cycles(out);
        }
    }

    fn somebody_waits_within(&self) -> bool {
        self.families.has_waiting() || !self.keys.nested.is_empty()
    }

    /// Whoever has somebody within it, or is within something, or stands in several lines; and whose outcome is waited for
    /// by somebody within a turn.
    pub(super) fn may_be_stuck(&self) -> BTreeSet<Who> {
        let several_lines = self.wide.iter().map(|(_, (_, who))| *who);
        let turns = self.keys.nested.iter().map(|(turn, _)| *turn).filter(|turn| self.holder(*turn).is_some());
        let awaited = turns.clone().flat_map(|turn| self.waited_for_within(turn));
        self.families.members().chain(several_lines).chain(turns.map(Who::Ticket)).chain(awaited).collect()
    }

    fn find_cycle(&self, stuck: &BTreeSet<Who>) -> Option<(Who, Refusal)> {
        self.families.newest_waiting().filter(|who| stuck.contains(who)).find_map(|who| {
            let waiter = self.waiter_of(who)?;
            Some((who, self.circle(&waiter, &self.reach(&waiter, &[], Some(stuck)))?))
        })
    }

    /// A ticket that waits.
    pub(super) fn waiter<'a>(&self, entry: &'a Entry) -> Waiter<'a> {
        let parent = self.parent(entry.uid, entry.wishes().within).map(|parent| parent.ticket);
        let lines = entry.lines().collect();
        Waiter { rank: entry.rank(), wishes: entry.wishes(), lines, follows: None, parent }
    }

    /// Why a follower never gets its outcome, where the turn that it is within is one of these.
    pub(super) fn refusal_of_following(&self, follower: &Follower, stuck: &BTreeSet<Who>) -> Option<Refusal> {
        let record = self.keys.records.get(&follower.key())?;
        let (ticket, key) = (record.ticket, &record.name.key);
        let wishes = &follower.request.wishes;
        let rank = (Reverse(wishes.priority), Who::Newcomer);
        let (lines, follows, parent) = (Vec::new(), Some((ticket, key)), self.parent_of(follower));
        let waiter = Waiter { rank, wishes, lines, follows, parent };
        let circle = self.circle(&waiter, &self.reach(&waiter, &[], Some(stuck)));
        // Where several circles were made at once, it may be between two of them.
        circle.or_else(|| Some(Refusal::Key(KeyRefusal::WaitsForItself { key: key.clone(), ticket })))
    }

    /// Somebody who waits.
    pub(super) fn waiter_of(&self, who: Who) -> Option<Waiter<'_>> {
        match who {
            Who::Ticket(ticket) => {
                let entry = self.tickets.get(&ticket).filter(|entry| entry.turn().is_none())?;
                Some(self.waiter(entry))
            }
            Who::Wait(id) => Some(self.waits.get(&id)?.waiter(who)),
            Who::Newcomer => None,
        }
    }

    /// Spells out how a waiter would wait for itself, if it would.
    fn circle(&self, waiter: &Waiter<'_>, reach: &Reach<'_>) -> Option<Refusal> {
        let last = reach.closed_by?;
        let closing = self.closing(waiter, last);
        let mut goal = match &closing {
            Closing::Outer => match waiter.follows {
                Some((_, key)) => Goal::Key(key.clone()),
                None => Goal::Turn((*waiter.lines.first()?).clone()),
            },
            Closing::Passed(domain) => Goal::Turn(domain.clone()),
            Closing::Entered(domain) => Goal::Idle(domain.clone()),
        };
        let mut links: Vec<Link> = Vec::new();
        let mut at = Some(last);
        // From the end: what each waits for is known when it is come to.
        while let Some(who) = at {
            let Some((from, awaited)) = reach.step(who) else { break };
            let entry = who.ticket().and_then(|ticket| self.tickets.get(&ticket));
            if let (Some(awaited), Some(entry)) = (awaited, entry) {
                let waits_for = std::mem::replace(&mut goal, awaited.clone());
                links.push(Link { ticket: entry.ticket, pid: entry.pid, hold: entry.hold(awaited), waits_for });
            }
            at = *from;
        }
        links.reverse();
        Some(Refusal::WouldDeadlock { links, closing, would_wait_for: goal })
    }

    /// Why `last` waits for `waiter`.
    fn closing(&self, waiter: &Waiter<'_>, last: Who) -> Closing {
        let passed = match last {
            Who::Wait(id) if last != waiter.who() => {
                return self.waits.get(&id).map_or(Closing::Outer, |wait| Closing::Entered(wait.domain.clone()));
            }
            Who::Ticket(ticket) if last != waiter.who() => self.tickets.get(&ticket),
            _ => None,
        };
        let passed = passed.filter(|entry| entry.turn().is_none()).and_then(|entry| entry.meeting(waiter));
        passed.map_or(Closing::Outer, |domain| Closing::Passed(domain.clone()))
    }

    /// Whether somebody waits for `waiter`.
    pub(super) fn waits_for(&self, who: Who, waiter: &Waiter<'_>) -> bool {
        match who {
            _ if who == waiter.who() => true,
            Who::Ticket(ticket) if waiter.parent == Some(ticket) => true,
            Who::Ticket(ticket) => self.tickets.get(&ticket).is_some_and(|entry| entry.waits_behind(waiter)),
            Who::Wait(id) if !waiter.waits_for_all() => {
                self.waits.get(&id).is_some_and(|wait| waiter.lines.contains(&&wait.domain))
            }
            Who::Wait(_) | Who::Newcomer => false,
        }
    }
}

impl Entry {
    pub(super) fn rank(&self) -> Rank {
        (Reverse(self.wishes().priority), Who::Ticket(self.ticket))
    }

    /// What it has, that others wait for this because of it.
    fn hold(&self, awaited: &Goal) -> Hold {
        let has_slots = |domain| self.turn().is_some() || is_guest_in(self.guests(), domain);
        match awaited {
            Goal::Turn(domain) | Goal::Idle(domain) if has_slots(domain) => Hold::Slots(domain.clone()),
            Goal::Turn(domain) => Hold::Place(domain.clone()),
            Goal::Idle(domain) => Hold::Presence(domain.clone()),
            Goal::Key(key) => Hold::Key(key.clone()),
        }
    }

    /// Whether it waits behind `waiter` in a line.
    fn waits_behind(&self, waiter: &Waiter<'_>) -> bool {
        self.turn().is_none() && self.rank() > waiter.rank && self.meeting(waiter).is_some()
    }

    /// A line in which both stand.
    fn meeting<'a>(&self, waiter: &Waiter<'a>) -> Option<&'a Domain> {
        waiter.lines.iter().copied().find(|domain| self.lines().any(|line| line == *domain))
    }
}
