//! What a line asks for, checked once, so that the owner and the sequencer can trust it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::descriptors::{Pending, Sent};
use super::history::LogAsk;
use super::keys::KeyAsked;
use super::process;
use super::read::{Refusal, read};
use super::wake::{Ask, Other};
use crate::protocol::limits::{
    COMMAND_BYTES_MAX, DESCRIPTORS_PER_REQUEST_MAX, DOMAINS_PER_REQUEST_MAX, GROUP_BYTES_MAX, KEY_LIST_DEFAULT,
    KEY_LIST_MAX, KEY_TTL_DEFAULT, KEY_TTL_MAX, LINE_BYTES_MAX, LOG_TURNS_DEFAULT, LOG_TURNS_MAX, PRIORITY_MAX,
    REASON_BYTES_MAX, SECRET_BYTES_MAX, STATUS_WAITERS_DEFAULT,
};
use crate::protocol::{
    Binding, Cancel, Domain, Done, ErrorCode, Fingerprint, Framed, Key, KeyForget, KeyList, KeyWish, OutputRequest,
    PROTOCOL_VERSION, Pause, PolicySet, PolicyUnset, PolicyValue, Release, Request, RequestId, Resume, Sequence,
    Started, Ticket,
};
use crate::sequencer::{ConnectionId, Enqueue, Input, KeyAsk, Pattern, Peer, Policy, Secret, Which, Wishes, Within};
use crate::words::counted;

/// Reads one line of a client. `descriptors` are those that the client sent and has not named yet.
pub(super) fn understand(framed: &Framed<'_>, peer: &Peer, connection: ConnectionId, descriptors: &mut Pending) -> Ask {
    let asked = match *framed {
        Framed::Line(line) => read(line).and_then(|request| {
            let mut caller = Caller { peer, connection, descriptors };
            caller.understand(request)
        }),
        Framed::TooLong => Err(Refusal::new(
            ErrorCode::LineTooLong,
            format!("the line has more than {LINE_BYTES_MAX} bytes: it was skipped"),
        )),
    };
    asked.unwrap_or_else(|refusal| other(Other::Refused(refusal.0)))
}

/// What came last has no newline, so that it may not be all that was to come.
pub(super) fn unfinished() -> Ask {
    other(Other::Refused(Refusal::bad("the last line has no newline: it was not read as a request").0))
}

/// How a request wants to be treated.
fn wishes(sequence: &Sequence, domain: &Domain) -> Result<Wishes, Refusal> {
    if sequence.take == Some(0) {
        return Err(Refusal::bad("take must be at least 1"));
    }
    if sequence.shared && sequence.take.is_some() {
        return Err(Refusal::bad("a shared turn takes no slots: leave out take, or shared"));
    }
    let priority = sequence.priority.unwrap_or(0);
    if priority.unsigned_abs() > PRIORITY_MAX.unsigned_abs() {
        return Err(Refusal::bad(format!("priority must be -{PRIORITY_MAX} to {PRIORITY_MAX}")));
    }
    if sequence.cancel_running && sequence.supersede.is_none() {
        return Err(Refusal::bad("cancel_running is only for a request with supersede"));
    }
    let group = sequence.supersede.as_deref();
    if group.is_some_and(|group| group.len() > GROUP_BYTES_MAX) {
        return Err(Refusal::bad(format!("the group of supersede must have at most {GROUP_BYTES_MAX} bytes")));
    }
    Ok(Wishes {
        take: sequence.take.unwrap_or(1),
        shared: sequence.shared,
        priority,
        supersede: group.map(Arc::from),
        cancel_running: sequence.cancel_running,
        also: also(sequence, domain)?,
        within: sequence.within.map(Within::from),
    })
}

/// The further lines, each once.
fn also(sequence: &Sequence, domain: &Domain) -> Result<Vec<Domain>, Refusal> {
    let mut also: Vec<Domain> = Vec::new();
    for name in &sequence.also {
        let further = Domain::parse(name)?;
        if further != *domain && !also.contains(&further) {
            also.push(further);
        }
        // At once: a line has room for thousands, and each is compared with all before it.
        if also.len() >= DOMAINS_PER_REQUEST_MAX {
            return Err(Refusal::bad(format!("a request names at most {DOMAINS_PER_REQUEST_MAX} domains")));
        }
    }
    Ok(also)
}

/// What is to be done once.
fn key_ask(wish: &KeyWish) -> Result<KeyAsk, Refusal> {
    let ttl = wish.ttl_ms.map_or(KEY_TTL_DEFAULT, Duration::from_millis);
    if ttl.is_zero() || ttl > KEY_TTL_MAX {
        let most = KEY_TTL_MAX.as_millis();
        return Err(Refusal::bad(format!("the ttl_ms of a key must be 1 to {most}")));
    }
    Ok(KeyAsk {
        key: Key::parse(&wish.name)?,
        fingerprint: wish.fingerprint.unwrap_or_else(|| Fingerprint::of([])),
        ttl,
        keep_failures: wish.keep_failures,
        retry_unknown: wish.retry_unknown,
        replay: wish.replay,
        follows: wish.follows.map(Ticket),
    })
}

fn key_asked(list: &KeyList) -> Result<KeyAsked, Refusal> {
    Ok(KeyAsked {
        uid: list.uid,
        domain: list.domain.as_deref().map(Domain::parse).transpose()?,
        key: list.key.as_deref().map(Key::parse).transpose()?,
        keys_max: list.keys_max.unwrap_or(KEY_LIST_DEFAULT).min(KEY_LIST_MAX),
        request_id: list.request_id.clone(),
    })
}

/// What a command wrote.
fn output_of(request: OutputRequest) -> Result<Ask, Refusal> {
    let ticket = Ticket(request.ticket);
    if request.output.parts.iter().any(|part| part.bytes().is_none()) {
        let mut refusal = Refusal::bad("the data of a part is not base 64 with padding (RFC 4648)");
        refusal.0.ticket = Some(ticket);
        return Err(refusal);
    }
    Ok(Ask::Output(ticket, request.output))
}

/// Who asks, and with what.
struct Caller<'a> {
    peer: &'a Peer,
    connection: ConnectionId,
    descriptors: &'a mut Pending,
}

impl Caller<'_> {
    fn understand(&mut self, request: Request) -> Result<Ask, Refusal> {
        let (connection, peer) = (self.connection, *self.peer);
        match request {
            Request::Hello(hello) if hello.protocol != PROTOCOL_VERSION => {
                let message = format!(
                    "this daemon speaks protocol {PROTOCOL_VERSION}, the client speaks {}: use the same version of both",
                    hello.protocol
                );
                Err(Refusal::new(ErrorCode::UnsupportedProtocol, message).of(hello.request_id.as_deref()))
            }
            Request::Hello(hello) => Ok(other(Other::Hello(hello.request_id))),
            Request::Sequence(sequence) => self.sequence(&sequence).map_err(|it| it.of(sequence.request_id.as_deref())),
            Request::Started(started) => self.started(&started),
            Request::Confirm(confirm) => Ok(Ask::Input(Input::Confirm { connection, ticket: Ticket(confirm.ticket) })),
            Request::Done(done) => {
                let which = which_done(&done).map_err(|refusal| refusal.of(done.request_id.as_deref()))?;
                let Done { exit_status, processes, request_id, .. } = done;
                // The client's pids mean something in its own pid namespace only, so its ancestors are looked up here.
                let processes = if processes.is_empty() { processes } else { process::ancestry(peer.pid) };
                Ok(Ask::Input(Input::Done { connection, peer, which, exit_status, processes, request_id }))
            }
            Request::Cancel(cancel) => {
                let which = which_cancel(&cancel).map_err(|refusal| refusal.of(cancel.request_id.as_deref()))?;
                Ok(Ask::Input(Input::Cancel { connection, peer, which }))
            }
            Request::Release(release) => {
                let which = which_release(&release).map_err(|refusal| refusal.of(release.request_id.as_deref()))?;
                Ok(Ask::Input(Input::Release { connection, peer, which, request_id: release.request_id }))
            }
            Request::Status(status) => Ok(other(Other::Status {
                domain: optional_domain(status.domain.as_deref(), status.request_id.as_deref())?,
                waiters_max: status.waiters_max.unwrap_or(STATUS_WAITERS_DEFAULT),
                idle: status.idle,
                request_id: status.request_id,
            })),
            Request::Watch(watch) => {
                let domain = optional_domain(watch.domain.as_deref(), watch.request_id.as_deref())?;
                Ok(other(Other::Watch(domain, watch.request_id)))
            }
            Request::Wait(wait) => {
                let domain = Domain::parse(&wait.domain);
                let domain = domain.map_err(|error| Refusal::from(error).of(wait.request_id.as_deref()))?;
                let max_wait = wait.max_wait_ms.map(Duration::from_millis);
                let within = wait.within.map(Within::from);
                Ok(Ask::Input(Input::Wait { connection, peer, domain, max_wait, within, request_id: wait.request_id }))
            }
            Request::Info(info) => Ok(other(Other::Info(info.request_id))),
            Request::Log(log) => Ok(other(Other::Log(LogAsk {
                domain: optional_domain(log.domain.as_deref(), log.request_id.as_deref())?,
                since: log.since_ms.map(Duration::from_millis),
                failed: log.failed,
                turns_max: log.turns_max.unwrap_or(LOG_TURNS_DEFAULT).min(LOG_TURNS_MAX),
                request_id: log.request_id,
            }))),
            Request::PolicySet(set) => self.policy_set(&set).map_err(|it| it.of(set.request_id.as_deref())),
            Request::PolicyUnset(unset) => self.policy_unset(&unset).map_err(|it| it.of(unset.request_id.as_deref())),
            Request::PolicyShow(show) => Ok(other(Other::Policies(
                optional_domain(show.domain.as_deref(), show.request_id.as_deref())?,
                show.request_id,
            ))),
            Request::Pause(pause) => self.pause(&pause).map_err(|it| it.of(pause.request_id.as_deref())),
            Request::Resume(resume) => self.resume(&resume).map_err(|it| it.of(resume.request_id.as_deref())),
            Request::Output(output) => output_of(output),
            Request::KeyList(list) => {
                Ok(other(Other::Keys(key_asked(&list).map_err(|it| it.of(list.request_id.as_deref()))?)))
            }
            Request::KeyForget(forget) => self.key_forget(&forget).map_err(|it| it.of(forget.request_id.as_deref())),
            Request::Restart(restart) => Ok(other(Other::Restart(restart.request_id))),
            Request::Stop(stop) => Ok(other(Other::Stop(stop.request_id))),
            Request::Unknown => Err(Refusal::new(ErrorCode::UnknownOperation, "the operation is not known")),
        }
    }

    fn sequence(&mut self, sequence: &Sequence) -> Result<Ask, Refusal> {
        let descriptor = self.descriptors_of(sequence)?;
        let domain = Domain::parse(&sequence.domain)?;
        let request_id = sequence.request_id.as_deref().map(RequestId::parse).transpose()?;
        if sequence.no_wait && sequence.max_wait_ms.is_some() {
            return Err(Refusal::bad("no_wait and max_wait_ms exclude each other: send one of them"));
        }
        let pid = match &descriptor {
            // The client may know its process by another pid than ours.
            Some(pidfd) if sequence.binding == Binding::Process => process::pid_of(pidfd).unwrap_or(0),
            _ => match sequence.pid {
                Some(pid) if sequence.binding == Binding::Lease => process::ancestor(self.peer.pid, pid).unwrap_or(pid),
                pid => pid.unwrap_or(self.peer.pid),
            },
        };
        let is_lease = sequence.binding == Binding::Lease;
        match sequence.lease_ms {
            None if is_lease => return Err(Refusal::bad("a turn of binding lease needs lease_ms")),
            Some(_) if !is_lease => return Err(Refusal::bad("lease_ms is only for a turn of binding lease")),
            Some(0) => return Err(Refusal::bad("lease_ms must be at least 1")),
            _ => {}
        }
        if sequence.named_process && sequence.binding != Binding::Process {
            return Err(Refusal::bad("named_process is only for a turn of binding process"));
        }
        if sequence.confirm && sequence.binding == Binding::Connection {
            return Err(Refusal::bad("confirm is only for a turn of binding process or lease"));
        }
        let secret = sequence.secret.as_deref().map(secret).transpose()?;
        if sequence.resume.is_some() && secret.is_none() {
            return Err(Refusal::bad("resume needs the secret that the ticket was asked for with"));
        }
        let enqueue = Enqueue {
            connection: self.connection,
            peer: *self.peer,
            request_id,
            positions: sequence.positions,
            no_wait: sequence.no_wait,
            max_wait: sequence.max_wait_ms.map(Duration::from_millis),
            binding: sequence.binding,
            lease: sequence.lease_ms.map(Duration::from_millis),
            fresh: sequence.fresh,
            pid,
            command: sequence.command.as_deref().map(|command| cut(command).into()),
            pipe: sequence.binding == Binding::Connection && descriptor.is_some(),
            named_process: sequence.named_process,
            confirm: sequence.confirm,
            says_started: sequence.says_started || sequence.confirm,
            secret,
            resume: sequence.resume.map(Ticket),
            key: sequence.key.as_ref().map(key_ask).transpose()?.map(Box::new),
            wishes: wishes(sequence, &domain)?,
            domain,
        };
        Ok(Ask::Sequence(enqueue, descriptor))
    }

    /// The pipe or pidfd that comes with a request for a turn.
    fn descriptors_of(&mut self, sequence: &Sequence) -> Result<Option<OwnedFd>, Refusal> {
        let sent = self.take_descriptors(sequence.descriptors)?;
        // Whoever comes back had a place before there were too many.
        let is_new = sequence.resume.is_none();
        let wrong = |what: &str| Err(Refusal::new(ErrorCode::BadDescriptor, what));
        let descriptor = match (sequence.binding, sent) {
            (Binding::Connection | Binding::Lease, None) => return Ok(None),
            (Binding::Process, None) => {
                return Err(Refusal::bad("a turn of binding process needs one descriptor: the pidfd of that process"));
            }
            (Binding::Lease, Some(_)) => return Err(Refusal::bad("a turn of binding lease takes no descriptor")),
            // Also one whose status nobody has collected: it will never do anything any more.
            (Binding::Process, Some(Sent::Pidfd(pidfd))) if is_new && !process::is_alive(&pidfd) => {
                return wrong("the process that is to keep the turn has ended: name one that runs");
            }
            (Binding::Connection, Some(Sent::Pipe(descriptor))) | (Binding::Process, Some(Sent::Pidfd(descriptor))) => {
                descriptor
            }
            (Binding::Connection, Some(_)) => return wrong("the descriptor is not the reading end of a pipe"),
            (Binding::Process, Some(_)) => return wrong("the descriptor is not a pidfd"),
        };
        if is_new && self.descriptors.budget.is_used_up(&descriptor) {
            return Err(self.descriptors.budget.refusal());
        }
        Ok(Some(descriptor))
    }

    fn policy_set(&self, set: &PolicySet) -> Result<Ask, Refusal> {
        let none = set.policy.none;
        if none.has_unknown() {
            let names = PolicyValue::ALL.map(PolicyValue::as_str).join(", ");
            return Err(Refusal::bad(format!("none names what is no value of a policy: use some of {names}")));
        }
        if let Some(value) = none.iter().find(|value| set.policy.sets(*value)) {
            return Err(Refusal::bad(format!("{value} is set and named in none: leave out one of the two")));
        }
        let (pattern, policy) = (Pattern::parse(&set.pattern)?, Policy::from(&set.policy));
        policy.check()?;
        let (connection, peer, request_id) = (self.connection, *self.peer, set.request_id.clone());
        Ok(Ask::Input(Input::SetPolicy { connection, peer, pattern, policy, request_id }))
    }

    fn policy_unset(&self, unset: &PolicyUnset) -> Result<Ask, Refusal> {
        let pattern = Pattern::parse(&unset.pattern)?;
        let (connection, peer, request_id) = (self.connection, *self.peer, unset.request_id.clone());
        Ok(Ask::Input(Input::UnsetPolicy { connection, peer, pattern, request_id }))
    }

    fn pause(&self, pause: &Pause) -> Result<Ask, Refusal> {
        let domain = Domain::parse(&pause.domain)?;
        let reason_bytes = pause.reason.as_ref().map_or(0, String::len);
        if reason_bytes > REASON_BYTES_MAX {
            let message = format!("a reason of {reason_bytes} bytes is too long: use at most {REASON_BYTES_MAX}");
            return Err(Refusal::bad(message));
        }
        let on_one_line = |reason: &str| reason.replace(|character: char| character.is_control(), " ");
        let reason = pause.reason.as_deref().map(|reason| on_one_line(reason).into());
        let (connection, peer, request_id) = (self.connection, *self.peer, pause.request_id.clone());
        Ok(Ask::Input(Input::Pause { connection, peer, domain, reason, request_id }))
    }

    fn resume(&self, resume: &Resume) -> Result<Ask, Refusal> {
        let domain = Domain::parse(&resume.domain)?;
        let (connection, peer, request_id) = (self.connection, *self.peer, resume.request_id.clone());
        Ok(Ask::Input(Input::Resume { connection, peer, domain, request_id }))
    }

    fn key_forget(&self, forget: &KeyForget) -> Result<Ask, Refusal> {
        let domain = forget.domain.as_deref().map(Domain::parse).transpose()?;
        let (connection, peer, request_id) = (self.connection, *self.peer, forget.request_id.clone());
        let (uid, key) = (forget.uid, Key::parse(&forget.key)?);
        Ok(Ask::Input(Input::ForgetKey { connection, peer, uid, domain, key, request_id }))
    }

    fn started(&mut self, started: &Started) -> Result<Ask, Refusal> {
        let ticket = Ticket(started.ticket);
        let mut asked = || {
            let pidfd = match self.take_descriptors(started.descriptors)? {
                None => None,
                Some(Sent::Pidfd(pidfd)) => Some(pidfd),
                Some(_) => return Err(Refusal::new(ErrorCode::BadDescriptor, "the descriptor is not a pidfd")),
            };
            let pid = pidfd.as_ref().and_then(process::pid_of).filter(|pid| *pid != 0).unwrap_or(started.pid);
            Ok(Ask::Started(ticket, pid, pidfd))
        };
        asked().map_err(|mut refusal| {
            refusal.0.ticket = Some(ticket);
            refusal
        })
    }

    /// Takes as many descriptors as a request names.
    fn take_descriptors(&mut self, count: usize) -> Result<Option<Sent>, Refusal> {
        let taken: Vec<Sent> = self.descriptors.take(count).collect();
        let found = taken.len();
        if count > DESCRIPTORS_PER_REQUEST_MAX {
            return Err(Refusal::bad(format!("a request names at most one descriptor, this one names {count}")));
        }
        if taken.iter().any(|sent| matches!(sent, Sent::Lost)) {
            return Err(self.descriptors.budget.refusal());
        }
        if found < count {
            let message = format!("the request names {}, {found} came with it", counted(count as u64, "descriptor"));
            return Err(Refusal::new(ErrorCode::BadDescriptor, message));
        }
        Ok(taken.into_iter().next())
    }
}

fn which_done(done: &Done) -> Result<Which, Refusal> {
    let domain = done.domain.as_deref().map(Domain::parse).transpose()?;
    let request_id = done.request_id.as_deref().map(RequestId::parse).transpose()?;
    match (done.ticket, domain, request_id) {
        (Some(ticket), None, None) => Ok(Which::Ticket(Ticket(ticket))),
        (Some(ticket), domain, request_id) => Ok(Which::TicketOf(Ticket(ticket), domain, request_id)),
        (None, Some(domain), Some(request_id)) => Ok(Which::Request(domain, request_id)),
        (None, Some(domain), None) => Ok(Which::Domain(domain)),
        (None, None, _) => Err(Refusal::bad("done needs a ticket or a domain")),
    }
}

fn which_cancel(cancel: &Cancel) -> Result<Which, Refusal> {
    let domain = cancel.domain.as_deref().map(Domain::parse).transpose()?;
    let request_id = cancel.request_id.as_deref().map(RequestId::parse).transpose()?;
    match (cancel.ticket, domain, request_id) {
        (Some(ticket), None, None) => Ok(Which::Ticket(Ticket(ticket))),
        (Some(ticket), domain, request_id) => Ok(Which::TicketOf(Ticket(ticket), domain, request_id)),
        (None, Some(domain), Some(request_id)) => Ok(Which::Request(domain, request_id)),
        _ => Err(Refusal::bad("cancel needs a ticket, or a domain and a request_id")),
    }
}

fn which_release(release: &Release) -> Result<Which, Refusal> {
    let domain = release.domain.as_deref().map(Domain::parse).transpose()?;
    match (release.ticket, domain) {
        (Some(ticket), None) => Ok(Which::Ticket(Ticket(ticket))),
        (Some(ticket), domain) => Ok(Which::TicketOf(Ticket(ticket), domain, None)),
        (None, Some(domain)) => Ok(Which::Domain(domain)),
        (None, None) => Err(Refusal::bad("release needs a ticket or a domain")),
    }
}

/// What is kept of a secret.
fn secret(secret: &str) -> Result<Secret, Refusal> {
    if secret.is_empty() || secret.len() > SECRET_BYTES_MAX {
        return Err(Refusal::bad(format!("the secret must have 1 to {SECRET_BYTES_MAX} bytes")));
    }
    Ok(Secret(Sha256::digest(secret.as_bytes()).into()))
}

fn optional_domain(text: Option<&str>, request_id: Option<&str>) -> Result<Option<Domain>, Refusal> {
    text.map(Domain::parse).transpose().map_err(|error| Refusal::from(error).of(request_id))
}

fn other(other: Other) -> Ask {
    Ask::Other(Box::new(other))
}

/// What is shown of a command.
fn cut(command: &str) -> &str {
    &command[..command.floor_char_boundary(COMMAND_BYTES_MAX)]
}
