//! Which daemon a user comes to: one for each user or one for all, and never a second one beside it.
//!
//! Only root can play another user; for anybody else there is nothing to see in those tests.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Home, seq_program, seqd_program};

/// A user that is not in `/etc/passwd`.
const NOBODY_KNOWN: u32 = 40_001;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program in a place that every user can reach.
fn reachable(home: &Home, program: &Path) -> PathBuf {
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).expect("a home of ours");
    home.install(program, program.file_name().expect("a name"))
}

/// An empty home directory of another user.
fn foreign_home(home: &Home) -> PathBuf {
    let foreign = home.file("foreign");
    fs::create_dir(&foreign).expect("a directory");
    chown(&foreign, Some(NOBODY_KNOWN), Some(NOBODY_KNOWN)).expect("root may");
    foreign
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).expect("a directory").next().is_none()
}

#[test]
fn a_user_without_a_home_is_told_so() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let program = reachable(&home, &seq_program());
    let user = format!("--reuid={NOBODY_KNOWN}");
    for set_home in ["unset HOME", "export HOME="] {
        let script = format!("{set_home}; exec setpriv {user} --regid={NOBODY_KNOWN} --clear-groups \"$@\"");
        let mut command = home.command("sh");
        command.args(["-c", &script, "sh"]).arg(&program).args(["run", "-d", "foo.com", "--", "true"]);
        home.finish(&mut command).says(
            125,
            "",
            "seq: there is no home directory to keep the socket in: set HOME, or name a socket with --socket\n",
        );
    }
}

#[test]
fn a_home_that_depends_on_the_directory_is_refused() {
    let home = Home::new();
    let words = "seq: HOME is a relative path, here: set it to the whole path of your home directory, or name a socket \
                 with --socket\n";
    let mut command = home.seq_command(&["run", "-d", "foo.com", "--", "true"]);
    home.finish(command.env("HOME", "here")).says(125, "", words);
    assert!(!home.file("here").exists());
    let mut command = home.seq_command(&["--socket", "here/seqd.sock", "run", "-d", "foo.com", "--", "echo", "hello"]);
    home.finish(command.env("HOME", "here")).says(0, "hello\n", "");
}

#[test]
fn somebody_elses_home_is_left_alone() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let foreign = foreign_home(&home);
    let run = |options: &[&str]| {
        let arguments = [&["run", "-d", "foo.com"], options, &["--", "true"]].concat();
        home.finish(home.seq_command(&arguments).env("HOME", &foreign))
    };
    let refusal = format!(
        "seq: the home directory {} belongs to user {NOBODY_KNOWN}, not to you (user 0): \
         set HOME to yours (sudo -H does), or name a socket with --socket\n",
        foreign.display()
    );
    run(&[]).says(125, "", &refusal);
    run(&["--socket", home.socket().to_str().expect("a plain path")]).is_silent(0);
    assert!(is_empty(&foreign));
}

#[test]
fn xdg_state_home_makes_no_second_daemon() {
    let home = Home::new();
    let gate = home.gate("gate");
    let holder = home.hold("foo.com", "holder", "gate");
    let elsewhere = home.file("elsewhere");
    let arguments = ["run", "-n", "-q", "-d", "foo.com", "--", "true"];
    home.finish(home.seq_command(&arguments).env("XDG_STATE_HOME", &elsewhere)).is_silent(75);
    assert!(!elsewhere.exists());
    gate.open();
    holder.wait().is_silent(0);
    assert_eq!(home.daemons().len(), 1);
}

/// Runs a script of sh in a container of its own; none where no container can be made, so that there is nothing to see.
fn container(home: &Home) -> Option<Command> {
    let container = || {
        let mut command = home.command("unshare");
        command.args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c"]);
        command
    };
    let can_be_made = is_root() && home.finish(container().arg("mount -t tmpfs tmpfs /run")).status.success();
    can_be_made.then(container)
}

/// In a container of its own, which all ends with: a daemon for the whole system, and a stranger to its group.
const STRANGER: &str = r#"
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib || exit 77
"$SEQD" --system --group 54321 --detach >ready || exit
HOME=$FOREIGN setpriv --reuid=40001 --regid=40001 --clear-groups "$1" run -d foo.com -- true
echo "status $?"
HOME=$FOREIGN setpriv --reuid=40001 --regid=40001 --groups=54321 "$1" run -d foo.com -- echo member
"#;

#[test]
fn who_may_not_use_the_daemon_of_all_gets_none_of_its_own() {
    let home = Home::new();
    let Some(mut command) = container(&home) else { return };
    let foreign = foreign_home(&home);
    let program = reachable(&home, &seq_program());
    command.args([STRANGER, "sh"]).arg(program).env("SEQD", seqd_program()).env("FOREIGN", &foreign);
    home.finish(&mut command).says(
        0,
        "status 125\nmember\n",
        "seq: no permission to use /run/seqd/seqd.sock: ask its owner for access, \
         or name a socket of yours with --socket\n",
    );
    assert!(is_empty(&foreign));
}

/// In a container of its own: what `/run` held is gone, as after a restart of the machine.
const RUN_EMPTIED: &str = r#"
mount -t tmpfs tmpfs /var/lib || exit 77
for time in before after; do
    mount -t tmpfs tmpfs /run || exit 77
    "$SEQD" --system --detach >/dev/null || exit
    [ $time = after ] || "$SEQ" policy set foo.com --max-queue 7 || exit
    "$SEQ" run -d foo.com -- sh -c 'echo "token $SEQ_TOKEN"'
    "$SEQ" policy show foo.com | grep -o 'max-queue *7'
    "$SEQ" log -d foo.com --json | grep -c '"ticket"'
    "$SEQ" stop
    umount /run
done
"#;

#[test]
fn the_daemon_of_all_keeps_its_policies_history_and_numbers_when_run_is_emptied() {
    let home = Home::new();
    let Some(mut command) = container(&home) else { return };
    let ended = home.finish(command.args([RUN_EMPTIED, "sh"]).env("SEQD", seqd_program()));
    let said = ended.stdout();
    let token = |line: Option<&str>| line.and_then(|line| line.strip_prefix("token ")?.parse::<u64>().ok());
    let mut lines = said.lines();
    let first = token(lines.next()).expect("a token");
    assert_eq!((lines.next(), lines.next()), (Some("max-queue  7"), Some("1")), "{said}{}", ended.stderr());
    assert!(token(lines.next()) > Some(first), "{said}");
    assert_eq!((lines.next(), lines.next()), (Some("max-queue  7"), Some("2")), "{said}{}", ended.stderr());
}
