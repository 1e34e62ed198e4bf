//! What each command of a storm does: this test program run again, under a turn, where it witnesses that it is alone.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::stamp::{Pen, What};

/// Says to the program that is run again what to do.
pub(crate) const VARIABLE: &str = "SEQ_STORM_TURN";

/// The log, in the home directory.
pub(crate) const LOG: &str = "storm";

/// The number that is counted up, in the home directory.
pub(crate) const COUNTER: &str = "counter";

/// How it shows that nobody else is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Witness {
    /// A lock on a file of the domain's, which does not know of seq.
    Lock,
    /// A number that is read, and written one higher a while later. Two at once lose an update.
    Counter,
}

/// What one command is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) turn: usize,
    pub(crate) hold: Duration,
    pub(crate) status: u8,
    pub(crate) witness: Witness,
}

impl Work {
    /// The value of [`VARIABLE`].
    pub(crate) fn to_text(self) -> String {
        let is_lock = u8::from(self.witness == Witness::Lock);
        format!("{} {} {} {is_lock}", self.turn, self.hold.as_micros(), self.status)
    }

    fn parse(text: &str) -> Work {
        let numbers: Vec<u64> = text.split(' ').map(|number| number.parse().expect("a number")).collect();
        let [turn, hold, status, is_lock] = numbers[..] else { panic!("not four numbers: {text:?}") };
        Work {
            turn: turn.try_into().expect("a turn"),
            hold: Duration::from_micros(hold),
            status: status.try_into().expect("an exit status"),
            witness: if is_lock == 1 { Witness::Lock } else { Witness::Counter },
        }
    }
}

/// What the program does when it is run again, to its end; nothing when it is run as usual.
pub(crate) fn perform() {
    let Ok(text) = env::var(VARIABLE) else { return };
    let work = Work::parse(&text);
    let home = env::var_os("HOME").expect("a home");
    let (home, domain) = (Path::new(&home), env::var("SEQ_DOMAIN").expect("a domain"));
    let number = |name| env::var(name).expect("told by seq").parse().expect("a number");
    let (ticket, token) = (number("SEQ_TICKET"), number("SEQ_TOKEN"));
    let pen = Pen::open(&home.join(LOG));
    let stamp = |what| pen.stamp(what, &domain, work.turn, ticket, token, process::id());
    match work.witness {
        Witness::Lock => {
            let lock = take_lock(&home.join(format!("witness-{domain}")));
            stamp(What::Start);
            if lock.is_none() {
                stamp(What::Blocked);
            }
            thread::sleep(work.hold);
            stamp(What::End);
            // Before its process is seen to be gone: descriptors are closed at the end in no particular order.
            drop(lock);
        }
        Witness::Counter => {
            stamp(What::Start);
            let counter = home.join(COUNTER);
            let before = read_counter(&counter);
            thread::yield_now();
            thread::sleep(work.hold);
            fs::write(counter, (before + 1).to_string()).expect("the counter is written");
            stamp(What::End);
        }
    }
    process::exit(work.status.into());
}

/// The lock, unless somebody has it.
fn take_lock(path: &Path) -> Option<File> {
    let file = OpenOptions::new().append(true).create(true).open(path).expect("the witness's file");
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(file)
}

/// The number in the file, 0 at first.
pub(crate) fn read_counter(path: &Path) -> u64 {
    fs::read_to_string(path).map_or(0, |text| text.parse().expect("a number"))
}
