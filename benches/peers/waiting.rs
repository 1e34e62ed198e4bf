//! What one `seq run` that waits costs the machine.

use std::time::Duration;

use super::report::{Mark, Report};
use super::stage::{Children, Gate, SEQ, Stage, figure, until, waiting};

const PART: &str = "waiting";

/// How long nothing changes.
const QUIET: Duration = Duration::from_secs(5);

pub(crate) fn measure(report: &mut Report) {
    let stage = Stage::new();
    let gate = Gate::new(&stage, "gate");
    let hold = format!("echo held >held; cat {}", gate.path().display());
    let start = |words: &[&str]| stage.command(SEQ, &["run", "-d", "x", "--"]).args(words).spawn().expect("seq");
    let mut children = Children(vec![start(&["sh", "-c", &hold])]);
    until("the first has its turn", || stage.path("held").exists().then_some(()));
    let socket = stage.path(".local/state/seq/seqd.sock");
    let mut stream = until("the daemon is there", || std::os::unix::net::UnixStream::connect(&socket).ok());
    children.0.push(start(&["true"]));
    until("it waits", || (waiting(&mut stream, "x") == 1).then_some(()));
    let pid = children.0[1].id();
    let wake_ups = || {
        let names = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
        names.map(|name| figure(pid, "status", name)).iter().sum::<u64>()
    };
    // It looks once whether it waits for itself.
    std::thread::sleep(QUIET);
    let before = wake_ups();
    std::thread::sleep(QUIET);
    let more = f64::from(u32::try_from(wake_ups() - before).unwrap_or(u32::MAX));
    report.marked(PART, "wake-ups of a seq run in 5 s", (more, ""), Mark::AtMost(0.0));
    let kibibytes = f64::from(u32::try_from(figure(pid, "smaps_rollup", "Pss:")).unwrap_or(u32::MAX));
    report.marked(PART, "proportional set size of a seq run", (kibibytes, "KiB"), Mark::AtMost(2048.0));
    gate.open();
    children.wait();
}
