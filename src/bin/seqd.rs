//! `seqd`: keeps the lines that `seq` waits in. See `seqd(1)`.

mod shared;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    shared::seqd(&arguments).into()
}
