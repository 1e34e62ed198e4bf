//! A daemon dies, with its last batch cut somewhere, and the next one goes on.

use std::time::Duration;

use fastrand::Rng;

use seq::protocol::{ErrorCode, Reply};
use seq::sequencer::{ConnectionId, Effect, Input, Restored};

use super::job::{CommandKnown, Job, Phase};
use super::{OPERATOR, World};
use crate::disk::Both;

/// Operations for which each cut of a crash is lived on.
const CUT_OPERATIONS: u64 = 12;

impl World {
    /// Lives on from each cut at which the daemon may die now; answers one of them.
    pub(super) fn die_at_every_cut(&self, rng: &mut Rng) -> Option<usize> {
        let tells = self.batch.iter().filter(|effect| matches!(effect, Effect::Tell { .. })).count();
        for cut in std::iter::once(None).chain((0..=tells).map(Some)) {
            let mut world = self.clone();
            let mut rng = rng.fork();
            world.die(&mut rng, cut);
            for _ in 0..CUT_OPERATIONS {
                world.operate(&mut rng);
            }
        }
        if rng.u8(..3) == 0 { None } else { Some(rng.usize(..=tells)) }
    }

    /// The daemon dies. Its last batch was not written, or it was and so many replies of it were heard.
    pub(super) fn die(&mut self, rng: &mut Rng, cut: Option<usize>) {
        let batch = std::mem::take(&mut self.batch);
        if cut.is_some() {
            self.disk.commit(&batch, &self.both.core);
            self.jobs.iter_mut().for_each(Job::is_written);
        }
        self.witness.crash(&self.disk);
        let tells = batch.into_iter().filter_map(|effect| match effect {
            Effect::Tell { connection, reply } => Some((connection, reply)),
            _ => None,
        });
        for (connection, reply) in tells.take(cut.unwrap_or(0)) {
            self.hear_last_words(connection, &reply);
        }
        for job in &mut self.jobs {
            (job.connection, job.watched_as) = (None, None);
            job.is_not_written();
            (job.pipes, job.commands, job.wrappers) = (0, 0, 0);
            let after = [0, 0, 50, 500, 3_000, 9_000, 30_000, 90_000][rng.usize(..8)];
            job.returns = self.both.now + Duration::from_millis(after);
        }
        self.pass_without_a_daemon(rng);
        self.restore();
    }

    /// What was still told by a daemon that hears no answer any more.
    fn hear_last_words(&mut self, connection: ConnectionId, reply: &Reply) {
        if let (OPERATOR, Reply::Cancelled(cancelled)) = (connection, reply) {
            self.witness.cancelled(cancelled.ticket);
        }
        let Some(job) = self.jobs.iter_mut().find(|job| job.connection == Some(connection)) else { return };
        let before = job.is_inside();
        if let Reply::Error(error) = reply
            && error.code == ErrorCode::NotFound
        {
            return;
        }
        let _ = job.hear(reply);
        if !before && job.is_inside() {
            self.witness.enters(job);
        }
    }

    /// Some commands end, and some wrappers die, while there is no daemon.
    fn pass_without_a_daemon(&mut self, rng: &mut Rng) {
        self.both.now = self.both.now + Duration::from_millis(rng.u64(..2_000));
        for job in &mut self.jobs {
            if job.phase == Phase::Works && rng.u8(..6) == 0 {
                job.phase = if job.wrapper_lives { Phase::Reports } else { Phase::Over };
            }
            if rng.u8(..8) == 0 {
                job.wrapper_lives = false;
                if job.phase == Phase::Reports || job.phase == Phase::Works && !job.has_pipe {
                    job.phase = Phase::Over;
                }
            }
        }
    }

    /// The next daemon takes back what it finds.
    fn restore(&mut self) {
        self.both = Both::new(self.disk.next, self.both.limits, self.both.now);
        self.restored_at = self.both.now;
        for past in self.disk.before_tickets() {
            self.take(&past);
        }
        for saved in self.disk.live.values().cloned().collect::<Vec<_>>() {
            let found = match self.jobs.iter_mut().find(|job| Some(job.secret) == saved.secret) {
                Some(job) => find(job, saved),
                None => Restored { pipes: 0, processes: 0, ..saved },
            };
            self.take(&Input::Restore(found));
        }
        for past in self.disk.after_tickets() {
            self.take(&past);
        }
        let batch = std::mem::take(&mut self.batch);
        self.disk.commit(&batch, &self.both.core);
        self.disk.live.extend(self.both.model.saved().into_iter().map(|saved| (saved.ticket, saved)));
        self.check();
    }
}

/// What is still there of a job.
fn find(job: &mut Job, saved: Restored) -> Restored {
    job.watched_as = Some(saved.ticket);
    let command = job.known == CommandKnown::Written && job.phase == Phase::Works && saved.turn.is_some();
    job.pipes = u32::from(saved.pipes > 0 && job.pipe_is_open());
    job.commands = u32::from(command);
    job.wrappers = u32::from(job.wrapper_lives);
    Restored { pipes: job.pipes, processes: job.commands + job.wrappers, ..saved }
}
