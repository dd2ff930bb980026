#!/bin/sh
# Base images of our own, for where no image registry can be reached: stand-ins.sh SUITE
#
# pgkeeper-lab/base:SUITE is Debian from its packages, and pgkeeper-lab/rust:SUITE that with a C compiler and this machine's Rust. The names
# are our own, so that they stand in nobody's way. What exists already is left as it is.
set -eu
suite=$1
cd "$(dirname "$0")"
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
folder=$(mktemp -d)
trap '$sudo rm -rf "$folder"' EXIT

if ! docker image inspect "pgkeeper-lab/base:$suite" >/dev/null 2>&1; then
    command -v debootstrap >/dev/null || $sudo apt-get install -y -qq --no-install-recommends debootstrap
    echo "making the image pgkeeper-lab/base:$suite from Debian's packages"
    script=/usr/share/debootstrap/scripts/$suite
    # A suite younger than debootstrap is made as the newest one is.
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
    $sudo debootstrap --variant=minbase "$suite" "$folder/root" '' "$script" >"$folder/log" \
        || { tail "$folder/log"; exit 1; }
    # A mirror may be behind, above all with a suite that is not released yet; good enough for a laboratory.
    echo 'Acquire::Check-Valid-Until "false";' | $sudo tee "$folder/root/etc/apt/apt.conf.d/stand-in" >/dev/null
    $sudo rm -rf "$folder/root/var/cache/apt/archives" "$folder/root/var/lib/apt/lists"
    $sudo tar -C "$folder/root" -c . | docker import - "pgkeeper-lab/base:$suite" >/dev/null
fi

if ! docker image inspect "pgkeeper-lab/rust:$suite" >/dev/null 2>&1; then
    echo "making the image pgkeeper-lab/rust:$suite with this machine's Rust"
    # Tools that are here already save their building, if they run there.
    mkdir "$folder/tools"
    for tool in cargo-pgrx cargo-deb; do
        cp "${CARGO_HOME:-$HOME/.cargo}/bin/$tool" "$folder/tools/" 2>/dev/null || :
    done
    cp stand-in-rust.Dockerfile "$folder/Dockerfile"
    tar -c -C "$folder" Dockerfile tools --exclude share/doc --transform 's,^\./,rust/,' -C "$(rustc --print sysroot)" . \
        | docker build --quiet --build-arg "BASE=pgkeeper-lab/base:$suite" --tag "pgkeeper-lab/rust:$suite" - >/dev/null
fi
