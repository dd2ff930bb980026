#!/bin/sh
# The laboratory of four hosts: lab.sh up | down
#
# Settings come from the environment, as compose.yaml lists them. Where Docker Hub's images cannot be had, base images are made here.
set -eu
cd "$(dirname "$0")"
PG_MAJOR=${PG_MAJOR:-15}
export PG_MAJOR

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
    bundle=/etc/ssl/certs/ca-certificates.crt
    ls ca/*.crt >/dev/null 2>&1 && return
    ls /usr/local/share/ca-certificates/*.crt >/dev/null 2>&1 || [ -n "${SSL_CERT_FILE:-}" ] || return 0
    cp "${SSL_CERT_FILE:-$bundle}" ca/host.crt
}

has() { docker image inspect "$1" >/dev/null 2>&1 || docker pull --quiet "$1" >/dev/null 2>&1; }

# The suite whose PostgreSQL is of this version.
suite() {
    case $1 in
        13) echo bullseye ;;
        15) echo bookworm ;;
        17) echo trixie ;;
        18) echo forky ;;
        *) echo "Debian has no PostgreSQL $1: set PG_MAJOR to 13, 15, 17 or 18, or DB_BASE and DB_RUST to images that have it." >&2; exit 1 ;;
    esac
}

# Prints NAME=IMAGE for the two images of a kind of host: those of Docker Hub, or ours.
bases() {
    kind=$1 suite=$2
    base=debian:$suite-slim rust=rust:1.95-$suite
    if ! has "$base" || ! has "$rust"; then
        sh stand-ins.sh "$suite" >&2
        base=pgkeeper-lab/base:$suite rust=pgkeeper-lab/rust:$suite
    fi
    echo "export ${kind}_BASE=$base ${kind}_RUST=$rust"
}

images() {
    if [ -z "${DB_BASE:-}${DB_RUST:-}" ]; then
        db=$(bases DB "$(suite "$PG_MAJOR")")
        eval "$db"
    fi
    if [ -z "${APP_BASE:-}${APP_RUST:-}" ]; then
        app=$(bases APP bookworm)
        eval "$app"
    fi
    echo "building the images, which takes a quarter of an hour the first time"
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

on() { host=$1; shift; docker exec -u postgres "pgkeeper-lab-$host" "$@"; }

# Either may be the primary by now.
is_armed() {
    for host in db01 db02; do
        on "$host" psql -d pg_state -XAtc 'SELECT armed, role, reason FROM pg_keeper.status' || return
    done | { tee /dev/stderr | grep -q '^t'; }
}

has_written() { docker exec "pgkeeper-lab-$1" tail -n 1 /var/lib/shop/ledger; }

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

  docker exec -u postgres pgkeeper-lab-db01 psql -d pg_state -xc 'SELECT * FROM pg_keeper.status'
  docker exec pgkeeper-lab-app01 pg-keeper-watcher status
  docker exec pgkeeper-lab-app01 tail -f /var/lib/shop/ledger      number, microseconds since 1970, server that acknowledged

Break it, and look again:
  docker kill pgkeeper-lab-db01                                                            a power failure
  docker pause pgkeeper-lab-db01                                                           a machine that hangs
  docker network disconnect pgkeeper-lab_database pgkeeper-lab-db01                        the cable between the two servers
  docker exec pgkeeper-lab-db01 pkill -9 postgres                                          only the server

Mend it: docker start, unpause, or network connect with --alias db01.database. The old primary is fenced now. Rejoin it:
  docker exec -u postgres pgkeeper-lab-db01 sh -c "psql -d pg_state -XAtc 'SELECT pg_keeper.rejoin_plan()' > /tmp/rejoin.sh && sh /tmp/rejoin.sh"

make lab-down removes the four hosts with all that they hold.
END
}

case ${1:-} in
    up) up ;;
    down) compose down --volumes ;;
    *) echo "usage: lab.sh up | down" >&2; exit 2 ;;
esac
