//! Serving, from the moment everything is there until everything is put away.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use tracing::{info, warn};

use super::accept::{Complaint, Door, for_runtime};
use super::args::SeqdArgs;
use super::client::ReadBuffer;
use super::config::Config;
use super::descriptors::Budget;
use super::detach;
use super::directory::Access;
use super::durable::Durable;
use super::facts::Facts;
use super::history::Librarian;
use super::keys::Outputs;
use super::ledger::Ledger;
use super::link::READ_BYTES_MAX;
use super::lock::LifeLock;
use super::owner::Owner;
use super::place_watch::PlaceWatch;
use super::signals;
use super::storage::Storage;
use super::timer::Timer;
use super::wake::{Leaving, Wake};
use super::watch::Watcher;
use crate::clock::Time;
use crate::error::Error;
use crate::protocol::{Ticket, Token};
use crate::sequencer::{FilePolicy, Sequencer};
use crate::store::Numbers;

/// Inputs that wait for the owner; who comes after them waits to hand over his.
const WAKES_MAX: usize = 1024;

/// Everything that a daemon begins with.
pub(super) struct Beginning {
    pub(super) facts: Facts,
    pub(super) args: SeqdArgs,
    pub(super) budget: Budget,
    pub(super) access: Access,
    pub(super) lock: LifeLock,
    pub(super) listener: UnixListener,
    pub(super) identity: Option<(u64, u64)>,
    pub(super) numbers: Numbers,
    pub(super) next: (Ticket, Token),
    pub(super) storage: Storage,
    pub(super) config: Config,
    /// What that says.
    pub(super) policies: Vec<FilePolicy>,
    /// Whether somebody waits at standard output to hear how the start went.
    pub(super) reports: bool,
}

/// Serves until it is time to leave, and leaves.
///
/// # Errors
///
/// When the system refuses what a daemon needs, or something could not be written down.
pub(super) fn serve(beginning: Beginning) -> Result<(), Error> {
    let failed = |error: io::Error| Error::failure(format_args!("cannot start to serve: {error}"));
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).map_err(failed)?;
    runtime.block_on(async {
        // A task as the others are: before each round of what it blocks on, the runtime asks the system for events.
        let all = tokio::task::spawn_local(serve_until_end(beginning)).await;
        all.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    })
}

async fn serve_until_end(beginning: Beginning) -> Result<(), Error> {
    let (sender, mut wakes) = mpsc::channel(WAKES_MAX);
    let (mut owner, door) = begin(beginning, &sender)?;
    let stop = Rc::new(Notify::new());
    let door = tokio::task::spawn_local(door.run(Rc::clone(&stop)));
    // If it must not go on nobody is told anything any more: what was decided last is not written down.
    let reason = owner.run(&mut wakes).await?;
    notify(NotifyState::Stopping);
    // From here on nothing that comes is heard; without this the door could wait for ever to be heard.
    drop(wakes);
    stop.notify_one();
    let door = door.await;
    let stopped_at = (reason == Leaving::Client).then(|| owner.next_ticket());
    let left = owner.leave(reason).await;
    if let Ok(door) = door {
        // Where that could not be written, those who wait have their places still.
        door.close(stopped_at.filter(|_| left.is_ok()));
    }
    left
}

/// Puts everything in its place; nobody is let in before the turns of earlier are taken up again.
fn begin(beginning: Beginning, sender: &mpsc::Sender<Wake>) -> Result<(Owner, Door), Error> {
    let failed = |error: io::Error| Error::failure(format_args!("cannot start to serve: {error}"));
    let Beginning {
        facts,
        args,
        budget,
        access,
        lock,
        listener,
        identity,
        numbers,
        next,
        storage,
        config,
        policies,
        reports,
    } = beginning;
    let buffer: ReadBuffer = Rc::new(RefCell::new(vec![0; READ_BYTES_MAX].into_boxed_slice()));
    let place = facts.place.clone();
    let door = Door {
        access,
        lock,
        log: Arc::clone(&facts.log),
        args,
        listener: for_runtime(listener).map_err(failed)?,
        identity,
        place_watch: watch_place(&facts),
        failures: 0,
        spare: File::open("/dev/null").ok(),
        connections_max: facts.connections_max,
        budget,
        complaint: Complaint::default(),
        open: Rc::new(()),
        owner: sender.clone(),
        buffer,
        last_id: 0,
        place,
    };
    let sequencer = Sequencer::new(next.0, next.1);
    let timer = Timer::new().map_err(failed)?;
    let Storage { database, tickets, past, settings, ended, told, outputs } = storage;
    let watcher = Watcher::new(sender.clone()).map_err(failed)?;
    let ledger = Ledger::new(database, facts.place.done.clone(), Time::now());
    let librarian = Librarian::new(sender.clone());
    let beside = (librarian, Durable::new(sender.clone()), Outputs::found(outputs));
    let mut owner = Owner::new(sequencer, (numbers, ledger), beside, (timer, watcher), (facts, config));
    signals::watch(sender.clone()).map_err(failed)?;
    owner.restore(tickets, past, (settings, policies), (ended, told));
    owner.end_batch()?;
    owner.sync_now()?;
    owner.end_unwritten()?;
    info!("seqd {} serves {}", env!("CARGO_PKG_VERSION"), owner.facts.place.socket.display());
    notify(NotifyState::Ready);
    if reports {
        detach::report(&format!("ready {}", std::process::id()));
    }
    Ok((owner, door))
}

/// Without it the door looks now and then whether all is in its place.
fn watch_place(facts: &Facts) -> Option<PlaceWatch> {
    let watch = PlaceWatch::new(&facts.place);
    watch.inspect_err(|error| warn!("cannot watch {}: {error}", facts.place.directory.display())).ok()
}

/// Tells the service manager, if there is one.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("cannot tell the service manager: {error}");
    }
}
