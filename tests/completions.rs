//! The completions of `completions/`, asked by the shells themselves. A shell that is not installed is passed by.

#![expect(clippy::unwrap_used, reason = "what goes wrong in here fails the test")]

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use seq::cli::Cli;
use seq::daemon::SeqdArgs;
use support::{Home, seq_program};

/// Asks bash to complete the command line `$1`: it is parted as bash itself parts it, at blanks, `:` and `=`.
const BASH: &str = r#"
source "$DIRECTORY/seq.bash"
COMP_LINE=$1 COMP_POINT=${#1} parted=${1//:/ : } parted=${parted//=/ = }
read -ra COMP_WORDS <<<"$parted"
[[ $1 == *[[:blank:]:=] ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { :; }
_seq seq "${COMP_WORDS[COMP_CWORD]}" ''
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// The same for zsh, whose completion system is there only in a terminal: what it would be given is printed.
const ZSH: &str = r#"
compdef() { :; }
_describe() {
    local value
    for value in "${(@P)3}"; do
        value=${value//\\:/$'\1'} value=${value%%:*}
        print -r -- "${value//$'\1'/:}"
    done
}
_normal() { print -r -- "command $words $CURRENT"; }
_default() { print files; }
source "$DIRECTORY/_seq"
words=("${(@Q)${(z)1}}")
[[ $1 == *' ' ]] && words+=('')
CURRENT=${#words} PREFIX=${words[-1]}
_seq
"#;

/// The same for fish, which completes without a terminal too.
const FISH: &str = r#"
source "$DIRECTORY/seq.fish"
complete --do-complete "$argv[1]" | string replace --regex '\t.*' ''
"#;

/// The shells, how each is asked, and whether it is installed.
const SHELLS: [(&str, &[&str]); 3] = [
    ("bash", &["bash", "--norc", "-c", BASH, "bash"]),
    ("zsh", &["zsh", "-f", "-c", ZSH, "zsh"]),
    ("fish", &["fish", "--no-config", "-c", FISH]),
];

/// What `shell` offers for the command line `line`, in `home`; nothing when it is not installed.
fn offered(home: &Home, shell: &[&str], line: &str) -> Option<BTreeSet<String>> {
    let mut path = seq_program().parent().unwrap().as_os_str().to_owned();
    path.push(":/usr/bin:/bin");
    let mut command = home.command("env");
    command.env("PATH", path).env("DIRECTORY", directory()).args(shell).arg(line);
    let ended = home.finish(&mut command);
    if ended.status.code() == Some(127) {
        return None;
    }
    assert_eq!(ended.stderr(), "", "{} for {line:?}", shell[0]);
    Some(ended.stdout().lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("completions")
}

fn set<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

/// The long options of a subcommand, those of every subcommand included.
fn long_options(command: &Command) -> BTreeSet<String> {
    let options = command.get_arguments().filter(|argument| !argument.is_hide_set());
    options.filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect()
}

#[test]
fn domains_that_the_daemon_knows_are_completed() {
    let home = Home::new();
    for domain in ["foo.com", "deploy/eu", "host:80"] {
        home.seq(&["run", "-d", domain, "--", "true"]).is_silent(0);
    }
    let gate = home.gate("gate");
    let holder = home.hold("busy.com", "holder", "gate");
    for (name, shell) in SHELLS {
        let Some(found) = offered(&home, shell, "seq status -d ") else { continue };
        assert_eq!(found, set(["busy.com", "deploy/eu", "foo.com", "host:80"]), "{name}");
        let expect = |line: &str, words: &[&str]| {
            assert_eq!(offered(&home, shell, line).unwrap(), set(words.iter().copied()), "{name} for {line:?}");
        };
        expect("seq run -d fo", &["foo.com"]);
        expect("seq wait --domain FOO", &["foo.com"]);
        expect("seq run --no-start -d d", &["deploy/eu"]);
        expect("seq release -d host:", if name == "bash" { &["80"] } else { &["host:80"] });
        expect("seq done --domain=b", if name == "bash" { &["busy.com"] } else { &["--domain=busy.com"] });
    }
    gate.open();
    holder.wait().is_silent(0);
}

#[test]
fn every_subcommand_and_option_is_completed() {
    let home = Home::new();
    let mut cli = Cli::command();
    cli.build();
    for (name, shell) in SHELLS {
        let Some(found) = offered(&home, shell, "seq r") else { continue };
        assert_eq!(found, set(["release", "restart", "resume", "run"]), "{name}");
        for subcommand in cli.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
            let line = format!("seq {} --", subcommand.get_name());
            assert_eq!(offered(&home, shell, &line).unwrap(), long_options(subcommand), "{name} for {line:?}");
        }
    }
    assert_eq!(home.daemon_pid(), None, "completing starts no daemon");
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let home = Home::new();
    home.script("frobnicate", "#!/bin/sh\n");
    for (name, shell) in SHELLS {
        let Some(found) = offered(&home, shell, "seq run -d foo.com -- truncat") else { continue };
        let command = if name == "zsh" { "command truncat 1" } else { "truncate" };
        assert_eq!(found, set([command]), "{name}: the command is completed as always");
        let numbers = offered(&home, shell, "seq 1 r").unwrap();
        assert!(!numbers.contains("run"), "{name}: numbers are for coreutils, {numbers:?}");
    }
}

#[test]
fn a_daemon_that_does_not_answer_does_not_hold_the_shell_up() {
    let home = Home::new();
    home.warm();
    home.daemon().signal(rustix::process::Signal::STOP);
    let ended = home.finish(home.seq_command(&["--", "seq", "run", "-d", ""]).env("SEQ_COMPLETE", "fish"));
    assert_eq!((ended.status.code(), ended.stdout(), ended.stderr()), (Some(0), String::new(), String::new()));
    assert!(ended.took < std::time::Duration::from_secs(4), "it took {:?}", ended.took);
}

/// A command without the options that are hidden, which are for the program itself: clap would complete them.
fn without_hidden(command: &Command) -> Command {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    Command::new("seqd").version(env!("CARGO_PKG_VERSION")).args(shown.cloned())
}

/// Set to write the files anew instead of comparing them.
const BLESS_VARIABLE: &str = "SEQ_BLESS";

#[test]
fn the_completions_of_seqd_are_those_that_clap_generates() {
    for (shell, file) in [(Shell::Bash, "seqd.bash"), (Shell::Zsh, "_seqd"), (Shell::Fish, "seqd.fish")] {
        let mut generated = Vec::new();
        clap_complete::generate(shell, &mut without_hidden(&SeqdArgs::command()), "seqd", &mut generated);
        let path = directory().join(file);
        if std::env::var_os(BLESS_VARIABLE).is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        assert!(!String::from_utf8_lossy(&generated).contains("--detached"), "{file} offers what is hidden");
        let found = std::fs::read(&path).unwrap_or_default();
        assert!(found == generated, "{file} is old: write it anew with SEQ_BLESS=1 cargo test --test completions");
    }
}
