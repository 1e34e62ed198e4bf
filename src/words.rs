//! What sentences are made of, and how the programs say theirs.

use std::fmt::Display;
use std::io::{self, Write};

/// One line of the program `name` on standard error, in one piece. Where it goes nobody reads, or has no room, there is
/// nobody to tell.
pub fn say(name: &str, words: impl Display) {
    _ = io::stderr().write_all(format!("{name}: {words}\n").as_bytes());
}

/// A number of things: `1 turn`, `2 turns`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_thing_is_not_several() {
        assert_eq!([0, 1, 2].map(|number| counted(number, "turn")), ["0 turns", "1 turn", "2 turns"]);
    }
}
