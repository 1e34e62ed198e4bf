//! The sequencer has no clock, socket, file, thread or randomness in it: time and events go in, effects come out.

use std::fs;
use std::path::Path;

const FORBIDDEN: [&str; 21] = [
    "Instant",
    "SystemTime",
    "Time::now",
    "clock_gettime",
    "sleep",
    "std::fs",
    "std::net",
    "std::os",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::sync::mpsc",
    "Mutex",
    "RandomState",
    "tokio",
    "rustix",
    "rand::",
    "fastrand",
    "interprocess",
    "unsafe",
];

/// What the core may use of this crate besides itself.
const ALLOWED: [&str; 2] = ["crate::clock", "crate::protocol"];

/// What maps may be hashed by: alike in every process.
const HASHERS: [&str; 2] = ["FixedHasher>", "NumberHasher>"];

#[test]
fn no_clock_no_socket_no_file_no_thread_no_randomness() {
    let mut files = 0;
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sequencer")).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            continue;
        }
        files += 1;
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let place = format!("{}:{}: {line}", path.display(), number + 1);
            let found = FORBIDDEN.iter().find(|word| code.contains(*word));
            assert_eq!(found, None, "the sequencer must stay pure: {place}");
            for outside in code.match_indices("crate::").map(|(start, _)| &code[start..]) {
                assert!(ALLOWED.iter().any(|allowed| outside.starts_with(allowed)), "not the core's business: {place}");
            }
        }
    }
    assert!(files > 10, "the sequencer's files were found");
}

#[test]
fn maps_are_hashed_alike_in_every_process() {
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sequencer")).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            let is_map = line.contains("HashMap<") || line.contains("HashSet<");
            assert!(!is_map || HASHERS.iter().any(|hasher| line.contains(hasher)), "{}: {line}", path.display());
        }
    }
}
