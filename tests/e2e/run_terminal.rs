//! At a terminal: the waiting line, Ctrl-C, and what the command has of it.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::support::{Home, Terminal};
use rustix::process::Signal;

fn run(home: &Home, arguments: &[&str]) -> Command {
    home.seq_command(&[&["run", "-d", "foo.com"], arguments].concat())
}

#[test]
fn a_live_line_shows_who_holds_and_nothing_of_it_stays() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let mut terminal = Terminal::start(&home, &run(&home, &["--", "echo", "mine"]), 100);
    terminal.await_text("seq: ");
    terminal.await_text("foo.com");
    terminal.await_text("./worker holder gate");
    gate.open();
    holder.wait().is_silent(0);
    assert_eq!(terminal.wait().status.code(), Some(0));
    assert!(terminal.shown.ends_with("mine\r\n"), "{:?}", terminal.shown);
    // One line that is written anew: no line of it is left above.
    assert_eq!(terminal.shown.matches('\n').count(), 1, "{:?}", terminal.shown);
}

#[test]
fn a_live_line_fits_a_narrow_terminal() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a-holder-with-a-very-long-name-indeed", "gate");
    let mut terminal = Terminal::start(&home, &run(&home, &["--", "true"]), 30);
    terminal.await_text("seq: ");
    gate.open();
    holder.wait().is_silent(0);
    assert_eq!(terminal.wait().status.code(), Some(0));
    let longest = terminal.shown.split(['\r', '\n']).map(|line| visible(line).chars().count()).max();
    assert!(longest <= Some(30), "{longest:?}: {:?}", terminal.shown);
}

#[test]
fn a_live_line_in_eighty_columns_says_how_long_is_left() {
    let home = Home::new();
    home.seq(&["run", "-d", "foo.com", "--", "true"]).is_silent(0);
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a-holder-with-a-very-long-name-indeed", "gate");
    let mut terminal = Terminal::start(&home, &run(&home, &["--", "true"]), 80);
    terminal.await_text("1st in line, 1 ahead; pid ");
    terminal.await_text(" runs for ");
    terminal.await_text(", longer than usual");
    gate.open();
    holder.wait().is_silent(0);
    assert_eq!(terminal.wait().status.code(), Some(0));
}

#[test]
fn a_terminal_that_a_killed_command_left_in_disorder_is_set_back() {
    let home = Home::new();
    let program = home.seq_command::<&str>(&[]);
    let program = program.get_program().to_str().unwrap();
    // A shell with jobs has the terminal for a group of its own.
    let cases = [("sh", "kill -9 $$", true), ("sh", "exit 1", false), ("bash --norc -i", "kill -9 $$", true)];
    for (command, end, is_set_back) in cases {
        let mut shell = home.command("sh");
        let script =
            format!("trap '' TTOU; $0 run -d foo.com -- {command} -c \"stty raw -echo; $1\"; stty -a; echo end");
        shell.args(["-c", &script, program, end]);
        let mut terminal = Terminal::start(&home, &shell, 80);
        terminal.await_text("end");
        assert_eq!(terminal.wait().status.code(), Some(0));
        assert_eq!(terminal.shown.contains(" icanon"), is_set_back, "{end}: {:?}", terminal.shown);
        assert_eq!(terminal.shown.contains(" echo "), is_set_back, "{end}: {:?}", terminal.shown);
    }
}

#[test]
fn who_waits_at_a_terminal_is_told_when_the_daemon_does_not_answer_any_more() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let mut terminal = Terminal::start(&home, &run(&home, &["--", "echo", "mine"]), 100);
    terminal.await_text("./worker holder gate");
    let daemon = home.daemon();
    daemon.signal(Signal::STOP);
    terminal
        .await_text(&format!("is stopped and did not answer for 5 s: let it go on with 'kill -CONT {}'", daemon.pid));
    daemon.signal(Signal::CONT);
    gate.open();
    holder.wait().is_silent(0);
    assert_eq!(terminal.wait().status.code(), Some(0));
    assert!(terminal.shown.ends_with("mine\r\n"), "{:?}", terminal.shown);
    assert_eq!(terminal.shown.matches("did not answer").count(), 1, "{:?}", terminal.shown);
}

#[test]
fn under_ci_a_terminal_gets_no_live_line() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let mut command = run(&home, &["--", "true"]);
    command.env("CI", "true");
    let mut terminal = Terminal::start(&home, &command, 80);
    terminal.await_text("1st in line, 1 ahead; pid ");
    terminal.await_text("\n");
    gate.open();
    holder.wait().is_silent(0);
    assert_eq!(terminal.wait().status.code(), Some(0));
    assert!(!terminal.shown.contains('\x1b'), "{:?}", terminal.shown);
    assert_eq!(terminal.shown.matches('\n').count(), 1, "{:?}", terminal.shown);
}

#[test]
fn a_narrow_status_squeezes_the_command() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "a-holder-with-a-very-long-name-indeed", "gate");
    let mut terminal = Terminal::start(&home, &home.seq_command(&["status"]), 60);
    terminal.await_text("COMMAND");
    terminal.await_text("./worker");
    assert_eq!(terminal.wait().status.code(), Some(0));
    gate.open();
    holder.wait().is_silent(0);
}

/// A line without its control sequences.
fn visible(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |shown, part| {
        shown + part.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).get(1..).unwrap_or("")
    })
}

#[test]
fn ctrl_c_while_waiting_leaves_and_dies_of_it() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let mut terminal = Terminal::start(&home, &run(&home, &["--", "touch", "ran"]), 100);
    home.await_waiters("foo.com", 1);
    terminal.types("\x03");
    assert_eq!(terminal.wait().status.signal(), Some(2));
    home.await_waiters("foo.com", 0);
    gate.open();
    holder.wait().is_silent(0);
    assert!(!home.file("ran").exists());
}

/// A command that counts its interrupts until a gate lets it go.
const COUNTER: &str = "\
import os, signal, sys
count = 0
def interrupted(number, frame):
    global count
    count += 1
    os.write(1, f'interrupt {count}\\n'.encode())
signal.signal(signal.SIGINT, interrupted)
os.write(1, b'ready\\n')
os.read(os.open('gate', os.O_RDONLY), 1)
sys.exit(40 + count)
";

#[test]
fn ctrl_c_while_running_reaches_the_command_once_and_its_status_counts() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.script("counter.py", COUNTER);
    let mut terminal = Terminal::start(&home, &run(&home, &["--", "python3", "counter.py"]), 100);
    terminal.await_text("ready");
    for count in 1..=3 {
        terminal.types("\x03");
        terminal.await_text(&format!("interrupt {count}"));
    }
    home.await_holder("foo.com", "attached");
    gate.open();
    assert_eq!(terminal.wait().status.code(), Some(43));
    home.await_idle("foo.com");
}

#[test]
fn a_signal_from_elsewhere_reaches_a_command_at_a_terminal_once() {
    let home = Home::new();
    let gate = home.gate("gate");
    home.script("counter.py", COUNTER);
    let mut terminal = Terminal::start(&home, &run(&home, &["--", "python3", "counter.py"]), 100);
    terminal.await_text("ready");
    crate::support::signal(terminal.pid(), Signal::INT);
    terminal.await_text("interrupt 1");
    gate.open();
    assert_eq!(terminal.wait().status.code(), Some(41));
}

#[test]
fn ctrl_c_that_ends_the_command_ends_seq_too() {
    let home = Home::new();
    let mut terminal = Terminal::start(&home, &run(&home, &["--", "sh", "-c", "echo ready; exec cat"]), 100);
    terminal.await_text("ready");
    // Once it echoes it is cat that runs.
    terminal.types("hello\n");
    terminal.await_text("hello\r\nhello");
    terminal.types("\x03");
    assert_eq!(terminal.wait().status.signal(), Some(2));
    home.await_idle("foo.com");
}

/// A script with `seq` in it, at a terminal, that Ctrl-C ends once `cat` runs, or once somebody waits in foo.com.
fn is_broken_off(home: &Home, script: &str, runs_cat: bool) {
    let script = format!("{script}; echo \"it goes on after $?\"");
    let mut terminal = Terminal::start(home, home.command("bash").args(["-c", &script]), 100);
    if runs_cat {
        terminal.await_text("ready");
        // Once what is typed comes twice it is `cat` that runs.
        terminal.types("hello\n");
        terminal.await_text("hello\r\nhello");
    } else {
        home.await_waiters("foo.com", 1);
    }
    terminal.types("\x03");
    let ended = terminal.wait();
    assert_eq!(ended.status.signal(), Some(2), "{}", terminal.shown);
    assert!(!terminal.shown.contains("it goes on"), "{}", terminal.shown);
}

#[test]
fn ctrl_c_ends_the_script_that_seq_is_in() {
    let home = Home::new();
    is_broken_off(&home, r#""$SEQ" run -d foo.com -- sh -c 'echo ready; exec cat'"#, true);
    // A shell that waits for its own child dies as that does.
    is_broken_off(&home, r#""$SEQ" run -d foo.com -- sh -c 'echo ready; cat; exit 7'"#, true);
    home.await_idle("foo.com");
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    is_broken_off(&home, r#""$SEQ" run -d foo.com -- touch ran"#, false);
    is_broken_off(&home, r#""$SEQ" sequence -d foo.com"#, false);
    home.await_waiters("foo.com", 0);
    gate.open();
    holder.wait().is_silent(0);
    assert!(!home.file("ran").exists());
}

#[test]
fn a_script_goes_on_when_the_command_alone_was_signalled() {
    let home = Home::new();
    for (signal, status) in [("INT", 130), ("TERM", 143), ("KILL", 137)] {
        let script = format!(r#""$SEQ" run -d foo.com -- sh -c 'kill -{signal} $$'; echo "status $?""#);
        home.finish(home.command("bash").args(["-c", &script])).says(0, &format!("status {status}\n"), "");
    }
}

#[test]
fn the_command_has_the_terminal() {
    let home = Home::new();
    let script = "test -t 0 && test -t 1 && test -t 2 && stty size && read -r line </dev/tty && echo \"got $line\"";
    let mut terminal = Terminal::start(&home, &run(&home, &["--", "sh", "-c", script]), 77);
    terminal.await_text("24 77");
    terminal.types("typed\n");
    terminal.await_text("got typed");
    assert_eq!(terminal.wait().status.code(), Some(0));
}

#[test]
fn a_terminal_that_hangs_up_tells_the_command() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let script = "trap 'echo hup >>log; exit 3' HUP; read -r line <gate & echo rea''dy; wait";
    // seq leads the session: the kernel tells it alone.
    let mut terminal = Terminal::start(&home, &run(&home, &["--", "sh", "-c", script]), 100);
    terminal.await_text("ready");
    assert_eq!(terminal.hang_up().wait().status.code(), Some(3));
    assert_eq!(home.log(), ["hup"]);
    home.await_idle("foo.com");
}

#[test]
fn a_program_that_sets_the_terminal_raw_gets_every_key() {
    let home = Home::new();
    home.script(
        "keys.py",
        "import os, sys, termios, tty\n\
         before = termios.tcgetattr(0)\n\
         tty.setraw(0)\n\
         os.write(1, b'ready\\r\\n')\n\
         keys = b''\n\
         while not keys.endswith(b'q'): keys += os.read(0, 1)\n\
         termios.tcsetattr(0, termios.TCSADRAIN, before)\n\
         print('keys', list(keys))\n",
    );
    let mut terminal = Terminal::start(&home, &run(&home, &["--", "python3", "keys.py"]), 100);
    terminal.await_text("ready");
    terminal.types("\x03\x1a\x1c\x04q");
    terminal.await_text("keys [3, 26, 28, 4, 113]");
    assert_eq!(terminal.wait().status.code(), Some(0));
}
