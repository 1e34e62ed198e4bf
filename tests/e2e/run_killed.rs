//! A turn lives as long as its work, not as long as its wrapper.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::Home;
use rustix::process::Signal;

#[test]
fn a_killed_wrapper_leaves_the_turn_with_its_command() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.hold("foo.com", "orphan", "gate").kill();
    let holder = home.await_holder("foo.com", "orphaned");
    assert_eq!(holder["command"], "./worker orphan gate");
    let next = home.queue("foo.com", "next", 1);
    gate.open();
    next.wait().is_silent(0);
    assert_eq!(home.log(), ["start orphan", "end orphan", "start next", "end next"]);
}

#[test]
fn the_turn_of_a_killed_wrapper_waits_for_what_its_command_started_too() {
    let home = Home::new();
    let gate = home.gate("gate");
    // Without the witness's lock: a process that exits closes its descriptors in no particular order, and what keeps
    // the turn may go a moment before the lock.
    let script = "{ echo start child; read -r line <gate; echo end child; } >>log & echo $$ >command; \
                  read -r line <first-gate";
    let first_gate = home.gate("first-gate");
    let wrapper = home.start(&["run", "-d", "foo.com", "--", "sh", "-c", script]);
    home.await_line("start child");
    let command = home.await_process("command");
    wrapper.kill();
    home.await_holder("foo.com", "orphaned");
    let next = home.queue("foo.com", "next", 1);
    first_gate.open();
    assert!(command.has_ended_within(20));
    // The command is gone, its child holds the turn still.
    home.await_waiters("foo.com", 1);
    home.await_holder("foo.com", "orphaned");
    gate.open();
    next.wait().is_silent(0);
    assert_eq!(home.log(), ["start child", "end child", "start next", "end next"]);
}

#[test]
fn with_close_a_killed_wrapper_gives_the_turn_away() {
    let home = Home::new();
    let gate = home.gate("gate");
    let wrapper = home.start(&["run", "--close", "-d", "foo.com", "--", "./worker", "orphan", "gate"]);
    home.await_line("start orphan");
    let next = home.start(&["run", "-d", "foo.com", "--", "sh", "-c", "echo next >>log"]);
    home.await_waiters("foo.com", 1);
    wrapper.kill();
    next.wait().is_silent(0);
    assert_eq!(home.log(), ["start orphan", "next"], "the orphan runs on");
    gate.open();
    home.await_line("end orphan");
}

#[test]
fn a_command_that_closes_all_descriptors_keeps_the_turn_of_its_killed_wrapper() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.script(
        "closer.py",
        "import os\n\
         log = os.open('log', os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)\n\
         os.dup2(log, 3)\n\
         os.closerange(4, 65536)\n\
         os.write(3, b'start closer\\n')\n\
         os.read(os.open('gate', os.O_RDONLY), 1)\n\
         os.write(3, b'end closer\\n')\n",
    );
    let wrapper = home.start(&["run", "-d", "foo.com", "--", "python3", "closer.py"]);
    home.await_line("start closer");
    wrapper.kill();
    home.await_holder("foo.com", "orphaned");
    let next = home.queue("foo.com", "next", 1);
    gate.open();
    next.wait().is_silent(0);
    assert_eq!(home.log(), ["start closer", "end closer", "start next", "end next"]);
}

/// The daemon knows of the command before anything of it runs: it is told by the process that becomes the command.
#[test]
fn a_command_that_closes_what_keeps_it_and_kills_its_wrapper_first_thing_keeps_its_turn() {
    let home = Home::new();
    home.warm();
    let gate = home.gate("gate");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // What keeps the wrapper from running on at once; also where something fails they end.
        let _over = SetLater(&is_over);
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        for (order, first) in [("close", "exec 512>&-; kill -9 $PPID"), ("kill", "kill -9 $PPID; exec 512>&-")] {
            for number in 0..20 {
                let domain = format!("{order}-{number}");
                let command = format!("{first}; read -r line <gate");
                home.start(&["run", "-d", &domain, "--", "bash", "-c", &command]).wait();
                let next = home.seq(&["run", "--no-wait", "-d", &domain, "--", "true"]);
                assert_eq!(next.status.code(), Some(75), "{first}, the {number}th time: {}", next.stderr());
            }
        }
    });
    gate.open();
}

/// Is set when this goes out of scope.
struct SetLater<'a>(&'a AtomicBool);

impl Drop for SetLater<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_wrapper_killed_while_it_waits_leaves_the_line() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    home.queue("foo.com", "waiter", 1).kill();
    home.await_waiters("foo.com", 0);
    gate.open();
    holder.wait().is_silent(0);
    assert_eq!(home.log(), ["start holder", "end holder"]);
}

#[test]
fn a_wrapper_whose_command_is_killed_with_it_passes_the_turn_on() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let wrapper = home.start(&["run", "-d", "foo.com", "--", "sh", "-c", "echo $$ >command; read -r line <gate"]);
    let command = home.await_process("command");
    let next = home.queue("foo.com", "next", 1);
    command.signal(Signal::KILL);
    wrapper.kill();
    next.wait().is_silent(0);
}

#[test]
fn a_child_left_behind_does_not_keep_the_turn() {
    let home = Home::new();
    let gate = home.gate("gate");
    let script = "(echo left >>log; read -r line <gate; echo late >>log) & echo start >>log";
    home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", script]).is_silent(0);
    home.await_line("left");
    home.seq(&["run", "--no-wait", "-d", "foo.com", "--", "true"]).is_silent(0);
    assert!(!home.log().contains(&"late".to_owned()));
    gate.open();
    home.await_line("late");
}

#[test]
fn until_all_exit_keeps_the_turn_for_a_child_left_behind() {
    let home = Home::new();
    let gate = home.gate("gate");
    let script = "(echo left >>log; read -r line <gate; echo late >>log) & exit 3";
    let first = home.start(&["run", "--until-all-exit", "-d", "foo.com", "--", "sh", "-c", script]);
    home.await_line("left");
    let next = home.queue("foo.com", "next", 1);
    gate.open();
    first.wait().is_silent(3);
    next.wait().is_silent(0);
    assert_eq!(home.log(), ["left", "late", "start next", "end next"]);
}

/// Closes all that it has inherited, and then writes its pid, waits at a gate, and logs its end.
const CLOSING: &str = "\
import os
def write(name, text):
    descriptor = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, text)
    os.close(descriptor)
os.closerange(0, 65536)
write('orphan', b'%d\\n' % os.getpid())
os.read(os.open('gate', os.O_RDONLY), 1)
write('log', b'end orphan\\n')
";

#[test]
fn until_all_exit_waits_for_an_orphan_that_closed_its_descriptors() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.script("closing.py", CLOSING);
    let script = "python3 closing.py &";
    let first = home.start(&["run", "--until-all-exit", "-d", "foo.com", "--", "sh", "-c", script]);
    let orphan = home.await_process("orphan");
    home.await_fact("the command's end", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", orphan.pid)).ok()?;
        let parent = stat.rsplit(") ").next()?.split(' ').nth(1)?.parse();
        (parent == Ok(first.pid())).then_some(())
    });
    let next = home.queue("foo.com", "next", 1);
    gate.let_one_pass();
    first.wait().is_silent(0);
    next.wait().is_silent(0);
    assert_eq!(home.log(), ["end orphan", "start next", "end next"]);
}

#[test]
fn until_all_exit_does_not_last_longer_than_max_run() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let script = "read -r line <gate & echo $! >left; exit 3";
    let options = ["run", "-q", "--until-all-exit", "--max-run", "500ms", "-d", "foo.com", "--", "sh", "-c", script];
    let running = home.start(&options);
    let left = home.await_process("left");
    running.wait().is_silent(124);
    assert!(!left.is_alive());
}

#[test]
fn a_turn_that_nobody_gives_up_can_be_released_by_hand() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.hold("foo.com", "orphan", "gate").kill();
    home.await_holder("foo.com", "orphaned");
    let next = home.start(&["run", "-d", "foo.com", "--", "sh", "-c", "echo next >>log"]);
    home.await_waiters("foo.com", 1);
    let released = home.seq(&["release", "-d", "foo.com"]);
    assert_eq!(released.status.code(), Some(0), "{}", released.stderr());
    next.wait().is_silent(0);
    assert_eq!(home.log(), ["start orphan", "next"]);
    gate.open();
    home.await_line("end orphan");
}
