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

/// A module: its text, how far that is indented, and the folder of those within it that have files of their own.
struct Module {
    text: String,
    indent: usize,
    folder: PathBuf,
}

impl Module {
    /// The crate whose root is this file.
    fn of_crate(file: &Path) -> Option<Module> {
        Some(Module { text: fs::read_to_string(file).ok()?, indent: 0, folder: file.parent()?.to_owned() })
    }

    /// The module of this name in this one, written as rustfmt does.
    fn child(&self, name: &str) -> Option<Module> {
        let folder = self.folder.join(name);
        let mut own = self.own_lines();
        let declared = format!("mod {name}");
        let line = own.find(|(_, line)| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            let rest = line.strip_prefix("pub(crate) ").unwrap_or(line).strip_prefix(&declared);
            rest.is_some_and(|rest| rest == ";" || rest == " {")
        })?;
        if line.1.ends_with(';') {
            let files = [folder.with_extension("rs"), folder.join("mod.rs")];
            let text = files.iter().find_map(|file| fs::read_to_string(file).ok())?;
            return Some(Module { text, indent: 0, folder });
        }
        let end = format!("{:indent$}}}", "", indent = self.indent);
        let inner: Vec<&str> = self.text.lines().skip(line.0 + 1).take_while(|line| *line != end).collect();
        Some(Module { text: inner.join("\n"), indent: self.indent + 4, folder })
    }

    /// Its lines that are in no item of its own, with their numbers and without the indentation.
    fn own_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines.filter_map(|(number, line)| {
            let (blanks, line) = line.split_at_checked(self.indent)?;
            (blanks.trim().is_empty() && !line.starts_with(' ')).then_some((number, line))
        })
    }

    fn has_test(&self, name: &str) -> bool {
        let mut lines = self.own_lines().map(|(_, line)| line);
        while lines.any(|line| line == "#[test]") {
            let item = lines.by_ref().find(|line| !line.starts_with("#["));
            if item.is_some_and(|line| line.starts_with(&format!("fn {name}("))) {
                return true;
            }
        }
        false
    }
}

/// Whether the crate whose root is this file has a test of this whole name.
fn has_test(file: &Path, name: &str) -> bool {
    let mut path: Vec<&str> = name.split("::").collect();
    let name = path.pop().unwrap_or(name);
    let module = path.iter().try_fold(Module::of_crate(file), |module, child| Some(module?.child(child)));
    module.flatten().is_some_and(|module| module.has_test(name))
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
        let (file, name) = match words[..] {
            ["--lib", name] => (root().join("src/lib.rs"), name),
            ["--test", file, name] => {
                let files = [format!("tests/{file}.rs"), format!("tests/{file}/main.rs")].map(|file| root().join(file));
                (files.into_iter().find(|file| file.exists()).unwrap_or_default(), name)
            }
            _ => panic!("{}: {test:?} names no test", patch.display()),
        };
        assert!(has_test(&file, name), "{}: there is no test {test}", patch.display());
    }
}

#[test]
fn a_test_is_known_by_its_whole_name() {
    let (library, itself) = (root().join("src/lib.rs"), root().join("tests/known_bugs.rs"));
    let model = root().join("tests/sequencer_model/main.rs");
    let name = "a_lease_that_is_given_after_a_long_suspend_is_a_whole_one";
    assert!(has_test(&library, &format!("sequencer::tests::keeping::{name}")));
    for moved in ["", "sequencer::", "sequencer::tests::", "sequencer::tests::away::", "keeping::", "tests::keeping::"]
    {
        assert!(!has_test(&library, &format!("{moved}{name}")), "{moved}");
    }
    assert!(has_test(&library, "store::mark::tests::a_value_is_kept_up_to_the_largest"));
    assert!(!has_test(&library, "store::mark::a_value_is_kept_up_to_the_largest"));
    assert!(has_test(&itself, "a_test_is_known_by_its_whole_name") && !has_test(&itself, "has_test"));
    assert!(!has_test(&model, "none_of_this_name") && !has_test(&root().join("tests/none.rs"), "each_applies"));
}
