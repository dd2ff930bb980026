//! Links the library so that a session pays as little as possible for it. Each process that the server forks takes over every mapping of the library
//! and gives it up at its end, and for a session that only commits once that is most of the library's price.

use std::env;
use std::io::Result;
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    // The C compiler's start files have one use here: a function that every process of the server would run when it ends, and that does nothing
    // but touch pages of the library that a session has otherwise no need of (`src/fork.rs`).
    link_with("-nostartfiles");
    // One mapping for what is only read, constants and code, and one for what is written. What the loader fills in, tables of functions and the
    // addresses of the server's, could be read-only from then on in a mapping of its own (RELRO). Here that would protect little: the server's own
    // hooks are variables.
    link_with("-Wl,-z,norelro,-z,noseparate-code");
    // LLVM's linker, which rustc brings along on some machines, keeps constants apart all the same. GNU's refuses the option before 2.44.
    let together = "-Wl,--no-rosegment";
    if linker_takes(together)? {
        link_with(together);
    }
    Ok(())
}

fn link_with(argument: &str) {
    println!("cargo::rustc-cdylib-link-arg={argument}");
}

/// Whether a library with nothing in it can be linked with this, by the linker and the flags that Cargo is going to use.
fn linker_takes(argument: &str) -> Result<bool> {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let target = variable("TARGET");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--crate-type=cdylib", "--crate-name=probe", "--target", &target, "-"]);
    rustc.arg("--out-dir").arg(PathBuf::from(variable("OUT_DIR"))).arg(format!("-Clink-arg={argument}"));
    rustc.args(variable("CARGO_ENCODED_RUSTFLAGS").split('\x1f').filter(|flag| !flag.is_empty()));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut chosen = std::ffi::OsString::from("-Clinker=");
        chosen.push(linker);
        rustc.arg(chosen);
    }
    Ok(rustc.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
}
