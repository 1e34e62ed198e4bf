//! seq beside what people use today: `cargo bench --bench peers`.
//!
//!     cargo bench --bench peers [-- [--json FILE] [--before DIRECTORY] [--quick] [PART...]]
//!
//! It runs what is there and says what to install for the rest. Every figure is one of several rounds in which all that
//! is compared runs side by side, since no machine is quiet; the marks are ratios. What came out, and why a mark is
//! missed, is in `benches/README.md`.

mod stage;
mod report;
mod one_run;
mod hand_over;
mod load;
mod echo;
mod rates;
mod talk;
mod growth;
mod tail;
mod waiting;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use report::Report;

/// The parts, in the order in which they run.
const PARTS: [&str; 6] = ["one-run", "hand-over", "rates", "growth", "tail", "waiting"];

/// What to measure.
#[derive(Default)]
struct Wanted {
    json: Option<PathBuf>,
    /// Where `seq` and `seqd` of an earlier version are, to be measured side by side with this one.
    before: Option<PathBuf>,
    is_quick: bool,
    parts: Vec<String>,
}

#[expect(clippy::print_stderr, reason = "nothing else tells what is missing")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, socket] = &arguments[..]
        && word == "echo"
    {
        return echo::serve(Path::new(socket)).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let Some(wanted) = read(&arguments) else {
        eprintln!(
            "usage: cargo bench --bench peers -- [--json FILE] [--before DIRECTORY] [--quick] [{}]...",
            PARTS.join("|")
        );
        return ExitCode::from(2);
    };
    let report = measure(&wanted);
    let written = match &wanted.json {
        Some(file) => std::fs::write(file, report.json()),
        None => Ok(()),
    };
    if let Err(error) = report.print_marks().and(written) {
        eprintln!("cannot write the report: {error}");
        return ExitCode::FAILURE;
    }
    if let Some(missing) = stage::missing() {
        eprintln!("{missing}");
    }
    ExitCode::SUCCESS
}

fn measure(wanted: &Wanted) -> Report {
    let mut report = Report::default();
    let rounds = |usual, quick| if wanted.is_quick { quick } else { usual };
    let before = wanted.before.as_deref();
    let sizes = [10, 1_000, 100_000, 1_000_000];
    for part in PARTS.iter().filter(|part| wanted.parts.is_empty() || wanted.parts.iter().any(|it| it == *part)) {
        match *part {
            "one-run" => one_run::measure(&mut report, before, rounds(9, 2)),
            "hand-over" => hand_over::measure(&mut report, before, rounds(7, 1)),
            "rates" => rates::measure(&mut report, before, rounds(11, 3)),
            "growth" => growth::measure(&mut report, &sizes[..rounds(4, 3)]),
            "tail" => tail::measure(&mut report, Duration::from_secs(rounds(60, 10) as u64)),
            _ => waiting::measure(&mut report),
        }
    }
    report
}

/// The command line; nothing when it is wrong. Cargo adds `--bench`.
fn read(arguments: &[String]) -> Option<Wanted> {
    let mut wanted = Wanted::default();
    let mut words = arguments.iter().filter(|word| *word != "--bench");
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => wanted.json = Some(PathBuf::from(words.next()?)),
            "--before" => wanted.before = Some(std::fs::canonicalize(words.next()?).ok()?),
            "--quick" => wanted.is_quick = true,
            part if PARTS.contains(&part) => wanted.parts.push(part.to_owned()),
            _ => return None,
        }
    }
    Some(wanted)
}
