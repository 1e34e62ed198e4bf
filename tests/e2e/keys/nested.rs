//! Keys of commands that run `seq run` themselves.

use crate::support::Home;

#[test]
fn a_command_with_a_key_can_run_others_with_keys() {
    let home = Home::new();
    let script = "\"$SEQ\" run -d foo.com --key inner -- echo inner; \"$SEQ\" run -d bar.org --key k -- echo other; \
                  \"$SEQ\" run -d foo.com -- echo plain";
    let run = || home.once("k", &["-q"], &["sh", "-c", script]).wait();
    run().says(0, "inner\nother\nplain\n", "");
    run().is_silent(0);
    assert_eq!(home.key("inner")["state"], "completed");
}

#[test]
fn an_inner_command_is_done_though_the_outer_fails() {
    let home = Home::new();
    let script = "\"$SEQ\" run -q -d foo.com --key inner -- echo inner; exit 1";
    home.once("k", &[], &["sh", "-c", script]).wait().says(1, "inner\n", "");
    home.once("k", &[], &["sh", "-c", script]).wait().is_silent(1);
}

#[test]
fn a_command_that_waits_for_its_own_key_is_refused() {
    let home = Home::new();
    let script = "\"$SEQ\" run -d foo.com --key k --fingerprint same -- echo inner";
    let ended = home.once("k", &["--fingerprint", "same"], &["sh", "-c", script]).wait();
    ended.complains(125, "seq: a deadlock: ticket 1 (pid ");
    ended.complains(125, ") has key k and would wait for key k: leave out the key, or run it outside of that turn\n");
    // Also further in, and in another domain.
    let inner = "exec \"$SEQ\" run -d foo.com --key l --fingerprint same -- echo inner";
    let script = format!("exec \"$SEQ\" run -d bar.org -- sh -c '{inner}'");
    let ended = home.once("l", &["--fingerprint", "same"], &["sh", "-c", &script]).wait();
    ended.complains(125, ") has key l and would wait for key l: leave out the key, or run it outside of that turn\n");
    // Unless it would not wait.
    let script = "\"$SEQ\" run -n -d foo.com --key m --fingerprint same -- echo inner";
    let ended = home.once("m", &["--fingerprint", "same"], &["sh", "-c", script]).wait();
    ended.complains(75, "has key m and has not ended");
}
