#!/bin/sh
# Copies the workspace's manifests from one folder to another, with sources that hold nothing: empty-crates.sh FROM TO
#
# What cargo builds there are the dependencies alone, in a layer of an image that no change of a source of ours touches.
set -eu
cd "$1"
cp --parents Cargo.toml Cargo.lock extension/pg_keeper.control "$2"
find . -name Cargo.toml -exec cp --parents {} "$2" \;
cd "$2"
for manifest in */Cargo.toml */*/Cargo.toml; do
    crate=${manifest%/Cargo.toml}
    mkdir -p "$crate/src"
    : > "$crate/src/lib.rs"
    # Targets that a manifest names must be there.
    for bench in $(sed -n '/^\[\[bench\]\]/,/^$/s/^name = "\(.*\)"/\1/p' "$manifest"); do
        mkdir -p "$crate/benches"
        : > "$crate/benches/$bench.rs"
    done
done
rm watcher/src/lib.rs
echo 'fn main() {}' > watcher/src/main.rs
# cargo-pgrx installs nothing that has no function.
printf 'use pgrx::prelude::*;\npg_module_magic!();\n#[pg_extern]\nfn nothing() {}\n' > extension/src/lib.rs
