#!/bin/sh
# The laboratory of four hosts: lab.sh up | down
#
# Settings come from the environment, as compose.yaml lists them. Where Docker Hub's images cannot be had, base images are made here.
set -eu
cd "$(dirname "$0")"
PG_MAJOR=${PG_MAJOR:-15}
lab=${COMPOSE_PROJECT_NAME:-pgkeeper-lab}
export PG_MAJOR COMPOSE_PROJECT_NAME="$lab"

if docker compose version >/dev/null 2>&1; then
    compose() { docker compose "$@"; }
elif command -v docker-compose >/dev/null; then
    compose() { docker-compose "$@"; }
else
    echo "Neither \"docker compose\" nor docker-compose is here. Debian has them as the packages docker-compose (12) and docker-cli, docker-compose (13)." >&2
    exit 1
fi

# A build does not find the authorities that only this machine trusts.
authorities() {
    ls ca/*.crt >/dev/null 2>&1 && return
    if [ -n "${SSL_CERT_FILE:-}" ] || ls /usr/local/share/ca-certificates/*.crt >/dev/null 2>&1; then
        cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" ca/host.crt
    fi
}

# The suite whose PostgreSQL is of this version.
suite() {
    case $1 in
        13) echo bullseye ;;
        15) echo bookworm ;;
        17) echo trixie ;;
        18) echo forky ;;
        *) echo "Debian has no PostgreSQL $1: set PG_MAJOR to 13, 15, 17 or 18, or DB_BASE and DB_RUST to images that do." >&2; exit 1 ;;
    esac
}

# Whether both images are here or can be had.
has() {
    for image in "$@"; do
        docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" >/dev/null 2>&1 || return
    done
}

# Sets base and rust to the images of a suite: Docker Hub's, or ours.
choose() {
    base=debian:$1-slim rust=rust:1.95-$1
    has "$base" "$rust" && return
    sh stand-ins.sh "$1"
    base=pgkeeper-lab/base:$1 rust=pgkeeper-lab/rust:$1
}

images() {
    if [ -z "${DB_BASE:-}" ]; then
        suite=$(suite "$PG_MAJOR")
        choose "$suite"
        export DB_BASE="$base" DB_RUST="$rust"
    fi
    if [ -z "${APP_BASE:-}" ]; then
        choose bookworm
        export APP_BASE="$base" APP_RUST="$rust"
    fi
    echo "building the images; the first time that takes half an hour on two cores"
    compose build
}

# Sees to it that a command succeeds within some minutes, and shows what it says if it does not.
await() {
    what=$1; shift
    printf '%s ... ' "$what"
    left=300
    until said=$("$@" 2>&1); do
        left=$((left - 1))
        if [ $left = 0 ]; then
            printf 'not within five minutes:\n%s\n' "$said"
            compose ps
            exit 1
        fi
        sleep 1
    done
    echo yes
}

on() { host=$1; shift; docker exec -u postgres "$lab-$host" "$@"; }

# Either may be the primary by now.
is_armed() {
    for host in db01 db02; do
        on "$host" psql -d pg_state -XAtc 'SELECT armed, role, reason FROM pg_keeper.status' || return
    done | { tee /dev/stderr | grep -q '^t'; }
}

has_written() { docker exec "$lab-$1" tail -n 1 /var/lib/shop/ledger; }

up() {
    authorities
    images
    compose up --detach --no-build
    await "the standby is armed" is_armed
    for host in app01 app02; do
        await "the application of $host has written" has_written "$host"
    done
    cat <<END

The laboratory is up: db01 and db02 with PostgreSQL $PG_MAJOR and pg_keeper, app01 and app02 with the watcher and an application.

  docker exec -u postgres $lab-db01 psql -d pg_state -xc 'SELECT * FROM pg_keeper.status'
  docker exec $lab-app01 pg-keeper-watcher status
  docker exec $lab-app01 tail -f /var/lib/shop/ledger      number, microseconds since 1970, server that acknowledged

Break it, and look again:
  docker kill $lab-db01                                                            a power failure
  docker pause $lab-db01                                                           a machine that hangs
  docker network disconnect ${lab}_database $lab-db01                        the cable between the two servers
  docker exec $lab-db01 pkill -9 postgres                                          only the server

Mend it: docker start, unpause, or network connect with --alias db01.database. The old primary is fenced now. Rejoin it:
  docker exec -u postgres $lab-db01 sh -c "psql -d pg_state -XAtc 'SELECT pg_keeper.rejoin_plan()' > /tmp/rejoin.sh && sh /tmp/rejoin.sh"

make lab-down removes the four hosts with all that they hold.
END
}

case ${1:-} in
    up) up ;;
    down) compose down --volumes ;;
    *) echo "usage: lab.sh up | down" >&2; exit 2 ;;
esac
