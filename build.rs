//! Links the programs statically where the C library allows it.
//!
//! Most of what `seq run` costs is its own start, and most of that is the dynamic loader: 0.28 ms of 0.72 ms on the
//! machine where this was measured. `-C target-feature=+crt-static` would do the same, but needs a `--target` on
//! every command line, and moves the programs to another directory. Where anything that this needs is missing, the
//! programs are linked as usual: they start a little later, and are the same otherwise.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// The system's libraries that the standard library asks for. Each is found as an archive of its own.
const ARCHIVES: [&str; 6] = ["c", "m", "rt", "pthread", "dl", "util"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=SEQ_LINK_DYNAMIC");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ENV", "gnu") {
        return;
    }
    let is_native = env::var("HOST") == env::var("TARGET");
    let is_static_already = env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|found| found.contains("crt-static"));
    if !is_native || is_static_already || env::var_os("SEQ_LINK_DYNAMIC").is_some() {
        return;
    }
    let archives = ARCHIVES.iter().map(|name| format!("lib{name}.a")).chain(["libgcc_eh.a".to_owned()]);
    if !archives.into_iter().all(|archive| has_archive(&archive)) {
        return;
    }
    let Some(directory) = env::var_os("OUT_DIR").map(|out| PathBuf::from(out).join("static")) else { return };
    if write_scripts(&directory).is_ok() {
        println!("cargo:rustc-link-arg-bins=-L{}", directory.display());
        for argument in ["-static-pie", "-lgcc_eh", "-lc"] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}

/// Whether the linker would find this archive: the C compiler prints a path then, and just the name otherwise.
fn has_archive(name: &str) -> bool {
    let printed = Command::new("cc").arg(format!("-print-file-name={name}")).output();
    printed.is_ok_and(|printed| String::from_utf8_lossy(&printed.stdout).trim_end().contains('/'))
}

/// For each shared library that would be asked for, a linker script that names the archive instead.
fn write_scripts(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("libgcc_s.so"), "INPUT(-lgcc_eh)\n")?;
    for name in ARCHIVES {
        fs::write(directory.join(format!("lib{name}.so")), format!("INPUT(-l:lib{name}.a)\n"))?;
    }
    Ok(())
}
