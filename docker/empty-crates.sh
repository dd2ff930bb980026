#!/bin/sh
# Gives every crate of the workspace sources that hold nothing, so that cargo builds what they depend on.
set -eu
for crate in extension extension/core watcher watcher/core tests tests/model; do
    mkdir -p $crate/src
    : > $crate/src/lib.rs
    # Targets that a manifest names must be there.
    for bench in $(sed -n '/^\[\[bench\]\]/,/^$/s/^name = "\(.*\)"/\1/p' $crate/Cargo.toml); do
        mkdir -p $crate/benches
        : > $crate/benches/$bench.rs
    done
done
mv watcher/src/lib.rs watcher/src/main.rs
echo 'fn main() {}' > watcher/src/main.rs
# cargo-pgrx installs nothing that has no function.
printf 'use pgrx::prelude::*;\npg_module_magic!();\n#[pg_extern]\nfn nothing() {}\n' > extension/src/lib.rs
