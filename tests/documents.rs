//! What is said in documents is so: the manual pages, the README, and the program itself.
//!
//! `SEQ_BLESS=1 cargo test --test documents` writes the generated parts anew.

#![expect(clippy::unwrap_used, reason = "a document that is not there, or has another shape, fails the test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::CommandFactory;
use seq::cli::Cli;
use seq::daemon::SeqdArgs;
use seq::protocol::limits;
use seq::protocol::{Reply, Request};
use serde_json::Value;
use support::{Home, seq_program};

/// Set to write the generated parts anew instead of comparing them.
const BLESS_VARIABLE: &str = "SEQ_BLESS";

/// Around what is generated in a manual page.
const BEGIN: &str = ".\\\" generated: begin\n";
const END: &str = ".\\\" generated: end\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Text as it is read, without what is there for the formatter.
fn plain(page: &str) -> String {
    page.replace("\\-", "-").replace("\\e", "\\").replace("\\&", "").replace("\\:", "")
}

/// What clap knows of a command's options, as a part of a page.
fn options(command: &clap::Command) -> String {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render_options_section(&mut page).unwrap();
    // clap_mangen parts paragraphs by empty lines, which the formatters complain of; a quote needs no macro here.
    let page = part_paragraphs(&String::from_utf8(page).unwrap());
    let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with(".SH OPTIONS"));
    let lines = lines.filter(|line| !line.starts_with(".ie") && !line.starts_with(".el"));
    // A long path may be broken where a directory ends.
    lines.map(|line| line.replace("\\*(Aq", "\\(aq").replace("/.local/", "/\\:.local/\\:") + "\n").collect()
}

/// A short help and the long one that follows it are paragraphs of their own.
fn part_paragraphs(page: &str) -> String {
    let lines: Vec<&str> = page.lines().collect();
    let is_text = |line: &&str| !line.is_empty() && !line.starts_with('.');
    let is_between =
        |at: usize| lines[at].is_empty() && at > 0 && is_text(&lines[at - 1]) && lines.get(at + 1).is_some_and(is_text);
    (0..lines.len()).map(|at| if is_between(at) { ".IP\n".to_owned() } else { lines[at].to_owned() + "\n" }).collect()
}

/// Options that are the same for all are told once.
fn without_globals(command: &clap::Command) -> clap::Command {
    let globals: Vec<String> = command
        .get_arguments()
        .filter(|argument| argument.is_global_set() || argument.get_id() == "help" || argument.get_id() == "version")
        .map(|argument| argument.get_id().to_string())
        .collect();
    globals.into_iter().fold(command.clone(), |command, id| command.mut_arg(id, |argument| argument.hide(true)))
}

/// Those that do something themselves, by all their names.
fn leaves(command: &clap::Command, name: &str) -> Vec<(String, clap::Command)> {
    let own = command.get_subcommands().filter(|command| command.get_name() != "help");
    let below = own.flat_map(|command| leaves(command, &format!("{name} {}", command.get_name())));
    let below: Vec<_> = below.collect();
    if below.is_empty() { vec![(name.to_owned(), command.clone())] } else { below }
}

fn subcommands() -> String {
    let mut cli = Cli::command();
    cli.build();
    let mut page = String::new();
    for (name, command) in leaves(&cli, "seq") {
        let about = command.get_about().unwrap().to_string();
        page.extend([".SS ", &name, "\n", &about, ".\n", &options(&without_globals(&command))]);
    }
    let globals = options(&cli);
    page + ".SS Options of every command\n" + &globals.replace(".SH \"GLOBAL OPTIONS\"\n", "")
}

fn compare(name: &str, generated: &str) {
    let page = read(name);
    let (before, rest) = page.split_once(BEGIN).expect("where the generated part begins");
    let (_, after) = rest.split_once(END).expect("where the generated part ends");
    let expected = format!("{before}{BEGIN}{generated}{END}{after}");
    if std::env::var_os(BLESS_VARIABLE).is_some() {
        fs::write(root().join(name), expected).unwrap();
        return;
    }
    for (number, (found, expected)) in page.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{name}:{}: SEQ_BLESS=1 cargo test --test documents", number + 1);
    }
    assert_eq!(page.len(), expected.len(), "{name}: SEQ_BLESS=1 cargo test --test documents");
}

#[test]
fn the_manual_pages_have_every_option() {
    compare("man/seq.1", &subcommands());
    compare("man/seqd.1", &options(&SeqdArgs::command()));
}

#[test]
fn every_subcommand_has_the_help_and_the_version_that_the_manual_promises() {
    let home = Home::new();
    let mut cli = Cli::command();
    cli.build();
    for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = command.get_name();
        let version = format!("seq-{name} {}\n", env!("CARGO_PKG_VERSION"));
        for option in ["-V", "--version"] {
            home.seq(&[name, option]).says(0, &version, "");
        }
        for words in [[name, "-h"], [name, "--help"], ["help", name]] {
            let told = home.seq(&words).stdout();
            assert!(told.contains(&format!("Usage: seq {name}")), "{words:?}: {told}");
        }
    }
}

#[test]
fn the_manual_pages_are_set_without_a_complaint() {
    for name in ["man/seq.1", "man/seqd.1", "man/seq-protocol.7"] {
        let page = root().join(name);
        for width in ["40", "60", "80"] {
            let mut man = Command::new("man");
            man.args(["-l", "--warnings=w"]).arg(&page).env("MANWIDTH", width).stdin(Stdio::null());
            let Ok(output) = man.output() else { return };
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name} in {width} columns");
            assert!(output.status.success(), "{name}");
        }
    }
}

/// The variants of an enum in the protocol's source, as they are on the wire.
fn variants(file: &str, name: &str) -> BTreeSet<String> {
    let source = read(file);
    let body = source.split_once(&format!("pub enum {name} {{\n")).unwrap().1.split_once("\n}").unwrap().0;
    let is_variant = |line: &&str| line.starts_with("    ") && line[4..].starts_with(|c: char| c.is_ascii_uppercase());
    let variants = body.lines().filter(is_variant).map(|line| line.trim().trim_end_matches(','));
    variants.map(|line| snake_case(line.split('(').next().unwrap())).filter(|variant| variant != "unknown").collect()
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (index, character) in name.char_indices() {
        if character.is_ascii_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

#[test]
fn the_protocol_page_has_every_word_of_the_protocol() {
    let page = plain(&read("man/seq-protocol.7"));
    let words: BTreeSet<&str> = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let enums = [
        ("request", "Request", 16),
        ("request", "Binding", 3),
        ("reply", "Reply", 24),
        ("error", "ErrorCode", 28),
        ("event", "EventKind", 5),
        ("event", "Outcome", 7),
        ("event", "PolicyEventKind", 5),
        ("key", "Stream", 2),
        ("status", "HolderState", 4),
        ("status", "HeadWait", 8),
    ];
    for (file, name, least) in enums {
        let variants = variants(&format!("src/protocol/{file}.rs"), name);
        assert!(variants.len() >= least, "{name}: {variants:?}");
        for word in variants {
            assert!(words.contains(word.as_str()), "{name}: {word} is not on the page");
        }
    }
    for operation in variants("src/protocol/request.rs", "Request") {
        assert!(page.contains(&format!(".SS {operation}\n")), "{operation} has no part of its own");
    }
}

#[test]
fn the_protocol_page_has_every_field() {
    let page = plain(&read("man/seq-protocol.7"));
    let words: BTreeSet<&str> = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    for file in ["request", "reply", "status", "event", "log", "info", "error", "key"] {
        // What is flattened has no name on the wire.
        let source = read(&format!("src/protocol/{file}.rs")).replace("#[serde(flatten)]\n    pub ", "");
        let public = source.lines().filter_map(|line| line.strip_prefix("    pub "));
        for line in public.filter(|line| !line.starts_with("fn ")) {
            let field = line.split(':').next().unwrap();
            assert!(words.contains(field), "{field} of {file} is not on the page");
        }
    }
}

#[test]
fn the_protocol_page_has_every_limit() {
    let page = plain(&read("man/seq-protocol.7"));
    let numbers = [
        ("DOMAIN_BYTES_MAX", limits::DOMAIN_BYTES_MAX),
        ("REQUEST_ID_BYTES_MAX", limits::REQUEST_ID_BYTES_MAX),
        ("LINE_BYTES_MAX", limits::LINE_BYTES_MAX),
        ("COMMAND_BYTES_MAX", limits::COMMAND_BYTES_MAX),
        ("DESCRIPTORS_PENDING_MAX", limits::DESCRIPTORS_PENDING_MAX),
        ("DESCRIPTORS_PER_REQUEST_MAX", limits::DESCRIPTORS_PER_REQUEST_MAX),
        ("CONNECTIONS_MAX", limits::CONNECTIONS_MAX),
        ("CONNECTIONS_EXTRA", limits::CONNECTIONS_EXTRA),
        ("CONNECTIONS_EXTRA_OPERATORS", limits::CONNECTIONS_EXTRA_OPERATORS),
        ("TICKETS_PER_CONNECTION_MAX", limits::TICKETS_PER_CONNECTION_MAX),
        ("WAITERS_PER_DOMAIN_MAX", limits::WAITERS_PER_DOMAIN_MAX),
        ("DOMAINS_MAX", limits::DOMAINS_MAX),
        ("DOMAINS_PER_REQUEST_MAX", limits::DOMAINS_PER_REQUEST_MAX),
        ("POLICIES_MAX", limits::POLICIES_MAX),
        ("IDLE_DOMAINS_MAX", limits::IDLE_DOMAINS_MAX),
        ("PAST_RUNS_MAX", limits::PAST_RUNS_MAX),
        ("KNOWN_STARTS", limits::KNOWN_STARTS),
        ("OUTBOX_BYTES_MAX", limits::OUTBOX_BYTES_MAX),
        ("STATUS_WAITERS_DEFAULT", limits::STATUS_WAITERS_DEFAULT),
        ("STATUS_WAITERS_MAX", limits::STATUS_WAITERS_MAX),
        ("LOG_TURNS_DEFAULT", limits::LOG_TURNS_DEFAULT),
        ("LOG_TURNS_MAX", limits::LOG_TURNS_MAX),
        ("SECRET_BYTES_MAX", limits::SECRET_BYTES_MAX),
        ("KEY_BYTES_MAX", limits::KEY_BYTES_MAX),
        ("KEYS_MAX", limits::KEYS_MAX),
        ("KEYS_PER_USER_MAX", limits::KEYS_PER_USER_MAX),
        ("KEY_CONFLICTS_KEPT", limits::KEY_CONFLICTS_KEPT),
        ("KEY_OUTPUT_BYTES_MAX", limits::KEY_OUTPUT_BYTES_MAX),
        ("KEY_OUTPUT_PARTS_MAX", limits::KEY_OUTPUT_PARTS_MAX),
        ("KEY_LIST_DEFAULT", limits::KEY_LIST_DEFAULT),
        ("KEY_LIST_MAX", limits::KEY_LIST_MAX),
        ("GROUP_BYTES_MAX", limits::GROUP_BYTES_MAX),
        ("REASON_BYTES_MAX", limits::REASON_BYTES_MAX),
        ("PAST_ENDS_MAX", limits::PAST_ENDS_MAX),
    ];
    for (name, number) in numbers {
        assert!(page.contains(&format!("\n{name}\t{number}\t")), "{name} {number}");
    }
    let declared = read("src/protocol/limits.rs").lines().filter(|line| line.contains(": usize")).count();
    assert_eq!(numbers.len(), declared, "every limit is in the list");
}

/// The session of the protocol's page: each line with its direction, broken lines put together again.
fn session() -> Vec<(bool, Value)> {
    let page = plain(&read("man/seq-protocol.7"));
    let session = page.split_once(".EX\n").unwrap().1.split_once(".EE").unwrap().0.to_owned();
    let mut lines: Vec<String> = Vec::new();
    for line in session.lines() {
        match lines.last_mut() {
            Some(last) if !line.starts_with(['>', '<']) => last.push_str(line),
            _ => lines.push(line.to_owned()),
        }
    }
    lines.iter().map(|line| (line.starts_with('>'), serde_json::from_str(&line[2..]).expect(line))).collect()
}

/// `value` with nothing in it that differs from one run to the next.
fn timeless(value: &Value) -> Value {
    let changing = ["pid", "uid", "since", "at", "version"];
    match value {
        Value::Object(fields) => {
            let keep = |(name, value): (&String, &Value)| {
                let changes = changing.contains(&name.as_str()) || name.ends_with("_ms");
                (name.clone(), if changes { Value::Null } else { timeless(value) })
            };
            Value::Object(fields.iter().map(keep).collect())
        }
        Value::Array(values) => values.iter().map(timeless).collect(),
        other => other.clone(),
    }
}

#[test]
fn the_session_of_the_protocol_page_is_one() {
    let home = Home::new();
    let daemon = home.launch(&mut home.command(support::seqd_program()));
    let mut wire = home.wire();
    for (is_request, message) in session() {
        if is_request {
            let request: Request = serde_json::from_value(message.clone()).unwrap();
            assert_ne!(request, Request::Unknown, "{message}");
            wire.send(&message).unwrap();
        } else {
            let reply: Reply = serde_json::from_value(message.clone()).unwrap();
            assert_eq!(serde_json::to_value(&reply).unwrap(), message, "no field is unknown");
            assert_eq!(timeless(&wire.receive().expect("a reply")), timeless(&message));
        }
    }
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait().status.code(), Some(0));
}

#[test]
fn every_exit_status_is_in_the_manual() {
    let page = plain(&read("man/seq.1"));
    let part = page.split_once(".SH EXIT STATUS\n").unwrap().1.split_once("\n.SH ").unwrap().0;
    let source = read("src/error.rs");
    let statuses = source.lines().filter_map(|line| line.trim().strip_prefix("pub const "));
    let mut found = 0;
    for status in statuses {
        let (name, number) = status.trim_end_matches(';').split_once(": u8 = ").unwrap();
        let shown = if name == "SIGNAL_BASE" { format!("\n{number}+") } else { format!("\n{number}\n") };
        assert!(part.contains(&shown), "{name} {number}");
        found += 1;
    }
    assert!(found >= 10);
}

/// The commands in the README's blocks, without what they print.
fn readme_commands() -> Vec<String> {
    let readme = read("README.md");
    let blocks = readme.split("```").skip(1).step_by(2);
    let commands = blocks.filter_map(|block| block.strip_prefix("sh\n")).flat_map(str::lines);
    commands.map(|line| line.split(" # ").next().unwrap().trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn every_option_in_the_readme_is_one() {
    let mut cli = Cli::command();
    cli.build();
    for line in readme_commands() {
        let Some(words) = line.split_once("seq ").filter(|(before, _)| !before.contains("cargo")) else { continue };
        let mut words = words.1.split_whitespace().peekable();
        let mut command = &cli;
        while let Some(below) = words.peek().and_then(|name| command.find_subcommand(name)) {
            (command, _) = (below, words.next());
        }
        if std::ptr::eq(command, &raw const cli) {
            continue;
        }
        for word in words.take_while(|word| *word != "--").filter(|word| word.starts_with("--")) {
            let name = word.trim_start_matches("--").split('=').next().unwrap();
            let is_option = command.get_arguments().any(|argument| argument.get_long() == Some(name));
            assert!(is_option, "{word} in {line:?}");
        }
    }
}

/// The README's sessions are run, and print what they say.
#[test]
fn the_examples_of_the_readme_run() {
    let readme = read("README.md");
    let mut count = 0;
    for block in readme.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("console\n")) {
        let home = Home::new();
        let mut path = seq_program().parent().unwrap().as_os_str().to_owned();
        path.push(":/usr/local/bin:/usr/bin:/bin");
        let mut script = String::from("set -e\n");
        let mut expected = String::new();
        for line in block.lines() {
            match line.strip_prefix("$ ").or_else(|| line.strip_prefix("> ")) {
                Some(command) => script.extend([command, "\n"]),
                None => expected.extend([line, "\n"]),
            }
        }
        if script.contains("python3") && home.sh("command -v python3").status.code() != Some(0) {
            continue;
        }
        let ended = home.finish(home.command("sh").env("PATH", path).args(["-c", &script]));
        assert_eq!((ended.stdout(), ended.stderr()), (expected, String::new()), "{script}");
        count += 1;
    }
    assert!(count >= 2, "{count} examples");
}

#[test]
fn files_named_in_the_readme_are_there() {
    let readme = read("README.md");
    let names = readme.split(['`', '(', ')', ' ', '\n']).filter(|word| {
        ["completions/", "man/", "systemd/", "benches/", "LICENSE"].iter().any(|start| word.starts_with(start))
    });
    for name in names.filter(|name| !name.contains('*')) {
        let path: PathBuf = root().join(name.trim_end_matches(['.', ',']));
        assert!(path.exists(), "{name}");
    }
}
