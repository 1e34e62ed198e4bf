//! Why a request does not have its turn yet.

use crate::clock::Time;
use crate::protocol::{Domain, HeadWait, Ticket};

use super::line::Line;
use super::policy::PolicyValue;
use super::refusal::Refusal;
use super::rest::Rest;
use super::ticket::Entry;
use super::{Policy, Sequencer, Wishes};

/// What the head of a line waits for. Of several things the first one in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// For the domain to be resumed.
    Paused,
    /// For those who have the turn.
    Held,
    /// For as many free slots as it takes; some are free.
    Slots {
        /// How many it takes.
        takes: u32,
        /// How many are free.
        free: u32,
    },
    /// For this turn to begin, which was given before.
    Start(Ticket),
    /// For the line to have rested.
    Rest(Rest),
    /// For its own client to come back after a restart.
    Away,
    /// For another one of its lines.
    Line,
}

impl Obstacle {
    /// When it is over, if it is only a matter of time.
    pub fn until(self) -> Option<Time> {
        if let Obstacle::Rest(rest) = self { Some(rest.until) } else { None }
    }
}

impl From<Obstacle> for HeadWait {
    fn from(obstacle: Obstacle) -> HeadWait {
        match obstacle {
            Obstacle::Paused => HeadWait::Resume,
            Obstacle::Away => HeadWait::Client,
            Obstacle::Line => HeadWait::Line,
            Obstacle::Held => HeadWait::Holders,
            Obstacle::Slots { .. } => HeadWait::Slots,
            Obstacle::Start(_) => HeadWait::Start,
            Obstacle::Rest(Rest { why: PolicyValue::MinInterval, .. }) => HeadWait::MinInterval,
            Obstacle::Rest(Rest { why: PolicyValue::Cooldown, .. }) => HeadWait::Cooldown,
            Obstacle::Rest(_) => HeadWait::Rate,
        }
    }
}

impl Sequencer {
    /// Why the head of a line has no turn; `None` when it must get one.
    pub(super) fn obstacle(&self, domain: &Domain, line: &Line, head: Ticket) -> Option<Obstacle> {
        let entry = self.tickets.get(&head)?;
        let here = self.obstacle_in(domain, line, entry.wishes()).or(self.away.has(head).then_some(Obstacle::Away));
        here.or_else(|| self.other_line(domain, line).map(|_| Obstacle::Line))
    }

    /// Which other line the head of this one waits for, and why; nothing if others are ahead of it there.
    pub(super) fn other_line(&self, domain: &Domain, line: &Line) -> Option<(&Domain, Option<Obstacle>)> {
        let entry = self.tickets.get(&line.order.head()?)?;
        let mut others = entry.lines().filter(|other| *other != domain);
        others.find_map(|other| {
            let line = self.lines.get(other)?;
            if line.order.head() != Some(entry.ticket) {
                return Some((other, None));
            }
            self.obstacle_in(other, line, entry.wishes()).map(|obstacle| (other, Some(obstacle)))
        })
    }

    /// Why a line gives no turn to a request that is the first in it.
    pub(super) fn obstacle_in(&self, domain: &Domain, line: &Line, wishes: &Wishes) -> Option<Obstacle> {
        if self.pauses.contains_key(domain) {
            return Some(Obstacle::Paused);
        }
        let room = line.want_of_room(wishes);
        let start = || line.past.awaited_start(&line.policy).map(Obstacle::Start);
        room.or_else(start).or_else(|| line.rest(self.present).map(Obstacle::Rest))
    }

    /// Whose turn it is in a line.
    pub(super) fn due(&self, domain: &Domain) -> Option<Ticket> {
        let line = self.lines.get(domain)?;
        line.order.head().filter(|head| self.obstacle(domain, line, *head).is_none())
    }

    /// Why a newcomer would have to wait, if it would. Whoever it replaces is as good as gone; but it waits for anybody
    /// else who is ahead of it, even for one whose turn comes because of that.
    pub(super) fn obstacle_of_newcomer(
        &self,
        domain: &Domain,
        line: Option<&Line>,
        (wishes, replaced): (&Wishes, &[Ticket]),
    ) -> Option<Obstacle> {
        let Some(line) = line else { return self.obstacle_of_idle(domain) };
        if self.pauses.contains_key(domain) {
            return Some(Obstacle::Paused);
        }
        let first = self.first_but(line, replaced);
        match first.filter(|first| first.wishes().priority >= wishes.priority) {
            Some(first) => self.obstacle(domain, line, first.ticket).or(Some(Obstacle::Held)),
            None => self.obstacle_in(domain, line, wishes),
        }
    }

    fn obstacle_of_idle(&self, domain: &Domain) -> Option<Obstacle> {
        let is_paused = self.pauses.contains_key(domain).then_some(Obstacle::Paused);
        is_paused.or_else(|| self.rest_of_idle(domain, self.present).map(Obstacle::Rest))
    }

    /// Who is the first of a line when these are gone.
    fn first_but(&self, line: &Line, gone: &[Ticket]) -> Option<&Entry> {
        let first = line.order.iter().find(|ticket| !gone.contains(ticket))?;
        self.tickets.get(&first)
    }

    /// What a waiter is told that will wait no longer: what holds it up in the first of its lines where anything does.
    pub(super) fn obstacle_of_waiter(&self, entry: &Entry) -> Option<Refusal> {
        entry.turn().is_none().then(|| entry.lines())?.find_map(|domain| {
            let line = self.lines.get(domain)?;
            let head = line.order.head()?;
            let obstacle = if head == entry.ticket {
                self.obstacle_in(domain, line, entry.wishes())?
            } else {
                self.obstacle(domain, line, head).unwrap_or(Obstacle::Held)
            };
            self.busy(domain, Some(line), obstacle)
        })
    }

    /// What a newcomer is told that would have to wait and will not.
    pub(super) fn busy(&self, domain: &Domain, line: Option<&Line>, obstacle: Obstacle) -> Option<Refusal> {
        let domain = domain.clone();
        if obstacle == Obstacle::Paused {
            let reason = self.pauses.get(&domain).and_then(|pause| pause.reason.clone());
            return Some(Refusal::Paused { domain, reason });
        }
        if let Obstacle::Rest(Rest { until, why }) = obstacle {
            return Some(Refusal::Resting { domain, why, left: until.since(self.now) });
        }
        if let Obstacle::Start(ticket) = obstacle {
            return self.tickets.get(&ticket).map(|entry| Refusal::Unbegun { domain, ticket, pid: entry.pid });
        }
        let line = line?;
        // Slots may be left to a request that waits for other lines.
        let guest = || line.hosting.values().find_map(|hosting| hosting.guests.first()).copied();
        let first = line.order.head().or_else(guest).and_then(|first| self.tickets.get(&first));
        match (line.oldest_holder().and_then(|holder| self.holder(holder)), first) {
            (_, Some(first)) if obstacle == Obstacle::Away => {
                Some(Refusal::Awaited { domain, next: first.ticket, pid: first.pid })
            }
            (_, Some(first)) if obstacle == Obstacle::Line => {
                Some(Refusal::Ahead { domain, next: first.ticket, pid: first.pid })
            }
            (Some((holder, turn)), _) => {
                let held = self.now.since(turn.active_at);
                Some(Refusal::Busy { domain, holder: holder.ticket, pid: holder.pid, held })
            }
            (None, first) => first.map(|first| Refusal::Ahead { domain, next: first.ticket, pid: first.pid }),
        }
    }
}

impl Line {
    /// What a request must wait for that is the first in this line.
    fn want_of_room(&self, wishes: &Wishes) -> Option<Obstacle> {
        if wishes.shared {
            return (self.writers > 0).then_some(Obstacle::Held);
        }
        if self.readers > 0 {
            return Some(Obstacle::Held);
        }
        let (takes, free) = (self.slots(wishes.take), self.free());
        match free {
            _ if takes <= free => None,
            0 => Some(Obstacle::Held),
            _ => Some(Obstacle::Slots { takes, free }),
        }
    }
}

impl Policy {
    /// Turns at once.
    pub(super) fn slots(&self) -> u32 {
        self.concurrency.unwrap_or(1).max(1)
    }
}
