//! What can be seen of the lines, without changing them.

use std::time::Duration;

use crate::clock::Time;
use crate::protocol::{Counts, Domain, HolderState, RequestId, Ticket, Token};

use super::line::usual_run;
use super::{Guest, Obstacle, Pause, Policy, Rest, Sequencer, Successor, Wishes};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineView<'a> {
    /// Its name.
    pub domain: &'a Domain,
    /// Those who have a turn, oldest first, each with its fencing number.
    pub holders: Vec<(TicketView<'a>, Token, HolderState)>,
    /// The first of those who wait, in order.
    pub waiters: Vec<TicketView<'a>>,
    /// How many wait in all.
    pub waiting: u64,
    /// While a turn is free but the head of the line is away: until when it is waited for.
    pub awaited_until: Option<Time>,
    /// The median of the last runs that ended by `done`.
    pub usual_run: Option<Duration>,
    /// Turns that it gives out at once.
    pub concurrency: u32,
    /// All values that there are for it.
    pub policy: Policy,
    /// Whether it is paused.
    pub pause: Option<&'a Pause>,
    /// Until when it lets no turn begin after what was, whether or not somebody waits.
    pub rest: Option<Rest>,
    /// Why the first of those who wait has no turn.
    pub obstacle: Option<Obstacle>,
    /// With the obstacle [`Line`](Obstacle::Line): which one, and why that gives it no turn; nothing if others are ahead of
    /// it there.
    pub other_line: Option<(&'a Domain, Option<Obstacle>)>,
}

/// One ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketView<'a> {
    /// The first of its lines; all others are in its wishes.
    pub domain: &'a Domain,
    /// Its request.
    pub request_id: &'a RequestId,
    /// Its number.
    pub ticket: Ticket,
    /// The user who asked.
    pub uid: u32,
    /// The process to show.
    pub pid: u32,
    /// The command to show.
    pub command: Option<&'a str>,
    /// When it took its place.
    pub queued_at: Time,
    /// When its turn came.
    pub active_at: Option<Time>,
    /// How it wants to be treated.
    pub wishes: &'a Wishes,
    /// Who made its client be told `superseded`, if it has a turn.
    pub superseded: Option<Successor>,
    /// How long its turn may take by the policy with which it began.
    pub max_run: Option<Duration>,
    /// When its lease is over, if it has a turn of that binding.
    pub lease_until: Option<Time>,
    /// Whether it waits, and its client has not come back since a restart.
    pub is_away: bool,
    /// The lines that it has by a turn that it was made within.
    pub guests: &'a [Guest],
}

impl LineView<'_> {
    /// One in which nothing is.
    fn unused(domain: &Domain, policy: Policy) -> LineView<'_> {
        LineView {
            domain,
            holders: Vec::new(),
            waiters: Vec::new(),
            waiting: 0,
            awaited_until: None,
            usual_run: None,
            concurrency: policy.slots(),
            policy,
            pause: None,
            rest: None,
            obstacle: None,
            other_line: None,
        }
    }
}

impl Sequencer {
    /// Lines in alphabetical order: one, or all that are in use, paused or resting, or with `idle` also those remembered. Each
    /// has up to `waiters_max` waiters, and all together [`Limits::waiters_viewed`](super::Limits::waiters_viewed).
    /// Takes time for each line and for each waiter listed.
    pub fn view(&self, domain: Option<&Domain>, waiters_max: usize, idle: bool) -> Vec<LineView<'_>> {
        let mut left = self.limits.waiters_viewed;
        if let Some(domain) = domain {
            return self.view_line(domain, waiters_max.min(left), idle).into_iter().collect();
        }
        let remembered = self.idle.names().filter(|_| idle);
        let resting = self.resting.names().filter(|domain| self.rest_of_idle(domain, self.now).is_some());
        let out_of_use = self.pauses.keys().chain(resting).chain(remembered);
        let mut names: Vec<&Domain> = self.lines.keys().chain(out_of_use).collect();
        names.sort_unstable();
        names.dedup();
        let views = names.into_iter().filter_map(|name| {
            let view = self.view_line(name, waiters_max.min(left), idle)?;
            left -= view.waiters.len();
            Some(view)
        });
        views.collect()
    }

    fn view_line(&self, domain: &Domain, waiters_max: usize, idle: bool) -> Option<LineView<'_>> {
        let Some((domain, line)) = self.lines.get_key_value(domain) else { return self.view_idle(domain, idle) };
        let holders = line.holders.iter().filter_map(|(_, ticket)| self.holder(*ticket));
        let obstacle = line.order.head().and_then(|head| self.obstacle(domain, line, head));
        let waiters = line.order.iter().take(waiters_max).filter_map(|ticket| self.tickets.get(&ticket));
        Some(LineView {
            domain,
            holders: holders.map(|(entry, turn)| (entry.view(), turn.token, entry.holder_state())).collect(),
            waiters: waiters.map(|entry| entry.view()).collect(),
            waiting: line.order.len() as u64,
            awaited_until: obstacle.filter(|found| *found == Obstacle::Away).and_then(|_| self.away.until()),
            usual_run: usual_run(&line.runs),
            concurrency: line.policy.slots(),
            policy: line.policy,
            pause: self.pauses.get(domain),
            rest: line.rest(self.now),
            obstacle,
            other_line: self.other_line(domain, line).filter(|_| obstacle == Some(Obstacle::Line)),
        })
    }

    /// A domain that nobody uses is seen while it is paused or rests, and if that is asked for, while it is remembered.
    fn view_idle(&self, domain: &Domain, idle: bool) -> Option<LineView<'_>> {
        let (paused, rest) = (self.pauses.get_key_value(domain), self.rest_of_idle(domain, self.now));
        let remembered = self.idle.get(domain).filter(|_| idle || paused.is_some() || rest.is_some());
        let resting = self.resting.get(domain).filter(|_| rest.is_some());
        let named = paused.map(|(domain, _)| domain).or(resting.map(|(domain, _)| domain));
        let domain = named.or(remembered.map(|(domain, _)| domain))?;
        let policy = self.policies.resolve(domain);
        Some(LineView {
            usual_run: remembered.and_then(|(_, runs)| usual_run(runs)),
            pause: paused.map(|(_, pause)| pause),
            rest,
            ..LineView::unused(domain, policy)
        })
    }

    /// A line that nobody uses and that is not remembered, if there is a policy for it.
    pub fn view_unused<'a>(&'a self, domain: &'a Domain) -> Option<LineView<'a>> {
        let policy = self.policies.resolve(domain);
        (policy != Policy::default()).then(|| LineView::unused(domain, policy))
    }

    /// What there is now; `connections` is for the caller to fill.
    pub fn counts(&self) -> Counts {
        Counts {
            connections: 0,
            domains: self.lines.len() as u64,
            holders: (self.tickets.len() - self.waiting) as u64,
            waiters: self.waiting as u64,
            turns: self.turns,
        }
    }
}
