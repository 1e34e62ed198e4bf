//! A witness that believes only records and replies.

use std::collections::BTreeSet;

use seq::protocol::{Domain, Reply, Ticket, Token};
use seq::sequencer::{Change, Effect, Record, Sequencer};

/// What must be true of any line, seen from outside.
#[derive(Clone, Default)]
pub(crate) struct Witness {
    /// Holders and waiters, in the order in which they became that.
    pub(crate) holders: Vec<(Domain, Ticket)>,
    pub(crate) waiters: Vec<(Domain, Ticket)>,
    /// Those whose clients this daemon has heard.
    pub(crate) back: BTreeSet<Ticket>,
    last_ticket: Option<Ticket>,
    last_token: Option<Token>,
}

impl Witness {
    pub(crate) fn watch(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Record(record) => self.record(record),
                Effect::Tell { reply: Reply::Active(active), .. } => {
                    assert_eq!(self.holder_of(active.domain.as_str()), Some(active.ticket), "told before it was so");
                }
                Effect::Admitted { ticket, .. } => _ = self.back.insert(*ticket),
                _ => {}
            }
        }
    }

    fn record(&mut self, record: &Record) {
        let who = (record.domain.clone(), record.ticket);
        match record.change {
            Change::Queued => {
                assert!(self.last_ticket < Some(record.ticket), "tickets rise");
                self.last_ticket = Some(record.ticket);
                self.waiters.push(who);
            }
            Change::Active { token, .. } => {
                assert!(self.last_token < Some(token), "tokens rise");
                self.last_token = Some(token);
                assert_eq!(self.holder_of(record.domain.as_str()), None, "two holders");
                assert!(self.back.contains(&record.ticket), "a turn for one that is away");
                assert_eq!(self.waiters_of(record.domain.as_str()).first(), Some(&record.ticket), "not the head");
                self.waiters.retain(|waiter| *waiter != who);
                self.holders.push(who);
            }
            Change::Orphaned { .. } => assert!(self.holders.contains(&who), "an orphan without a turn"),
            Change::Ended { .. } => {
                let before = self.holders.len();
                self.holders.retain(|holder| *holder != who);
                assert_eq!(self.holders.len(), before - 1, "a turn ended that was not there");
            }
            Change::Left { .. } => {
                let before = self.waiters.len();
                self.waiters.retain(|waiter| *waiter != who);
                assert_eq!(self.waiters.len(), before - 1, "somebody left who did not wait");
            }
        }
    }

    /// Nothing is lost, and nobody waits beside a free turn.
    pub(crate) fn compare(&self, sequencer: &Sequencer) {
        let counts = sequencer.counts();
        assert_eq!(counts.holders, self.holders.len() as u64);
        assert_eq!(counts.waiters, self.waiters.len() as u64);
        for line in sequencer.view(None, usize::MAX, false) {
            let domain = line.domain.as_str();
            assert_eq!(line.holders.first().map(|(view, ..)| view.ticket), self.holder_of(domain));
            let waiters: Vec<Ticket> = line.waiters.iter().map(|view| view.ticket).collect();
            assert_eq!(waiters, self.waiters_of(domain));
            let head_is_back = self.waiters_of(domain).first().is_some_and(|head| self.back.contains(head));
            assert!(!line.holders.is_empty() || !head_is_back, "nobody holds though the head is there");
        }
    }

    pub(crate) fn holder_of(&self, domain: &str) -> Option<Ticket> {
        self.holders.iter().find(|(name, _)| name.as_str() == domain).map(|(_, ticket)| *ticket)
    }

    pub(crate) fn waiters_of(&self, domain: &str) -> Vec<Ticket> {
        self.waiters.iter().filter(|(name, _)| name.as_str() == domain).map(|(_, ticket)| *ticket).collect()
    }
}
