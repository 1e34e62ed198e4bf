//! A disk that is full or must not be written, with real commands: turns that were given go on and stay exclusive,
//! whoever waits is told why and keeps the place, and nothing is lost.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::support::{Home, Running, Wire, seqd_program};
use nix::sched::{CloneFlags, unshare};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The disk that a home keeps its daemon's files on.
///
/// A small one of its own where the test may mount one, seen by this thread and what it starts. Elsewhere the daemon
/// itself takes its disk for full when it is told to, and what else would be written there is kept from it by
/// directories that are in the way.
struct Disk {
    state: PathBuf,
    is_mounted: bool,
}

impl Disk {
    /// A disk for the daemon of `home`, which is started.
    fn of(home: &Home) -> Disk {
        let disk = Disk::of_size(home, "400k");
        let mut daemon = home.command(seqd_program());
        let fault = format!("quota:{}", disk.quota().display());
        daemon.args(["--detach", "--socket"]).arg(home.socket()).env("SEQD_FAULT", fault);
        assert!(home.finish(&mut daemon).status.success());
        drop(home.wire());
        home.warm();
        disk
    }

    /// A disk for the daemon of `home`, of this size where it can be mounted.
    fn of_size(home: &Home, size: &str) -> Disk {
        let state = home.state();
        fs::create_dir_all(&state).unwrap();
        let mount = |arguments: &[&str]| home.finish(home.command("mount").args(arguments)).status.success();
        let is_mounted = unshare(CloneFlags::CLONE_NEWNS).is_ok()
            && mount(&["--make-rprivate", "/"])
            && mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs", state.to_str().unwrap()]);
        rustix::fs::chmod(&state, rustix::fs::Mode::RWXU).unwrap();
        Disk { state, is_mounted }
    }

    fn quota(&self) -> PathBuf {
        self.state.join("quota")
    }

    /// From now on nothing can be written, and the daemon knows.
    fn fill(&self) {
        self.take_the_room();
        // The last block of its log may have room for a few more rows.
        let Some(mut wire) = Wire::connect(&self.state.join("seqd.sock")) else { return };
        let turn = json!({"op": "sequence", "domain": "filler"});
        while wire.ask(&turn).unwrap()["type"] == "active" {
            if wire.ask(&json!({"op": "done", "domain": "filler"})).unwrap()["type"] != "done" {
                break;
            }
        }
    }

    fn take_the_room(&self) {
        if self.is_mounted {
            let mut file = File::create(self.state.join("filler")).unwrap();
            while file.write_all(&[1; 1024]).is_ok() {}
            while file.write_all(&[1]).is_ok() {}
            return;
        }
        // No daemon can start.
        fs::rename(self.state.join("seqd.log"), self.state.join("log")).unwrap();
        fs::create_dir(self.state.join("seqd.log")).unwrap();
        File::create(self.quota()).unwrap();
    }

    /// There is room again.
    fn free(&self) {
        if self.is_mounted {
            fs::remove_file(self.state.join("filler")).unwrap();
            return;
        }
        fs::remove_file(self.quota()).unwrap();
        fs::remove_dir(self.state.join("seqd.log")).unwrap();
        fs::rename(self.state.join("log"), self.state.join("seqd.log")).unwrap();
    }

    /// What is said of a write that did not fit.
    fn words(&self) -> String {
        let (database, directory) = (self.state.join("seq.db"), &self.state);
        format!(
            "the disk is full: the database {} cannot be written: make room in {}",
            database.display(),
            directory.display()
        )
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            _ = std::process::Command::new("umount").arg("-l").arg(&self.state).status();
        }
    }
}

fn worker(home: &Home, name: &str, options: &[&str]) -> Running {
    let start = ["run", "-d", "a"];
    home.start(&[&start[..], options, &["--", "./worker", name]].concat())
}

#[track_caller]
fn await_words(home: &Home, running: &Running, words: &str) {
    home.await_fact(words, || running.stderr_so_far().contains(words).then_some(()));
}

fn history(home: &Home) -> Vec<Value> {
    let ended = home.seq(&["log", "-d", "a", "--json"]);
    ended.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How the commands ended, by the history.
fn statuses(home: &Home) -> Vec<i64> {
    history(home).iter().map(|turn| turn["exit_status"].as_i64().unwrap_or(-1)).collect()
}

/// The only line that somebody who waits for room has said.
fn waits(words: &str) -> String {
    format!("seq: a: {words}; waiting until that is done\n")
}

#[test]
fn on_a_full_disk_all_in_line_are_told_once_and_go_on_in_order_when_there_is_room() {
    let home = Home::new();
    let disk = Disk::of(&home);
    let words = disk.words();
    let gate = home.gate("gate");
    let holder = home.start(&["run", "-d", "a", "--", "sh", "-c", "./worker holder gate; exit 7"]);
    home.await_line("start holder");
    let old = home.queue("a", "old", 1);
    disk.fill();

    let new = worker(&home, "new", &[]);
    await_words(&home, &new, &words);
    await_words(&home, &old, &words);
    let quiet = worker(&home, "quiet", &["-q"]);
    let mut wire = Wire::connect(&home.socket()).unwrap();
    let stalled = json!({"type": "stalled", "message": words});
    assert_eq!(wire.ask(&json!({"op": "status", "domain": "a"})), Some(stalled.clone()), "any program is told");
    home.seq(&["status"]).complains(125, &words);
    home.seq(&["restart"]).complains(125, &words);
    let refused = format!("{words}: until then nobody can take over what is not written");
    let refused = json!({"type": "error", "code": "storage", "message": refused, "request_id": "r"});
    let mut operator = Wire::connect(&home.socket()).unwrap();
    assert_eq!(operator.ask(&json!({"op": "restart", "request_id": "r"})), Some(refused), "at once");
    worker(&home, "no", &["--no-wait"]).wait().says(125, "", &format!("seq: {words}\n"));
    let late = worker(&home, "late", &["--max-wait", "100ms"]).wait();
    assert_eq!(late.status.code(), Some(75));
    assert!(late.stderr().lines().last().unwrap().ends_with(&format!("ms: {words}")), "{}", late.stderr());
    let said = format!("seq: {words}; waiting until that is done\nseq: a is not idle after 100ms: {words}\n");
    home.seq(&["wait", "-d", "a", "-w", "100ms"]).says(75, "", &said);

    gate.open();
    holder.wait().is_silent(7);
    assert_eq!(home.log(), ["start holder", "end holder"], "nobody has a turn that is not on disk");
    disk.free();
    for (running, said) in [(old, waits(&words)), (new, waits(&words)), (quiet, String::new())] {
        running.wait().says(0, "", &said);
    }
    let order =
        ["holder", "old", "new", "quiet"].iter().flat_map(|name| [format!("start {name}"), format!("end {name}")]);
    assert_eq!(home.log(), order.collect::<Vec<_>>());
    assert_eq!(wire.receive().unwrap()["type"], "status", "the answer comes when there is room");
    let log = history(&home);
    assert_eq!(log.len(), 4, "{log:?}");
    assert_eq!((&log[0]["outcome"], &log[0]["exit_status"]), (&"done".into(), &7.into()), "the daemon has kept it");
}

#[test]
fn a_turn_counts_from_when_its_command_could_run_and_not_at_all_if_it_never_could() {
    let home = Home::new();
    let disk = Disk::of(&home);
    disk.fill();
    let given = worker(&home, "given", &[]);
    await_words(&home, &given, &disk.words());
    assert_eq!(worker(&home, "late", &["--max-wait", "300ms"]).wait().status.code(), Some(75));
    given.signal(Signal::TERM);
    assert_eq!(given.wait().status.signal(), Some(15));
    assert_eq!(worker(&home, "never", &["--max-wait", "300ms"]).wait().status.code(), Some(75));
    let last = worker(&home, "last", &[]);
    await_words(&home, &last, &disk.words());
    assert_eq!(worker(&home, "behind", &["--max-wait", "300ms"]).wait().status.code(), Some(75));
    let freed = Instant::now();
    disk.free();
    last.wait().says(0, "", &waits(&disk.words()));
    let ran = freed.elapsed().as_millis();
    let log = history(&home);
    assert_eq!(log.len(), 1, "only one command has run: {log:?}");
    assert!(log[0]["wait_ms"].as_u64() >= Some(300), "{log:?}");
    assert!(log[0]["run_ms"].as_u64().map(u128::from) <= Some(ran), "in {ran} ms: {log:?}");
}

#[test]
fn a_daemon_that_is_killed_on_a_full_disk_is_waited_for_and_no_turn_overlaps() {
    let home = Home::new();
    let disk = Disk::of(&home);
    let gate = home.gate("gate");
    let holder = home.start(&["run", "-d", "a", "--", "sh", "-c", "./worker holder gate; exit 7"]);
    home.await_line("start holder");
    let waiter = home.queue("a", "waiter", 1);
    let second = home.queue("a", "second", 2);
    disk.fill();
    assert!(home.daemon().signal(Signal::KILL));
    for waiter in [&waiter, &second] {
        await_words(&home, waiter, "; waiting until that is done\n");
    }
    // Who comes now has no place to keep.
    let newcomer = worker(&home, "newcomer", &[]).wait();
    newcomer.complains(125, "seq: cannot start the daemon: ");
    newcomer.complains(125, &disk.state.display().to_string());
    assert_eq!(home.log(), ["start holder"]);
    gate.open();
    holder.wait().is_silent(7);
    disk.free();
    for waiter in [waiter, second] {
        let ended = waiter.wait();
        ended.complains(0, &format!("{}", disk.state.display()));
    }
    let order = ["holder", "waiter", "second"].iter().flat_map(|name| [format!("start {name}"), format!("end {name}")]);
    assert_eq!(home.log(), order.collect::<Vec<_>>());
    assert_eq!(statuses(&home), [7, 0, 0]);
}

/// It has no place yet, but was told that it waits.
#[test]
fn who_was_told_to_wait_for_room_goes_on_waiting_when_the_daemon_is_killed() {
    let home = Home::new();
    let disk = Disk::of(&home);
    disk.fill();
    let waiter = worker(&home, "waiter", &[]);
    let late = worker(&home, "late", &["-w", "3s"]);
    for waiter in [&waiter, &late] {
        await_words(
            &home,
            waiter,
            "; waiting until that is done
",
        );
    }
    home.kill_daemon();
    let late = late.wait();
    assert_eq!(late.status.code(), Some(75), "{}", late.stderr());
    let words = "cannot start the daemon: ";
    assert!(late.stderr().lines().last().unwrap().contains(words), "{}", late.stderr());
    disk.free();
    waiter.wait().complains(0, "; waiting until that is done");
    assert_eq!(home.log(), ["start waiter", "end waiter"]);
}

#[test]
fn how_commands_ended_on_a_full_disk_is_known_also_when_the_daemon_is_killed_there() {
    let home = Home::new();
    let disk = Disk::of(&home);
    let gate = home.gate("gate");
    let names: Vec<String> = (0..10).map(|index| format!("holder{index}")).collect();
    let holders: Vec<Running> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let script = format!("./worker {name} gate; exit 1{index}");
            home.start(&["run", "-d", name, "--", "sh", "-c", &script])
        })
        .collect();
    for name in &names {
        home.await_line(&format!("start {name}"));
    }
    disk.fill();
    gate.open();
    for (index, holder) in (10..).zip(holders) {
        holder.wait().is_silent(index);
    }
    assert!(home.daemon().signal(Signal::KILL));
    disk.free();
    for (index, name) in (10..).zip(&names) {
        let turns = home.seq(&["log", "-d", name, "--json"]);
        let turn: Value = serde_json::from_str(turns.stdout().trim()).unwrap();
        assert_eq!((&turn["outcome"], &turn["exit_status"]), (&"done".into(), &index.into()), "{name}");
    }
}

#[test]
fn a_script_that_gives_its_turn_back_on_a_full_disk_goes_on_and_the_turn_is_passed_on_when_there_is_room() {
    let home = Home::new();
    let disk = Disk::of(&home);
    let (gate, end) = (home.gate("gate"), home.gate("end"));
    let script = "set -e; $SEQ sequence -d a --request-id x; echo begun >>log; read -r line <gate; \
                  $SEQ done -d a --request-id x; echo went on >>log; read -r line <end";
    let shell = home.launch(home.command("sh").args(["-c", script]));
    home.await_line("begun");
    let ticket = home.await_holder("a", "process")["ticket"].as_u64().unwrap();
    let waiter = home.queue("a", "waiter", 1);
    disk.fill();
    let unheard = worker(&home, "unheard", &[]);
    await_words(&home, &unheard, &disk.words());
    // One that is not the caller's is not given back, and that is no success.
    home.seq(&["done", "-d", "a", "--request-id", "x"]).says(125, "", &format!("seq: {}\n", disk.words()));
    gate.open();
    home.await_line("went on");
    let words = format!("seq: {}; the turn has ended, and is passed on once that is done\n", disk.words());
    assert_eq!(shell.stderr_so_far(), words);
    // Once more is fine, as always.
    home.seq(&["done", "--ticket", &ticket.to_string()]).says(0, "", &words);
    disk.free();
    for running in [waiter, unheard] {
        assert_eq!(running.wait().status.code(), Some(0));
    }
    end.open();
    assert_eq!(shell.wait().status.code(), Some(0));
    let began = ["begun", "went on", "start waiter", "end waiter"];
    assert_eq!(home.log(), [&began[..], &["start unheard", "end unheard"]].concat());
}

#[test]
fn a_stopped_daemon_on_a_full_disk_leaves_and_the_next_one_keeps_what_was_told() {
    let home = Home::new();
    let disk = Disk::of(&home);
    let gate = home.gate("gate");
    let holder = home.hold("a", "holder", "gate");
    let waiter = home.queue("a", "waiter", 1);
    let other_gate = home.gate("other");
    // The history's row of it has no room.
    let long = "x".repeat(2_000);
    let other = home.start(&["run", "-d", "b", "--", "./worker", "other", "other", &long]);
    home.await_line("start other");
    disk.fill();
    let unheard = worker(&home, "unheard", &[]);
    await_words(&home, &unheard, &disk.words());
    other_gate.open();
    other.wait().is_silent(0);
    home.seq(&["stop"]).says(0, "", "");
    disk.free();
    // It was told of no place, but has said that it waits, as the other one has.
    home.await_status("a", "the holder and both waiters", |line| {
        line["holders"].as_array().is_some_and(|holders| holders.len() == 1) && line["waiting"] == 2
    });
    gate.open();
    for running in [holder, waiter, unheard] {
        assert_eq!(running.wait().status.code(), Some(0));
    }
    let began = ["start holder", "start other", "end other", "end holder"];
    assert_eq!(home.log(), [&began[..], &["start waiter", "end waiter", "start unheard", "end unheard"]].concat());
}

#[test]
fn where_the_daemon_cannot_write_at_all_a_run_ends_at_once_with_the_name_and_the_way_out() {
    let home = Home::new();
    let disk = Disk::of(&home);
    home.seq(&["stop"]);
    home.await_fact("the daemon is gone", || home.daemons().is_empty().then_some(()));
    let run = |after: &str| {
        let ended = worker(&home, "nobody", &[]).wait();
        ended.complains(125, "seq: cannot start the daemon: ");
        ended.complains(125, &format!("{}/", disk.state.display()));
        ended.complains(125, &format!("{after} {}", disk.state.display()));
        assert!(ended.took.as_secs() < 5, "at once");
        // It has said why before it is gone, and its files are open still.
        home.await_fact("the daemon is gone", || home.daemons().is_empty().then_some(()));
    };
    disk.fill();
    run(if disk.is_mounted { "make room in" } else { "make" });
    disk.free();
    if disk.is_mounted {
        let remount = |options: &str| {
            let mut mount = home.command("mount");
            assert!(home.finish(mount.args(["-o", options]).arg(&disk.state)).status.success());
        };
        remount("remount,ro");
        run("make");
        remount("remount,rw");
    } else {
        in_the_way(&disk.state.join("numbers"), || run("make"));
    }
    assert_eq!(home.log(), [""; 0]);
    worker(&home, "somebody", &[]).wait().is_silent(0);
}

/// While a directory has the name of this file.
fn in_the_way(path: &Path, work: impl FnOnce()) {
    let kept = path.with_extension("kept");
    fs::rename(path, &kept).unwrap();
    fs::create_dir(path).unwrap();
    work();
    fs::remove_dir(path).unwrap();
    fs::rename(kept, path).unwrap();
}

#[test]
fn the_log_of_the_database_never_fills_a_small_disk() {
    let home = Home::new();
    let disk = Disk::of_size(&home, "1m");
    if !disk.is_mounted {
        return; // What happens on a large disk does not show it.
    }
    let room = || rustix::fs::statvfs(&disk.state).map(|found| found.f_bavail * found.f_frsize).unwrap();
    for round in 0..3 {
        let mut daemon = home.command(seqd_program());
        // Each commit goes into the log: it would take 5 MB.
        daemon.args(["--detach", "--socket"]).arg(home.socket()).env("SEQD_FAULT", "kill:1000000000@1");
        assert!(home.finish(&mut daemon).status.success());
        let mut wire = Wire::connect(&home.socket()).unwrap();
        for turn in 0..100 {
            let given = wire.ask(&json!({"op": "sequence", "domain": "a"})).unwrap_or_default();
            let log = || fs::read_to_string(disk.state.join("seqd.log")).unwrap();
            assert_eq!(given["type"], "active", "round {round}, turn {turn}, {} bytes: {given}\n{}", room(), log());
            assert_eq!(wire.ask(&json!({"op": "done", "domain": "a"})).unwrap()["type"], "done");
        }
        home.kill_daemon();
    }
    let log = fs::metadata(disk.state.join("seq.db-wal")).unwrap().len();
    assert!(log <= room(), "{log} bytes of the log, {} bytes of room", room());
}
