# An application host: the watcher from its Debian package and an application that writes rows, as services of systemd.
ARG BASE=debian:bookworm-slim
ARG RUST=rust:1.95-bookworm

FROM ${BASE} AS manifests
COPY . /source
RUN mkdir /empty && sh /source/docker/empty-crates.sh /source /empty

FROM ${RUST} AS builder
ARG CARGO_DEB=3.6.2
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates make \
    && rm -rf /var/lib/apt/lists/*
COPY docker/ca/ /usr/local/share/ca-certificates/
RUN update-ca-certificates

# The version in the Makefile.
RUN [ "$(cargo deb --version 2>/dev/null)" = "cargo-deb ${CARGO_DEB}" ] || cargo install --quiet --locked cargo-deb --version ${CARGO_DEB}

# Dependencies first, so that a change of a source does not build them again.
WORKDIR /source
COPY --from=manifests /empty/ ./
RUN cargo build --quiet --release -p pg-keeper-watcher \
    && cargo build --quiet --release -p keeper-tests --lib

COPY LICENSE Makefile ./
COPY watcher/ watcher/
RUN find watcher -name '*.rs' -exec touch {} + && make deb
COPY tests/ tests/
RUN find tests -name '*.rs' -exec touch {} + && cargo build --quiet --release -p keeper-tests --bin sample-application

FROM ${BASE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
       systemd systemd-sysv dbus postgresql-client \
       faketime iproute2 nftables procps strace \
    && rm -rf /var/lib/apt/lists/*
COPY --from=builder /source/target/debian/pg-keeper-watcher_*.deb /tmp/
RUN dpkg --install /tmp/pg-keeper-watcher_*.deb && rm /tmp/pg-keeper-watcher_*.deb
COPY --from=builder /source/target/release/sample-application /usr/local/bin/
COPY docker/host/ docker/app/ /usr/local/lib/pg-keeper-lab/
RUN sh /usr/local/lib/pg-keeper-lab/finish
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["sh", "/usr/local/lib/pg-keeper-lab/boot"]
