//! A real job: many processes that read a number, and write it back plus one.

use crate::support::Home;

/// Adds one to the number in `$HOME/counter`, and starts a process between reading and writing, as real scripts do.
const INCREMENT: &str = "#!/bin/sh\nread -r number <counter\n/bin/true\necho $((number + 1)) >counter\n";

/// So many processes at once add one so many times each, by `command`; gives what is in the file then.
fn count(home: &Home, processes: usize, rounds: usize, command: &str) -> usize {
    home.script("increment", INCREMENT);
    std::fs::write(home.file("counter"), "0\n").expect("a file");
    let script = format!("for round in $(seq {rounds}); do {command} || exit; done");
    let all: Vec<_> = (0..processes).map(|_| home.launch(home.command("sh").args(["-c", &script]))).collect();
    for one in all {
        one.wait().is_silent(0);
    }
    home.read("counter").trim().parse().expect("a number")
}

#[test]
fn no_update_is_lost_under_seq() {
    let home = Home::new();
    assert_eq!(count(&home, 32, 20, r#""$SEQ" run -d counter -- ./increment"#), 32 * 20);
}

#[test]
fn no_update_is_lost_between_seq_sequence_and_seq_done() {
    let home = Home::new();
    let command = r#"{ "$SEQ" sequence -d counter && ./increment && "$SEQ" done -d counter; }"#;
    assert_eq!(count(&home, 8, 20, command), 8 * 20);
}

#[test]
fn control_without_seq_updates_are_lost() {
    let home = Home::new();
    let found = count(&home, 32, 20, "./increment 2>/dev/null");
    assert!(found < 32 * 20, "this machine does not show what seq is for: {found}");
}
