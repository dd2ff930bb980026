//! Links the library so that a session pays as little as possible for it, whether it commits anything or not. Each process that the server
//! forks takes over every mapping of the library and gives it up at its end, and that is nearly all of the library's price.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Their one use here is a function that every process of the server would run when it ends, and that does nothing but touch pages of the
    // library that a session has otherwise no need of (`src/fork.rs`).
    println!("cargo::rustc-cdylib-link-arg=-nostartfiles");
    // One mapping for what is only read, constants and code, and one for what is written. Tables of functions, which the loader fills in, could
    // be read-only from then on in a mapping of their own (RELRO). Here that would protect little: the server's own hooks are variables.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,norelro,-z,noseparate-code");
    if links_with_lld() {
        println!("cargo::rustc-cdylib-link-arg=-Wl,--no-rosegment");
    }
}

/// Where rustc brings its own linker and nobody has asked for another (<https://blog.rust-lang.org/2025/09/01/rust-lld-on-1.90.0-stable/>). Other
/// linkers do not know the option; GNU's does by `noseparate-code` what is asked for.
fn links_with_lld() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let chosen = env::var_os("RUSTC_LINKER").is_some() || flags.contains("linker") || flags.contains("fuse-ld");
    env::var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu") && !chosen
}
