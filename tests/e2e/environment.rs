//! The command sees the world as it would without seq.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Stdio;

use crate::support::Home;

#[test]
fn arguments_arrive_byte_for_byte() {
    let home = Home::new();
    let mut all: Vec<u8> = (1..=255).collect();
    all.extend("\u{1f512} ' \" $HOME `id` \\ * \n\n".bytes());
    let arguments: [&OsStr; 5] =
        [OsStr::from_bytes(&all), OsStr::new(""), OsStr::new("--"), OsStr::new("-d"), OsStr::from_bytes(b"\xff\xfe")];
    let mut command = home.seq_command(&["run", "-d", "foo.com", "--", "printf", "%s|"]);
    let ended = home.finish(command.args(arguments));
    let expected: Vec<u8> = arguments.iter().flat_map(|argument| [argument.as_bytes(), b"|"].concat()).collect();
    assert_eq!(ended.stdout, expected);
    assert_eq!((ended.status.code(), ended.stderr().as_str()), (Some(0), ""));
}

#[test]
fn a_command_whose_name_is_not_utf_8_runs() {
    let home = Home::new();
    let name = OsString::from_vec(b"caf\xe9".to_vec());
    home.install("/bin/echo".as_ref(), &name);
    let mut path = OsString::from("./");
    path.push(&name);
    let mut command = home.seq_command(&["run", "-d", "foo.com", "--"]);
    home.finish(command.arg(path).arg("hello")).says(0, "hello\n", "");
}

#[test]
fn options_after_the_command_are_the_commands_own() {
    let home = Home::new();
    home.seq(&["run", "-d", "foo.com", "echo", "-d", "bar.com", "--help", "-n"]).says(0, "-d bar.com --help -n\n", "");
    home.seq(&["run", "-d", "foo.com", "--", "echo", "--", "-w"]).says(0, "-- -w\n", "");
}

#[test]
fn standard_input_and_output_are_the_commands_own() {
    let home = Home::new();
    fs::write(home.file("input"), "one\ntwo\n").expect("a file");
    let mut command =
        home.seq_command(&["run", "-d", "foo.com", "--", "sh", "-c", "read -r line; echo \"$line\"; echo err >&2"]);
    command.stdin(fs::File::open(home.file("input")).expect("a file"));
    home.finish(&mut command).says(0, "one\n", "err\n");
    // Nothing of the input is taken away: what the command does not read is left for the next.
    home.sh(r#"printf 'a\nb\n' | { "$SEQ" run -d foo.com -- sh -c 'read -r x'; cat; }"#).says(0, "b\n", "");
}

#[test]
fn closed_standard_streams_stay_closed() {
    let home = Home::new();
    home.warm();
    home.script("open", "for n in 0 1 2; do test -e /proc/$$/fd/$n && echo $n >>open-ones; done; echo . >>open-ones\n");
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        home.sh(&format!(r#""$SEQ" run -d foo.com -- sh ./open {closed}"#)).is_silent(0);
    }
    // Those that were left open, each time up to a dot.
    assert_eq!(home.read("open-ones"), "1\n2\n.\n0\n2\n.\n0\n1\n.\n.\n");
    let script = r#""$SEQ" run -d foo.com -- sh -c 'ls -l /proc/self/fd >fds' <&- >&- 2>&-"#;
    home.sh(script).is_silent(0);
    // `ls` opens the directory itself, and the shell its own standard output.
    let descriptors = home.read("fds");
    assert!(!descriptors.contains("socket:") && !descriptors.contains("life.lock"), "{descriptors}");
}

#[test]
fn what_cannot_be_printed_is_not_passed_over() {
    let home = Home::new();
    let complaint = "cannot write to standard output: Bad file descriptor";
    home.sh(r#""$SEQ" status -d foo.com >&-"#).complains(125, complaint);
    home.sh(r#""$SEQ" --help >&-"#).complains(125, complaint);
    let sequence = r#""$SEQ" sequence -d foo.com --lease 1h --json >&-"#;
    home.sh(sequence).complains(125, "cannot print the turn: Bad file descriptor");
    home.seq(&["run", "-n", "-d", "foo.com", "--", "true"]).is_silent(0);
}

#[test]
fn sigpipe_is_the_commands_as_it_was_seqs() {
    let home = Home::new();
    let ignored = |before: &str| {
        let script = format!(r#"{before}; "$SEQ" run -d foo.com -- grep ^SigIgn: /proc/self/status"#);
        let told = home.finish(home.command("bash").args(["-c", &script])).stdout();
        let set = u64::from_str_radix(told.trim_start_matches("SigIgn:").trim(), 16).expect("a set of signals");
        // `SIGPIPE` is signal 13 (`signal(7)`).
        set & (1 << 12) != 0
    };
    assert!(ignored("trap '' PIPE"));
    // The tests' own runtime ignores it too, and lets what it starts have the default.
    assert!(!ignored(":"));
}

#[test]
fn directory_and_environment_are_the_callers() {
    let home = Home::new();
    fs::create_dir(home.file("some where")).expect("a directory");
    let mut command = home.seq_command(&["run", "-d", "foo.com", "--", "sh", "-c", "pwd; echo \"$MINE\"; umask"]);
    let directory = home.file("some where");
    command.current_dir(&directory).env("MINE", "a b");
    home.finish(&mut command).says(0, &format!("{}\na b\n0022\n", directory.display()), "");
    let environment = |command: &mut std::process::Command| {
        let mut lines: Vec<_> = home.finish(command).stdout().lines().map(str::to_owned).collect();
        lines.retain(|line| !line.starts_with("SEQ_"));
        lines
    };
    let without = environment(home.command("env").env("MINE", "x"));
    assert_eq!(environment(home.seq_command(&["run", "-d", "foo.com", "--", "env"]).env("MINE", "x")), without);
}

#[test]
fn the_turn_is_named_in_the_environment() {
    let home = Home::new();
    let script = r#"echo "$SEQ_DOMAIN $SEQ_REQUEST_ID"; test "$SEQ_TICKET" -gt 0 && test "$SEQ_TOKEN" -gt 0"#;
    let command = ["run", "-d", "Foo.COM.", "--request-id", "Deploy 7", "--", "sh", "-c", script];
    home.seq(&command).says(0, "foo.com Deploy 7\n", "");
    home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", "test -n \"$SEQ_REQUEST_ID\""]).is_silent(0);
    // What an outer turn has left in the environment is not passed on as this one's.
    let nested = r#"echo "$SEQ_DOMAIN"; "$SEQ" run -d bar.com -- sh -c 'echo "$SEQ_DOMAIN"'"#;
    home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", nested]).says(0, "foo.com\nbar.com\n", "");
}

/// The descriptors that a command finds open, with what they are.
const DESCRIPTORS: &str = "import os\n\
    for number in range(4096):\n\
    \x20   try: print(number, os.readlink(f'/proc/self/fd/{number}'))\n\
    \x20   except OSError: pass\n";

#[test]
fn the_command_inherits_one_pipe_under_a_high_number_and_nothing_else() {
    let home = Home::new();
    home.script("descriptors.py", DESCRIPTORS);
    let open = |command: &mut std::process::Command| -> Vec<(u32, String)> {
        let ended = home.finish(command);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr());
        let parse = |line: &str| line.split_once(' ').map(|(number, what)| (number.parse().unwrap(), what.to_owned()));
        ended.stdout().lines().filter_map(parse).filter(|(number, _)| *number > 2).collect()
    };
    // Whatever started this test may have left some open for everybody.
    let without = open(home.command("python3").arg("descriptors.py"));
    let added = |options: &[&str]| {
        let command = [&["run", "-d", "foo.com"], options, &["--", "python3", "descriptors.py"]].concat();
        let mut found = open(&mut home.seq_command(&command));
        found.retain(|descriptor| !without.contains(descriptor));
        found
    };
    let with_pipe = added(&[]);
    let [(number, what)] = &with_pipe[..] else { panic!("not one: {with_pipe:?}") };
    assert!(*number >= 100 && what.starts_with("pipe:"), "{with_pipe:?}");
    assert_eq!(added(&["--close"]), []);
    assert_eq!(added(&["--until-all-exit"]).len(), 1);
}

#[test]
fn a_low_limit_on_open_files_is_no_hindrance() {
    let home = Home::new();
    home.warm();
    home.sh(r#"ulimit -n 32; "$SEQ" run -d foo.com -- echo hello"#).says(0, "hello\n", "");
    // As low as it may be for seq to work at all, so that the pipe gets whatever number is left.
    home.sh(r#"ulimit -n 10; "$SEQ" run -d foo.com -- echo hello"#).says(0, "hello\n", "");
}

#[test]
fn a_script_without_a_first_line_runs_as_under_sh() {
    let home = Home::new();
    home.script("plain", "echo \"plain $1 $#\"\nexit 6\n");
    home.seq(&["run", "-d", "foo.com", "--", "./plain", "a b", "c"]).says(6, "plain a b 2\n", "");
    let mut command = home.seq_command(&["run", "-d", "foo.com", "--", "plain", "x"]);
    let path = format!("{}:/usr/bin:/bin", home.path().display());
    home.finish(command.env("PATH", path)).says(6, "plain x 1\n", "");
}

#[test]
fn a_pipe_behind_seq_is_not_held_open_by_the_daemon() {
    let home = Home::new();
    // The first run starts the daemon; cat ends only when nobody has the pipe.
    home.sh(r#""$SEQ" run -d foo.com -- echo hello | cat; "$SEQ" run -d foo.com -- echo again 2>&1 | cat"#).says(
        0,
        "hello\nagain\n",
        "",
    );
    assert_eq!(home.daemons().len(), 1);
}

#[test]
fn the_daemon_takes_nothing_of_its_starter_along() {
    let home = Home::new();
    fs::create_dir(home.file("work")).expect("a directory");
    let mut command = home.command("sh");
    command.args(["-c", r#"exec 7>seven; umask 0; exec "$SEQ" run -d foo.com -- true"#]).env("SECRET", "hunter2");
    home.finish(command.current_dir(home.file("work")).stdin(Stdio::null())).is_silent(0);
    let pid = home.daemon().pid;
    let proc = |file: &str| format!("/proc/{pid}/{file}");
    assert_eq!(fs::read_link(proc("cwd")).expect("a link"), std::path::Path::new("/"));
    let environment = fs::read(proc("environ")).expect("readable");
    assert!(!String::from_utf8_lossy(&environment).contains("hunter2"));
    let status = fs::read_to_string(proc("status")).expect("readable");
    assert!(status.contains("Umask:\t0077\n"), "{status}");
    let stat = fs::read_to_string(proc("stat")).expect("readable");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_ascii_whitespace().collect();
    // Group and session are its own or its starter's, which has ended; the terminal is none.
    assert_ne!(fields[3], session());
    assert_eq!(fields[4], "0", "it has a terminal");
    for entry in fs::read_dir(proc("fd")).expect("readable") {
        let target = fs::read_link(entry.expect("an entry").path()).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        assert!(!target.contains("seven") && !target.contains("/said/"), "inherited: {target}");
    }
}

#[test]
fn the_daemon_keeps_no_limits_of_its_starter() {
    let home = Home::new();
    let pin =
        "import os, sys; os.sched_setaffinity(0, [max(os.sched_getaffinity(0))]); os.execvp(sys.argv[1], sys.argv[1:])";
    let script = format!(
        r#"ulimit -S -n 64; ulimit -S -f 100; ulimit -S -t 50; ulimit -S -v 8000000; ulimit -S -d 4000000
        exec nice -n 5 python3 -c '{pin}' "$SEQ" run -d foo.com -- sh -c 'ulimit -S -n; nice'"#
    );
    let ended = home.finish(home.command("bash").args(["-c", &script]));
    ended.says(0, "64\n5\n", "");
    let pid = home.daemon().pid;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("readable");
    for name in ["Max cpu time", "Max file size", "Max data size", "Max open files", "Max address space"] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("a limit");
        let values: Vec<&str> = line.split_ascii_whitespace().collect();
        assert_eq!(values[0], values[1], "{name} in {limits}");
    }
    let allowed = |process: &str| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).expect("readable");
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list").to_owned()
    };
    assert_eq!(allowed(&pid.to_string()), allowed("1"), "all that there are here");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("readable");
    let nice = stat.rsplit(')').next().and_then(|fields| fields.split_ascii_whitespace().nth(16)).expect("a field");
    let log = fs::read_to_string(home.state().join("seqd.log")).expect("a log");
    // Who may not lower it again says so.
    assert!(nice == "0" || log.contains("set its priority to nice 5, which it has to keep"), "nice {nice}: {log}");
}

#[test]
fn a_daemon_that_could_serve_nobody_is_not_started_and_why_is_said() {
    let home = Home::new();
    home.sh(r#"ulimit -n 50; "$SEQ" run -d foo.com -- true"#).complains(
        125,
        "cannot start the daemon: a process may have 50 open files here (ulimit -Hn), and the daemon needs 112: start \
         it where 'ulimit -n 112' works, as by 'seq run -d any -- true' in another shell",
    );
    // It has said why before it is gone.
    home.await_fact("no daemon", || home.daemons().is_empty().then_some(()));
    home.seq(&["run", "-d", "foo.com", "--", "echo", "hello"]).says(0, "hello\n", "");
    home.sh(r#"ulimit -n 50; "$SEQ" run -d foo.com -- true"#).is_silent(0);
}

#[test]
fn a_daemon_whose_files_could_not_grow_is_not_started_and_why_is_said() {
    let home = Home::new();
    home.sh(r#"ulimit -f 8; "$SEQ" run -d foo.com -- true"#).complains(
        125,
        "bytes here (ulimit -f), and the daemon's database needs \
         67108864: start it in a shell without that limit, as by 'seq run -d any -- true'",
    );
    home.await_fact("no daemon", || home.daemons().is_empty().then_some(()));
    home.seq(&["run", "-d", "foo.com", "--", "echo", "hello"]).says(0, "hello\n", "");
    home.sh(r#"ulimit -f 8; "$SEQ" run -d foo.com -- true"#).is_silent(0);
}

#[test]
fn the_files_of_the_daemon_have_their_modes_whatever_the_umask_is() {
    use std::os::unix::fs::PermissionsExt;

    let home = Home::new();
    home.sh(r#"umask 777; "$SEQ" run -d foo.com -- sh -c umask"#).says(0, "0777\n", "");
    let mode = |path: &std::path::Path| fs::metadata(path).expect("a file").permissions().mode() & 0o7777;
    for directory in [".local", ".local/state", ".local/state/seq"] {
        assert_eq!(mode(&home.file(directory)), 0o700, "{directory}");
    }
    for file in ["start.lock", "life.lock", "seqd.log", "seq.db", "seq.mark", "numbers", "seqd.sock"] {
        assert_eq!(mode(&home.state().join(file)), 0o600, "{file}");
    }
}

#[test]
fn who_waits_for_the_turn_it_runs_under_is_told_so() {
    let home = Home::new();
    let inner = |options: &str| {
        let command = format!("echo $$; env -u SEQ_TOKEN \"$SEQ\" run -d foo.com -w 1500ms {options} -- true; exit $?");
        home.seq(&["run", "-d", "foo.com", "--", "sh", "-c", &command])
    };
    let ended = inner("");
    let pid = ended.stdout().trim_end().to_owned();
    let words = format!(
        "seq: foo.com: pid {pid}, which this runs under, has the turn, so this may wait for ever: with SEQ_TICKET, \
         SEQ_TOKEN and SEQ_TURN_SOCKET of that turn in its environment it would go on within it\n\
         seq: no turn in foo.com after 1.5s"
    );
    assert_eq!(ended.status.code(), Some(75));
    assert!(ended.stderr().starts_with(&words), "{}", ended.stderr());
    assert_eq!(inner("-q").stderr(), "");
    let script = r#""$SEQ" sequence -d bar.com; "$SEQ" run -d bar.com -w 1500ms -- true; exit $?"#;
    let ended = home.sh(script);
    assert!(ended.stderr().contains("'seq done' must give it back first\n"), "{}", ended.stderr());
}

/// The session of this test, as `/proc` has it: 0 where it is one from outside of the pid namespace.
fn session() -> String {
    let stat = fs::read_to_string("/proc/self/stat").expect("readable");
    let after_name = stat.rsplit(')').next().expect("fields");
    after_name.split_ascii_whitespace().nth(3).expect("a session").to_owned()
}
