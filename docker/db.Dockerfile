# A database host: Debian's PostgreSQL with the extension, under systemd.
ARG BASE=debian:bookworm-slim
ARG RUST=rust:1.95-bookworm

FROM ${BASE} AS manifests
COPY . /source
RUN mkdir /empty && sh /source/docker/empty-crates.sh /source /empty

FROM ${RUST} AS builder
ARG PG_MAJOR=15
ARG CARGO_PGRX=0.18.1
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates clang libclang-dev pkg-config libssl-dev libpq5 postgresql-server-dev-${PG_MAJOR} \
    && rm -rf /var/lib/apt/lists/*
COPY docker/ca/ /usr/local/share/ca-certificates/
RUN update-ca-certificates

# The version of `pgrx` in Cargo.toml. It takes some minutes, and only its version brings them back.
RUN [ "$(cargo pgrx --version 2>/dev/null)" = "cargo-pgrx ${CARGO_PGRX}" ] || cargo install --quiet --locked cargo-pgrx --version ${CARGO_PGRX}
RUN cargo pgrx init --pg${PG_MAJOR} /usr/lib/postgresql/${PG_MAJOR}/bin/pg_config

# Dependencies first, so that a change of a source does not build them again.
WORKDIR /source
COPY docker/install-extension.sh docker/
COPY --from=manifests /empty/ ./
RUN sh docker/install-extension.sh

COPY sql/ sql/
COPY extension/ extension/
# What was there a moment ago is newer than these sources.
RUN find extension -name '*.rs' -exec touch {} + && sh docker/install-extension.sh

FROM ${BASE}
ARG PG_MAJOR=15
ENV PG_MAJOR=${PG_MAJOR}
# pg-keeper-lab makes the cluster when the host starts for the first time.
RUN mkdir -p /etc/postgresql-common/createcluster.d \
    && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/pg-keeper-lab.conf \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
       systemd systemd-sysv dbus $(apt-cache show polkitd >/dev/null 2>&1 && echo polkitd || echo policykit-1) libpq5 postgresql-${PG_MAJOR} \
       faketime iproute2 nftables procps strace \
    && rm -rf /var/lib/apt/lists/*
COPY --from=builder /usr/lib/postgresql/${PG_MAJOR}/lib/pg_keeper.so /usr/lib/postgresql/${PG_MAJOR}/lib/
COPY --from=builder /usr/share/postgresql/${PG_MAJOR}/extension/pg_keeper* /usr/share/postgresql/${PG_MAJOR}/extension/
COPY sql/setup.sql /usr/local/lib/pg-keeper-lab/
COPY docker/host/ docker/db/ /usr/local/lib/pg-keeper-lab/
RUN sh /usr/local/lib/pg-keeper-lab/finish
STOPSIGNAL SIGRTMIN+3
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s CMD /usr/lib/postgresql/${PG_MAJOR}/bin/pg_isready -q -h 127.0.0.1
ENTRYPOINT ["sh", "/usr/local/lib/pg-keeper-lab/boot"]
