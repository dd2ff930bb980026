//! Links the library without the C compiler's start files. Their one use here is a function that every process of the server would run when it
//! ends, and that does nothing but touch pages of the library that a session has otherwise no need of (`src/fork.rs`).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-nostartfiles");
}
