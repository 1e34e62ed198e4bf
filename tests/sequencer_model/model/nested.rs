//! Requests within turns, and who waits for whom.

use seq::protocol::{Domain, ErrorCode, Outcome, Ticket};
use seq::sequencer::{Enqueue, Guest, Which, Within};

use super::{Model, Request, Waiting, named};

impl Model {
    /// The turn that this is within.
    pub(super) fn parent(&self, uid: u32, within: Option<Within>) -> Option<usize> {
        let within = within?;
        self.requests.iter().position(|request| {
            let token = request.turn.map(|(token, _)| token);
            request.ticket == within.ticket.0 && token == Some(within.token.0) && request.uid == uid
        })
    }

    pub(super) fn ancestors(&self, uid: u32, within: Option<Within>) -> Vec<usize> {
        let mut ancestors = Vec::new();
        let mut next = self.parent(uid, within);
        while let Some(index) = next {
            ancestors.push(index);
            next = self.parent(uid, self.requests[index].wishes.within);
        }
        ancestors
    }

    pub(super) fn is_ancestor(&self, ask: &Enqueue, index: usize) -> bool {
        self.ancestors(ask.peer.uid, ask.wishes.within).contains(&index)
    }

    /// What a newcomer has already.
    pub(super) fn guests_of(&self, ask: &Enqueue) -> Vec<Guest> {
        let mut guests = Vec::new();
        for domain in named(&ask.domain, &ask.wishes) {
            let ancestors = self.ancestors(ask.peer.uid, ask.wishes.within);
            let Some(has) = ancestors.into_iter().find(|index| self.requests[*index].is_in(&domain)) else { continue };
            let has = &self.requests[has];
            let as_guest = has.guests.iter().find(|guest| guest.domain == domain).cloned();
            guests.push(as_guest.unwrap_or(Guest {
                domain,
                host: Ticket(has.ticket),
                token: seq::protocol::Token(has.turn.unwrap().0),
                take: has.wishes.take,
                shared: has.wishes.shared,
            }));
        }
        guests
    }

    /// Where a newcomer has to stand.
    pub(super) fn lines_of(&self, ask: &Enqueue) -> Vec<Domain> {
        let guests = self.guests_of(ask);
        let mut lines = named(&ask.domain, &ask.wishes);
        lines.retain(|domain| !guests.iter().any(|guest| guest.domain == *domain));
        lines
    }

    /// Whose slots are taken in a domain, how many, and whether they are shared.
    pub(super) fn slots_of(&self, domain: &Domain) -> Vec<(u64, u32, bool)> {
        let mut slots: Vec<(u64, u32, bool)> = Vec::new();
        for request in &self.requests {
            if request.turn.is_some() && request.stands_in(domain) {
                slots.push((request.ticket, request.wishes.take, request.wishes.shared));
            }
        }
        for guest in self.requests.iter().flat_map(|request| &request.guests) {
            let is_known = slots.iter().any(|(host, ..)| *host == guest.host.0);
            if guest.domain == *domain && !is_known {
                slots.push((guest.host.0, guest.take, guest.shared));
            }
        }
        slots
    }

    /// Who ends when `named` is released, the newest first: whoever has slots by one that ends, and with a domain alone
    /// whoever has its slots there.
    pub(super) fn released_with(&self, named: &Request, which: &Which) -> Vec<u64> {
        let in_line = |guest: &&Guest| matches!(which, Which::Domain(domain) if *domain == guest.domain);
        let here = named.guests.iter().find(in_line);
        let is_beside =
            |guest: &Guest| here.is_some_and(|here| (&here.domain, here.host) == (&guest.domain, guest.host));
        let mut all = vec![named.ticket];
        loop {
            let is_host = |guest: &Guest| {
                let host = self.requests.iter().find(|request| request.ticket == guest.host.0);
                host.is_some_and(|host| all.contains(&host.ticket) && host.stands_in(&guest.domain))
            };
            let has_by_these = |guest: &Guest| is_beside(guest) || is_host(guest);
            let more: Vec<u64> = self
                .requests
                .iter()
                .filter(|request| request.guests.iter().any(has_by_these))
                .map(|request| request.ticket)
                .filter(|ticket| !all.contains(ticket))
                .collect();
            if more.is_empty() {
                break;
            }
            all.extend(more);
        }
        all.sort_unstable_by_key(|ticket| std::cmp::Reverse(*ticket));
        all
    }

    /// Whether a newcomer that has to wait would wait for ever.
    pub(super) fn would_deadlock(&self, ask: &Enqueue) -> bool {
        let is_last = |domain: &Domain| {
            self.waiters(domain).iter().all(|other| self.requests[*other].wishes.priority >= ask.wishes.priority)
        };
        let is_waited_for = |domain: &Domain| !is_last(domain) || self.waits.iter().any(|wait| wait.domain == *domain);
        if self.parent(ask.peer.uid, ask.wishes.within).is_none() && !self.lines_of(ask).iter().any(is_waited_for) {
            // Nobody waits for it.
            return false;
        }
        let mut others = self.clone();
        for index in self.replaced_by(ask).into_iter().rev() {
            others.requests.remove(index);
        }
        others.requests.push(Request { guests: self.guests_of(ask), ..Request::of(ask, u64::MAX, self.now) });
        others.stuck().0.iter().any(|request| request.ticket == u64::MAX)
    }

    /// Whether a `Wait` would never be answered.
    pub(super) fn would_wait_for_ever(&self, wait: &Waiting) -> bool {
        let mut others = self.clone();
        others.waits.push(wait.clone());
        let (uid, within) = wait.within;
        self.parent(uid, within).is_some() && others.stuck().1.iter().any(|stuck| stuck.number == wait.number)
    }

    /// Whoever can go on is taken away, again and again; these are left.
    pub(super) fn stuck(&self) -> (Vec<Request>, Vec<Waiting>) {
        let mut left = self.clone();
        let is_within = |request: &Request| request.wishes.within.is_some() || !request.guests.is_empty();
        let is_wait_within = |wait: &Waiting| wait.within.1.is_some();
        let has_followers = self.has_nested_followers();
        if !left.requests.iter().any(is_within) && !left.waits.iter().any(is_wait_within) && !has_followers {
            return (Vec::new(), Vec::new());
        }
        loop {
            let in_use = left.domains_in_use();
            left.waits.retain(|wait| in_use.contains(&wait.domain));
            let Some(index) = (0..left.requests.len()).find(|index| left.can_go_on(*index)) else { break };
            left.requests.remove(index);
        }
        (left.requests, left.waits)
    }

    /// A turn ends when there is nothing within it; a waiter has its turn when it is the first and fits in.
    fn can_go_on(&self, index: usize) -> bool {
        let request = &self.requests[index];
        if request.turn.is_some() {
            let is_child = |other: &Request| self.parent(other.uid, other.wishes.within) == Some(index);
            let is_wait_of = |wait: &Waiting| self.parent(wait.within.0, wait.within.1) == Some(index);
            let mut followed = self.followed_within(index).into_iter();
            return !self.requests.iter().any(is_child)
                && !self.waits.iter().any(is_wait_of)
                && !followed.any(|(_, ticket)| self.index(ticket).is_some());
        }
        request.lines().iter().all(|domain| {
            self.waiters(domain).first() == Some(&index) && self.room_waits(domain, &request.wishes).is_none()
        })
    }

    /// Refuses one request in each circle, the newest that is within a turn, until there is none.
    pub(super) fn break_circles(&mut self) {
        loop {
            let (stuck, waits) = self.stuck();
            let is_in_a_circle = |wait: &&Waiting| {
                let parent = self.parent(wait.within.0, wait.within.1).map(|index| self.requests[index].ticket);
                parent
                    .is_some_and(|parent| self.reach((Vec::new(), vec![wait.number]), &stuck, &waits).contains(&parent))
            };
            if let Some(wait) = waits.iter().rev().find(is_in_a_circle).cloned() {
                self.waits.retain(|other| other.number != wait.number);
                self.error(wait.connection, ErrorCode::WouldDeadlock, Some(wait.domain), wait.id, None);
                continue;
            }
            let is_nested = |request: &&Request| {
                request.turn.is_none() && (request.wishes.within.is_some() || !request.guests.is_empty())
            };
            let mut newest_first = stuck.iter().rev().filter(is_nested);
            let Some(refused) = newest_first.find(|request| self.is_in_a_circle(request.ticket, &stuck, &waits)) else {
                if self.refuse_stuck_follower(&stuck) {
                    continue;
                }
                return assert!(stuck.is_empty(), "nobody is refused of {stuck:?}");
            };
            let ended = self.end(self.index(refused.ticket).unwrap(), Outcome::Deadlock, None);
            self.tell_owner(&ended, ErrorCode::WouldDeadlock);
            self.settle_all(ended.domains());
        }
    }

    fn is_in_a_circle(&self, ticket: u64, stuck: &[Request], waits: &[Waiting]) -> bool {
        let one = stuck.iter().find(|request| request.ticket == ticket).unwrap();
        self.reach(self.whom(one, stuck, waits), stuck, waits).contains(&ticket)
    }

    /// All tickets that these tickets and `Wait`s lead to, themselves included.
    fn reach(&self, from: (Vec<u64>, Vec<u64>), stuck: &[Request], waits: &[Waiting]) -> Vec<u64> {
        let (mut tickets, mut numbers) = from;
        loop {
            let before = (tickets.len(), numbers.len());
            let known = stuck.iter().filter(|request| tickets.contains(&request.ticket));
            let mut next: Vec<(Vec<u64>, Vec<u64>)> = known.map(|one| self.whom(one, stuck, waits)).collect();
            let known = waits.iter().filter(|wait| numbers.contains(&wait.number));
            let there =
                |wait: &Waiting| stuck.iter().filter(|one| one.is_in(&wait.domain)).map(|one| one.ticket).collect();
            next.extend(known.map(|wait| (there(wait), Vec::new())));
            for (more, more_numbers) in next {
                tickets.extend(more);
                numbers.extend(more_numbers);
            }
            for list in [&mut tickets, &mut numbers] {
                list.sort_unstable();
                list.dedup();
            }
            if before == (tickets.len(), numbers.len()) {
                return tickets;
            }
        }
    }

    /// Which tickets and which `Wait`s one waits for, of those who never go on.
    fn whom(&self, one: &Request, stuck: &[Request], waits: &[Waiting]) -> (Vec<u64>, Vec<u64>) {
        let others = stuck.iter().filter(|other| self.waits_for(one, other, stuck));
        let index = self.index(one.ticket).filter(|_| one.turn.is_some());
        let is_wait_of = |wait: &&Waiting| index.is_some() && self.parent(wait.within.0, wait.within.1) == index;
        (others.map(|other| other.ticket).collect(), waits.iter().filter(is_wait_of).map(|wait| wait.number).collect())
    }

    /// Of two who never go on.
    fn waits_for(&self, one: &Request, other: &Request, stuck: &[Request]) -> bool {
        let index = self.index(one.ticket).unwrap();
        if one.turn.is_some() {
            return self.parent(other.uid, other.wishes.within) == Some(index)
                || self.followed_within(index).iter().any(|(_, ticket)| *ticket == other.ticket);
        }
        let mut only_stuck = self.clone();
        only_stuck.requests = stuck.to_vec();
        one.lines().iter().any(|domain| {
            let waiters = self.waiters(domain);
            let place = waiters.iter().position(|waiter| *waiter == index).unwrap();
            let ahead = &waiters[..place];
            let is_ahead = ahead.iter().any(|waiter| self.requests[*waiter].ticket == other.ticket);
            let has_slots = other.is_in(domain) && (other.turn.is_some() || !other.stands_in(domain));
            let lacks_room = |waiter: &usize| only_stuck.room_waits(domain, &self.requests[*waiter].wishes).is_some();
            is_ahead || has_slots && waiters[..=place].iter().any(lacks_room)
        })
    }

    /// Nobody waits for ever.
    pub(crate) fn check_no_cycle(&self) {
        let (requests, waits) = self.stuck();
        let tickets: Vec<u64> = requests.iter().map(|request| request.ticket).collect();
        assert!(tickets.is_empty() && waits.is_empty(), "these wait for each other: {tickets:?}, {waits:?}");
    }
}

impl Request {
    /// Whether it has no slots of others there.
    pub(super) fn stands_in(&self, domain: &Domain) -> bool {
        self.lines().contains(domain)
    }

    pub(super) fn lines(&self) -> Vec<Domain> {
        let mut lines = self.domains();
        lines.retain(|domain| !self.guests.iter().any(|guest| guest.domain == *domain));
        lines
    }
}
