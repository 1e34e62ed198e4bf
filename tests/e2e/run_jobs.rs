//! In an interactive shell: Ctrl-Z, jobs in the background, and shells that are jobs themselves.

use crate::support::{Home, Terminal};

/// An interactive shell of job control, with a prompt that is easy to find.
fn shell(home: &Home) -> Terminal<'_> {
    let mut bash = home.command("bash");
    bash.args(["--norc", "--noprofile", "-i"]).env("PS1", "P[\\j]> ").env("BASH_SILENCE_DEPRECATION_WARNING", "1");
    let mut terminal = Terminal::start(home, &bash, 100);
    terminal.await_text("P[0]> ");
    terminal
}

#[test]
fn ctrl_z_stops_the_job_and_fg_goes_on_with_it() {
    let home = Home::new();
    let mut terminal = shell(&home);
    terminal.types("\"$SEQ\" run -d foo.com -- sh -c 'echo $$ >cat; exec cat'\n");
    let cat = home.await_process("cat");
    home.await_holder("foo.com", "attached");
    terminal.types("one\n");
    terminal.await_text("one\r\none");
    for word in ["two", "three"] {
        terminal.types("\x1a");
        terminal.await_text("Stopped");
        terminal.await_text("P[1]> ");
        // The shell waits for seq alone. Until `cat` has stopped too it may take what is typed next.
        home.await_fact("a stopped cat", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", cat.pid)).ok()?;
            stat.rsplit(") ").next()?.starts_with('T').then_some(())
        });
        // A stopped job keeps its turn.
        home.seq(&["run", "-n", "-q", "-d", "foo.com", "--", "true"]).is_silent(75);
        terminal.types("fg\n");
        terminal.await_text("exec cat'");
        terminal.types(&format!("{word}\n"));
        terminal.await_text(&format!("{word}\r\n{word}"));
    }
    terminal.types("\x04");
    terminal.await_text("P[0]> ");
    terminal.types("echo \"status $?\"\n");
    terminal.await_text("status 0\r\n");
    terminal.types("exit\n");
    assert_eq!(terminal.wait().status.code(), Some(0));
}

#[test]
fn ctrl_z_while_waiting_keeps_the_place_in_line() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let mut terminal = shell(&home);
    terminal.types("\"$SEQ\" run -d foo.com -- echo mine\n");
    home.await_waiters("foo.com", 1);
    terminal.types("\x1a");
    terminal.await_text("Stopped");
    terminal.await_text("P[1]> ");
    home.await_waiters("foo.com", 1);
    gate.open();
    holder.wait().is_silent(0);
    terminal.types("fg\n");
    terminal.await_text("mine\r\n");
    terminal.await_text("P[0]> ");
    terminal.types("exit\n");
    assert_eq!(terminal.wait().status.code(), Some(0));
}

#[test]
fn a_job_in_the_background_runs_and_says_nothing_of_its_own() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let mut terminal = shell(&home);
    terminal.types("stty tostop\n");
    terminal.await_text("P[0]> ");
    terminal.types("\"$SEQ\" run -d foo.com -- touch ran &\n");
    home.await_waiters("foo.com", 1);
    gate.open();
    holder.wait().is_silent(0);
    // Writing to the terminal from the background would stop it there, for ever.
    home.await_fact("the command's run", || home.file("ran").exists().then_some(()));
    home.await_idle("foo.com");
    terminal.types("wait; exit\n");
    terminal.wait();
}

#[test]
fn a_shell_with_jobs_of_its_own_runs_under_seq() {
    let home = Home::new();
    let mut outer = shell(&home);
    // What is waited for is not yet there when the terminal echoes what was typed.
    outer.types("PS1='in''ner> ' \"$SEQ\" run -d foo.com -- bash --norc --noprofile -i\n");
    outer.await_text("inner> ");
    outer.types("echo on''e; cat\n");
    outer.await_text("one\r\n");
    // Once what is typed comes twice it is `cat` that has the terminal.
    outer.types("cat\n");
    outer.await_text("cat\r\ncat\r\n");
    // Ends the job of the inner shell, and neither that shell nor seq.
    outer.types("\x03");
    outer.await_text("inner> ");
    outer.types("echo tw''o; cat\n");
    outer.await_text("two\r\n");
    outer.types("cat\n");
    outer.await_text("cat\r\ncat\r\n");
    outer.types("\x1a");
    outer.await_text("Stopped");
    outer.await_text("inner> ");
    home.await_holder("foo.com", "attached");
    // The first time a shell warns of its stopped jobs.
    outer.types("exit 5\n");
    outer.await_text("There are stopped jobs.");
    outer.await_text("inner> ");
    outer.types("exit 5\n");
    outer.await_text("P[0]> ");
    outer.types("echo \"status $?\"\n");
    outer.await_text("status 5\r\n");
    outer.types("exit\n");
    assert_eq!(outer.wait().status.code(), Some(0));
}

#[test]
fn a_shell_that_suspends_itself_gives_the_outer_shell_its_prompt() {
    let home = Home::new();
    let mut outer = shell(&home);
    outer.types("PS1='in''ner> ' \"$SEQ\" run -d foo.com -- bash --norc --noprofile -i\n");
    outer.await_text("inner> ");
    for word in ["one", "two"] {
        outer.types("suspend\n");
        outer.await_text("Stopped");
        outer.await_text("P[1]> ");
        home.await_holder("foo.com", "attached");
        outer.types("fg\n");
        outer.await_text("inner> ");
        // What is waited for is not yet there when the terminal echoes what was typed.
        outer.types(&format!("echo ag''ain {word}\n"));
        outer.await_text(&format!("again {word}\r\n"));
        outer.await_text("inner> ");
    }
    outer.types("exit 5\n");
    outer.await_text("P[0]> ");
    outer.types("echo \"status $?\"\n");
    outer.await_text("status 5\r\n");
    outer.types("exit\n");
    assert_eq!(outer.wait().status.code(), Some(0));
}

#[test]
fn max_run_at_a_terminal_stops_the_command_and_nothing_beside_it() {
    let home = Home::new();
    let _gate = home.gate("gate");
    let mut terminal = shell(&home);
    let command = "sh -c 'echo $$ >command; cat gate & echo $! >child; wait'";
    terminal.types(&format!("\"$SEQ\" run -d foo.com --max-run 1s -- {command} | cat; echo \"${{PIPESTATUS[*]}}\"\n"));
    let stopped = [home.await_process("command"), home.await_process("child")];
    terminal.await_text("seq: the command ran longer than 1s: stopping it");
    // `cat` shares the job, and ends by itself.
    terminal.await_text("124 0\r\n");
    assert!(stopped.iter().all(|process| !process.is_alive()));
    terminal.types("exit\n");
    assert_eq!(terminal.wait().status.code(), Some(0));
}
