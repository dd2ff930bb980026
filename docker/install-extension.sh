#!/bin/sh
# `cargo pgrx install` as README says, for the server of version PG_MAJOR.
set -eu
cd extension
cargo pgrx install --release --pg-config "/usr/lib/postgresql/$PG_MAJOR/bin/pg_config" --no-default-features --features "pg$PG_MAJOR"
