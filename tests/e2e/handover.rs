//! `seq 1 10` goes on working: what coreutils accepts is coreutils' to answer, byte by byte, and no daemon is touched.

#![expect(clippy::unwrap_used, reason = "what goes wrong in here fails the test")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

/// Where the system keeps its own `seq`.
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Command lines that begin as coreutils' do, words separated by `|`; numbers and their signs.
const NUMBERS: &str = "3;2|5;1|2|9;-5;-5|-2;-5|2|1;+3;+1|+3;-0|3;5|-1|1;5|1;0;1|0|5;10|-3|-10;1.0|0.5|3;1.10|2.10|5;\
    0x10;0x1|0xa;-0x2|0x2;0X1F|0X21;0x1p3;0x.8p1|3;1e1;1E1|12;1e-1|.3;9007199254740993|9007199254740994;.5;.5|2;5.;1.|3.;-.5|1;\
    18446744073709551616|18446744073709551618;0,5;,5;1,5|2;1|0,1|2; 3;\t3; -1|1;\u{b}2; ;;\n;1|2|3|4;1x;0x;1e;1|x";

/// What is hardly a number.
const SPECIAL: &str =
    "inf|1;-inf;infinity|1;INF|1;nan;NaN|1;-nan;nan(1);1|nan;--|inf|-1;--|-inf|-1|-5;-infinity|1;1|-1|-inf|2";

/// Options in all their forms.
const OPTIONS: &str = "-w|8|10;-w|1|0.5|3;-w|-5|5;-w;-ww|9|10;-s|,|3;-s,|3;-s||3;-s|:|-w|9|11;-ws,|9|11;-ws|,|9|11;\
    -s,|-f%g|3;-f|%g|3;-f%03g|3;-f|%.2f|1|0.5|2;-f%e|2;-f%a|3;-f|x|3;-f%d|3;-f%g%g|3;-f%%%g|3;-wf%g|3;-f;-s;-wz|3;-sx;\
    -w|run;-s|run|2;--separator=,|3;--separator|,|3;--sep=,|3;--sep|,|3;--s=:|3;--separator;--separator=|3;\
    --equal-width|8|10;--eq|8|10;--e|8|10;--equal-width=1|3;--format=%g|3;--format|%g|3;--fo=%03g|3;--f|%g|3;\
    --format=|3;--format;--vers;--h";

/// The end of options; and that only the first word decides.
const FIRST_WORD: &str = "--|3;--|-5|-3;--|-w|3;--;--|--|3;-w|--|9|10;--|run;3|--;3|-w;1|--help;3|--version;\
    1|run;1|status;3|-d|foo.com";

/// A home that must stay empty, and the two programs.
struct Hands {
    home: TempDir,
    ours: PathBuf,
    theirs: PathBuf,
}

impl Hands {
    fn new() -> Hands {
        let ours = cargo_bin!("seq").to_owned();
        let theirs =
            SYSTEM_PATH.split(':').map(|directory| Path::new(directory).join("seq")).find(|path| path.exists());
        let theirs = theirs.expect("the system has a seq of its own");
        assert_ne!(fs::canonicalize(&theirs).unwrap(), fs::canonicalize(&ours).unwrap());
        Hands { home: TempDir::new().unwrap(), ours, theirs }
    }

    /// `PATH` with our program's directory in front, as after an installation.
    fn path(&self) -> OsString {
        let mut path = self.ours.parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(SYSTEM_PATH);
        path
    }

    fn command(&self, program: &Path, path: &OsStr) -> Command {
        let mut command = Command::new(program);
        command.arg0("seq").env_clear().env("HOME", self.home.path()).env("PATH", path);
        command
    }

    /// Runs both with the same words and expects the same of them.
    fn compare(&self, words: &[&OsStr]) {
        let run = |program| self.command(program, &self.path()).args(words).output().unwrap();
        assert_same(&run(&self.ours), &run(&self.theirs), &format!("seq {words:?}"));
    }

    /// The same for many command lines, separated by `;`.
    fn compare_all(&self, lines: &str) {
        for line in lines.split(';') {
            let words: Vec<&OsStr> = line.split('|').map(OsStr::new).collect();
            self.compare(&words);
        }
    }

    /// Runs one line of shell with each of them as `seq`.
    fn compare_shell(&self, line: &str) {
        let run = |path: &OsStr| self.command(Path::new("/bin/bash"), path).args(["-c", line]).output().unwrap();
        assert_same(&run(&self.path()), &run(OsStr::new(SYSTEM_PATH)), line);
    }

    fn run_on(&self, path: &str, words: &[&str]) -> (String, String, Option<i32>) {
        let output = self.command(&self.ours, OsStr::new(path)).args(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr), output.status.code())
    }
}

impl Drop for Hands {
    /// Nothing was created: no socket, no lock, no log.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let found: Vec<_> = fs::read_dir(self.home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert_eq!(found, Vec::<PathBuf>::new());
        }
    }
}

fn assert_same(ours: &Output, theirs: &Output, what: &str) {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(shown(&ours.stdout), shown(&theirs.stdout), "standard output of {what}");
    assert_eq!(shown(&ours.stderr), shown(&theirs.stderr), "standard error of {what}");
    assert_eq!((&ours.stdout, &ours.stderr), (&theirs.stdout, &theirs.stderr), "bytes of {what}");
    assert_eq!(ours.status, theirs.status, "status of {what}");
}

/// Runs a shell script with `words`. What is to be executed is written by another process: a descriptor of this one that
/// may write to it could be inherited by what another thread starts at that moment, and then it could not be executed
/// (`ETXTBSY`, `execve(2)`).
fn sh(script: &str, words: &[&OsStr]) {
    let status = Command::new("/bin/sh").args(["-c", script, "sh"]).args(words).status().unwrap();
    assert!(status.success(), "{script}: {words:?}");
}

fn copy_program(program: &Path, to: &Path) {
    sh(r#"cp "$1" "$2""#, &[program.as_os_str(), to.as_os_str()]);
}

fn write_script(path: &Path, text: &str) {
    sh(r#"printf %s "$2" >"$1" && chmod 755 "$1""#, &[path.as_os_str(), text.as_ref()]);
}

#[test]
fn what_coreutils_accepts_is_answered_by_coreutils() {
    let hands = Hands::new();
    for lines in [NUMBERS, SPECIAL, OPTIONS, FIRST_WORD] {
        hands.compare_all(lines);
    }
}

#[test]
fn bytes_that_are_no_text_arrive_untouched() {
    let hands = Hands::new();
    hands.compare(&[OsStr::from_bytes(b"-s\xff\xfe"), OsStr::new("3")]);
    hands.compare(&[OsStr::new("-s"), OsStr::from_bytes(b"\x80"), OsStr::new("3")]);
    hands.compare(&[OsStr::from_bytes(b"1\xff")]);
    hands.compare(&[OsStr::new("1"), OsStr::from_bytes(b"\xff")]);
    hands.compare(&[OsStr::new("-s;"), OsStr::new("3")]);
}

#[test]
fn pipes_loops_and_locales_see_no_difference() {
    let hands = Hands::new();
    hands.compare_shell("seq 1 inf | head -n 3; echo ${PIPESTATUS[@]}");
    hands.compare_shell("seq 1 100000 | tail -n 1");
    hands.compare_shell("seq 1 inf inf | head -n 3; seq -- -inf 1 5 | head -n 2; seq inf | head -n 2");
    hands.compare_shell("for i in $(seq -w 8 11); do echo \"<$i>\"; done");
    hands.compare_shell("LC_ALL=C seq 1 x; LC_ALL=C.UTF-8 seq 1 x");
    hands.compare_shell("seq 3 > /dev/full; echo $?");
    hands.compare_shell("POSIXLY_CORRECT=1 seq 1 2 -w");
}

#[test]
fn closed_descriptors_and_an_ignored_sigpipe_are_handed_over_too() {
    let hands = Hands::new();
    hands.compare_shell("seq 3 >&-; echo $?");
    hands.compare_shell("seq 3 <&-; echo $?");
    hands.compare_shell("seq 3 2>&-; seq 1 x 2>&-; echo $?");
    hands.compare_shell("seq 3 <&- >&- 2>&-; echo $?");
    hands.compare_shell("trap '' PIPE; seq 1 inf | head -n 1; echo ${PIPESTATUS[@]}");
}

#[test]
fn copies_and_links_of_this_program_are_passed_by() {
    let hands = Hands::new();
    let directory = TempDir::new().unwrap();
    let path = |name: &str| {
        let path = directory.path().join(name);
        fs::create_dir(&path).unwrap();
        path.join("seq")
    };
    std::os::unix::fs::symlink(&hands.ours, path("symlink")).unwrap();
    let copy = path("copy");
    copy_program(&hands.ours, &copy);
    fs::hard_link(&copy, path("link")).unwrap();
    copy_program(&hands.ours, &path("second copy"));
    fs::create_dir_all(directory.path().join("folder/seq")).unwrap();
    fs::write(path("not executable"), "#!/bin/sh\necho wrong\n").unwrap();
    let script = path("script");
    write_script(&script, &format!("#!/bin/sh\nexec '{}' \"$@\"\n", copy.display()));
    let entries = ["symlink", "copy", "link", "second copy", "folder", "not executable", "script", "missing"];
    let ours = entries.map(|entry| directory.path().join(entry).display().to_string()).join(":");
    let (stdout, stderr, status) = hands.run_on(&format!("{ours}:{SYSTEM_PATH}"), &["-s,", "3"]);
    assert_eq!((stdout.as_str(), stderr.as_str(), status), ("1,2,3\n", "", Some(0)));
    let (stdout, stderr, status) = hands.run_on(&ours, &["3"]);
    assert_eq!((stdout.as_str(), stderr.as_str(), status), ("", NO_OTHER_SEQ, Some(127)), "it comes to its end");
}

/// What is said when there is nobody to hand over to.
const NO_OTHER_SEQ: &str = "seq: these arguments are for the seq that prints numbers, and PATH has no such seq: \
                            install coreutils, or see 'seq --help' for this one\n";

#[test]
fn without_another_seq_it_says_so() {
    let hands = Hands::new();
    for path in ["", "/nowhere", "/nowhere:"] {
        let (stdout, stderr, status) = hands.run_on(path, &["1", "3"]);
        assert_eq!((stdout.as_str(), stderr.as_str(), status), ("", NO_OTHER_SEQ, Some(127)), "PATH={path}");
    }
}

#[test]
fn a_seq_that_cannot_be_executed_is_named() {
    let hands = Hands::new();
    let directory = TempDir::new().unwrap();
    let broken = directory.path().join("seq");
    write_script(&broken, "#!/nowhere/sh\n");
    let (stdout, stderr, status) = hands.run_on(directory.path().to_str().unwrap(), &["3"]);
    let expected = format!(
        "seq: cannot execute {}, which prints numbers: No such file or directory (os error 2)\n",
        broken.display()
    );
    assert_eq!((stdout.as_str(), stderr.as_str(), status), ("", expected.as_str(), Some(126)));
}

#[test]
fn it_is_called_by_the_name_that_was_typed() {
    let hands = Hands::new();
    let mut command = hands.command(&hands.ours, OsStr::new(SYSTEM_PATH));
    let output = command.arg0("./bin/seq").args(["1", "x"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("./bin/seq: "), "{output:?}");
    let mut command = hands.command(&hands.ours, OsStr::new(SYSTEM_PATH));
    let output = command.arg0("turns").args(["2"]).output().unwrap();
    assert_eq!(output.stdout, b"1\n2\n", "a program that is many in one goes by the name");
}

#[test]
fn a_mistyped_subcommand_is_ours() {
    let hands = Hands::new();
    let (stdout, stderr, status) = hands.run_on(SYSTEM_PATH, &["rnu"]);
    let expected = "seq: unrecognized subcommand 'rnu'\n\
                    seq: tip: a similar subcommand exists: 'run'\n\
                    seq: Usage: seq [OPTIONS] <COMMAND>\n\
                    seq: For more information, try '--help'.\n";
    assert_eq!((stdout.as_str(), stderr.as_str(), status), ("", expected, Some(2)));
}

#[test]
fn a_seq_without_permission_to_execute_is_named() {
    let hands = Hands::new();
    let theirs = hands.home.path().join("seq");
    fs::write(&theirs, "#!/bin/sh\n").unwrap();
    let (stdout, stderr, status) = hands.run_on(hands.home.path().to_str().unwrap(), &["3"]);
    let said =
        format!("seq: cannot execute {}, which prints numbers: Permission denied (os error 13)\n", theirs.display());
    assert_eq!((stdout.as_str(), stderr, status), ("", said, Some(126)));
    fs::remove_file(theirs).unwrap();
}

#[test]
fn an_empty_entry_of_the_path_is_the_current_directory() {
    let hands = Hands::new();
    let theirs = hands.home.path().join("seq");
    write_script(&theirs, "#!/bin/sh\necho ours\n");
    for path in ["", ":/nowhere", "/nowhere:"] {
        let mut command = hands.command(&hands.ours, path.as_ref());
        let output = command.current_dir(hands.home.path()).arg("3").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ours\n", "{path:?}: {output:?}");
    }
    fs::remove_file(theirs).unwrap();
}
