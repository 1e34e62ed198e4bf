//! The bugs that tests are known to catch can be put back still: `tests/known_bugs/run` does that. Without git, which
//! applies the patches, that is passed by.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// There are no fewer.
const BUGS_MIN: usize = 10;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The patches, in order, with what each says that it is caught by.
fn bugs() -> Vec<(PathBuf, String)> {
    let files = fs::read_dir(root().join("tests/known_bugs")).expect("a directory");
    let all = files.map(|file| file.expect("a file").path());
    let mut found: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|end| end == "patch")).collect();
    found.sort();
    let with_test = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("UTF-8");
        let caught_by = text.lines().next().and_then(|line| line.strip_prefix("caught by: ")).map(str::to_owned);
        let caught_by = caught_by.unwrap_or_else(|| panic!("{} does not say what it is caught by", path.display()));
        (path, caught_by)
    };
    found.into_iter().map(with_test).collect()
}

/// Whether a file, or one of a directory, has a test of this name.
fn has_test(path: &Path, name: &str) -> bool {
    if path.is_dir() {
        return fs::read_dir(path).expect("a directory").any(|file| has_test(&file.expect("a file").path(), name));
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().map(str::trim);
    while lines.any(|line| line == "#[test]") {
        if lines.next().is_some_and(|line| line.starts_with(&format!("fn {name}("))) {
            return true;
        }
    }
    false
}

#[test]
fn each_applies() {
    assert!(bugs().len() >= BUGS_MIN);
    for (patch, _) in bugs() {
        // Outside of any repository, so that this is so in a mere copy of the files as well.
        let mut check = Command::new("git");
        check.args(["apply", "--check"]).arg(&patch).env("GIT_DIR", "/dev/null");
        let output = match check.current_dir(root()).output() {
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            output => output.expect("git"),
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} does not apply any more: make it anew: {said}", patch.display());
    }
}

#[test]
fn each_names_a_test_that_there_is() {
    for (patch, test) in bugs() {
        let words: Vec<&str> = test.split(' ').collect();
        let (place, name) = match words[..] {
            ["--lib", name] => (root().join("src"), name),
            ["--test", file, name] => (root().join(format!("tests/{file}.rs")), name),
            _ => panic!("{}: {test:?} names no test", patch.display()),
        };
        let name = name.rsplit("::").next().unwrap_or(name);
        assert!(has_test(&place, name), "{}: there is no test {test}", patch.display());
    }
}
