//! Which command lines are meant for the `seq` of coreutils.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The long options of coreutils' `seq` (`seq(1)` of coreutils). `--help` and `--version` in full are ours.
const LONG_OPTIONS: [&[u8]; 5] = [b"equal-width", b"format", b"separator", b"help", b"version"];

/// Whether a command line whose first argument is `first` is for coreutils: it prints numbers.
///
/// The first argument decides, so that a script's `seq "$from" "$to"` cannot become ours by its second. None of our
/// subcommands and options can begin a command line of coreutils, apart from `--help` and `--version`.
pub fn is_for_coreutils(first: &OsStr) -> bool {
    let first = first.as_bytes();
    if first == b"--" {
        return true;
    }
    if let Some(name) = first.strip_prefix(b"--") {
        return is_long_option(name);
    }
    is_short_options(first) || is_number(first)
}

/// A long option, or the beginning of one, as `getopt_long(3)` takes it; with or without `=VALUE`.
fn is_long_option(text: &[u8]) -> bool {
    let name = text.split(|byte| *byte == b'=').next().unwrap_or_default();
    let is_ours = name == b"help" || name == b"version";
    !name.is_empty() && !is_ours && LONG_OPTIONS.iter().any(|option| option.starts_with(name))
}

/// `-w`, `-s,`, `-ws,`, `-f%g` and the like: ours has none of these letters in front of a subcommand.
fn is_short_options(text: &[u8]) -> bool {
    matches!(text, [b'-', b'w' | b's' | b'f', ..])
}

/// What `strtold(3)` takes for a number, or begins like one: blanks, a sign, digits around a point or a comma; `inf`
/// and `nan`. Also the empty text, which is what `seq "$n"` says when `n` is not set, and which coreutils refuses.
fn is_number(text: &[u8]) -> bool {
    let blanks = text.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == b'\x0b').count();
    let unblank = &text[blanks..];
    let unsigned = unblank.strip_prefix(b"+").or_else(|| unblank.strip_prefix(b"-")).unwrap_or(unblank);
    match unsigned {
        [] => unblank.is_empty(),
        [b'0'..=b'9', ..] | [b'.' | b',', b'0'..=b'9', ..] => true,
        _ => is_special(unsigned),
    }
}

/// `inf`, `infinity`, `nan` and `nan(…)`, in capitals or not.
fn is_special(text: &[u8]) -> bool {
    let text = text.to_ascii_lowercase();
    let nan_of = |text: &[u8]| text.starts_with(b"nan(") && text.ends_with(b")");
    matches!(&text[..], b"inf" | b"infinity" | b"nan") || nan_of(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_options_of_coreutils_are_handed_over() {
        let theirs = [
            "1",
            "-5",
            "+3",
            " 7",
            "\t\x0b-7",
            "0x1F",
            "-0x1p3",
            "1e3",
            ".5",
            "5.",
            "-.5",
            "0,5",
            ",5",
            "+.5",
            "1abc",
            "inf",
            "-INF",
            "Infinity",
            "nan",
            "-nan",
            "NaN(1)",
            "",
            " ",
            "--",
            "-w",
            "-s",
            "-s,",
            "-ws,",
            "-f",
            "-f%g",
            "-wz",
            "--separator",
            "--sep",
            "--s=,",
            "--equal-width",
            "--eq",
            "--e",
            "--format=%g",
            "--fo",
            "--h",
            "--vers",
        ];
        for first in theirs {
            assert!(is_for_coreutils(OsStr::new(first)), "{first:?}");
        }
        assert!(is_for_coreutils(OsStr::from_bytes(b"-s\xff")));
        assert!(is_for_coreutils(OsStr::from_bytes(b"1\xff")));
    }

    #[test]
    fn what_is_ours_or_nobodys_stays() {
        let ours = [
            "run",
            "rnu",
            "info",
            "infi",
            "inform",
            "nano",
            "status",
            "help",
            "--help",
            "--version",
            "-h",
            "-V",
            "-d",
            "-n",
            "--socket",
            "--socket=1",
            "--so",
            "--no-start",
            "--separators",
            "--formal",
            "-",
            "+",
            "-x",
            ".",
            "-.",
            "foo.com",
            "--domain",
            "e3",
            "x1",
        ];
        for first in ours {
            assert!(!is_for_coreutils(OsStr::new(first)), "{first:?}");
        }
    }
}
