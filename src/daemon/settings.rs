//! Policies and pauses, as the next daemon finds them.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use super::config::{Config, Mistake};
use super::ledger::form;
use super::owner::Owner;
use super::report::WallClock;
use crate::error::Error;
use crate::protocol::Domain;
use crate::sequencer::{FilePolicy, Pattern, Pause, Policy, PolicyChange, PolicySource};
use crate::store::{Change, Setting, SettingKind};

/// What was set under earlier daemons.
#[derive(Debug, Default)]
pub(super) struct PastSettings {
    pub(super) policies: Vec<(Pattern, Policy)>,
    pauses: Vec<(Domain, SavedPause)>,
    /// What the config file said when it could be read last.
    pub(super) file: Option<LastFile>,
    /// For [`Rests::restore`](super::rests::Rests::restore).
    pub(super) rests: Vec<Setting>,
    /// For [`restore_keys`](Owner::restore_keys).
    pub(super) keys: Vec<Setting>,
}

/// A pause, as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedPause {
    uid: u32,
    /// When, in milliseconds since 1970.
    since_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Arc<str>>,
}

/// What a config file said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastFile {
    /// Where it was.
    pub(super) path: String,
    pub(super) policies: Vec<FilePolicy>,
}

impl LastFile {
    /// What the next daemon must know of it; nothing of one that says nothing, and that it would look for anyway.
    pub(super) fn of(config: &Config, policies: &[FilePolicy]) -> Option<LastFile> {
        let path = config.path()?.display().to_string();
        (!policies.is_empty() || !config.is_usual()).then(|| LastFile { path, policies: policies.to_vec() })
    }
}

impl PastSettings {
    /// What a later version wrote, and this one does not understand, is passed over.
    pub(super) fn read(settings: Vec<Setting>) -> PastSettings {
        let mut past = PastSettings::default();
        for Setting { kind, name, body } in settings {
            match kind {
                SettingKind::Policy => past.policies.extend(Pattern::parse(&name).ok().zip(understood(&name, &body))),
                SettingKind::Pause => past.pauses.extend(Domain::parse(&name).ok().zip(understood(&name, &body))),
                SettingKind::File => past.file = understood(&name, &body),
                SettingKind::Rest => past.rests.push(Setting { kind, name, body }),
                SettingKind::Key => past.keys.push(Setting { kind, name, body }),
            }
        }
        past
    }

    /// The pauses, with their moments by this run of the machine; none began before that.
    pub(super) fn pauses(&mut self, clock: &WallClock) -> Vec<(Domain, Pause)> {
        let pause = |SavedPause { uid, since_ms, reason }| Pause { uid, at: clock.time(since_ms), reason };
        self.pauses.drain(..).map(|(domain, saved)| (domain, pause(saved))).collect()
    }

    /// What `config` says, or, if it has a mistake, what it said when it had none. A daemon that `goes_on` for an
    /// earlier one reads that one's file.
    ///
    /// # Errors
    ///
    /// The mistake, if nothing is known of earlier.
    pub(super) fn load(&self, config: &mut Config, goes_on: bool) -> Result<Vec<FilePolicy>, Error> {
        if let Some(last) = self.file.as_ref().filter(|_| goes_on) {
            config.go_on_with(&last.path);
        }
        let mistake = match config.load() {
            Ok(policies) => return Ok(policies),
            Err(mistake) => mistake,
        };
        let last = self.file.as_ref().filter(|last| config.path().is_some_and(|path| path.as_os_str() == &*last.path));
        match last {
            Some(last) => {
                error!("{mistake}; what it said before goes on to count");
                Ok(last.policies.clone())
            }
            None => Err(mistake.into()),
        }
    }
}

impl Owner {
    /// The mistake in the config file, if the next daemon finds nothing that it said before.
    pub(super) fn would_not_start(&self) -> Option<Mistake> {
        let policies = self.sequencer.policies();
        let says_something = policies.iter().any(|(_, source, _)| matches!(source, PolicySource::File { .. }));
        let is_known = says_something || !self.config.is_usual();
        if is_known { None } else { self.config.clone().load().err() }
    }
}

fn understood<T: DeserializeOwned>(name: &str, body: &[u8]) -> Option<T> {
    let read = serde_json::from_slice(body);
    read.inspect_err(|why| warn!("what is set for {name} is not understood by this version: {why}")).ok()
}

/// What there is to write of a change.
pub(super) fn of_change(change: &PolicyChange, clock: &WallClock) -> Change {
    let saved = |Pause { uid, at, reason }: &Pause| {
        let since_ms = clock.milliseconds(*at);
        SavedPause { uid: *uid, since_ms, reason: reason.clone() }
    };
    let (kind, name, body) = match change {
        PolicyChange::Set { pattern, policy, .. } => (SettingKind::Policy, pattern.to_string(), Some(form(policy))),
        PolicyChange::Unset { pattern, .. } => (SettingKind::Policy, pattern.to_string(), None),
        PolicyChange::Paused { domain, pause } => (SettingKind::Pause, domain.to_string(), Some(form(&saved(pause)))),
        PolicyChange::Resumed { domain, .. } => (SettingKind::Pause, domain.to_string(), None),
    };
    Change::Setting { kind, name, body }
}

/// What there is to write of a config file that could be read and says this.
pub(super) fn of_file(config: &Config, policies: &[FilePolicy]) -> Change {
    let body = LastFile::of(config, policies).as_ref().map(form);
    Change::Setting { kind: SettingKind::File, name: "file".to_owned(), body }
}
